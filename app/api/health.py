"""GET /healthz and /readyz: whether the process lives, and whether to send it requests."""

from fastapi import APIRouter, Request
from pydantic import BaseModel

from app.api.problems import problems
from app.api.service import service_of

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """A probe's answer."""

    status: str


@router.get("/healthz", summary="Alive")
async def healthz() -> Health:
    """200 as long as the event loop turns, whatever the models do."""
    return Health(status="ok")


@router.get("/readyz", summary="Ready for requests", responses=problems({503: "Loading or draining"}))
async def readyz(request: Request) -> Health:
    """200 once every checkpoint is loaded and warmed up; 503 with Retry-After while it cannot answer."""
    service_of(request).check_ready()
    return Health(status="ready")
