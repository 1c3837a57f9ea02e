"""Traces: a span of OpenTelemetry for each request, sent by OTLP to where the variables ``OTEL_*`` say.

Needs the extra ``traces``; nothing of it is imported where traces are not asked for.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import Scope

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_SERVICE = "fusionrnn"


class RequestSpan:
    """What a request is in the trace of whoever sent it."""

    def __init__(self, span: "Span") -> None:
        self._span = span

    def names(self) -> dict[str, str]:
        """What log lines of the request carry, so that they are found from its trace."""
        context = self._span.get_span_context()
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}

    def end(self, scope: Scope, status: int, request_id: str, model: str | None, stages: Mapping[str, float]) -> None:
        """The request is over; ``stages`` are the milliseconds that each took."""
        from opentelemetry.trace import Status, StatusCode

        if route := getattr(scope.get("route"), "path", None):
            self._span.update_name(f"{scope['method']} {route}")
            self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        self._span.set_attribute("fusionrnn.request_id", request_id)
        if model is not None:
            self._span.set_attribute("fusionrnn.model", model)
        for stage, spent in stages.items():
            self._span.set_attribute(f"fusionrnn.{stage}_ms", round(spent, 2))
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


class Tracer:
    """Begins spans, and sends them in the background: of 2048 that wait, at most, the rest is dropped."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(_SERVICE)

    @classmethod
    def by_otlp(cls) -> "Tracer":
        """One that sends to ``OTEL_EXPORTER_OTLP_ENDPOINT``, by default http://localhost:4318."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        named = Resource.create({"service.name": _SERVICE}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=named, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def begin(self, scope: Scope) -> RequestSpan:
        """The span of a request, under the one that its ``traceparent`` names (W3C Trace Context)."""
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        above = TraceContextTextMapPropagator().extract(dict(Headers(scope=scope)))
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        return RequestSpan(self._tracer.start_span(scope["method"], above, SpanKind.SERVER, attributes))

    def close(self) -> None:
        """Send what still waits, within some seconds."""
        self._provider.shutdown()
