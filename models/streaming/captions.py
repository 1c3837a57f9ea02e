"""Captions of live pictures: a new one when the scene has changed, over a sliding memory of the last pictures.

Each picture's pooled vector, of unit length, is compared with that of the last caption: what a caption says does not
change while the vectors stay close, and a second of the CNN's time is a hundred of the decoder's.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError, create_model
from torch import Tensor

from models.features import Extracted
from models.features.borders import unbarred
from models.features.image import ImageFeatures, squared
from models.options import Options
from models.pipeline import Pipeline
from models.readings.reading import Event, Listener
from models.sequence import pad
from models.state import State
from models.streaming.errors import BadStart
from models.streaming.failing import FAILED, apart
from models.streaming.pictures import Pictures, check_time, decoded
from models.streaming.session import Reader, Session
from models.streaming.track import Queue, Track, Work
from models.tasks.task import Query

_MOST = 4
"""Pictures of one session that are looked at in one step; of more that wait, the newest."""

_TIME = np.dtype("<f8").itemsize


@dataclass(eq=False, slots=True)
class Scene(Listener):
    """What one session has seen."""

    options: Any
    question: Any
    """The options of a caption."""
    pictures: deque[Tensor]
    """The last ones, uint8 [3, size, size]."""
    captioned: Tensor | None = None
    """The vector of the last caption's picture."""
    seconds: float = 0.0
    """Time of the last picture."""
    began: float = 0.0
    """When the scene began."""
    text: str = ""
    """The last caption."""

    def state(self) -> list[float]:
        return [self.seconds, self.began]

    def restore(self, state: list[float]) -> None:
        self.seconds, self.began = state


class PictureReader:
    """One session's pictures as rows of bytes: the time, then uint8 [3, size, size]."""

    offload = True

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, chunk: bytes, time: float) -> tuple[NDArray[np.uint8], str | None]:
        """The picture; none, with a warning, where it cannot be read.

        Raises:
            BadChunk: its time is not one since the session began.
        """
        check_time(time)
        picture, warning = decoded(chunk, self.size)
        if picture is None:
            return self.empty(), warning
        values = squared(unbarred(picture), self.size).numpy().ravel()
        return np.concatenate([np.array([time], "<f8").view(np.uint8), values])[None], warning

    def empty(self) -> NDArray[np.uint8]:
        """No picture."""
        return np.zeros((0, _TIME + 3 * self.size**2), np.uint8)

    def finish(self, *, last: bool) -> NDArray[np.uint8]:  # noqa: ARG002
        """Nothing is held back."""
        return self.empty()

    def save(self) -> State:
        return {}

    def load(self, state: State) -> None:
        """There is nothing to load."""

    def close(self) -> None:
        """There is nothing to close."""


