"""What runs on rented machines: the standard library of Python 3.8 and nothing else.

It travels as one zip archive. Rented images are old, so no file here may use newer syntax, and a
rented host is not trusted, so no secret may be put here.
"""

__version__ = "0.1.0"

PROTOCOL = 1
"""Version of what the agent prints; older readers ignore fields that they do not know."""
