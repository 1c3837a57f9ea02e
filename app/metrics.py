"""What Prometheus reads on /metrics. Labels take only values of short lists: models, stages, reasons, notices."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

NO_MODEL = "-"
# Over the processes that live, where several serve.
_SUM: Any = {"multiprocess_mode": "livesum"}
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """One service's figures; ``DeviceObserver`` of its devices."""

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "fusionrnn_requests",
            "Answers by model ('-': the request was for none) and HTTP status (499: the client left)",
            ["model", "status"], registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "fusionrnn_request_seconds",
            "Seconds from a request's first byte to the last of its answer, where its status is 200",
            ["model"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.stages = Histogram(
            "fusionrnn_stage_seconds",
            "Seconds that an answered request spent in a stage: queue, decode, features or inference",
            ["model", "stage"], buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "fusionrnn_waiting_requests", "Requests admitted and not yet answered", registry=registry, **_SUM
        )
        self.waiting_bytes = Gauge(
            "fusionrnn_waiting_bytes", "Bytes of admitted request bodies that are not decoded yet",
            registry=registry, **_SUM,
        )  # fmt: skip
        self.waiting_steps = Gauge(
            "fusionrnn_waiting_steps",
            "Decoded steps (frames, tokens, photos) of admitted requests that are not answered yet",
            registry=registry, **_SUM,
        )  # fmt: skip
        self.refused = Counter(
            "fusionrnn_refused",
            "Requests refused with status 503, by the bound that was reached: requests, bytes, steps or time",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.evicted = Counter(
            "fusionrnn_evicted", "Admitted requests given up unanswered, by reason: left (the client) or deadline",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.batches = Histogram(
            "fusionrnn_batch_rows", "Requests that shared one run of a network",
            ["model"], buckets=_ROWS, registry=registry,
        )  # fmt: skip
        self.steps = Counter(
            "fusionrnn_batch_steps", "Steps that networks ran, by kind: real or padding",
            ["model", "kind"], registry=registry,
        )  # fmt: skip
        self.searches = Gauge(
            "fusionrnn_searches", "Searches (beam search, sampling) that share a decoder's steps now",
            registry=registry, **_SUM,
        )  # fmt: skip
        self.stream_sessions = Gauge(
            "fusionrnn_stream_sessions", "Open streaming sessions, including those that lost their connection",
            registry=registry, **_SUM,
        )  # fmt: skip
        self.stream_ended = Counter(
            "fusionrnn_stream_ended",
            "Streaming sessions that are over, by reason: end, idle, total, detached, slow, draining or error",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.stream_refused = Counter(
            "fusionrnn_stream_refused", "WebSocket connections that got no streaming session, by the kind of problem",
            ["reason"], registry=registry,
        )  # fmt: skip
        self.models = Gauge(
            "fusionrnn_models", "Checkpoints by state: loaded, resting (unloaded until the next request) or failed",
            ["state"], registry=registry, multiprocess_mode="livemax",
        )  # fmt: skip
        self.swaps = Counter(
            "fusionrnn_swaps", "Changes of checkpoints while the server runs, by model and kind: load, unload or rest",
            ["model", "kind"], registry=registry,
        )  # fmt: skip
        self.notices = Counter(
            "fusionrnn_notices", "What answers to predict noticed about media (silence, unfamiliar, ...), by modality",
            ["model", "modality", "notice"], registry=registry,
        )  # fmt: skip

    def batch(self, lane: str, rows: int, padded: int, real: int) -> None:
        """A batch of a model begins; calls that belong to none are not counted."""
        if padded:
            self.batches.labels(lane).observe(rows)
            self.steps.labels(lane, "real").inc(real)
            self.steps.labels(lane, "padding").inc(padded - real)

    def searching(self, rows: int) -> None:
        """This many searches are under way."""
        self.searches.set(rows)

    def answered(self, model: str | None, status: int, seconds: float, stages: Mapping[str, float]) -> None:
        """A request is over; ``stages`` in milliseconds."""
        name = model or NO_MODEL
        self.requests.labels(name, status).inc()
        if model is not None and status == 200:
            self.seconds.labels(name).observe(seconds)
            for stage, spent in stages.items():
                self.stages.labels(name, stage).observe(spent / 1e3)

    def checkpoints(self, counts: Mapping[str, int]) -> None:
        """There are so many of them now, by state."""
        for state, count in counts.items():
            self.models.labels(state).set(count)

    def noticed(self, model: str, notices: Mapping[str, Sequence[str]] | None) -> None:
        """An answer has these notices, by modality."""
        for modality, found in (notices or {}).items():
            for notice in found:
                self.notices.labels(model, modality, notice).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format; where several processes serve, of all of them."""
        if _FOLDER not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
