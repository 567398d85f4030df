"""What happens, in order, durably: one workflow a file.

No I/O, no clock, no randomness but Temporal's. What can be decided purely is decided in
`dumont.domain`; what touches the world is in `activities`.
"""
