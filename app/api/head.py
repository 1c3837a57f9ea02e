"""HEAD for whatever answers GET."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Head:
    """Has HEAD answered as GET; the server leaves the body out.

    FastAPI's routes do not. Each would have to name HEAD besides, and hide it from the OpenAPI document.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            # A copy: it is by its own that the server knows that no body is to follow.
            scope = {**scope, "method": "GET"}
        await self.app(scope, receive, send)
