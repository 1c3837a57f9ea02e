"""Admission: a predict request gets its reservation, or is told to come back, before any of its body is read."""

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.parts import declared
from app.api.problems import answer
from app.api.rules import Rules
from app.api.uploads import wanted_within
from app.engine.service import Service
from app.errors import ServiceError

if TYPE_CHECKING:
    from models.profile import Profile

_PREDICT = re.compile(r"/v1/models/([^/]+)/predict")


class AdmissionMiddleware:
    """Holds a request's reservation until it is answered; the route finds it as ``request.state.reservation``."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # For a name that is not served there is nothing to wait for: the route says so.
        if (profile := self._profile(scope)) is None:
            await self.app(scope, receive, send)
            return
        state, model = scope.setdefault("state", {}), profile.config.name
        state["model"] = model
        headers = Headers(scope=scope)
        try:
            # A body of more is refused for itself.
            nbytes = min(declared(headers), self._most_bytes(profile))
            reservation = self.service.admission.enter(model, nbytes, wanted_within(headers))
        except ServiceError as error:
            await answer(error)(scope, receive, send)
            return
        state["reservation"] = reservation
        with reservation:
            await self.app(scope, receive, send)

    def _profile(self, scope: Scope) -> "Profile | None":
        if scope["type"] != "http" or scope["method"] != "POST":
            return None
        found = _PREDICT.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
        return self.service.registry.find(found[1]) if found else None

    def _most_bytes(self, profile: "Profile") -> int:
        settings = self.service.settings
        return Rules.of(profile, settings.limits, settings.max_request_bytes).body_bytes
