"""Figures of retrieval: where an example's other modality ranks among all examples'."""

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures
from models.training.pairs import Pairs

_CUTS = (1, 5, 10)
_NAMES = (*(f"recall_at_{cut}" for cut in _CUTS), "median_rank")


def retrieval_figures(
    queries: NDArray[np.float64],
    answers: NDArray[np.float64],
    right: NDArray[np.bool_] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> Figures:
    """``recall_at_1``, ``_5``, ``_10`` in percent and ``median_rank`` of unit vectors [Q, D] and [A, D].

    The candidates are all A answers, also where an interval is taken over some of the queries.

    Args:
        right: bool [Q, A], which answers are right, of which the first counts; by default row i answers row i.
        groups: int64 [Q] from 0 on, queries that fare alike: an interval is taken over groups; by default over queries.
    """
    scores = queries @ answers.T
    if right is None:
        right = np.eye(len(queries), dtype=np.bool_)
    if groups is None:
        groups = np.arange(len(queries))
    best = np.where(right, scores, -np.inf).max(1)
    # Ties count against the right answer: vectors that are all alike must not score as if they told it apart.
    ranks = ((scores >= best[:, None]) & ~right).sum(1) + 1
    order = np.argsort(groups, kind="stable")
    count = int(groups.max()) + 1
    members = np.split(order, np.searchsorted(groups[order], np.arange(1, count)))

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        drawn = ranks[np.concatenate([members[row] for row in rows])]
        return np.array([*(100 * (drawn <= cut).mean() for cut in _CUTS), np.median(drawn)])

    return Figures(_NAMES, count, statistic)


def pair_retrieval_figures(
    queries: NDArray[np.float64],
    answers: NDArray[np.float64],
    pairs: Pairs,
    names: tuple[str, str],
    groups: NDArray[np.int64] | None = None,
) -> Figures:
    """The same for unit vectors [N, D] of the two modalities ``names`` of N examples.

    A medium that several examples have is one candidate: else each wrong photo would stand before the right one as
    often as it has captions.
    """
    there = pairs.distinct(names[1])
    return retrieval_figures(queries, answers[there], pairs.among(*names)[:, there], groups)


def group_retrieval_figures(
    queries: NDArray[np.float64],
    answers: NDArray[np.float64],
    query_groups: NDArray[np.int64],
    answer_groups: NDArray[np.int64],
) -> Figures:
    """The same for unit vectors [Q, D] and [A, D] of which several belong together: the captions of one photo.

    An answer is right if its group, int64 [A], is the query's, int64 [Q]; the first right one counts. Every group
    0..G-1 has queries and answers. An interval is taken over groups, since queries of one group fare alike.
    """
    return retrieval_figures(queries, answers, query_groups[:, None] == answer_groups, query_groups)
