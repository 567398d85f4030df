"""The store: PostgreSQL tables, their migrations and the repositories on them.

What lies here is a projection of the workflows plus what only the API owns (users, keys). It never
decides anything about a machine: a write from a workflow is fenced against older ones and is never
refused.
"""
