"""Words while they are spoken: a CTC prefix search that goes on from step to step, and rules for where a sentence ends.

A whole file's search knows how many steps are left, and gives up beginnings that could not become whole sentences. A
stream's does not know, and picks a whole sentence at the end, if there is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, create_model
from torch import Tensor

from models.decoding.grammar import Grammar
from models.decoding.prefixes import PrefixBeam
from models.encoded import Encoded
from models.features.text import TextTokenizer, join
from models.heads.transcription import TranscriptionHead
from models.options import Options
from models.readings.reading import ChunkEvents, Event, Listener, Reading
from models.state import State

_LONGEST = 30.0
"""Seconds of a sentence; longer ones are cut, so that the state stays small."""

_SURE = 0.5
"""Of the silence that ends a sentence, the share that ends one to which the grammar allows no more words."""


Endpoint = Annotated[
    float,
    Field(
        ge=0.1,
        le=30,
        description="Seconds without a word after which a sentence is over, or half of it after its last possible word",
    ),
]
"""The option that says when a sentence is over."""

ENDPOINT = 0.8
"""Its default, in seconds."""

BeamSize = Annotated[int, Field(ge=1, le=100, description="Beginnings that the search keeps: fewer are faster")]
"""The option that says how widely to search."""

BEAM_SIZE = 10
"""Its default."""

UsesGrammar = Annotated[bool, Field(description="Only sentences that the model's grammar allows, if it has one")]
"""The option that says whether the grammar counts."""


class TranscriptionStreamOptions(Options):
    """How widely to search, and when a sentence is over."""

    beam_size: BeamSize = BEAM_SIZE
    grammar: UsesGrammar = True
    endpoint: Endpoint = ENDPOINT


def stream_options(defaults: Mapping[str, Any]) -> type[TranscriptionStreamOptions]:
    """With a checkpoint's own ``defaults``, as of a whole file."""
    own: dict[str, Any] = {
        name: (kind, defaults[name])
        for name, kind in (("beam_size", BeamSize), ("grammar", UsesGrammar), ("endpoint", Endpoint))
        if name in defaults
    }
    return create_model("TranscriptionStreamOptions", __base__=TranscriptionStreamOptions, **own)


@dataclass(slots=True)
class Run:
    """A token on the best path: its steps, and its highest probability."""

    token: int
    first: int
    last: int
    probability: float


@dataclass(slots=True)
class Sentence(Listener):
    """What one session has understood of its sentence."""

    options: TranscriptionStreamOptions
    beam: PrefixBeam
    began: int = 0
    """The step at which the sentence began."""
    quiet: int = 0
    """Blank steps since the last token."""
    told: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def hear(self, step: int, scores: NDArray[np.float64]) -> None:
        """Take in one step's log-probabilities [V]."""
        self.beam.advance(scores)
        best = int(scores.argmax())
        if best == self.beam.blank:
            self.quiet += 1
            return
        probability = float(np.exp(scores[best]))
        if self.runs and self.quiet == 0 and self.runs[-1].token == best:
            self.runs[-1].last = step
            self.runs[-1].probability = max(self.runs[-1].probability, probability)
        else:
            self.runs.append(Run(best, step, step, probability))
        self.quiet = 0

    def best(self) -> list[int]:
        """The most probable tokens so far."""
        return self.beam.ranked()[0][0]

    def whole(self) -> list[int]:
        """The most probable whole sentence; without any, the most probable beginning."""
        grammar = self.beam.grammar
        ranked = [tokens for tokens, _ in self.beam.ranked()]
        return next((tokens for tokens in ranked if grammar is not None and len(tokens) == grammar.places), ranked[0])

    @property
    def complete(self) -> bool:
        """Whether no word can follow the most probable ones."""
        grammar = self.beam.grammar
        return grammar is not None and len(self.best()) == grammar.places

    def state(self) -> list[float]:
        runs = [value for run in self.runs for value in (run.token, run.first, run.last, run.probability)]
        return [*self.beam.numbers(), self.began, self.quiet, len(self.told), *self.told, *runs]

    def restore(self, state: list[float]) -> None:
        rest = self.beam.restore(state)
        if len(rest) < 3 or (len(rest) - 3 - int(rest[2])) % 4:
            raise ValueError("not the state of a transcription")
        self.began, self.quiet, told = int(rest[0]), int(rest[1]), int(rest[2])
        self.told = [int(token) for token in rest[3 : 3 + told]]
        groups = zip(*[iter(rest[3 + told :])] * 4, strict=True)
        self.runs = [Run(int(token), int(first), int(last), probability) for token, first, last, probability in groups]


