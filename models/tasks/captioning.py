"""Captioning: beam search or sampling over the caption decoder, and where it looked for each word."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field
from torch import Tensor

from models.checkpoint import Checkpoint
from models.decoding.beam import beam_search, beam_steps
from models.decoding.decoder import Hypothesis, Search
from models.decoding.sampling import sample_steps
from models.encoded import Encoded
from models.encoders.image import PhotoEncoder
from models.encoders.mobilenet import STRIDE
from models.features.borders import unbarred
from models.features.image import ImageFeatures
from models.features.text import join
from models.heads.captioning import CaptioningHead, CaptionMemory
from models.options import Options, options_model
from models.sequence import Padded
from models.tasks.overlay import draw_attention
from models.tasks.streaming import StreamSearch, sampled
from models.tasks.task import Query, Result
from models.tasks.writing import Seed, WritingTask

LONGEST = 50
"""Tokens that a caption may have: words, and characters of Chinese."""


class Caption(BaseModel):
    """One caption; ``log_probability`` is natural, the end token's included."""

    text: str
    language: str
    log_probability: float
    score: float = Field(0.0, exclude=True)
    """What captions are ordered by: of a search the log-probability by length, of samples as it is. In Python only."""


class AttendedToken(BaseModel):
    """Where the decoder looked when it wrote ``token``: a square of weights a frame, all of them summing to 1."""

    token: str
    attention: list[list[list[float]]]


class CaptionExplanation(BaseModel):
    """The best caption's tokens with their attention."""

    tokens: list[AttendedToken]


class CaptioningResult(Result):
    """Captions, the best first."""

    captions: list[Caption]
    explanation: CaptionExplanation | None = None


_BeamSize = Annotated[int, Field(ge=1, le=10, description="Hypotheses the search keeps; 1 is greedy")]
_NumCaptions = Annotated[int, Field(ge=1, le=10, description="How many captions to return")]
_MaxLength = Annotated[int, Field(ge=1, le=LONGEST, description="Most tokens in a caption")]
_LengthPenalty = Annotated[float, Field(ge=0, le=2, description="Above 0 favours longer captions")]
_NoRepeat = Annotated[int, Field(ge=0, le=5, description="The search writes no n-gram of this order twice; 0 lets it")]
_Temperature = Annotated[float, Field(ge=0, le=2, description="0 searches; above 0 samples, the higher the freer")]


