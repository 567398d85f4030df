"""Vast.ai: a marketplace of GPU hosts, rented by bid or on demand."""
