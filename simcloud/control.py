"""The control API."""

from starlette.applications import Starlette
from starlette.routing import Mount

from simcloud.context import CloudContext


def create_app(context: CloudContext, *, vast_app: Starlette, gcp_app: Starlette) -> Starlette:
    """Return the application."""
    return Starlette(
        routes=[
            Mount("/vast", routes=vast_app.state.control_routes),
            Mount("/gcp", routes=gcp_app.state.control_routes),
        ]
    )
