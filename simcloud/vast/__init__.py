"""Vast.ai in a box: its REST API, market, billing and the life of its instances."""
