"""The measured promises. Each module is one benchmark: `make bench-NAME ARGS="..."`."""
