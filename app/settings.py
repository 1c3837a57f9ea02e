"""Everything an operator can set, each as an environment variable: FUSIONRNN_PORT, FUSIONRNN_LIMITS__IMAGE_BYTES ..."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import models
from models.media.limits import MediaLimits

ZOO = Path(next(iter(models.__path__))) / "zoo"


def _split(separator: str) -> BeforeValidator:
    def split(value: Any) -> Any:
        return [item for item in value.split(separator) if item] if isinstance(value, str) else value

    return BeforeValidator(split)


def _data_home() -> Path:
    """Where programs of this user keep their data (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fusionrnn"


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
    """TCP port; 0 takes a free one."""

    root_path: str = Field("", pattern=r"^(/[^/?#\s]+)*$")
    """Path under which a reverse proxy shows this server, such as /rnn; the proxy takes it off what it hands on."""

    cors_origins: Annotated[list[str], NoDecode, _split(",")] = []
    """Pages of other origins that browsers may let ask this server, such as https://app.example, separated by commas;
    * is any."""

    model_dir: Annotated[list[Path], NoDecode, _split(os.pathsep)] = [ZOO]
    """Folders of checkpoint folders, separated like PATH. Each may also be a checkpoint folder itself."""

    plugins: Annotated[list[str], NoDecode, _split(",")] = []
    """Modules to import before loading, separated by commas; they register a user's own network parts."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where networks run; auto is cuda where there is one."""

    runtime: Literal["auto", "torch", "packed", "bf16"] = "auto"
    """Kernels: torch's own; packed for a CPU, equal and faster; bf16, rounded; auto is packed on a CPU.

    On a CUDA device all but torch replay a decoder's steps as CUDA graphs where that is faster.
    """

    threads: int = Field(0, ge=0, le=1024)
    """Threads of one network step; 0 leaves the choice to torch."""

    workers: int = Field(1, ge=1, le=256)
    """Processes that serve behind one port, each with its own copy of the checkpoints."""

    decode_workers: int = Field(default_factory=lambda: min(os.cpu_count() or 1, 8), ge=1, le=256)
    """Threads that decode media and compute features, beside the one that runs the networks."""

    batch_seconds: float = Field(0, ge=0, le=10)
    """How long a request may wait for others to share its batch while the device is free; a batch is what is there."""

    max_waiting: int = Field(256, ge=1, le=100_000)
    """Most requests in the house, a quarter of them uploads to collections; more are refused before their body."""

    max_waiting_bytes: int = Field(512 * 2**20, ge=1)
    """Most bytes of their bodies, until they are decoded."""

    max_waiting_steps: int = Field(200_000, ge=1)
    """Most steps (of sequences: frames, tokens, photos) that wait decoded for a network; decoding pauses meanwhile."""

    max_waiting_seconds: float = Field(10, gt=0)
    """Longest that what is in the house may be expected to take when another request comes."""

    deadline_seconds: float = Field(60, gt=0)
    """Longest that a request may take once its body is here; X-Request-Timeout may ask for less."""

    upload_seconds: float = Field(300, gt=0)
    """Longest that a client may take to send its body."""

    upload_pause_seconds: float = Field(30, gt=0)
    """Longest that it may send nothing of it; and longest that its headers may take."""

    drain_seconds: float = Field(0, ge=0)
    """How long /readyz says 503 after SIGTERM before the socket closes: time for a load balancer to notice."""

    shutdown_seconds: int = Field(30, ge=1)
    """How long running requests may go on after the socket closed."""

    max_request_bytes: int = Field(288 * 2**20, ge=1024)
    """Most bytes of a request's body, all parts together."""

    admin_key: SecretStr | None = None
    """Who sends it as a bearer token may load and unload checkpoints; without one nobody may."""

    idle_unload_seconds: float = Field(0, ge=0)
    """A checkpoint that nobody asked for this long gives its memory back until the next request; 0: none does."""

    limits: MediaLimits = MediaLimits()
    """How much of each medium is accepted."""

    collections_dir: Path = Field(default_factory=lambda: _data_home() / "collections")
    """Folder of the embedded store behind /v1/collections, made when asked for; one process may use it at a time."""

    collections_url: str | None = None
    """Address of a Qdrant server, which many processes may share, instead of the folder."""

    collections_key: SecretStr | None = None
    """API key of that server."""

    collections_model: str = "image-text-embedding"
    """The checkpoint whose space collections lie in: it embeds images and text."""

    collections_captioner: str = "captioner"
    """The checkpoint that captions items; where none of this name is served, they have no captions."""

    collections_most: int = Field(100, ge=1, le=10_000)
    """Most collections."""

    collections_moments: int = Field(20_000, ge=1, le=10_000_000)
    """Most photos, and seconds of videos, in one collection; the embedded store is not made for many more."""

    collections_seconds: float = Field(600, gt=0)
    """Longest that looking at an upload for a collection may take."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe line that is logged."""

    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or lines for people."""

    stream_sessions: int = Field(1000, ge=1, le=100_000)
    """Most streaming sessions at once, those without a connection included; the next is told to come back later."""

    stream_idle_seconds: float = Field(30, gt=0)
    """Longest that a session lives without a message, or without a connection, or with its events not taken."""

    stream_total_seconds: float = Field(86_400, gt=0)
    """Longest that a session lives; its client gets its state and can go on in another one."""

    stream_chunk_bytes: int = Field(2**18, ge=1024, le=2**24)
    """Most bytes of one chunk."""

    stream_window_bytes: int = Field(2**18, ge=1024, le=2**26)
    """Bytes of one session that may wait for their turn; beyond them the server stops reading."""

    stream_events: int = Field(256, ge=1, le=100_000)
    """Events of one session that may wait for its client, and final ones that are kept for one that comes back."""

    stream_key: SecretStr | None = None
    """What exported sessions are signed with. Servers with the same key go on with each other's sessions; without one
    each makes its own."""

    stream_state_seconds: float = Field(3600, gt=0)
    """Age at which an exported session can no longer be resumed."""


def unknown_settings(environment: Iterable[str]) -> list[str]:
    """Names among ``environment`` that look like settings and are none, such as misspelt ones."""
    prefix = str(Settings.model_config["env_prefix"])
    known = {prefix + name.upper() for name in Settings.model_fields}
    sent = {name for name in environment if name.upper().startswith(prefix)}
    return sorted(name for name in sent if name.upper().partition("__")[0] not in known)
