"""A loaded checkpoint from media to answer: decode, features, network, task. Knows nothing of HTTP or queues."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from models.checkpoint import Checkpoint, load_checkpoint
from models.config import Modality
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.media.video import decode_video
from models.sequence import Padded, pad
from models.tasks import TASKS, Task
from models.tasks.task import Options, Result

Bundle: TypeAlias = Mapping[Modality, list[bytes | str]]
Features: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A bundle's media as arrays, by the modality that the network knows them as."""

    pictures: list[NDArray[np.uint8]]


class Pipeline:
    """One checkpoint, ready to answer: ``decode`` and ``features`` in any thread, the rest in one thread a device."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu") -> None:
        self.config = checkpoint.config
        self.digest = checkpoint.digest
        self.metrics = checkpoint.metrics
        self.card = checkpoint.card
        self.device = torch.device(device)
        self.network = checkpoint.network.to(self.device)
        self.task: Task = TASKS[checkpoint.config.task](checkpoint)
        self.parameters = sum(parameter.numel() for parameter in self.network.parameters())
        self.options: type[Options] = self.task.options
        self.result: type[Result] = self.task.result
        self.example = self.task.example
        self.explains = self.task.explains
        self.languages = list(self.task.languages)
        self.accepts: dict[Modality, int] = {name: item.max_items for name, item in self.config.modalities.items()}
        if "image" in self.accepts and "video" not in self.accepts:
            # A network that looks at pictures looks at a video's frames.
            self.accepts["video"] = 1

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Pipeline":
        """Load a checkpoint folder.

        Raises:
            CheckpointError: the folder is not a usable checkpoint.
        """
        return cls(load_checkpoint(folder), device)

    def decode(self, bundle: Bundle, limits: MediaLimits) -> Decoded:
        """Bytes to arrays; the bundle holds only what ``accepts`` allows.

        Raises:
            MediaError: a medium cannot be used.
        """
        item = self.config.modalities["image"]
        size = item.features.size
        pictures = [decode_image(_bytes(data), limits, target=size) for data in bundle.get("image", [])]
        room = item.max_items - len(pictures)
        for data in bundle.get("video", []):
            video = decode_video(_bytes(data), limits, count=max(room, 1), target=size)
            pictures.extend(video.frames)
        return Decoded(pictures)

    def features(self, decoded: Decoded) -> Features:
        """Arrays to the tensors [T, ...] that the network reads."""
        return {"image": self.config.modalities["image"].features(decoded.pictures)}

    @torch.inference_mode()
    def predict(self, features: Features, options: BaseModel, *, explain: bool = False) -> Result:
        """The answer for one bundle."""
        return self.task.predict(self._inputs(features), options, explain=explain)

    def stream(self, features: Features, options: BaseModel) -> Iterator[dict[str, Any]]:
        """Parts of the answer as they become certain, then ``{"result": whole answer}``."""
        steps = self.task.stream(self._inputs(features), options)
        while True:
            # Per step, not around the loop: a suspended generator must not leave the mode on in its thread.
            with torch.inference_mode():
                part = next(steps, None)
            if part is None:
                return
            yield part

    def overlay(self, decoded: Decoded, result: Result) -> bytes:
        """PNG of where the network looked for each word of an explained result."""
        return self.task.overlay(decoded.pictures, result)

    def warm_up(self) -> None:
        """Run once on made-up input of the real size, so that the first request pays for nothing."""
        size = self.config.modalities["image"].features.size
        grey = Decoded([np.full((size, size, 3), 127, np.uint8)])
        self.predict(self.features(grey), self.options())

    def _inputs(self, features: Features) -> dict[str, Padded]:
        return {name: pad([tensor]).to(self.device) for name, tensor in features.items()}


def _bytes(data: bytes | str) -> bytes:
    return data if isinstance(data, bytes) else data.encode()
