"""GET /live: a page that streams the browser's microphone and camera. It loads nothing from another host."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response
from starlette.exceptions import HTTPException

router = APIRouter()

_FOLDER = Path(__file__).parent.parent / "live"
_TYPES = {"style.css": "text/css", "live.js": "text/javascript", "capture.js": "text/javascript"}
_POLICY = {
    # The page talks to its own server only, and to the devices that its visitor allows.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
    "Cache-Control": "no-cache",
}


@router.get("/live", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _file("index.html", "text/html")


@router.get("/live/{name}", include_in_schema=False)
async def part(name: str) -> Response:
    """What the page is made of."""
    if name not in _TYPES:
        raise HTTPException(404)
    return _file(name, _TYPES[name])


def _file(name: str, kind: str) -> Response:
    # Not FileResponse, which answers a wrong Range in plain text; of a few kilobytes nobody needs a part.
    return Response((_FOLDER / name).read_bytes(), media_type=kind, headers=_POLICY)
