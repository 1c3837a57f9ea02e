"""A network that gives each utterance of a conversation a class: the library's encoders, one fusion, one head."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

import models.fusion
import models.heads  # noqa: F401  these two register the parts
from models.encoded import Encoded, Sizes
from models.registry import FUSIONS, HEADS, FusionConfig
from models.rnn import RecurrentEncoder
from models.sequence import FusionOutput, Padded, SequenceOutput, length_mask


class UtteranceEncoder(nn.Module):
    """tanh(W x + b) of each utterance by itself: what a modality says without its context."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.output_size = width
        self.project = nn.Linear(size, width)

    def forward(self, x: Tensor, lengths: Tensor) -> SequenceOutput:
        """``x`` [B, T, size] -> steps [B, T, width]; ``pooled`` means nothing here."""
        sequence = torch.tanh(self.project(x))
        return SequenceOutput(sequence, lengths, sequence[:, 0])


class ConversationNetwork(nn.Module):
    """Class scores of each utterance.

    Each modality has an encoder: with ``context`` a bidirectional LSTM of ``hidden`` units a direction over the
    conversation's utterances, else a layer of equally many outputs on each utterance alone. A fusion that works step
    by step runs over the conversation; any other takes each utterance as a bundle of its own, of one step. ``alone``
    are the scores of a linear layer on each encoder, for auxiliary losses.
    """

    def __init__(
        self, sizes: Mapping[str, int], fusion: FusionConfig, *, hidden: int, dropout: float, context: bool = True
    ) -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.dropout = nn.Dropout(dropout)
        self.encoders = nn.ModuleDict(
            {
                name: RecurrentEncoder(sizes[name], hidden, cell="lstm", bidirectional=True)
                if context
                else UtteranceEncoder(sizes[name], 2 * hidden)
                for name in self.modalities
            }
        )
        widths = dict.fromkeys(self.modalities, 2 * hidden)
        self.fusion = FUSIONS.build(fusion, widths)
        steps: int | None = getattr(self.fusion, "sequence_size", None)
        self.stepwise = steps is not None
        head: dict[str, object] = (
            {"type": "decision", "outputs": 2}
            if fusion.type == "decision"
            else {
                "type": "classification",
                "classes": 2,
                "per": "step" if self.stepwise else "bundle",
                "dropout": dropout,
            }
        )
        fused = Sizes(widths, int(self.fusion.output_size), steps)  # type: ignore[arg-type]
        self.head = HEADS.build(HEADS.parse(head), fused)
        # In a mean of probabilities one modality that is sure hides the others' errors: there the votes are taught.
        self.mixes = getattr(fusion, "combine", None) in ("mean", "weighted")
        self.alone = nn.ModuleDict({name: nn.Linear(2 * hidden, 2) for name in self.modalities})

    def forward(self, inputs: Mapping[str, Padded], present: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores [N, 2] of the N real utterances, one conversation after the other, and each modality's own.

        ``present`` bool [B, M] says which modalities, in alphabetical order, each conversation has.
        """
        outputs = self._encode(inputs, present)
        real = self._real(inputs)
        encoded = Encoded(outputs, self._fuse(outputs, present, real))
        if self.mixes and encoded.fusion.votes is not None:
            alone = dict(zip(self.modalities, encoded.fusion.votes.unbind(1), strict=True))
        else:
            alone = {name: self.alone[name](output.sequence[real]) for name, output in outputs.items()}
        scores: Tensor = self.head(encoded)
        return scores[real] if self.stepwise else scores, alone

    def votes(self, inputs: Mapping[str, Padded], present: Tensor) -> tuple[Tensor, Tensor]:
        """What each modality votes for each real utterance [N, M, 2], and which are present [N, M].

        Only a fusion of decisions has votes.
        """
        outputs = self._encode(inputs, present)
        votes = self._fuse(outputs, present, self._real(inputs)).votes
        assert votes is not None
        return votes, present.repeat_interleave(inputs[self.modalities[0]].lengths, 0)

    def _real(self, inputs: Mapping[str, Padded]) -> Tensor:
        lengths = inputs[self.modalities[0]].lengths
        return length_mask(lengths, int(lengths.max()))

    def _encode(self, inputs: Mapping[str, Padded], present: Tensor) -> dict[str, SequenceOutput]:
        outputs = {}
        for column, name in enumerate(self.modalities):
            x, lengths = inputs[name].values, inputs[name].lengths
            encoded = self.encoders[name](self.dropout(x), lengths)
            sequence = self.dropout(encoded.sequence)
            outputs[name] = replace(encoded, sequence=sequence, lengths=lengths * present[:, column])
        return outputs

    def _fuse(self, outputs: Mapping[str, SequenceOutput], present: Tensor, real: Tensor) -> FusionOutput:
        """A stepwise fusion of the conversations, or of each of their ``real`` utterances by itself."""
        if self.stepwise:
            return self.fusion(outputs, present)  # type: ignore[no-any-return]
        present = present.repeat_interleave(real.sum(1), 0)
        steps = {name: output.sequence[real] for name, output in outputs.items()}
        rows = {
            name: SequenceOutput(steps[name].unsqueeze(1), present[:, column].long(), steps[name])
            for column, name in enumerate(self.modalities)
        }
        return self.fusion(rows, present)  # type: ignore[no-any-return]
