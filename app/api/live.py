"""GET /live: a page that streams the browser's microphone and camera. It loads nothing from another host."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
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
    return FileResponse(_FOLDER / "index.html", media_type="text/html", headers=_POLICY)


@router.get("/live/{name}", include_in_schema=False)
async def part(name: str) -> Response:
    """What the page is made of."""
    if name not in _TYPES:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers=_POLICY)