class CaptionStreams:
    """One checkpoint's sessions of pictures."""

    def __init__(self, pipeline: Pipeline, modality: str = "image") -> None:
        """Raises nothing: ``pipeline`` is a captioner of pictures."""
        features = pipeline.config.modalities["image"].features
        assert isinstance(features, ImageFeatures)
        self.pipeline, self.features, self.modality = pipeline, features, modality
        self.memory = pipeline.config.modalities["image"].max_items
        # Of Flickr8k's photos, 99 of 100 pairs are 0.85 apart and more; one, cropped and in another light, is 0.58 at
        # most from itself.
        change = Field(0.65, ge=0, le=2, description="Distance of pictures, 0 to 2, from which on a scene is a new one")
        memory = Field(1, ge=1, le=self.memory, description="Last pictures that a caption is about")
        self.options: type[Options] = create_model(
            "CaptionStreamOptions", __base__=pipeline.options, change=(float, change), memory=(int, memory)
        )

    def advice(self, encodings: Mapping[str, Any]) -> dict[str, Any]:
        """How often to send a picture."""
        return {"seconds": 0.5, "modalities": list(encodings)}

    def readers(self, encodings: Mapping[str, Any]) -> dict[str, Reader]:
        """What reads the chunks.

        Raises:
            BadStart: there are none, or others.
        """
        if set(encodings) != {self.modality}:
            raise BadStart(f"This model takes {self.modality} alone.", "Say how it comes.", "modalities")
        try:
            Pictures.model_validate(encodings[self.modality])
        except ValidationError as error:
            raise BadStart.of(error, self.modality, 'Send {"encoding": "jpeg" or "webp"}.') from error
        return {self.modality: PictureReader(self.features.size)}

    def session(self, options: Any, readers: Mapping[str, Reader]) -> Session:
        """A new session whose chunks come through ``readers``."""
        asked = options.model_dump(exclude={"change", "memory"})
        scene = Scene(options, self.pipeline.options.model_validate(asked), deque(maxlen=options.memory))
        queues = {self.modality: Queue(PictureReader(self.features.size).empty())}
        return Session(self, Track(-1, (True,), queues, {self.modality: 1}, scene), readers)

    def close(self, track: Track) -> None:
        """Nothing is held elsewhere."""

    @torch.inference_mode()
    def step(self, works: Sequence[Work]) -> list[list[Event]]:
        """Look at what has come, and caption the scenes that are new: all of them in the same steps."""
        events: list[list[Event]] = [[] for _ in works]
        changed: list[int] = []
        for index, (work, seen) in enumerate(zip(works, apart(self._seen, works), strict=True)):
            scene = work.track.listener
            assert isinstance(scene, Scene)
            if seen is None:
                events[index].append(FAILED)
                continue
            for seconds, picture, vector in seen:
                # A client's clock may be set back; what a scene lasts may not.
                scene.seconds = max(scene.seconds, seconds)
                scene.pictures.append(picture)
                if scene.captioned is None or float(torch.dist(vector, scene.captioned)) >= scene.options.change:
                    scene.captioned, scene.began = vector.clone(), scene.seconds
                    changed += [index] if index not in changed[-1:] else []
        captions = apart(self._captions, [works[index] for index in changed])
        for index, event in zip(changed, captions, strict=True):
            events[index].append(event or FAILED)
        for index, work in enumerate(works):
            scene = work.track.listener
            if work.end is not None and isinstance(scene, Scene) and scene.captioned is not None:
                events[index].append(_final(scene, None, work.end))
                # What comes next begins anew, and an end that follows a flush has nothing more to say.
                scene.captioned = None
                scene.pictures.clear()
        return events

    def read(self, track: Track) -> tuple[State, list[float]]:
        """A session's pictures, and when they were."""
        scene = track.listener
        assert isinstance(scene, Scene)
        text = torch.frombuffer(bytearray(scene.text.encode() + b"\n"), dtype=torch.uint8)
        state = {f"picture{place}": picture for place, picture in enumerate(scene.pictures)}
        captioned = {} if scene.captioned is None else {"captioned": scene.captioned}
        return {**state, **captioned, "text": text}, scene.state()

    def write(self, track: Track, state: State, numbers: list[float]) -> None:
        """Let a new session go on as another one was when it was read."""
        scene = track.listener
        assert isinstance(scene, Scene)
        scene.restore(numbers)
        scene.pictures.extend(state[name] for place in range(len(state)) if (name := f"picture{place}") in state)
        scene.captioned = state.get("captioned")
        scene.text = bytes(state["text"].tolist()).decode().rstrip("\n")

    def _seen(self, works: Sequence[Work]) -> list[list[tuple[float, Tensor, Tensor]]]:
        """Each session's new pictures, with their times and vectors."""
        pictures = [self._pictures(work) for work in works]
        vectors = iter(self._vectors([picture for each in pictures for _, picture in each]))
        return [[(seconds, picture, next(vectors)) for seconds, picture in each] for each in pictures]

    def _pictures(self, work: Work) -> list[tuple[float, Tensor]]:
        rows = work.media[self.modality][-_MOST:]
        times = np.ascontiguousarray(rows[:, :_TIME]).view("<f8")[:, 0].tolist()
        shape = (-1, 3, self.features.size, self.features.size)
        pictures = torch.from_numpy(np.ascontiguousarray(rows[:, _TIME:])).view(shape)
        return list(zip(times, pictures.unbind(0), strict=True))

    def _vectors(self, pictures: list[Tensor]) -> list[Tensor]:
        """Of unit length, on the CPU."""
        if not pictures:
            return []
        inputs = pad([picture.unsqueeze(0) for picture in pictures]).to(self.pipeline.device)
        pooled = self.pipeline.network.encoders[self.modality](inputs.values, inputs.lengths).pooled
        return list(torch.nn.functional.normalize(pooled.float(), dim=1).cpu().unbind(0))

    def _captions(self, works: Sequence[Work]) -> list[Event]:
        scenes = [work.track.listener for work in works]
        queries = [
            Query(Extracted({self.modality: torch.stack(list(scene.pictures))}), scene.question)
            for scene in scenes
            if isinstance(scene, Scene)
        ]
        results: list[Any] = self.pipeline.predict_batch(queries) if queries else []
        events = []
        for scene, result in zip(scenes, results, strict=True):
            assert isinstance(scene, Scene)
            captions = [caption.model_dump() for caption in result.captions]
            scene.text = captions[0]["text"]
            events.append(_final(scene, captions, "change"))
        return events


def _final(scene: Scene, captions: list[dict[str, Any]] | None, reason: str) -> Event:
    event: Event = {
        "type": "final", "is_final": True, "text": scene.text, "words": [],
        "endpoint": reason, "start": round(scene.began, 3), "end": round(scene.seconds, 3),
    }  # fmt: skip
    return event if captions is None else event | {"captions": captions}
