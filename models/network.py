"""FusionRNN: encoders, a fusion and a head, composed as a checkpoint's config says."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import models.encoders
import models.fusion
import models.heads  # noqa: F401  these three register the parts that a config may name
from models.config import NetworkConfig
from models.encoded import Encoded, Sizes
from models.registry import ENCODERS, FUSIONS, HEADS
from models.sequence import FusionOutput, Padded, SequenceOutput, absent, full_lengths
from models.state import State, part, under


class FusionRNN(nn.Module):
    """One encoder a modality, one fusion, one head; a modality is absent from a row when its length is 0."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.modalities = sorted(config.encoders)
        self.encoders = nn.ModuleDict({name: ENCODERS.build(config.encoders[name]) for name in self.modalities})
        sizes = {name: int(encoder.output_size) for name, encoder in self.encoders.items()}  # type: ignore[arg-type]
        self.fusion = FUSIONS.build(config.fusion, sizes)
        # A fusion that works step by step states the size of its steps.
        steps: int | None = getattr(self.fusion, "sequence_size", None)
        self.sizes = Sizes(sizes, int(self.fusion.output_size), steps)  # type: ignore[arg-type]
        self.head = HEADS.build(config.head, self.sizes)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def encode(self, inputs: Mapping[str, Padded]) -> Encoded:
        """Encode and fuse a batch; a modality that is not in ``inputs`` is absent from every row.

        Raises:
            ValueError: an input has no encoder here, or a row has no modality.
        """
        self._require_known(inputs)
        encoders = self.encoders
        outputs = {name: encoders[name](padded.values, padded.lengths) for name, padded in inputs.items()}
        return self.fuse(outputs)

    def fuse(self, outputs: Mapping[str, SequenceOutput]) -> Encoded:
        """Fuse what the encoders returned."""
        some = next(iter(outputs.values()))
        inputs = {
            name: outputs[name] if name in outputs else absent(some, self.sizes.modalities[name])
            for name in self.modalities
        }
        present = torch.stack([inputs[name].lengths for name in self.modalities], 1) > 0
        fusion: FusionOutput = self.fusion(inputs, present)
        return Encoded(outputs, fusion)

    @property
    def causal(self) -> bool:
        """Whether no output depends on later input, so that ``step`` can be used."""
        return self.streaming_refusal() is None

    def streaming_refusal(self) -> str | None:
        """Which part looks ahead, so that the network needs the whole input at once; None if none does."""
        parts: list[tuple[nn.Module, str]] = [
            (self.encoders[name], f"the encoder '{self.config.encoders[name].type}' of {name}")
            for name in self.modalities
        ]
        parts.append((self.fusion, f"the fusion '{self.config.fusion.type}'"))
        parts.append((self.head, f"the head '{self.config.head.type}'"))
        for module, name in parts:
            if not getattr(module, "causal", False):
                return f"{name} needs the whole input before it answers, so this network cannot stream"
        return None

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The state of ``rows`` rows before their first step: named tensors, each of which begins with the row.

        Raises:
            ValueError: the network cannot stream.
        """
        refusal = self.streaming_refusal()
        if refusal is not None:
            raise ValueError(refusal)
        fusion: Any = self.fusion
        state = under("fusion", fusion.initial_state(rows, device))
        for name in self.modalities:
            encoder: Any = self.encoders[name]
            state |= under(f"encoders.{name}", encoder.initial_state(rows, device))
            state |= under(f"pooling.{name}", encoder.pooling.initial_state(rows, device))
        return state

    def step(self, inputs: Mapping[str, Tensor], present: Tensor, state: State) -> tuple[Encoded, State]:
        """One chunk of each modality, all its steps real; chunk by chunk equal to ``encode`` in one go.

        Sequences, of encoders and of the fusion, are those of the chunk; ``pooled``, ``fused``, ``contributions`` and
        ``votes`` are those of everything so far. So a head gives an answer for each new step, or for all that came.

        Args:
            inputs: [B, t_m, ...] by modality; one with nothing new may be left out, or have no step.
            present: bool [B, M], in alphabetical order: which modalities a row has, or has had so far.
            state: what ``initial_state`` or the last ``step`` returned; it is left as it was.

        Raises:
            ValueError: an input has no encoder here, a row has no modality, or the fusion is by step and the present
                modalities' encoders give unequal numbers of steps.
        """
        self._require_known(inputs)
        outputs: dict[str, SequenceOutput] = {}
        after: State = {}
        for name in self.modalities:
            encoder: Any = self.encoders[name]
            held, pooling = part(state, f"encoders.{name}"), part(state, f"pooling.{name}")
            if name in inputs and inputs[name].shape[1]:
                sequence, held = encoder.step(inputs[name], held)
            else:
                sequence = present.new_zeros(len(present), 0, encoder.output_size, dtype=torch.float32)
            pooled, pooling = encoder.pooling.step(sequence, pooling)
            outputs[name] = SequenceOutput(sequence, full_lengths(sequence), pooled)
            after |= under(f"encoders.{name}", held) | under(f"pooling.{name}", pooling)
        fusion: Any = self.fusion
        fused, held = fusion.step(outputs, present, part(state, "fusion"))
        return Encoded({name: outputs[name] for name in inputs}, fused), after | under("fusion", held)

    def forward(self, inputs: Mapping[str, Padded]) -> Tensor:
        """The head's output for heads that need only the fused vector: classification, regression."""
        output: Tensor = self.head(self.encode(inputs))
        return output

    def _require_known(self, inputs: Mapping[str, object]) -> None:
        unknown = sorted(set(inputs) - set(self.modalities))
        if unknown or not inputs:
            raise ValueError(f"this network takes {', '.join(self.modalities)}, not {', '.join(unknown) or 'nothing'}")
