"""Admission: a predict request gets its reservation, or is told to come back, before any of its body is read."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.parts import declared
from app.api.rules import Rules
from app.api.uploads import wanted_within
from app.engine.service import Service
from app.errors import ServiceError

_PREDICT = re.compile(r"/v1/models/([^/]+)/predict")


class AdmissionMiddleware:
    """Holds a request's reservation until it is answered; the route finds it as ``request.state.reservation``."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # For a name that is not served there is nothing to wait for: the route says so.
        if (model := self._model(scope)) is None:
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["model"] = model
        headers = Headers(scope=scope)
        try:
            # A body of more is refused for itself.
            nbytes = min(declared(headers), self._most_bytes(model))
            reservation = self.service.admission.enter(model, nbytes, wanted_within(headers))
        except ServiceError as error:
            await error.response()(scope, receive, send)
            return
        state["reservation"] = reservation
        with reservation:
            await self.app(scope, receive, send)

    def _model(self, scope: Scope) -> str | None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        found = _PREDICT.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
        registry = self.service.registry
        return found[1] if found and (found[1] in registry.pipelines or found[1] in registry.resting) else None

    def _most_bytes(self, model: str) -> int:
        registry, settings = self.service.registry, self.service.settings
        profile = registry.pipelines.get(model) or registry.resting[model]
        return Rules.of(profile, settings.limits, settings.max_request_bytes).body_bytes
