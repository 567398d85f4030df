"""Where machines are, and which zone of Google's is near: names of places, coordinates, distances.

`parse` reads a provider's location string, `locate` weighs it against an offline IP database,
`nearest` turns a place into zones. All of it is tables and arithmetic; what is not known stays
unknown. `docs/regions.md` says what may be claimed.
"""
