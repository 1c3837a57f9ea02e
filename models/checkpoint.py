"""A checkpoint is a folder of data. Loading it runs no code from it and opens no pickle.

Order of the checks: files and their sizes, the config's schema and bounds, then the weights' header against the
network (names, shapes, dtypes) before a byte of them is read, then the values.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from models.config import CheckpointConfig, NetworkConfig
from models.features.text import TextTokenizer
from models.files import write_whole
from models.network import FusionRNN
from models.novelty import Novelty, load_novelty
from models.refusals import first_fault, printable
from models.stored import StoredError, read_tensors

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
METRICS, CARD, NOVELTY = "metrics.json", "README.md", "novelty.safetensors"
_MOST_BYTES = {
    CONFIG: 4 * 2**20,
    WEIGHTS: 4 * 2**30,
    TOKENIZER: 64 * 2**20,
    METRICS: 4 * 2**20,
    CARD: 2**20,
    NOVELTY: 64 * 2**20,
}

_SHOWN = (METRICS, CARD)
"""Told to every client as they stand."""
_TELLABLE: TypeAdapter[Any] = TypeAdapter(Any)


class CheckpointError(ValueError):
    """A folder is not a usable checkpoint: ``folder`` and ``reason`` say which and why."""

    def __init__(self, folder: Path, reason: str) -> None:
        reason = printable(reason)
        super().__init__(f"{folder.absolute().name}: {reason}")
        self.folder = folder
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded folder: the network in evaluation mode on the CPU, and all that goes with it."""

    config: CheckpointConfig
    network: FusionRNN
    tokenizer: TextTokenizer | None
    metrics: dict[str, Any] | None
    card: str | None
    digest: str
    """SHA-256 of config, weights and tokenizer, hexadecimal."""
    novelty: Mapping[str, Novelty] = field(default_factory=dict)
    """By modality, what tells how unlike the training data a medium is; it changes no answer."""


