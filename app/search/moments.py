"""What a photo, or a second of a video, is found by: its vector, with captions and a thumbnail to show.

Nothing runs a network here: ``Annotator`` says what to ask of which checkpoint and what the answers come to, so that
the command line asks them together, and the service through its queues. It asks twice, about a picture and then about
what was said of it.
"""

import io
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.features import Extracted
from models.media.errors import MediaOutOfBounds, UnsupportedMedia
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.media.sniff import READABLE, sniff
from models.media.video import decode_video, rgb_frames
from models.pipeline import Decoded
from models.tasks.task import Query

if TYPE_CHECKING:
    from pydantic import BaseModel

    from models.features import Modality
    from models.pipeline import Bundle, Pipeline
    from models.tasks.captioning import Caption, CaptioningResult
    from models.tasks.embedding import EmbeddingResult
    from models.tasks.task import Result

Kind = Literal["image", "video"]
Picture = NDArray[np.uint8]
Vector = NDArray[np.float32]

THUMBNAIL = 256
"""Longest side of a thumbnail, pixels."""
_QUALITY = 80
_CAPTIONS = 3
"""That compete for a picture in each language: what a beam of three, which is common, finds anyway."""
_FITS = 4.0
"""What the cosine of a caption's and its picture's vectors counts beside the captioner's own score."""
_SAID = 0.15
"""Of the captions' mean vector beside their picture's: the captioner saw it by another network, and names things."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A photo (``seconds`` is None) or the frame that is on display ``seconds`` into a video.

    ``vector`` is float32 [D] of length 1: the picture's, with a little of its captions'. ``captions`` go by language,
    each the one that fits the picture best; ``thumbnail`` is a JPEG; ``notices`` are what the checkpoints noticed.
    """

    seconds: float | None
    vector: Vector
    captions: dict[str, str]
    thumbnail: bytes
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """A moment of which only the picture was looked at: in each language ``captions`` compete, the likeliest first."""

    seconds: float | None
    vector: Vector
    captions: "dict[str, list[Caption]]"
    thumbnail: bytes
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inference:
    """One run of one checkpoint."""

    pipeline: "Pipeline"
    features: Extracted
    options: "BaseModel"

    def answer(self) -> "Result":
        """The checkpoint's answer."""
        return self.pipeline.predict(self.features, self.options)


def answers(inferences: Sequence[Inference]) -> list["Result"]:
    """What each comes to; every checkpoint is run once, for all that is asked of it."""
    found: dict[int, Result] = {}
    for pipeline in dict.fromkeys(inference.pipeline for inference in inferences):
        asked = {row: inference for row, inference in enumerate(inferences) if inference.pipeline is pipeline}
        queries = [Query(inference.features, inference.options) for inference in asked.values()]
        found.update(zip(asked, pipeline.predict_batch(queries), strict=True))
    return [found[row] for row in range(len(inferences))]


