"""Owners' snapshot repositories: where each one is, what opens it, and who may reach it for how long."""
