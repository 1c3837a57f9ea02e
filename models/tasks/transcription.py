"""Transcription: the words that were said, and when."""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field
from torch import Tensor

from models.checkpoint import Checkpoint
from models.decoding.alignment import Span, align
from models.decoding.ctc import Transcript, prefix_beam_search, prefix_beam_steps
from models.decoding.decoder import drain
from models.decoding.grammar import Grammar
from models.encoded import Encoded
from models.features.text import TextTokenizer, join
from models.heads.transcription import TranscriptionConfig, TranscriptionHead
from models.options import Options, options_model
from models.readings.transcription import BEAM_SIZE, ENDPOINT, BeamSize, Endpoint, Transcription, UsesGrammar
from models.sequence import Padded
from models.tasks.sentences import Sentences
from models.tasks.streaming import tell
from models.tasks.task import Contribution, Query, Result, Task


class Word(BaseModel):
    """One word; ``start`` and ``end`` are left out where the checkpoint does not know how long a step lasts."""

    word: str
    start: float | None = Field(None, ge=0, description="Seconds from the start of the recording")
    end: float | None = Field(None, ge=0, description="Seconds; a word may last longer than the network listens to it")
    probability: float = Field(
        ge=0, le=1, description="Mean (geometric) of its steps on the best path; the highest where the network streams"
    )


class TranscriptionResult(Result):
    """The text, and its words one by one."""

    text: str
    words: list[Word]


class TranscriptionTask(Task):
    """CTC prefix beam search, then the best alignment of what it found; or sentence by sentence, as a stream's.

    A network that can stream answers what it says of a stream of the same media: its sentences one after another.
    ``defaults.seconds_per_step`` says how long one step of the network's output lasts, and ``defaults.delay`` how many
    seconds after a word was said a network that cannot look ahead writes it.
    """

    result = TranscriptionResult

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        head = checkpoint.network.head
        assert isinstance(head, TranscriptionHead)
        assert checkpoint.tokenizer is not None
        self.head, self.tokenizer = head, checkpoint.tokenizer
        defaults = checkpoint.config.defaults
        self.blank = head.config.blank
        self.seconds: float | None = defaults.get("seconds_per_step")
        self.delay: float = defaults.get("delay", 0.0)
        self.grammar = _grammar(head.config, self.tokenizer)
        self.sentences: Sentences | None = None
        if self.seconds is not None and self.network.causal:
            reading = Transcription(head, self.tokenizer, self.grammar, self.seconds, self.delay)
            self.sentences = Sentences(self.network, reading)
        self.options = _options(defaults, has_grammar=self.grammar is not None, streams=self.sentences is not None)
        times = {} if self.seconds is None else {"start": 0.95, "end": 1.18}
        example = self.tokenizer.words([self._example_token()])[0]
        words = [{"word": example, **times, "probability": 0.99}]
        self.example = self.example_of({"text": example, "words": words})

    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[TranscriptionResult]:
        if self.sentences is not None:
            inputs = self.sentences.together(inputs)
        encoded = self.network.encode(inputs)
        scores = self._scores(encoded)
        if self.sentences is None:
            searches = [self._search(scores[row], query.options) for row, query in enumerate(queries)]
            found = [self._words(drain(search), scores[row]) for row, search in enumerate(searches)]
        else:
            found = [
                [Word.model_validate(word) for word in self.sentences.words(inputs, row, scores[row], query.options)]
                for row, query in enumerate(queries)
            ]
        return [self._result(*pair) for pair in zip(found, self.contributions(encoded), strict=True)]

    def stream(self, inputs: Mapping[str, Padded], query: Query) -> Iterator[dict[str, Any]]:
        if self.sentences is not None:
            # What it says on the way is told by a session: this is the answer to a whole input.
            yield from super().stream(inputs, query)
            return
        encoded = self.network.encode(inputs)
        (scores,) = self._scores(encoded)
        found = yield from tell(self._search(scores, query.options), lambda found: found[0].tokens, self.tokenizer)
        (contributions,) = self.contributions(encoded)
        result = self._result(self._words(found, scores), contributions)
        yield {"result": result.model_dump(exclude_none=True)}

    def best(self, encoded: Encoded, options: Any) -> list[str]:
        """The most probable text of every row: what measuring needs, a batch at a time."""
        found = prefix_beam_search(
            self.head(encoded),
            self.head.steps(encoded).lengths,
            blank=self.blank,
            beam_size=options.beam_size,
            grammar=self._grammar(options),
        )
        return [join(self.tokenizer.words(transcripts[0].tokens)) for transcripts in found]

    def _scores(self, encoded: Encoded) -> list[Tensor]:
        """Each row's [T, V], without padding."""
        lengths: list[int] = self.head.steps(encoded).lengths.tolist()
        return [scores[:length] for scores, length in zip(self.head(encoded), lengths, strict=True)]

    def _search(self, scores: Tensor, options: Any) -> Generator[list[int], None, list[Transcript]]:
        grammar = self._grammar(options)
        return prefix_beam_steps(scores, blank=self.blank, beam_size=options.beam_size, grammar=grammar)

    def _grammar(self, options: Any) -> Grammar | None:
        return self.grammar if getattr(options, "grammar", False) else None

    def _words(self, found: list[Transcript], scores: Tensor) -> list[Word]:
        return [self._word(span) for span in align(scores, found[0].tokens, blank=self.blank)]

    def _result(self, words: list[Word], modalities: dict[str, Contribution]) -> TranscriptionResult:
        text = join([word.word for word in words])
        return TranscriptionResult(text=text, words=words, modalities=modalities)

    def _word(self, span: Span) -> Word:
        return Word(
            word=self.tokenizer.words([span.token])[0],
            start=self._time(span.start),
            end=self._time(span.end),
            probability=min(round(math.exp(span.log_probability), 4), 1.0),
        )

    def _time(self, step: int) -> float | None:
        # Only networks that look ahead come here, and these write a word where it is said.
        return None if self.seconds is None else round(step * self.seconds, 3)

    def _example_token(self) -> int:
        spoken: list[int] = self.head.spoken.nonzero().flatten().tolist()
        return max(spoken, default=self.blank)


def _grammar(config: TranscriptionConfig, tokenizer: TextTokenizer) -> Grammar | None:
    if not config.grammar:
        return None
    places = []
    for place, words in enumerate(config.grammar, 1):
        ids = [tokenizer.spell(word) for word in words]
        for word, found in zip(words, ids, strict=True):
            if len(found) != 1 or found[0] == tokenizer.unknown:
                raise ValueError(f"network.head.grammar, place {place}: '{word}' is not one word of tokenizer.json")
        places.append([found[0] for found in ids])
    return Grammar(places, config.vocabulary)


def _options(defaults: Mapping[str, Any], *, has_grammar: bool, streams: bool) -> type[Options]:
    fields: dict[str, tuple[Any, Any]] = {"beam_size": (BeamSize, BEAM_SIZE)}
    if has_grammar:
        fields["grammar"] = (UsesGrammar, True)
    if streams:
        fields["endpoint"] = (Endpoint, ENDPOINT)
    return options_model("TranscriptionOptions", defaults, **fields)
