"""Objectives for a head that writes captions: teacher forcing, with cross-entropy or a sampled caption's reward."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.encoded import Encoded
from models.heads.captioning import CaptioningHead
from models.stepwise import unrolled


@dataclass(frozen=True, slots=True)
class Taught:
    """What a head says about given captions: ``logits`` [M, V_L] over the language's vocabulary, one row a word asked.

    ``wanted`` int64 [M] is the word's place in that vocabulary; ``rows`` and ``columns`` int64 [M] say whose it is.
    """

    logits: Tensor
    wanted: Tensor
    rows: Tensor
    columns: Tensor


def teach(head: CaptioningHead, encoded: Encoded, language: int, start: int, targets: Tensor, *, pad: int) -> Taught:
    """Run the head over captions, given the words before each (teacher forcing).

    Args:
        targets: int64 [B, K, T], padded with ``pad``, every row's captions ordered from long to short. Words that
            the language does not write (unknown, or borrowed from another) are read but not asked for.
    """
    rows, columns, _ = targets.shape
    memory = head.remember(encoded, targets.new_full((rows,), language))
    state = head.initial_state(encoded.fusion.fused, columns)
    inputs = torch.cat([torch.full_like(targets[..., :1], start), targets[..., :-1]], 2)
    lengths = (targets != pad).sum(2).amax(0).tolist()
    embedded = head.embed(inputs[..., : lengths[0]]).unbind(2)
    hidden, contexts, wanted, owners = [], [], [], []
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
            owners.append(asked.nonzero())
    vocabulary = head.vocabulary(language)
    logits = head.logits(head.features(torch.cat(hidden), torch.cat(contexts)), vocabulary)
    owner = torch.cat(owners)
    return Taught(logits, torch.searchsorted(vocabulary, torch.cat(wanted)), owner[:, 0], owner[:, 1])


def caption_cross_entropy(taught: Taught, *, smoothing: float = 0.1) -> Tensor:
    """Mean cross-entropy of the words asked, with label smoothing (Szegedy et al. 2016)."""
    return F.cross_entropy(taught.logits, taught.wanted, label_smoothing=smoothing)


def self_critical(taught: Taught, rewards: Tensor) -> Tensor:
    """REINFORCE for sampled captions (Rennie et al. 2017), per word, to be descended.

    ``rewards`` is [B, K], K >= 2; a caption's baseline is the mean reward of its photo's other samples (Luo 2020).
    """
    advantages = (rewards - rewards.mean(1, keepdim=True)) * (rewards.shape[1] / (rewards.shape[1] - 1))
    scores = -F.cross_entropy(taught.logits, taught.wanted, reduction="none")
    return -(scores * advantages[taught.rows, taught.columns]).mean()
