"""Everything an operator can set, each as an environment variable: FUSIONRNN_PORT, FUSIONRNN_LIMITS__IMAGE_BYTES ..."""

import os
import re
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from models.media.limits import MediaLimits

_TOKEN = re.compile(r"[!-~]+")
_ORIGIN = re.compile(r"\*|https?://[^/?#\s]+")
_SERVER = re.compile(r"https?://[^/?#\s]+(/[^?#\s]*)?")
ZOO = Path(next(iter(models.__path__))) / "zoo"


def _split(separator: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return [item.strip() for item in value.split(separator) if item.strip()]

    return BeforeValidator(split)


def _data_home() -> Path:
    """Where programs of this user keep their data (XDG Base Directory Specification)."""
    try:
        home = Path.home()
    except RuntimeError:
        # A user whom the machine does not know, without HOME: in / like those that login finds no home for.
        home = Path("/")
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "fusionrnn"


class Settings(BaseSettings):
    """How one process serves."""

    model_config = SettingsConfigDict(
        env_prefix="FUSIONRNN_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every interface."""

    port: int = Field(8000, ge=0, le=65535)
    """TCP port to listen on; 0 takes a free one."""

    root_path: str = Field("", pattern=r"^(/[^/?#\s]+)*$")
    """Path under which a reverse proxy shows this server, such as /rnn; the proxy takes this path off the requests
    that it forwards."""

    cors_origins: Annotated[list[str], NoDecode, _split(",")] = []
    """Other origins whose pages may ask this server from a browser, such as https://app.example, separated by
    commas; * allows any."""

    model_dir: Annotated[list[Path], NoDecode, _split(os.pathsep)] = [ZOO]
    """Folders of checkpoint folders, separated like PATH. An entry may also be a checkpoint folder itself."""

    plugins: Annotated[list[str], NoDecode, _split(",")] = []
    """Python modules that register network parts of your own, separated by commas; imported before checkpoints are
    loaded."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device that networks run on; auto is cuda where there is a CUDA device, and cpu elsewhere."""

    runtime: Literal["auto", "torch", "packed", "bf16"] = "auto"
    """Kernels that networks run on: torch's own; packed, for a CPU, equal and faster; bf16, rounded; auto is packed
    on a CPU.

    On a CUDA device all but torch replay a decoder's steps as CUDA graphs where that is faster.
    """

    threads: int = Field(0, ge=0, le=1024)
    """Threads that compute one step of a network; 0 leaves the choice to torch."""

    workers: int = Field(1, ge=1, le=256)
    """Processes that serve behind one port, each with its own copy of the checkpoints."""

    decode_workers: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=1, le=256)
    """Threads that decode media and compute features, besides the thread that runs the networks."""

    batch_seconds: float = Field(0, ge=0, le=10)
    """Most seconds that a request waits for others to share its batch while the device is free; with 0 a batch is
    what is there."""

    max_waiting: int = Field(256, ge=1, le=100_000)
    """Most requests admitted and not yet answered, at most a quarter of them uploads to collections; more are
    refused before their body is read."""

    max_waiting_bytes: int = Field(512 * 2**20, ge=1)
    """Most bytes of request bodies held before decoding."""

    max_waiting_steps: int = Field(200_000, ge=1)
    """Most steps (frames, tokens, photos) that are decoded and wait for a network; at more, requests are refused
    and decoding pauses."""

    max_waiting_seconds: float = Field(10, gt=0)
    """Most seconds that answering all admitted requests is expected to take; while it is more, further requests are
    refused."""

    deadline_seconds: float = Field(60, gt=0)
    """Most seconds from the arrival of a request's body to its answer; the header X-Request-Timeout may ask for
    less."""

    upload_seconds: float = Field(300, gt=0)
    """Most seconds that a client may take to send a request's body."""

    upload_pause_seconds: float = Field(30, gt=0)
    """Most seconds that a client may pause while it sends a request's body, and may take to send the headers."""

    drain_seconds: float = Field(0, ge=0)
    """Seconds from SIGTERM to the closing of the socket, in which /readyz answers 503 so that a load balancer
    notices."""

    shutdown_seconds: int = Field(30, ge=1)
    """Most seconds that running requests may go on after the socket has closed."""

    max_request_bytes: int = Field(288 * 2**20, ge=1024)
    """Most bytes of a request's body, all parts together."""

    admin_key: SecretStr | None = None
    """Bearer token with which clients may load and unload checkpoints; where none is set, nobody may."""

    idle_unload_seconds: float = Field(0, ge=0)
    """Seconds without a request after which a checkpoint gives its memory back until the next request; 0 keeps all
    loaded."""

    limits: MediaLimits = MediaLimits()
    """How much of each medium is accepted."""

    collections_dir: Path = Field(default_factory=lambda: _data_home() / "collections")
    """Folder of the embedded store behind /v1/collections, made on first use; one process may use the store at a
    time."""

    collections_url: str | None = None
    """Address of a Qdrant server for collections, which many processes may share, instead of
    FUSIONRNN_COLLECTIONS_DIR."""

    collections_key: SecretStr | None = None
    """API key of the Qdrant server in FUSIONRNN_COLLECTIONS_URL."""

    collections_model: str = "image-text-embedding"
    """Checkpoint that embeds the photos, videos and queries of collections."""

    collections_captioner: str = "captioner"
    """Checkpoint that captions the items of collections; where none of this name is served, items have no
    captions, and are found by their pictures alone."""

    collections_most: int = Field(100, ge=1, le=10_000)
    """Most collections that the store holds."""

    collections_moments: int = Field(20_000, ge=1, le=10_000_000)
    """Most photos, and seconds of videos, in one collection; the embedded store is not made for many more than the
    default."""

    collections_seconds: float = Field(600, gt=0)
    """Most seconds that captioning and embedding an upload to a collection may take."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""

    log_format: Literal["json", "console"] = "json"
    """Form of the log: json is one JSON object a line, console is lines for people."""

    traces: bool = False
    """Send a span of each request by OTLP, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs the extra `traces`."""

    stream_sessions: int = Field(1000, ge=1, le=100_000)
    """Most streaming sessions at once, including those that lost their connection; further ones are refused."""

    stream_idle_seconds: float = Field(30, gt=0)
    """Most seconds that a streaming session lives without a message, without a connection, or with its events not
    taken."""

    stream_total_seconds: float = Field(86_400, gt=0)
    """Most seconds that a streaming session lives; its client then gets its state and can go on in another
    session."""

    stream_chunk_bytes: int = Field(2**18, ge=1024, le=2**24)
    """Most bytes of one chunk of a streaming session."""

    stream_window_bytes: int = Field(2**18, ge=1024, le=2**26)
    """Bytes of a streaming session that may wait for their turn; while more wait, the server reads nothing of the
    session."""

    stream_events: int = Field(256, ge=1, le=100_000)
    """Events of a streaming session that may wait for its client, and final events kept for a client that comes
    back."""

    stream_key: SecretStr | None = None
    """Key that signs exported streaming sessions. Servers with the same key go on with each other's sessions; a
    server without one makes a key of its own."""

    stream_state_seconds: float = Field(3600, gt=0)
    """Most seconds from the export of a streaming session to its resumption."""

    @field_validator("admin_key")
    @classmethod
    def _can_be_a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(
                "a key is made of letters, digits and signs of ASCII, without blanks: no other can be sent"
            )
        return value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        for origin in value:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"'{origin}' is no origin, which is as https://app.example, without a path")
        return value

    @field_validator("collections_url")
    @classmethod
    def _is_a_server(cls, value: str | None) -> str | None:
        if value is not None and not _SERVER.fullmatch(value):
            raise ValueError(f"'{value}' is no address of a server, which is as http://qdrant:6333")
        return value

    @field_validator("traces")
    @classmethod
    def _can_be_sent(cls, value: bool) -> bool:
        if value:
            try:
                import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            except ImportError as error:
                raise ValueError(
                    "traces need OpenTelemetry's exporter, which is not installed: "
                    f"run make install, or {sys.executable} -m pip install opentelemetry-exporter-otlp-proto-http"
                ) from error
        return value


def unknown_settings(environment: Iterable[str]) -> list[str]:
    """Names among ``environment`` that look like settings and are none, such as misspelt ones."""
    prefix = str(Settings.model_config["env_prefix"])
    known = {prefix + name.upper() for name in Settings.model_fields}
    sent = {name for name in environment if name.upper().startswith(prefix)}
    return sorted(name for name in sent if name.upper().partition("__")[0] not in known)
