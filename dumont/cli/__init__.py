"""`dumont`, the command line: speaks to the API over REST and to machines over SSH, nothing else.

Imports are deferred into the functions that need them, so that `dumont --help` and shell completion
answer at once.
"""
