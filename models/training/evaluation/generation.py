"""How much the next word of a text surprises the checkpoint."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.heads import LanguageModelHead
from models.pipeline import Pipeline
from models.training.evaluation.answers import encoded_batches
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.figures import Figures
from models.training.objectives import next_token_cross_entropy


@torch.inference_mode()
def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Perplexity with its interval, each text weighing by the words that are asked for.

    The end counts as a word, but not of a text that is read in part; what the head never writes, such as unknown words,
    is not asked for.

    Raises:
        DataError: of no text anything is asked for: all are cut after their first word, or of unknown words.
    """
    head = pipeline.network.head
    assert isinstance(head, LanguageModelHead)
    sums, words = [], []
    end = pipeline.task.tokenizer.end  # type: ignore[attr-defined]
    for features, encoded in encoded_batches(pipeline, split, size=1):
        tokens = features[0].tensors["text"].to(encoded.outputs["text"].lengths.device)
        cut = "truncated" in features[0].notices.get("text", [])
        asked = asked_of(tokens, end, cut=cut)
        # As many as the cross-entropy is the mean of.
        count = int(head.spoken[asked].sum())
        if not count:
            continue
        lengths = torch.tensor([len(asked)], device=tokens.device)
        logits = head(encoded)[:, : len(asked)]
        read = tokens[None, : len(asked)]
        words.append(count)
        sums.append(float(next_token_cross_entropy(logits, read, lengths, end=asked[-1:])) * words[-1])

    if not words:
        raise DataError(f"{split.name}.jsonl has no text of which two known words are read: raise max_tokens")

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([np.exp(np.array(sums)[rows].sum() / np.array(words)[rows].sum())])

    return Figures(("perplexity",), len(sums), statistic).intervals()


def asked_of(tokens: Tensor, end: int, *, cut: bool) -> Tensor:
    """What comes after each of the ``tokens`` [T] of a text: [T], or [T - 1] where the rest of it was cut off."""
    return tokens[1:] if cut else torch.cat([tokens[1:], tokens.new_tensor([end])])
