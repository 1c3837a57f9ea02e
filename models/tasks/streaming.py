"""A search's words as events, told as soon as they are certain and never taken back."""

from collections.abc import Callable, Generator
from typing import Any, TypeVar

from torch import Tensor

from models.decoding.decoder import Hypothesis
from models.decoding.sampling import Samples
from models.features.text import TextTokenizer, join

Found = TypeVar("Found")


def tell(
    steps: Generator[list[int], None, Found], best: Callable[[Found], list[int]], tokenizer: TextTokenizer
) -> Generator[dict[str, Any], None, Found]:
    """Events ``{"index", "token", "text"}`` for a search that yields the tokens that are certain after each step.

    Returns what the search returns, after the remaining tokens of its ``best``.
    """
    sent = 0
    while True:
        try:
            certain = next(steps)
        except StopIteration as stop:
            found: Found = stop.value
            break
        yield from _events(certain, sent, tokenizer)
        sent = max(sent, len(certain))
    yield from _events(best(found), sent, tokenizer)
    return found


def certain_samples(
    steps: Generator[Tensor, None, Samples], end: int, *, alone: bool
) -> Generator[list[int], None, list[Hypothesis]]:
    """Samples [1, K] as they are drawn: of several the best is known only at the end, one ``alone`` is certain."""
    drawn: list[int] = []
    while True:
        try:
            token = int(next(steps)[0, 0])
        except StopIteration as stop:
            samples: Samples = stop.value
            break
        if alone and token != end:
            drawn.append(token)
            yield list(drawn)
    hypotheses = []
    for row, ids in enumerate(samples.tokens[0].tolist()):
        length = ids.index(end) if end in ids else len(ids)
        total = float(samples.log_probabilities[0, row].sum())
        hypotheses.append(Hypothesis(ids[:length], total, total, samples.attention[0, row, :length]))
    return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)


def _events(tokens: list[int], sent: int, tokenizer: TextTokenizer) -> Generator[dict[str, Any], None, None]:
    words = tokenizer.words(tokens)
    for index in range(sent, len(words)):
        yield {"index": index, "token": words[index], "text": join(words[: index + 1])}
