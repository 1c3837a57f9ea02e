"""What trained networks say of the training photos and sentences, for another one to learn.

Of several networks the mean of the scores finds more than any of them alone, and one network can be taught most of what
they say together (Hinton et al. 2015).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Teacher:
    """Unit vectors of ``photos`` [N, D] and, by language, of their ``sentences`` [N, captions, D]; 1 / temperature."""

    photos: Tensor
    sentences: Mapping[str, Tensor]
    scale: float


def together(teachers: Sequence[Teacher], photos: Tensor, captions: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean scores [B, B] of photos (int64 [B]) with one caption of each (int64 [B]) by language, and of both languages.

    The last is called ``languages``: rows are sentences of the first, columns of the second. Empty without teachers.
    """
    if not teachers:
        return {}
    said: dict[str, list[Tensor]] = {}
    for teacher in teachers:
        vectors = [teacher.sentences[language][photos, column] for language, column in captions.items()]
        for language, sentences in zip(captions, vectors, strict=True):
            said.setdefault(language, []).append(teacher.scale * teacher.photos[photos] @ sentences.t())
        said.setdefault("languages", []).append(teacher.scale * vectors[0] @ vectors[1].t())
    return {name: sum(scores[1:], scores[0]) / len(scores) for name, scores in said.items()}


def divergence(scores: Tensor, said: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(``scores``) [B, B] from softmax(``said``), mean over rows and columns."""
    there, back = (
        F.kl_div(mine.log_softmax(1), theirs.log_softmax(1), reduction="batchmean", log_target=True)
        for mine, theirs in ((scores, said), (scores.t(), said.t()))
    )
    return (there + back) / 2
