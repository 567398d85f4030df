"""Values, states and decisions of the product, as pure functions and frozen models.

Nothing here does I/O, reads a clock or draws a random number: time and evidence are arguments.
Only pydantic and the standard library are imported, so that workflows can pass this package
through Temporal's sandbox.
"""
