"""Cross-entropy of the next token."""

import torch
from torch import Tensor

from models.sequence import length_mask


def next_token_cross_entropy(
    logits: Tensor, tokens: Tensor, lengths: Tensor, *, end: int | Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy of each token given those before it; after a row's last token comes ``end``.

    Its exponential is the perplexity when ``smoothing`` is 0. Tokens that the head never writes, whose logit is -inf,
    are read but not asked for.

    Args:
        logits: [B, T, V] at each token that was read, -inf where never written.
        tokens: int64 [B, T], what was read, padded with anything after ``lengths`` int64 [B].
        end: for all rows, or int64 [B] for each: of one that was cut, the token that would have come next.

    Raises:
        ValueError: no token is asked for.
    """
    following = torch.cat([tokens[:, 1:], tokens[:, :1]], 1)
    last = torch.arange(tokens.shape[1], device=tokens.device) == lengths.unsqueeze(1) - 1
    ends = torch.as_tensor(end, device=tokens.device).reshape(-1, 1)
    wanted = torch.where(last, ends, following)
    real = length_mask(lengths, tokens.shape[1])
    scores, wanted = logits[real], wanted[real]
    writes = scores.isfinite()
    asked = writes.gather(1, wanted.unsqueeze(1)).squeeze(1)
    if not bool(asked.any()):
        raise ValueError("a batch has no token that the head writes: look at its vocabulary")
    # Label smoothing would otherwise spread over what has no probability, and be infinite.
    log_probabilities = scores[asked].log_softmax(1)
    writes, wanted = writes[asked], wanted[asked]
    right = -log_probabilities.gather(1, wanted.unsqueeze(1)).squeeze(1)
    if smoothing == 0:
        return right.mean()
    spread = -log_probabilities.masked_fill(~writes, 0).sum(1) / writes.sum(1)
    return ((1 - smoothing) * right + smoothing * spread).mean()
