"""Tests compute on one thread: a team of threads whose cores are busy with something else takes ten times as long."""

import torch

torch.set_num_threads(1)
