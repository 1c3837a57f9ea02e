"""Searches that share their steps answer as they would alone."""

import itertools
import random
from typing import Any

import pytest
import torch
from torch import Tensor

from models.decoding.beam import beam_steps
from models.decoding.decoder import Hypothesis, Search, StepAnswer, StepCall, run
from models.decoding.sampling import Samples, sample_steps
from models.encoded import Encoded
from models.heads.captioning import CaptioningHead
from models.sequence import FusionOutput, SequenceOutput
from tests.support import tiny_config, tiny_network, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@pytest.fixture(scope="module")
def head() -> CaptioningHead:
    head = tiny_network(tiny_config()).head
    assert isinstance(head, CaptioningHead)
    return head


def begun(head: CaptioningHead, seed: int, kind: str) -> Search[Any]:
    """A search over a photo of its own: with its own number of regions, language, width and length."""
    generator = random.Random(seed)
    torch.manual_seed(seed)
    regions = torch.rand(1, generator.randint(1, 9), 16)
    pooled = regions.mean(1)
    output = SequenceOutput(regions, torch.tensor([regions.shape[1]]), pooled)
    encoded = Encoded({"image": output}, FusionOutput(pooled, lambda: torch.ones(1, 1)))
    language = generator.randrange(2)
    memory = head.remember(encoded, torch.tensor([language]))
    starts = torch.tensor([TOKENIZER.start(("en", "zh")[language])])
    width, longest = generator.randint(1, 6), generator.randint(2, 9)
    state = head.initial_state(encoded.fusion.fused, width)
    if kind == "beam":
        return beam_steps(
            memory, state, starts,
            end=TOKENIZER.end, beam_size=width, max_length=longest, length_penalty=0.7,
            no_repeat=generator.choice((0, 3)),
        )  # fmt: skip
    drawn = torch.Generator().manual_seed(seed)
    return sample_steps(memory, state, starts, end=TOKENIZER.end, max_length=longest, generator=drawn)


def comparable(found: Any) -> tuple[list[list[int]], Tensor, Tensor]:
    if isinstance(found, Samples):
        return found.tokens[0].tolist(), found.log_probabilities.flatten(), found.attention.flatten()
    hypotheses: list[Hypothesis] = found[0]
    scores = torch.tensor([hypothesis.score for hypothesis in hypotheses])
    attention = torch.cat([hypothesis.attention.flatten() for hypothesis in hypotheses])
    return [hypothesis.tokens for hypothesis in hypotheses], scores, attention


def advance(search: Search[Any], answer: StepAnswer | None) -> StepCall | Any:
    try:
        return search.send(answer)  # type: ignore[arg-type]  # the first one must be None
    except StopIteration as stop:
        return comparable(stop.value)


@pytest.mark.parametrize("seed", range(6))
@torch.inference_mode()
def test_searches_that_come_and_go_answer_as_they_would_alone(head: CaptioningHead, seed: int) -> None:
    chance = random.Random(seed)
    kinds = [chance.choice(("beam", "sample")) for _ in range(12)]
    alone = [comparable(run(head, begun(head, number, kind))) for number, kind in enumerate(kinds)]
    together: dict[int, Any] = {}
    waiting = list(enumerate(kinds))
    active: list[tuple[int, Search[Any], StepCall]] = []
    for _ in itertools.count():
        while waiting and (not active or chance.random() < 0.5):
            number, kind = waiting.pop(0)
            search = begun(head, number, kind)
            active.append((number, search, advance(search, None)))
        if not active:
            break
        if chance.random() < 0.1:
            # A client that leaves takes its rows along; it is asked again later.
            number, gone, _ = active.pop(chance.randrange(len(active)))
            gone.close()
            waiting.append((number, kinds[number]))
            continue
        answers = head.step_together([call for _, _, call in active])
        moved = [
            (number, search, advance(search, answer))
            for (number, search, _), answer in zip(active, answers, strict=True)
        ]
        together |= {number: found for number, _, found in moved if not isinstance(found, StepCall)}
        active = [entry for entry in moved if isinstance(entry[2], StepCall)]
    assert together.keys() == set(range(len(kinds)))
    for number, (tokens, scores, attention) in enumerate(alone):
        assert together[number][0] == tokens
        torch.testing.assert_close(together[number][1], scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together[number][2], attention, atol=1e-5, rtol=1e-4)