class Annotator:
    """Turns pictures into moments by a checkpoint that embeds images and text, and perhaps one that captions.

    Raises:
        ValueError: one of the checkpoints does not do that.
    """

    def __init__(self, embedder: "Pipeline", captioner: "Pipeline | None" = None) -> None:
        if embedder.config.task != "embedding" or not {"image", "text"} <= embedder.config.modalities.keys():
            raise ValueError(f"'{embedder.config.name}' does not embed images and text")
        if captioner is not None and (captioner.config.task != "captioning" or "image" not in captioner.accepts):
            raise ValueError(f"'{captioner.config.name}' does not caption images")
        self.embedder, self.captioner = embedder, captioner
        self.size = int(embedder.network.head.config.size)  # type: ignore[arg-type]
        sides = [
            getattr(pipeline.config.modalities["image"].features, "size", THUMBNAIL)
            for pipeline in (embedder, captioner)
            if pipeline is not None
        ]
        self._side = max(sides)

    @property
    def model(self) -> str:
        """Name, version and digest of the checkpoint whose space the vectors lie in."""
        return _identity(self.embedder)

    @property
    def writer(self) -> str:
        """The same of the one that captions; empty where there is none."""
        return "" if self.captioner is None else _identity(self.captioner)

    def pictures(self, data: bytes, limits: MediaLimits) -> Generator[tuple[float | None, Picture]]:
        """A photo, or one frame of each second of a video, decoded as they are asked for and at most two kept.

        Raises:
            MediaError: the file cannot be used; in a video perhaps only after some frames.
        """
        if kind_of(data) == "image":
            yield None, decode_image(data, limits, target=self._side)
            return
        frames = rgb_frames(data, limits, fps=1, target=self._side)
        begin = list(islice(frames, 2))
        middle = 0.5
        if len(begin) == 1:
            # It may be over before the middle of its first second.
            middle = min(middle, decode_video(data, limits, count=1, target=self._side).duration)
        # The frame in the middle of each second.
        for second, frame in enumerate(chain(begin, frames)):
            yield second + middle, frame

    def inferences(self, picture: Picture) -> list[Inference]:
        """What to ask about a picture; the answers go to ``described``."""
        asked = [self._embedding("image", picture)]
        if (writer := self.captioner) is not None:
            features = _features(writer, "image", picture)
            asked += [
                Inference(
                    writer, features, writer.options.model_validate({"language": language, "num_captions": _CAPTIONS})
                )
                for language in writer.languages
            ]
        return asked

    def described(self, seconds: float | None, picture: Picture, answers: Sequence["Result"]) -> Seen:
        """What the answers to ``inferences(picture)`` say of it."""
        embedded, *captioned = answers
        languages = self.captioner.languages if self.captioner is not None else []
        captions = {
            language: cast("CaptioningResult", answer).captions
            for language, answer in zip(languages, captioned, strict=True)
        }
        notices = dict.fromkeys(notice for answer in answers for notice in (answer.notices or {}).get("image", ()))
        vector = _unit(cast("EmbeddingResult", embedded).embeddings["image"])
        return Seen(seconds, vector, captions, thumbnail(picture), tuple(notices))

    def readings(self, seen: Seen) -> list[Inference]:
        """What to ask about the captions of a picture; the answers go to ``read``."""
        if not self.embedder.is_written("text"):
            return []
        return [self._embedding("text", caption.text) for captions in seen.captions.values() for caption in captions]

    def read(self, seen: Seen, answers: Sequence["Result"]) -> Moment:
        """The moment with the captions that fit the picture best, by the answers to ``readings(seen)``."""
        told = iter(answers)
        chosen, said = {}, []
        for language, captions in seen.captions.items():
            # In a language that the embedder does not know, a caption says nothing.
            read = [
                (caption, self.query_vector(answer))
                for caption, answer in zip(captions, told, strict=False)
                if not (answer.notices or {}).get("text")
            ]
            best = captions[0]
            if read:
                best, _ = max(read, key=lambda each: each[0].score + _FITS * float(each[1] @ seen.vector))
                said.append(np.mean([vector for _, vector in read], 0))
            chosen[language] = best.text
        vector = _unit(seen.vector + _SAID * np.sum(said, 0)) if said else seen.vector
        return Moment(seen.seconds, vector, chosen, seen.thumbnail, seen.notices)

    def moments(self, shown: "Sequence[tuple[float | None, Picture]]") -> list[Moment]:
        """The moments of some of ``pictures``, all looked at together."""
        seen = _together([self.inferences(picture) for _, picture in shown])
        looked = [self.described(*each, told) for each, told in zip(shown, seen, strict=True)]
        read = _together([self.readings(each) for each in looked])
        return [self.read(each, told) for each, told in zip(looked, read, strict=True)]

    def query(self, bundle: "Bundle", limits: MediaLimits) -> Inference:
        """What to ask about one text or one image; ``query_vector`` reads the answer.

        Raises:
            MediaError: it cannot be used.
        """
        features = self.embedder.features(self.embedder.decode(bundle, limits))
        return Inference(self.embedder, features, self.embedder.options())

    def query_vector(self, answer: "Result") -> Vector:
        """The vector of the one modality that was asked about."""
        embeddings = cast("EmbeddingResult", answer).embeddings
        return _unit(embeddings["text" if "text" in embeddings else "image"])

    def _embedding(self, modality: "Modality", medium: Picture | str) -> Inference:
        return Inference(self.embedder, _features(self.embedder, modality, medium), self.embedder.options())


def kind_of(data: bytes, part: "Modality" = "image") -> Kind:
    """Whether a file is a photo or a video, by its content; errors are about the ``part`` that it was sent as.

    Raises:
        UnsupportedMedia: it is neither.
        MediaOutOfBounds: it is empty.
    """
    if not data:
        raise MediaOutOfBounds(part, "The file is empty.", "Send a photo or a video.", "at least 1 byte")
    found = sniff(data)
    kinds: tuple[Kind, ...] = ("image", "video")
    for kind in kinds:
        if found is not None and kind in found.modalities:
            return kind
    name = "no known format" if found is None else found.name
    said = f"The file was recognized by its content as {name}, which is neither a photo nor a video."
    raise UnsupportedMedia(part, said, f"Send a photo as {READABLE['image']}, or a video as {READABLE['video']}.")


def thumbnail(picture: Picture) -> bytes:
    """A picture as a small JPEG."""
    small = Image.fromarray(picture)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def clock(seconds: float) -> str:
    """Seconds as people write a place in a film: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _identity(pipeline: "Pipeline") -> str:
    return f"{pipeline.config.name} {pipeline.config.version} {pipeline.digest[:16]}"


def _together(asked: Sequence[Sequence[Inference]]) -> list[list["Result"]]:
    """The answers to several groups of inferences, all run together."""
    told = iter(answers(list(chain.from_iterable(asked))))
    return [list(islice(told, len(inferences))) for inferences in asked]


def _features(pipeline: "Pipeline", modality: "Modality", medium: Picture | str) -> Extracted:
    return pipeline.features(Decoded({modality: [medium]}))


def _unit(values: Sequence[float]) -> Vector:
    vector = np.asarray(values, np.float32)
    return vector / np.float32(np.linalg.norm(vector))