class CaptioningTask(WritingTask):
    """Writes sentences about pictures."""

    result = CaptioningResult

    def __init__(self, checkpoint: Checkpoint) -> None:
        head = checkpoint.network.head
        assert isinstance(head, CaptioningHead)
        super().__init__(checkpoint, head)
        self.head = head
        self.languages = head.config.languages
        self.options = _options(self.languages, checkpoint.config.defaults)
        # Only regions of pictures can be shown as a picture.
        encoders, modalities = self.network.encoders, checkpoint.config.modalities
        self.explains = self.draws = (
            set(encoders) == {"image"}
            and isinstance(encoders["image"], PhotoEncoder)
            and isinstance(modalities["image"].features, ImageFeatures)
        )
        caption = {"text": "a dog runs through the snow", "language": self.languages[0], "log_probability": -7.4}
        self.example = self.example_of({"captions": [caption]})

    def searches(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[StreamSearch[CaptioningResult]]:
        encoded = self.network.encode(inputs)
        return [self._search(encoded.row(row), query) for row, query in enumerate(queries)]

    def _search(self, encoded: Encoded, query: Query) -> StreamSearch[CaptioningResult]:
        found = yield from self.told(self._write(encoded, query.options), query)
        return self._result(found, encoded, query.options, explain=query.explain)

    def best(self, encoded: Encoded, options: Any) -> list[str]:
        """The best caption of every row by beam search: what measuring needs, a batch at a time."""
        memory, starts = self._start(encoded, options.language)
        found = beam_search(
            self.head,
            memory,
            self.head.initial_state(encoded.fusion.fused, options.beam_size),
            starts,
            end=self.tokenizer.end,
            beam_size=options.beam_size,
            max_length=options.max_length,
            length_penalty=options.length_penalty,
            no_repeat=options.no_repeat,
        )
        return [join(self.tokenizer.words(hypotheses[0].tokens)) for hypotheses in found]

    def overlay(self, pictures: list[NDArray[np.uint8]], result: CaptioningResult) -> bytes:
        if result.explanation is None:
            raise ValueError("an overlay needs a result that was made with explain")
        tokens = [(token.token, np.asarray(token.attention)) for token in result.explanation.tokens]
        return draw_attention([unbarred(picture) for picture in pictures], tokens, title=result.captions[0].text)

    def _write(self, encoded: Encoded, options: Any) -> Search[list[Hypothesis]]:
        """Returns the captions, best first."""
        memory, starts = self._start(encoded, options.language)
        end = self.tokenizer.end
        if options.temperature > 0:
            generator = None if options.seed is None else torch.Generator(starts.device).manual_seed(options.seed)
            state = self.head.initial_state(encoded.fusion.fused, options.num_captions)
            samples = yield from sample_steps(
                memory, state, starts,
                end=end, max_length=options.max_length, temperature=options.temperature, generator=generator,
            )  # fmt: skip
            return sampled(samples, end)
        width = max(options.beam_size, options.num_captions)
        found = yield from beam_steps(
            memory, self.head.initial_state(encoded.fusion.fused, width), starts,
            end=end, beam_size=width, max_length=options.max_length, length_penalty=options.length_penalty,
            no_repeat=options.no_repeat,
        )  # fmt: skip
        return found[0][: options.num_captions]

    def _start(self, encoded: Encoded, language: str) -> tuple[CaptionMemory, Tensor]:
        rows = encoded.fusion.fused.new_zeros(len(encoded.fusion.fused), dtype=torch.int64)
        memory = self.head.remember(encoded, rows + self.languages.index(language))
        return memory, rows + self.tokenizer.start(language)

    def _result(
        self, hypotheses: list[Hypothesis], encoded: Encoded, options: Any, *, explain: bool
    ) -> CaptioningResult:
        captions = [
            Caption(
                text=join(self.tokenizer.words(hypothesis.tokens)),
                language=options.language,
                log_probability=round(hypothesis.log_probability, 4),
                score=hypothesis.score,
            )
            for hypothesis in hypotheses
        ]
        explanation = self._explain(hypotheses[0]) if explain else None
        (contributions,) = self.contributions(encoded)
        return CaptioningResult(captions=captions, modalities=contributions, explanation=explanation)

    def _explain(self, hypothesis: Hypothesis) -> CaptionExplanation:
        features = self.checkpoint.config.modalities["image"].features
        assert isinstance(features, ImageFeatures)
        side = math.ceil(features.size / STRIDE)
        words = self.tokenizer.words(hypothesis.tokens)
        if not words:
            return CaptionExplanation(tokens=[])
        maps = hypothesis.attention.reshape(len(words), -1, side, side)
        # In double precision, so that five digits are all that is sent.
        rounded = maps.double().round(decimals=5).tolist()
        return CaptionExplanation(
            tokens=[AttendedToken(token=word, attention=frames) for word, frames in zip(words, rounded, strict=True)]
        )


def _options(languages: tuple[str, ...], defaults: Mapping[str, Any]) -> type[Options]:
    language: Any = Annotated[Literal[languages], Field(description="Language of the captions")]
    return options_model(
        "CaptioningOptions", defaults, language=(language, languages[0]), beam_size=(_BeamSize, 3),
        num_captions=(_NumCaptions, 1), max_length=(_MaxLength, 20), length_penalty=(_LengthPenalty, 0.7),
        no_repeat=(_NoRepeat, 3), temperature=(_Temperature, 0.0), seed=(Seed, None),
    )  # fmt: skip
