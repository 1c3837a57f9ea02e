"""Objectives for heads that write."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.decoding.sampling import Samples
from models.encoded import Encoded
from models.heads.captioning import CaptioningHead
from models.stepwise import unrolled


def caption_cross_entropy(
    head: CaptioningHead,
    encoded: Encoded,
    language: int,
    start: int,
    targets: Tensor,
    *,
    pad: int,
    smoothing: float = 0.1,
) -> Tensor:
    """Mean cross-entropy of reference captions given the words before each (teacher forcing).

    Args:
        targets: int64 [B, K, T], padded with ``pad``, every row's captions ordered from long to short. Words that
            the language does not write (unknown, or borrowed from another) are read but not asked for.
    """
    rows, columns, _ = targets.shape
    memory = head.remember(encoded.memory(), torch.full((rows,), language))
    state = head.initial_state(encoded.fusion.fused, columns)
    inputs = torch.cat([torch.full_like(targets[..., :1], start), targets[..., :-1]], 2)
    lengths = (targets != pad).sum(2).amax(0).tolist()
    embedded = head.embed(inputs[..., : lengths[0]]).unbind(2)
    hidden, contexts, wanted = [], [], []
    with unrolled(head):
        for step in range(lengths[0]):
            # Captions go from long to short, so those that are over in all rows leave at the end of the columns.
            active = sum(length > step for length in lengths)
            state = {name: value[:, :active] for name, value in state.items()}
            state, context, _ = head.advance(embedded[step][:, :active], state, memory)
            here = targets[:, :active, step]
            asked = head.spoken[language, here].bool() & (here != pad)
            hidden.append(state["h"][asked])
            contexts.append(context[asked])
            wanted.append(here[asked])
    vocabulary = head.vocabulary(language)
    logits = head.logits(head.features(torch.cat(hidden), torch.cat(contexts)), vocabulary)
    return F.cross_entropy(logits, torch.searchsorted(vocabulary, torch.cat(wanted)), label_smoothing=smoothing)


def self_critical(samples: Samples, rewards: Tensor, end: int) -> Tensor:
    """REINFORCE with the mean reward of a photo's other samples as baseline: ``rewards`` is [B, K], K >= 2."""
    count = rewards.shape[1]
    baseline = (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
    written = (samples.tokens != end).long().sum(2) + 1
    weight = (rewards - baseline) / written.float().mean()
    return -(samples.log_probabilities.sum(2) * weight).mean()
