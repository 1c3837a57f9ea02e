"""A search's words as events, told as soon as they are certain and never taken back."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias, TypeVar

from models.decoding.decoder import Hypothesis, Search, StepAnswer, StepCall
from models.decoding.sampling import Samples
from models.features.text import TextTokenizer, join

Found = TypeVar("Found")
Event: TypeAlias = dict[str, Any]
StreamSearch: TypeAlias = Generator[StepCall | Event, StepAnswer | None, Found]
"""A search that also yields events ``{"index", "token", "text"}``, for which it is sent None."""


def tell_search(search: Search[list[Hypothesis]], tokenizer: TextTokenizer) -> StreamSearch[list[Hypothesis]]:
    """The search with its words told; returns what it returns, after the remaining tokens of its best."""
    answer: StepAnswer | None = None
    sent = 0
    while True:
        try:
            call = search.send(answer)  # type: ignore[arg-type]  # the first one must be None
        except StopIteration as stop:
            found: list[Hypothesis] = stop.value
            break
        certain = call.certain()
        yield from events(certain, sent, tokenizer)
        sent = max(sent, len(certain))
        answer = yield call
    yield from events(found[0].tokens, sent, tokenizer)
    return found


def tell(
    steps: Generator[list[int], None, Found], best: Callable[[Found], list[int]], tokenizer: TextTokenizer
) -> Generator[Event, None, Found]:
    """Events for a search without a decoder, which yields the tokens that are certain after each of its steps.

    Returns what the search returns, after the remaining tokens of its ``best``.
    """
    sent = 0
    while True:
        try:
            certain = next(steps)
        except StopIteration as stop:
            found: Found = stop.value
            break
        yield from events(certain, sent, tokenizer)
        sent = max(sent, len(certain))
    yield from events(best(found), sent, tokenizer)
    return found


def events(tokens: list[int], sent: int, tokenizer: TextTokenizer) -> Iterator[Event]:
    """An event for each token but the first ``sent``."""
    words = tokenizer.words(tokens)
    for index in range(sent, len(words)):
        yield {"index": index, "token": words[index], "text": join(words[: index + 1])}


def sampled(samples: Samples, end: int) -> list[Hypothesis]:
    """The first row's samples as hypotheses, the most probable first."""
    hypotheses = []
    for row, ids in enumerate(samples.tokens[0].tolist()):
        length = ids.index(end) if end in ids else len(ids)
        total = float(samples.log_probabilities[0, row].sum())
        hypotheses.append(Hypothesis(ids[:length], total, total, samples.attention[0, row, :length]))
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)