class Transcription(Reading):
    """Partial words as they become likely, and sentences when they are over."""

    options: type[TranscriptionStreamOptions]

    def __init__(
        self,
        head: TranscriptionHead,
        tokenizer: TextTokenizer,
        grammar: Grammar | None,
        tick: float,
        delay: float = 0.0,
        options: type[TranscriptionStreamOptions] = TranscriptionStreamOptions,
    ) -> None:
        """``tick``: seconds of a step; ``delay``: how many after it is said a word is written."""
        self.options = options
        self.head, self.tokenizer, self.grammar, self.tick, self.delay = head, tokenizer, grammar, tick, delay

    def initial_state(self, rows: int) -> State:  # noqa: ARG002 - all of it is in the listeners
        return {}

    def listener(self, options: Any) -> Sentence:
        return Sentence(options, self._beam(options))

    def step(
        self,
        encoded: Encoded,
        loudness: Tensor,  # noqa: ARG002 - words have times of their own
        listeners: Sequence[Sentence],  # noqa: ARG002
        state: State,
    ) -> tuple[list[NDArray[np.float64]], State]:
        return list(self.head(encoded).double().cpu().numpy()), state

    def tell(self, listener: Sentence, evidence: NDArray[np.float64], at: int, began: float) -> ChunkEvents:
        events: list[Event] = []
        for step, scores in enumerate(evidence, at):
            listener.hear(step, scores)
            silence = listener.quiet * self.tick
            quiet = silence >= listener.options.endpoint
            if listener.runs and (quiet or (silence >= _SURE * listener.options.endpoint and listener.complete)):
                # The network has learned from single sentences: of one that is over it must know nothing in the next.
                return ChunkEvents(
                    [*events, *self.final(listener, step + 1, began, "silence")], step + 1 - at, over=True
                )
            if quiet:
                # What CTC makes of a long silence is a word that is a little likely everywhere: it was not said.
                self._begin(listener, step + 1)
            elif (step + 1 - listener.began) * self.tick >= _LONGEST:
                events += self.final(listener, step + 1, began, "length")
        tokens = listener.best() if listener.runs else []
        if tokens != listener.told:
            listener.told = tokens
            text = join(self.tokenizer.words(tokens))
            seconds = round(began + (at + len(evidence)) * self.tick, 3)
            events.append({"type": "partial", "time": seconds, "text": text})
        return ChunkEvents(events, len(evidence))

    def close(
        self,
        listener: Sentence,
        encoded: Encoded,  # noqa: ARG002 - the listener has heard all of it
        state: State,  # noqa: ARG002
        at: int,
        began: float,
        reason: str,
    ) -> list[Event]:
        return self.final(listener, at, began, reason) if at else []

    def final(self, listener: Sentence, at: int, began: float, reason: str) -> list[Event]:
        """The sentence, and a new one; nothing where nothing was said and nobody asked."""
        words = [self._word(token, run, began) for token, run in _placed(listener.whole(), listener.runs, at)]
        start = round(began + listener.began * self.tick, 3)
        if words:
            # Words are written after they are said: the first may lie before the end of the sentence before.
            start = min(start, words[0]["start"])
        self._begin(listener, at if reason in ("silence", "length") else 0)
        if not words and reason == "length":
            return []
        return [
            {
                "type": "final", "is_final": True, "text": join([word["word"] for word in words]), "words": words,
                "endpoint": reason, "start": start, "end": round(began + at * self.tick, 3),
            }
        ]  # fmt: skip

    def _begin(self, listener: Sentence, at: int) -> None:
        """A new sentence from step ``at`` on."""
        listener.beam, listener.began, listener.quiet = self._beam(listener.options), at, 0
        listener.told, listener.runs = [], []

    def _word(self, token: int, run: Run, began: float) -> dict[str, Any]:
        return {
            "word": self.tokenizer.words([token])[0],
            "start": self._said(run.first, began),
            "end": self._said(run.last + 1, began),
            "probability": round(run.probability, 4),
        }

    def _said(self, step: int, began: float) -> float:
        return round(max(began + step * self.tick - self.delay, 0.0), 3)

    def _beam(self, options: TranscriptionStreamOptions) -> PrefixBeam:
        grammar = self.grammar if options.grammar else None
        config = self.head.config
        return PrefixBeam(config.vocabulary, blank=config.blank, size=options.beam_size, grammar=grammar)


def _placed(tokens: list[int], runs: list[Run], at: int) -> list[tuple[int, Run]]:
    """Each token with its run on the best path; one that is not on it lies between its neighbours."""
    placed: list[tuple[int, Run]] = []
    next_run = 0
    for token in tokens:
        found = next((index for index in range(next_run, len(runs)) if runs[index].token == token), None)
        if found is None:
            before = placed[-1][1].last + 1 if placed else (runs[0].first if runs else 0)
            before = min(before, at - 1)
            after = runs[next_run].last if next_run < len(runs) else max(before, at - 1)
            placed.append((token, Run(token, before, max(before, after), 0.0)))
        else:
            placed.append((token, runs[found]))
            next_run = found + 1
    return placed
