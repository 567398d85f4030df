"""Keys, passwords, tokens and sealing: the only place where secrets are made and checked.

Knows no database and no HTTP.
"""