def save_checkpoint(
    folder: str | Path,
    config: CheckpointConfig,
    network: nn.Module,
    tokenizer: TextTokenizer | None = None,
    *,
    metrics: dict[str, Any] | None = None,
    card: str | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint; floating-point weights are stored as ``dtype`` and computed with in float32.

    Buffers keep their precision: they are measured, such as the mean of targets in a unit of their own, and may be
    beyond what float16 holds. Learned weights are not, and what rounding does to them the figures say.

    Raises:
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = network.named_parameters(remove_duplicate=False)
    learned = {name for name, value in parameters if value.is_floating_point()}
    weights = {
        name: value.detach().to("cpu", dtype if name in learned else value.dtype).contiguous()
        for name, value in network.state_dict().items()
    }
    try:
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(folder / WEIGHTS)) from error
    write_whole(folder / CONFIG, config.model_dump_json(indent=2, exclude_none=True) + "\n")
    # safetensors writes for the owner's eyes alone, and a server in a container is somebody else.
    shutil.copymode(folder / CONFIG, folder / WEIGHTS)
    # What other weights knew is not what these know.
    (folder / NOVELTY).unlink(missing_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)
    if metrics is not None:
        write_whole(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    if card is not None:
        write_whole(folder / CARD, card)


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read and check a checkpoint folder.

    Raises:
        CheckpointError: anything about the folder is not as it must be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(folder, f"there is no folder {folder.absolute()}")
    before = _state(folder)
    for name in _MOST_BYTES:
        found = _check_file(folder, name)
        if not found and name in (CONFIG, WEIGHTS):
            # As in the folder of a run, which has the checkpoint's own in it.
            inner = next(folder.glob(f"*/{name}"), None)
            remedy = "" if inner is None else f"; give {inner.parent}, which has one"
            raise CheckpointError(folder, f"{name} is missing{remedy}")
    config = _config(folder)
    tokenizer = _tokenizer(folder)
    _check_vocabulary(folder, config, tokenizer)
    try:
        network = skeleton(config.network)
    except ValueError as error:
        raise CheckpointError(folder, f"{CONFIG}, network: {error}") from error
    try:
        network.load_state_dict(read_tensors(folder / WEIGHTS, network.state_dict()), strict=True, assign=True)
        novelty = _novelty(folder, network)
    except StoredError as error:
        raise CheckpointError(folder, str(error)) from error
    network.eval().requires_grad_(False)
    metrics = _json(folder, METRICS) if (folder / METRICS).is_file() else None
    card = _text(folder, CARD) if (folder / CARD).is_file() else None
    digest = _digest(folder)
    # Weights of one version beside words of another may fit each other, and the digest would be that of neither.
    if _state(folder) != before:
        raise CheckpointError(folder, "its files changed while they were read: load it again once all are there")
    return Checkpoint(config, network, tokenizer, metrics, card, digest, novelty)


def skeleton(config: NetworkConfig) -> FusionRNN:
    """A network without memory or initial values, on the meta device: a checkpoint brings every one of them.

    Raises:
        ValueError: its parts do not fit each other.
    """
    with torch.device("meta"), _Uninitialized():
        return FusionRNN(config)


class _Uninitialized(TorchFunctionMode):
    """Leaves out drawing random values: on the meta device that imports torch's compiler, a second for nothing."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def described(folder: Path) -> dict[str, Any]:
    """What the config in a folder says, whether or not it is that of a checkpoint.

    Raises:
        CheckpointError: there is no file of a config's size that holds a JSON object.
    """
    try:
        if _check_file(folder, CONFIG):
            return _json(folder, CONFIG)
    except OSError as error:
        raise CheckpointError(folder, f"{CONFIG} cannot be read: {error}") from error
    raise CheckpointError(folder, f"{CONFIG} is missing")


def _check_file(folder: Path, name: str) -> bool:
    """Whether there is such a file.

    Raises:
        CheckpointError: it is too large, or would be shown to all and is not the folder's own.
    """
    path, most = folder / name, _MOST_BYTES[name]
    if not path.is_file():
        return False
    # A folder from elsewhere may hold links to what the server may read and nobody else should. Weights that lie in
    # some cache are another matter: nobody is shown them.
    if name in _SHOWN and not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(folder, f"{name} is a link out of the folder: put a copy of the file in its place")
    if (size := path.stat().st_size) > most:
        raise CheckpointError(folder, f"{name} has {size} bytes, more than the {most} allowed")
    return True


def _state(folder: Path) -> list[tuple[int, int, int] | None]:
    """What changes with every file that is written or replaced."""
    found = [path.stat() if (path := folder / name).is_file() else None for name in _MOST_BYTES]
    return [each and (each.st_ino, each.st_size, each.st_mtime_ns) for each in found]


def _config(folder: Path) -> CheckpointConfig:
    value = _json(folder, CONFIG)
    try:
        return CheckpointConfig.model_validate(value)
    except ValidationError as error:
        raise CheckpointError(folder, f"{CONFIG}, {first_fault(error)}") from error


def _json(folder: Path, name: str) -> dict[str, Any]:
    text = _text(folder, name)
    try:
        value = json.loads(text)
        # It is told to others, among what is known of all checkpoints: halves of characters and what lies too deep
        # could be read and not be written again.
        _TELLABLE.dump_json([{name: value}])
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is another ValueError
        raise CheckpointError(folder, f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(folder, f"{name} must hold a JSON object")
    return value


def _text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(folder, f"{name} cannot be read: {error}") from error


def _tokenizer(folder: Path) -> TextTokenizer | None:
    path = folder / TOKENIZER
    if not path.is_file():
        return None
    try:
        return TextTokenizer.load(path)
    except OSError as error:
        raise CheckpointError(folder, f"{TOKENIZER} cannot be read: {error}") from error
    except ValueError as error:
        raise CheckpointError(folder, str(error)) from error


def _check_vocabulary(folder: Path, config: CheckpointConfig, tokenizer: TextTokenizer | None) -> None:
    parts = [(part, f"'{part.type}' encoder") for part in config.network.encoders.values()]
    for part, role in [*parts, (config.network.head, f"'{config.network.head.type}' head")]:
        size = getattr(part, "vocabulary", None)
        if size is None:
            continue
        if tokenizer is None:
            raise CheckpointError(folder, f"{TOKENIZER} is missing, which the {role} needs")
        if tokenizer.size != size:
            raise CheckpointError(folder, f"{TOKENIZER} has {tokenizer.size} tokens, but the {role} takes {size}")
    if tokenizer is None:
        return
    for language in getattr(config.network.head, "languages", ()):
        try:
            tokenizer.start(language)
        except ValueError as error:
            raise CheckpointError(folder, str(error)) from error


def _novelty(folder: Path, network: FusionRNN) -> dict[str, Novelty]:
    return load_novelty(folder / NOVELTY, network.sizes.modalities) if (folder / NOVELTY).is_file() else {}


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS, TOKENIZER):
        if (folder / name).is_file():
            digest.update(f"{name} {(folder / name).stat().st_size} ".encode())
            with (folder / name).open("rb") as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()
