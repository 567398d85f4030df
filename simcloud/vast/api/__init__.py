"""The endpoints of Vast.ai's REST API, by what they are about."""
