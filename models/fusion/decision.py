"""Decision-level (late) fusion: every modality decides by itself, and a rule combines the decisions.

The rules are the sum and product rules of Kittler et al. 1998 ("On Combining Classifiers"), the latter a product of
experts (Hinton 2002), and stacked generalization (Wolpert 1992).
"""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.fusion.pooled import PooledFusion
from models.fusion.presence import complete, drop_one
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput

Rule = Literal["mean", "weighted", "product", "stacked"]


class DecisionConfig(FusionConfig):
    """Sizes of a ``decision`` fusion."""

    type: Literal["decision"] = "decision"
    outputs: int = Field(ge=1, le=100_000, description="Number of classes; 1 for the one number of a regression")
    combine: Rule = "weighted"
    hidden: int = Field(0, ge=0, le=8192, description="Units of a hidden layer in each modality's head; 0 for none")
    dropout: float = Field(0.0, ge=0, lt=1, description="On the vectors that the heads read")

    @model_validator(mode="after")
    def _probabilities_multiply(self) -> Self:
        if self.combine == "product" and self.outputs == 1:
            raise ValueError("the rule 'product' multiplies probabilities, and a regression (outputs 1) has none")
        return self

    @classmethod
    def tiny(cls) -> Self:
        return cls(outputs=3)

    @classmethod
    def variants(cls) -> list[Self]:
        rules: list[Rule] = ["mean", "weighted", "stacked"]
        classes = [cls(outputs=3, combine=rule, hidden=4) for rule in [*rules, "product"]]
        return [*classes, *(cls(outputs=1, combine=rule) for rule in rules)]


@FUSIONS.register("decision", DecisionConfig)
class DecisionFusion(PooledFusion):
    """``votes`` [B, M, outputs] of one head a modality, and ``fused`` [B, outputs], what they come to together.

    With two outputs or more the votes are log-probabilities, and so is ``fused`` by all rules but ``stacked``, which
    gives logits: a softmax makes either of them probabilities. With one output votes and ``fused`` are numbers, of unit
    scale where a ``decision`` head brings what they come to into the data's unit.

    - ``mean``: the mean of the present modalities' probabilities (or numbers).
    - ``weighted``: the same with learned weights, a softmax over the present modalities.
    - ``product``: the normalized product of the present modalities' probabilities.
    - ``stacked``: a linear layer over all votes and, for each modality, whether it is present; an absent vote is 0.

    ``fusionrnn train`` fits heads and rule together, by the loss of ``fused`` alone: no head is taught to decide well
    by itself, and the rule is learned on the training examples, which a head may know by heart. The study of CMU-MOSI
    also teaches heads whose votes are averaged by their own losses, and fits the rule to development videos, which no
    head has learned (docs/decisions.md, no. 34).

    An absent modality has no vote. A modality's contribution is how far the probabilities (or the number) move when
    its vote is left out, as a share of all present ones.
    """

    def __init__(self, config: DecisionConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.combine: Rule = config.combine
        self.modalities = sorted(sizes)
        self.output_size = config.outputs
        self.heads = nn.ModuleDict({name: _head(sizes[name], config) for name in self.modalities})
        if config.combine == "weighted":
            self.scores = nn.Parameter(torch.zeros(len(self.modalities)))
        elif config.combine == "stacked":
            self.stack = nn.Linear(len(self.modalities) * (config.outputs + 1), config.outputs)

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Let each modality vote where ``present`` bool [B, M] is true, and combine the votes.

        Raises:
            ValueError: a row has no modality at all.
        """
        vectors = [inputs[name].pooled for name in self.modalities]
        some = None if complete(present) else present
        if some is not None:
            vectors = [vector.masked_fill(~some[:, column : column + 1], 0) for column, vector in enumerate(vectors)]
        votes = torch.stack([head(x) for head, x in zip(self.heads.values(), vectors, strict=True)], 1)
        if self.output_size > 1:
            votes = votes.log_softmax(2)
        if some is not None:
            votes = votes.masked_fill(~some.unsqueeze(2), 0)
        return FusionOutput(
            self.combined(votes, some),
            lambda: drop_one(lambda fewer: self._decided(votes, fewer), present),
            votes=votes,
        )

    def combined(self, votes: Tensor, present: Tensor | None = None) -> Tensor:
        """The decision [B, outputs] of ``votes`` [B, M, outputs], all of them or where ``present`` [B, M] is true."""
        if self.combine == "stacked":
            if present is None:
                here = votes.new_ones(votes.shape[:2])
            else:
                votes, here = votes.masked_fill(~present.unsqueeze(2), 0), present.to(votes.dtype)
            stacked: Tensor = self.stack(torch.cat([votes.flatten(1), here], 1))
            return stacked
        if self.combine == "product":
            voted = votes if present is None else votes.masked_fill(~present.unsqueeze(2), 0)
            return voted.sum(1).log_softmax(1)
        weights = self._weights(votes, present).unsqueeze(-1)
        if self.output_size == 1:
            return (votes * weights.exp()).sum(1)
        return (votes + weights).logsumexp(1)

    def _weights(self, votes: Tensor, present: Tensor | None) -> Tensor:
        """Logarithms of the modalities' weights, [M] or [B, M]."""
        scores = self.scores if self.combine == "weighted" else votes.new_zeros(len(self.modalities))
        if present is None:
            return scores.log_softmax(0)
        # The lowest number, not -inf: a row from which everything has been left out must stay finite.
        return scores.expand_as(present).masked_fill(~present, torch.finfo(votes.dtype).min).log_softmax(1)

    def _decided(self, votes: Tensor, present: Tensor) -> Tensor:
        combined = self.combined(votes, present)
        return combined.softmax(1) if self.output_size > 1 else combined


def _head(size: int, config: DecisionConfig) -> nn.Module:
    dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
    if not config.hidden:
        return nn.Sequential(dropout, nn.Linear(size, config.outputs))
    return nn.Sequential(dropout, nn.Linear(size, config.hidden), nn.Tanh(), nn.Linear(config.hidden, config.outputs))
