"""A text encoder learns which word is next, in either direction."""

import math
from pathlib import Path

import torch

from models.encoders.text import TextRNN, TextRNNConfig
from models.training.recipes.sentiment.neighbours import Neighbours, NeighboursStage
from models.training.trainer import Trainer

WORDS = torch.tensor([3, 4, 5, 6])
# Whoever comes after 3 is told by what was before it, so that one word alone is not enough.
CIRCLE = [3, 4, 3, 5, 3, 6]


def taught(texts: list[torch.Tensor], out: Path, epochs: int) -> Neighbours:
    torch.manual_seed(0)
    encoder = TextRNN(TextRNNConfig(vocabulary=8, embedding=16, hidden=16, cell="lstm", bidirectional=True))
    network = Neighbours(encoder, WORDS)
    Trainer(network, [NeighboursStage(network, texts, 0, epochs)], out, seed=0).run()
    return network.eval()


def test_it_learns_what_comes_next_and_what_came_before(tmp_path: Path) -> None:
    texts = [torch.tensor((CIRCLE * 60)[start : start + 20 + start % 7]) for start in range(320)]
    network = taught(texts, tmp_path, 20)
    with torch.inference_mode():
        known = float(network(torch.tensor([CIRCLE * 10])))
        strange = float(network(torch.tensor([CIRCLE[::-1] * 10])))
    assert known < 0.2 < math.log(len(WORDS)) < strange


def test_padding_is_neither_guessed_nor_a_guess(tmp_path: Path) -> None:
    network = taught([torch.tensor(CIRCLE)] * 4, tmp_path, 1)
    texts = torch.tensor([[3, 4, 3, 0, 0, 0], [3, 5, 3, 6, 3, 4]])
    with torch.inference_mode():
        both = float(network(texts))
        changed = network.encoder.embedding.weight.data.clone()
        network.bias.add_(torch.tensor([100.0, 0, 0, 0]))
        biased = float(network(texts))
    assert network.places[torch.tensor([0, 1, 2, 7])].tolist() == [-100] * 4
    assert math.isfinite(both)
    # A word that is sure of itself costs all other words dearly, and never the padding.
    assert biased > 10
    assert torch.equal(changed, network.encoder.embedding.weight)
