"""Figures of retrieval: where an example's other modality ranks among all examples'."""

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures

_CUTS = (1, 5, 10)


def retrieval_figures(queries: NDArray[np.float64], answers: NDArray[np.float64]) -> Figures:
    """``recall_at_1``, ``_5``, ``_10`` in percent and ``median_rank`` of unit vectors [N, D]; row i answers row i.

    The candidates are all N answers, also where an interval is taken over some of the queries.
    """
    scores = queries @ answers.T
    # Ties count against the right answer: vectors that are all alike must not score as if they told it apart.
    ranks = (scores >= np.diagonal(scores)[:, None]).sum(1)

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([*(100 * (ranks[rows] <= cut).mean() for cut in _CUTS), np.median(ranks[rows])])

    return Figures((*(f"recall_at_{cut}" for cut in _CUTS), "median_rank"), len(ranks), statistic)
