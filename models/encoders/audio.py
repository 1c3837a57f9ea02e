"""Audio encoder: log-mel frames through convolutions over time and frequency into a recurrent network."""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.convolution import SequenceConv
from models.encoders.recurrent import RecurrentConfig
from models.pooling import Pooling
from models.registry import ENCODERS
from models.sequence import SequenceOutput, full_lengths
from models.state import State

_PIECE = 4096
"""Frames, 41 seconds at the usual hop, of which a long sound's maps are still memory that is kept for the next run."""

_Channels = Annotated[int, Field(ge=1, le=1024)]
_Stride = Annotated[int, Field(ge=1, le=8)]


class AudioRNNConfig(RecurrentConfig):
    """Sizes of an ``audio-rnn`` encoder."""

    type: Literal["audio-rnn"] = "audio-rnn"
    bands: int = Field(64, ge=4, le=256, description="Mel bands of the features")
    channels: tuple[_Channels, ...] = Field((32, 32), max_length=8, description="Maps of each convolution")
    strides: tuple[_Stride, ...] = Field((2, 2), max_length=8, description="Steps in time of each convolution")
    kernel: int = Field(5, ge=1, le=31, description="Frames that a convolution looks at")
    causal: bool = Field(False, description="Convolutions look back only, so that the encoder can stream")

    reads: ClassVar[tuple[str, ...]] = ("log-mel",)

    @classmethod
    def tiny(cls) -> Self:
        return cls(channels=(4, 4), hidden=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [
            cls.tiny(),
            cls(channels=(4, 4), strides=(3, 2), hidden=8, causal=True, cell="lstm"),
            cls(channels=(4, 4), strides=(1, 2), hidden=8, bidirectional=True),
        ]

    def check(self, features: Any) -> None:
        if features.n_mels != self.bands:
            raise ValueError(f"the audio encoder reads {self.bands} bands, and the features have {features.n_mels}")

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if len(self.channels) != len(self.strides):
            raise ValueError("channels and strides need one number a convolution")
        if self.causal and self.bidirectional:
            raise ValueError("a causal encoder cannot be bidirectional, which begins at the end")
        return self


@ENCODERS.register("audio-rnn", AudioRNNConfig)
class AudioRNN(nn.Module):
    """Log-mel [B, T, bands] -> [B, ceil(T / stride), H]: output j stands at frame j * ``stride``."""

    def __init__(self, config: AudioRNNConfig) -> None:
        super().__init__()
        self.causal = config.causal
        self.stride = 1
        self.convolutions = nn.ModuleList()
        maps, bands = 1, config.bands
        for channels, stride in zip(config.channels, config.strides, strict=True):
            layer = SequenceConv(maps, channels, bands, kernel=config.kernel, stride=stride, causal=config.causal)
            self.convolutions.append(layer)
            maps, bands = channels, layer.bands
            self.stride *= stride
        self.rnn = config.build(maps * bands)
        self.output_size = self.rnn.output_size

    @property
    def pooling(self) -> Pooling:
        """How its sequence becomes one vector."""
        return self.rnn.pooling

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The state before the first frame: the recurrent network's, and what each convolution looks back at."""
        state = self.rnn.initial_state(rows, device)
        for index, layer in enumerate(self._layers()):
            state |= {f"{name}{index}": value for name, value in layer.initial_state(rows, device).items()}
        return state

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode the first ``lengths[b]`` (>= 0) frames of each row, going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to an encoder that looks ahead, or its rows cannot be stepped together.
        """
        if state is not None and not self.causal:
            raise ValueError("an encoder that looks ahead needs the whole sequence and cannot go on from a state")
        if not (self.causal and len(x) == 1 and x.shape[1] > _PIECE):
            return self._encode(x, lengths, state)
        # A row by itself goes piece by piece, as a stream does: what it takes grows no faster than its length.
        outputs: list[SequenceOutput] = []
        for start in range(0, x.shape[1], _PIECE):
            outputs.append(self._encode(x[:, start : start + _PIECE], (lengths - start).clamp(0, _PIECE), state))
            state = outputs[-1].state
        sequence = torch.cat([output.sequence for output in outputs], 1)
        steps = torch.stack([output.lengths for output in outputs]).sum(0)
        return SequenceOutput(sequence, steps, self.pooling(sequence, steps), outputs[-1].state)

    def _encode(self, x: Tensor, lengths: Tensor, state: State | None) -> SequenceOutput:
        before = self.initial_state(len(x), x.device) if state is None else state
        after: State = {}
        maps = x.unsqueeze(2)
        for index, layer in enumerate(self._layers()):
            held = {name: before[f"{name}{index}"] for name in ("context", "phase")}
            maps, lengths, held = layer(maps, lengths, held)
            after |= {f"{name}{index}": value for name, value in held.items()}
        recurrent = {name: before[name] for name in self.rnn.initial_state(0)} if self.causal else None
        output: SequenceOutput = self.rnn(maps.flatten(2), lengths, recurrent)
        return SequenceOutput(output.sequence, lengths, output.pooled, output.state | after if self.causal else {})

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, bands], all frames real, of a causal encoder -> (outputs [B, 0.., H], state).

        All outputs together equal those of ``forward`` in one go. Rows can be joined whenever as many frames have come
        since the last output, always so in chunks of a multiple of ``stride`` frames.
        """
        lengths = full_lengths(x)
        output = self(x, lengths, state)
        return output.sequence, output.state

    def _layers(self) -> list[SequenceConv]:
        return [layer for layer in self.convolutions if isinstance(layer, SequenceConv)]
