"""How a resource comes by what all of them share."""

from fastapi import Request

from app.engine.service import Service


def service_of(request: Request) -> Service:
    """The service that answers ``request``."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service
