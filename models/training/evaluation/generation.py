"""How much the next word of a text surprises the checkpoint."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.pipeline import Pipeline
from models.training.evaluation.answers import encoded_batches
from models.training.examples import Split
from models.training.metrics.figures import Figures
from models.training.objectives import next_token_cross_entropy


@torch.inference_mode()
def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Perplexity with its interval, each text weighing by its words."""
    sums, words = [], []
    end = pipeline.task.tokenizer.end  # type: ignore[attr-defined]
    for features, encoded in encoded_batches(pipeline, split, size=1):
        tokens, lengths = features[0].tensors["text"].unsqueeze(0), encoded.outputs["text"].lengths
        logits = pipeline.network.head(encoded)
        words.append(int(lengths[0]))
        sums.append(float(next_token_cross_entropy(logits, tokens.to(lengths.device), lengths, end=end)) * words[-1])

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([np.exp(np.array(sums)[rows].sum() / np.array(words)[rows].sum())])

    return Figures(("perplexity",), len(sums), statistic).intervals()
