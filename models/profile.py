"""What there is to know of a checkpoint without its weights: what it takes, what it answers, where it comes from."""

from dataclasses import dataclass
from typing import Any

import torch

from models.config import CheckpointConfig
from models.features import Modality
from models.media.limits import MediaLimits
from models.options import Options
from models.runtime import Runtime
from models.tasks.task import Result


@dataclass(eq=False)
class Profile:
    """A checkpoint's interface; ``accepts`` are the most parts of each modality in a bundle."""

    config: CheckpointConfig
    digest: str
    metrics: dict[str, Any] | None
    card: str | None
    device: torch.device
    runtime: Runtime
    parameters: int
    options: type[Options]
    result: type[Result]
    example: dict[str, Any]
    explains: bool
    draws: bool
    languages: list[str]
    accepts: dict[Modality, int]
    streaming_refusal: str | None
    """Why it cannot follow a stream; None if it can."""

    def part_bytes(self, part: Modality, limits: MediaLimits) -> int:
        """Most bytes of a part: what its features say, or the medium's limit where it only stands in for others."""
        item = self.config.modalities.get(part)
        return item.features.most_bytes(part, limits) if item else limits.bytes_of(part)

    def is_written(self, part: Modality) -> bool:
        """Whether a part is text that may come as a string, and not a file."""
        item = self.config.modalities.get(part)
        return item is not None and item.features.written
