"""Adapters to the clouds we rent from, behind the ports `GpuProvider` and `VmProvider`.

Importing this package costs nothing: each adapter is imported where it is wired (`worker`), and
Google's client only once an adapter is built. Nothing here knows a machine's owner or its life.
"""
