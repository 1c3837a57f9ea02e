"""GET /metrics: figures for Prometheus."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.api.service import service_of

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """Requests, latency by stage, what waits, batches and their padding, refusals, checkpoints."""
    service = service_of(request)
    service.metrics.checkpoints(service.registry.counts)
    return Response(service.metrics.text(), media_type=service.metrics.content_type)
