"""Touches of the outside world: thin, safe to run twice, grouped by what they touch.

They take ports and import no vendor. Nothing here decides; decisions are in `dumont.domain`.
"""
