"""The Vast.ai application."""

from starlette.applications import Starlette

from simcloud.context import CloudContext


def create_app(context: CloudContext) -> Starlette:
    """Return the application."""
    app = Starlette()
    app.state.start_line = {"vast_api_key": "soon"}
    app.state.control_routes = []
    return app
