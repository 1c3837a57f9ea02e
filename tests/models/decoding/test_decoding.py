import itertools
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from models.decoding.beam import beam_search, beam_steps
from models.decoding.sampling import draw, sample
from models.state import State

END, WORDS, LONGEST = 0, 4, 4


class Table(NamedTuple):
    """A language model whose next word depends on the last one and on the row: log-probabilities [B, V, V]."""

    scores: Tensor

    def step(self, tokens: Tensor, state: State, memory: None) -> tuple[Tensor, State, Tensor]:
        rows = torch.arange(len(tokens)).unsqueeze(1)
        return self.scores[rows, tokens], state, torch.ones(*tokens.shape, 1)

    def log_probability(self, row: int, tokens: tuple[int, ...]) -> float:
        last, total = 1, 0.0
        for token in tokens:
            total += float(self.scores[row, last, token])
            last = token
        return total


def table(seed: int) -> Table:
    generator = torch.Generator().manual_seed(seed)
    return Table(torch.randn(2, WORDS, WORDS, generator=generator).mul(2).log_softmax(2))


def search(model: Table, beam_size: int, length_penalty: float = 0.7) -> list[list[tuple[list[int], float, float]]]:
    state = {"h": torch.zeros(2, beam_size, 1)}
    found = beam_search(
        model, None, state, torch.tensor([1, 1]),
        end=END, beam_size=beam_size, max_length=LONGEST, length_penalty=length_penalty,
    )  # fmt: skip
    return [[(h.tokens, h.log_probability, h.score) for h in row] for row in found]


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_beam_finds_the_most_probable_sequence_there_is(seed: int) -> None:
    model = table(seed)
    every = [
        (*body, END) for length in range(LONGEST) for body in itertools.product(range(1, WORDS), repeat=length)
    ] + list(itertools.product(range(1, WORDS), repeat=LONGEST))
    for row, found in enumerate(search(model, beam_size=100, length_penalty=0)):
        best = max(every, key=lambda tokens: model.log_probability(row, tokens))
        tokens, log_probability, _ = found[0]
        assert tokens == [token for token in best if token != END]
        assert log_probability == pytest.approx(model.log_probability(row, best), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_rows_do_not_depend_on_their_batch_mates(seed: int) -> None:
    model = table(seed)
    alone = beam_search(
        Table(model.scores[1:]), None, {"h": torch.zeros(1, 3, 1)}, torch.tensor([1]),
        end=END, beam_size=3, max_length=LONGEST, length_penalty=0.7,
    )  # fmt: skip
    assert [h.tokens for h in alone[0]] == [tokens for tokens, _, _ in search(model, 3)[1]]


def test_scores_are_normalized_by_length_and_ordered() -> None:
    for found in search(table(3), 3):
        scores = [score for _, _, score in found]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("seed", range(8))
def test_agreed_tokens_are_never_taken_back(seed: int) -> None:
    model = table(seed)
    steps = beam_steps(
        None, {"h": torch.zeros(2, 3, 1)}, torch.tensor([1, 1]),
        end=END, beam_size=3, max_length=LONGEST, length_penalty=0.7,
    )  # fmt: skip
    agreed: list[int] = []
    answer: Any = None
    while True:
        try:
            call = steps.send(answer)
        except StopIteration as stop:
            best = stop.value[0][0].tokens
            break
        answer, now = model.step(call.tokens, call.state, call.memory), call.certain()
        assert now[: len(agreed)] == agreed
        agreed = now
    assert best[: len(agreed)] == agreed


def test_samples_follow_the_distribution_and_stop_at_the_end() -> None:
    model = table(0)
    state = {"h": torch.zeros(2, 4000, 1)}
    generator = torch.Generator().manual_seed(0)
    drawn = sample(model, None, state, torch.tensor([1, 1]), end=END, max_length=6, generator=generator)
    shares = torch.bincount(drawn.tokens[0, :, 0], minlength=WORDS) / 4000
    torch.testing.assert_close(shares, model.scores[0, 1].exp(), atol=0.03, rtol=0)
    ended = (drawn.tokens == END).cumsum(2) > 1
    assert drawn.tokens[ended].eq(END).all()
    assert drawn.log_probabilities[ended].eq(0).all()


def test_a_low_temperature_is_greedy() -> None:
    model = table(0)
    state = {"h": torch.zeros(2, 5, 1)}
    drawn = sample(model, None, state, torch.tensor([1, 1]), end=END, max_length=1, temperature=0.01)
    assert drawn.tokens[0, :, 0].eq(model.scores[0, 1].argmax()).all()


def test_draws_follow_the_probabilities_and_never_take_an_impossible_token() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.2, 0.3, 0.0]).expand(20_000, 6)
    counts = torch.bincount(draw(probabilities, generator), minlength=6) / 20_000
    torch.testing.assert_close(counts, probabilities[0], atol=0.02, rtol=0)
    assert counts[[0, 2, 5]].sum() == 0


def test_no_temperature_takes_the_most_probable_token() -> None:
    model = table(0)
    state = {"h": torch.zeros(2, 5, 1)}
    drawn = sample(model, None, state, torch.tensor([1, 1]), end=END, max_length=1, temperature=0)
    assert torch.equal(drawn.tokens[..., 0], model.scores[:, 1].argmax(1, keepdim=True).expand(2, 5))


def test_top_k_keeps_the_most_probable_tokens_in_proportion() -> None:
    model = table(0)
    state = {"h": torch.zeros(2, 4000, 1)}
    generator = torch.Generator().manual_seed(0)
    drawn = sample(model, None, state, torch.tensor([1, 1]), end=END, max_length=1, top_k=2, generator=generator)
    shares = torch.bincount(drawn.tokens[0, :, 0], minlength=WORDS) / 4000
    values, indices = model.scores[0, 1].topk(2)
    wanted = torch.zeros(WORDS).index_put((indices,), values.softmax(0))
    torch.testing.assert_close(shares, wanted, atol=0.03, rtol=0)
    assert shares[wanted == 0].eq(0).all()


class Stutter:
    """Writes token 1 and token 2 in turn, far more probably than 3, and ends (0) only when it must."""

    def step(self, tokens: torch.Tensor, state: State, memory: None) -> tuple[torch.Tensor, State, torch.Tensor]:
        scores = torch.full((*tokens.shape, 4), -50.0)
        scores[..., 0] = -99.0
        scores.scatter_(2, torch.where(tokens == 1, 2, 1).unsqueeze(2), -0.01)
        return scores, state, torch.zeros(*tokens.shape, 1)


@pytest.mark.parametrize("order", [2, 3])
def test_no_ngram_is_written_twice_where_it_is_forbidden(order: int) -> None:
    state = {"h": torch.zeros(2, 3, 1)}
    starts = torch.full((2,), 3)
    free = beam_search(Stutter(), None, state, starts, end=0, beam_size=3, max_length=9, length_penalty=0.7)
    held = beam_search(
        Stutter(), None, state, starts, end=0, beam_size=3, max_length=9, length_penalty=0.7, no_repeat=order
    )
    assert free[0][0].tokens == [1, 2, 1, 2, 1, 2, 1, 2, 1]
    for row in held:
        for hypothesis in row:
            grams = list(zip(*(hypothesis.tokens[at:] for at in range(order)), strict=False))
            assert len(set(grams)) == len(grams)
