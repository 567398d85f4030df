"""Snapshots of a workspace in any S3-compatible store: deduplicated, compressed, encrypted, verified.

A library of its own: it needs nothing of the rest of the product but `dumont.storage`, and runs on
Python 3.10, so that it can run on the machine whose files it keeps. The format it writes is described in
`docs/repository-format.md`; `dumont-snap` is its command.
"""
