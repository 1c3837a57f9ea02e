"""Tests compute on one thread: a team of threads whose cores are busy with something else takes ten times as long."""

import models  # noqa: F401  before NumPy, which torch brings along, and whose threads it bounds

# isort: split
import torch

torch.set_num_threads(1)
