"""CTC decoding against every path there is."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from torch import Tensor

from models.decoding.alignment import align
from models.decoding.ctc import best_path, prefix_beam_search, prefix_beam_steps
from models.decoding.decoder import drain
from models.decoding.grammar import Grammar
from models.decoding.prefixes import PrefixBeam

BLANK = 0
SEEDS = range(6)


def scores(seed: int, frames: int = 5, vocabulary: int = 4, rows: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, frames, vocabulary, generator=generator).mul(1.5).log_softmax(2)


def spelled(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def every_path(row: Tensor) -> list[tuple[tuple[int, ...], float]]:
    frames, vocabulary = row.shape
    values = row.double().tolist()
    paths = itertools.product(range(vocabulary), repeat=frames)
    return [(path, sum(values[t][k] for t, k in enumerate(path))) for path in paths]


def every_sequence(row: Tensor) -> dict[tuple[int, ...], float]:
    """The log-probability of each sequence: the sum over the paths that spell it."""
    sums: dict[tuple[int, ...], float] = defaultdict(float)
    for path, value in every_path(row):
        sums[spelled(path)] += np.exp(value)
    return {tokens: float(np.log(total)) for tokens, total in sums.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wide_search_finds_every_sequence_with_all_its_paths(seed: int) -> None:
    row = scores(seed)[0]
    wanted = every_sequence(row)
    found = drain(prefix_beam_steps(row, blank=BLANK, beam_size=10_000))
    assert {tuple(f.tokens) for f in found} == wanted.keys()
    for transcript in found:
        assert transcript.log_probability == pytest.approx(wanted[tuple(transcript.tokens)], abs=1e-9)
    values = [f.log_probability for f in found]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_narrow_search_never_promises_more_than_there_is(seed: int) -> None:
    row = scores(seed)[0]
    wanted = every_sequence(row)
    found = drain(prefix_beam_steps(row, blank=BLANK, beam_size=3))
    assert len(found) == 3
    for transcript in found:
        assert transcript.log_probability <= wanted[tuple(transcript.tokens)] + 1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_path_is_the_best_of_all_paths(seed: int) -> None:
    row = scores(seed)[0]
    path, value = max(every_path(row), key=lambda item: item[1])
    found = best_path(row.unsqueeze(0), torch.tensor([len(row)]), blank=BLANK)[0]
    assert tuple(found.tokens) == spelled(path)
    assert found.log_probability == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("places", [[[1, 2], [3]], [[1], [1, 2], [1, 3]], [[2], [2], [2]]])
def test_with_a_grammar_the_best_sentence_that_it_allows_is_found(seed: int, places: list[list[int]]) -> None:
    row = scores(seed)[0]
    wanted = every_sequence(row)
    sentences = list(itertools.product(*places))
    best = max(sentences, key=lambda tokens: wanted[tokens])
    found = drain(prefix_beam_steps(row, blank=BLANK, beam_size=1000, grammar=Grammar(places, 4)))
    assert tuple(found[0].tokens) == best
    assert found[0].log_probability == pytest.approx(wanted[best], abs=1e-9)
    assert {tuple(f.tokens) for f in found} == set(sentences)


@pytest.mark.parametrize("seed", SEEDS)
def test_even_the_narrowest_search_completes_the_sentence(seed: int) -> None:
    grammar = Grammar([[1], [2], [3], [1]], 4)
    found = drain(prefix_beam_steps(scores(seed)[0], blank=BLANK, beam_size=1, grammar=grammar))
    assert [f.tokens for f in found] == [[1, 2, 3, 1]]


@pytest.mark.parametrize("beam_size", [1, 2, 3])
@pytest.mark.parametrize(
    "places", [[[3], [1], [1]], [[1, 2], [1], [1]], [[1, 2, 3], [1, 2, 3], [3], [3]], [[1], [1, 2], [2]]]
)
def test_a_word_twice_over_leaves_room_for_the_blank_between(places: list[list[int]], beam_size: int) -> None:
    for seed in range(30):
        row = scores(seed, frames=7)[0]
        # As in silence, where a blank is likelier than any word until the end.
        row[:, BLANK] += 4
        found = drain(prefix_beam_steps(row, blank=BLANK, beam_size=beam_size, grammar=Grammar(places, 4)))
        assert len(found[0].tokens) == len(places)
        assert np.isfinite(found[0].log_probability)


@pytest.mark.parametrize("places", [[[3], [1], [1]], [[1, 2], [1], [1]], [[1], [1, 2], [2]], [[1, 2], [1, 2], [1, 2]]])
def test_the_steps_that_a_path_still_needs_are_counted_as_they_are(places: list[list[int]]) -> None:
    grammar = Grammar(places, 4)
    for filled in range(len(places) + 1):
        for last in range(4):
            rests = itertools.product(*places[filled:])
            walks = ([last, *rest] for rest in rests)
            needed = min(len(walk) - 1 + sum(a == b for a, b in itertools.pairwise(walk)) for walk in walks)
            assert grammar.least[filled, last] == needed


def test_a_grammar_may_hold_any_token_but_the_blank() -> None:
    row = scores(1)[0][:, [1, 0, 2, 3]]
    found = drain(prefix_beam_steps(row, blank=1, beam_size=100, grammar=Grammar([[0], [0, 2]], 4)))
    assert {tuple(f.tokens) for f in found} == {(0, 0), (0, 2)}


@pytest.mark.parametrize("frames", [2, 3])
def test_a_recording_too_short_for_the_grammar_gives_a_beginning(frames: int) -> None:
    grammar = Grammar([[1], [2], [3], [1]], 4)
    row = torch.tensor([[0.1, 0.8, 0.05, 0.05], [0.1, 0.05, 0.8, 0.05], [0.1, 0.05, 0.05, 0.8]])[:frames].log()
    best = drain(prefix_beam_steps(row, blank=BLANK, beam_size=5, grammar=grammar))[0]
    assert best.tokens == [1, 2, 3][:frames]
    assert best.log_probability == pytest.approx(frames * np.log(0.8), abs=1e-6)


@pytest.mark.parametrize(
    ("places", "said"), [([], "at least one place"), ([[1], []], "each place"), ([[1], [4]], "place 2.*token 4 of 4")]
)
def test_a_grammar_that_makes_no_sense_is_refused(places: list[list[int]], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Grammar(places, 4)


def test_what_all_prefixes_agree_on_is_never_taken_back() -> None:
    said_early = 0
    for seed in SEEDS:
        steps = prefix_beam_steps(scores(seed, frames=12)[0], blank=BLANK, beam_size=3)
        agreed: list[int] = []
        while True:
            try:
                now = next(steps)
            except StopIteration as stop:
                best = stop.value[0].tokens
                break
            assert now[: len(agreed)] == agreed
            agreed = now
        assert best[: len(agreed)] == agreed
        said_early += len(agreed)
    assert said_early > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_a_beam_goes_on_from_its_numbers(seed: int) -> None:
    steps = scores(seed, frames=10)[0].double().numpy()
    beam, other = (PrefixBeam(4, blank=BLANK, size=5) for _ in range(2))
    for step in steps[:5]:
        beam.advance(step)
    assert other.restore([*beam.numbers(), 7.0]) == [7.0]
    # What is kept is how much less likely each is than the best.
    best = beam.ranked()[0][1]
    for step in [*steps[5:], None]:
        wanted, found = beam.ranked(), other.ranked()
        assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted]
        assert [value + best for _, value in found] == pytest.approx([value for _, value in wanted], abs=1e-9)
        if step is not None:
            beam.advance(step)
            other.advance(step)


def test_rows_do_not_depend_on_padding_or_batch_mates() -> None:
    batch, lengths = scores(0, frames=6, rows=3), torch.tensor([6, 3, 4])
    greedy = best_path(batch, lengths, blank=BLANK)
    wide = prefix_beam_search(batch, lengths, blank=BLANK, beam_size=50)
    for row, length in enumerate(lengths.tolist()):
        alone = batch[row : row + 1, :length]
        assert greedy[row] == best_path(alone, torch.tensor([length]), blank=BLANK)[0]
        assert wide[row] == prefix_beam_search(alone, torch.tensor([length]), blank=BLANK, beam_size=50)[0]


def test_the_blank_may_be_any_token() -> None:
    row = scores(3)[0]
    moved = row[:, [1, 2, 3, 0]]
    found = drain(prefix_beam_steps(row, blank=0, beam_size=1000))[0]
    again = drain(prefix_beam_steps(moved, blank=3, beam_size=1000))[0]
    assert [token - 1 for token in found.tokens] == again.tokens
    assert found.log_probability == pytest.approx(again.log_probability)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tokens", [(1,), (2, 2), (1, 2, 3), (3, 1, 1), (1, 2, 1, 2, 1)])
def test_an_alignment_is_the_best_path_that_spells_the_sequence(seed: int, tokens: tuple[int, ...]) -> None:
    row = scores(seed)[0]
    wanted, _ = max((item for item in every_path(row) if spelled(item[0]) == tokens), key=lambda item: item[1])
    found = [BLANK] * len(row)
    for token, span in zip(tokens, align(row, tokens, blank=BLANK), strict=True):
        assert span.token == token
        found[span.start : span.end] = [token] * (span.end - span.start)
        mean = float(row[span.start : span.end, token].double().mean())
        assert span.log_probability == pytest.approx(mean, abs=1e-6)
    assert tuple(found) == wanted


def test_an_alignment_needs_steps_enough() -> None:
    assert align(scores(0)[0], [], blank=BLANK) == []
    with pytest.raises(ValueError, match="5 steps are too few to spell 4 tokens"):
        align(scores(0)[0], [1, 1, 2, 2], blank=BLANK)
