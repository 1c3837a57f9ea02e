"""Transcripts of more words than their example has steps, which CTC cannot spell: found before training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig
from models.features import Modality
from models.features.text import TextTokenizer
from models.heads import TranscriptionHead
from models.network import FusionRNN
from models.registry import stride_of
from models.sequence import Padded
from models.training.experiment import ExperimentError
from models.training.objectives import steps_needed
from models.training.targets.transcription import spelled


@torch.inference_mode()
def unspellable(
    texts: Sequence[str],
    lengths: Mapping[Modality, NDArray[np.int64]],
    inputs: Callable[[Tensor], dict[str, Padded]],
    config: CheckpointConfig,
    tokenizer: TextTokenizer,
) -> dict[int, str]:
    """Places in ``texts`` whose example gives the network of ``config`` too few steps, each with what is lacking.

    Args:
        lengths: steps [N] of each modality's features.
        inputs: the features of a batch of places.

    Raises:
        ExperimentError: the network cannot be built.
    """
    try:
        network = FusionRNN(config.network).eval()
    except ValueError as error:
        raise ExperimentError(f"The network cannot be built: {error}") from error
    found = {}
    for place, text in enumerate(texts):
        steps = {str(name): int(values[place]) for name, values in lengths.items()}
        lacking = too_long(text, steps, partial(inputs, torch.tensor([place])), network, tokenizer)
        if lacking is not None:
            found[place] = lacking
    return found


@torch.inference_mode()
def too_long(
    text: str,
    lengths: Mapping[str, int],
    inputs: Callable[[], Mapping[str, Padded]],
    network: FusionRNN,
    tokenizer: TextTokenizer,
) -> str | None:
    """What a transcript lacks for ``network`` to spell it; None where it has steps enough.

    Args:
        lengths: steps of each modality's features.
        inputs: gives those features, a batch of one.
    """
    words = spelled(tokenizer, text)
    needed = int(steps_needed(words[None], torch.tensor([len(words)])))
    # Few are so long that the network itself, whose weights do not matter here, has to be asked.
    about = max(-(-count // stride_of(network.encoders[name])) for name, count in lengths.items())
    if needed > about and needed > (steps := _steps(network, inputs())):
        return f"{len(words)} words need {needed} steps, and there are {steps}"
    return None


def _steps(network: FusionRNN, inputs: Mapping[str, Padded]) -> int:
    """How many steps an example is transcribed at."""
    assert isinstance(network.head, TranscriptionHead)
    return int(network.head.steps(network.encode(inputs)).lengths)
