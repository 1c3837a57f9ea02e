"""A whole input, heard sentence by sentence, as a stream of it would be."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.network import FusionRNN
from models.options import Options, narrowed
from models.readings.reading import Event
from models.readings.transcription import Transcription
from models.registry import stride_of
from models.sequence import Padded, length_mask
from models.state import State

_CHUNK = 32
"""Steps that are taken at once after the first sentence: at most so many are taken twice where another one ends."""


class Sentences:
    """One causal transcriber's words of whole inputs.

    Such a network has learned from single sentences, and of one that silence ended it must know nothing in the next
    (see ``Transcription.tell``). So what follows the first one is stepped anew.
    """

    def __init__(self, network: FusionRNN, reading: Transcription) -> None:
        self.network, self.reading = network, reading
        self.strides = {str(name): stride_of(network.encoders[name]) for name in network.modalities}

    def together(self, inputs: Mapping[str, Padded]) -> dict[str, Padded]:
        """Each row's modalities as far as the shortest of them goes: a stream hears no more, and stretches none."""
        steps = torch.stack([-(-padded.lengths // self.strides[name]) for name, padded in inputs.items()])
        # What a row lacks has no step, and cuts off nothing.
        common = steps.where(steps > 0, steps.max()).amin(0)
        return {name: _first(padded, common * self.strides[name]) for name, padded in inputs.items()}

    def words(self, inputs: Mapping[str, Padded], row: int, scores: Tensor, options: Options) -> list[dict[str, Any]]:
        """Words with times and probabilities, of all sentences.

        Args:
            scores: [T, V], what the network says of the row as if it were a single sentence.
        """
        listener = self.reading.listener(narrowed(options, self.reading.options))
        media = {
            name: padded.values[row : row + 1, :length]
            for name, padded in inputs.items()
            if (length := int(padded.lengths[row]))
        }
        steps = min([len(scores), *(-(-values.shape[1] // self.strides[name]) for name, values in media.items())])
        present = torch.tensor([[name in media for name in self.network.modalities]], device=scores.device)
        events: list[Event] = []
        state: State = {}
        heard, at = scores[:steps], 0
        while True:
            told = self.reading.tell(listener, heard.double().cpu().numpy(), at, 0.0)
            events += told.events
            at += told.steps
            if told.over:
                state = self.network.initial_state(1, scores.device)
            if at == steps:
                break
            chunk = {
                name: values[:, at * self.strides[name] : min(at + _CHUNK, steps) * self.strides[name]]
                for name, values in media.items()
            }
            encoded, state = self.network.step(chunk, present, state)
            heard = self.reading.head(encoded)[0]
        events += self.reading.final(listener, at, 0.0, "end")
        return [word for event in events if event["type"] == "final" for word in event["words"]]


def _first(padded: Padded, most: Tensor) -> Padded:
    """At most the first ``most`` int64 [B] steps of each row."""
    lengths = torch.minimum(padded.lengths, most)
    if torch.equal(lengths, padded.lengths):
        return padded
    values = padded.values[:, : int(lengths.max())]
    real = length_mask(lengths, values.shape[1])
    return Padded(values.where(real.reshape(*real.shape, *[1] * (values.ndim - 2)), 0), lengths)
