"""The REST API, the event stream and the dashboard's server.

Thin: it authenticates, commands Temporal, reads projections and streams events. It decides nothing
about a machine and calls no provider.
"""
