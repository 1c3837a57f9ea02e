"""FusionRNN: encoders, a fusion and a head, composed as a checkpoint's config says."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import models.encoders
import models.fusion
import models.heads  # noqa: F401  these three register the parts that a config may name
from models.config import NetworkConfig
from models.encoded import Encoded, Sizes
from models.registry import ENCODERS, FUSIONS, HEADS
from models.sequence import FusionOutput, Padded, SequenceOutput, absent


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

    def encode(self, inputs: Mapping[str, Padded]) -> Encoded:
        """Encode and fuse a batch; a modality that is not in ``inputs`` is absent from every row.

        Raises:
            ValueError: an input has no encoder here, or a row has no modality.
        """
        unknown = sorted(set(inputs) - set(self.modalities))
        if unknown or not inputs:
            raise ValueError(f"this network takes {', '.join(self.modalities)}, not {', '.join(unknown) or 'nothing'}")
        outputs = {name: self.encoders[name](padded.values, padded.lengths) for name, padded in inputs.items()}
        return self.fuse(outputs)

    def fuse(self, outputs: Mapping[str, SequenceOutput]) -> Encoded:
        """Fuse what the encoders returned."""
        some = next(iter(outputs.values()))
        inputs = {
            name: outputs[name] if name in outputs else absent(some, self.sizes.modalities[name])
            for name in self.modalities
        }
        present = torch.stack([inputs[name].lengths > 0 for name in self.modalities], 1)
        fusion: FusionOutput = self.fusion(inputs, present)
        return Encoded(outputs, fusion)

    def forward(self, inputs: Mapping[str, Padded]) -> Tensor:
        """The head's output for heads that need only the fused vector: classification, regression."""
        output: Tensor = self.head(self.encode(inputs))
        return output
