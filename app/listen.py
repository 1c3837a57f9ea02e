"""What `fusionrnn listen` does: a microphone or a file, chunk by chunk, to a checkpoint here or to a server."""

import json
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from app.chunk import HEADER

if TYPE_CHECKING:
    from models.media.limits import MediaLimits
    from models.pipeline import Pipeline

Event = dict[str, Any]
Sound = Iterator[NDArray[np.int16]]

RATE = 16_000
CHUNK = 1280
_ENCODING = {"encoding": "pcm_s16le", "sample_rate": RATE}
_SECONDS = 60
_ENDS = {
    "draining": "it is stopping",
    "total": "it was as long as sessions may be",
    "idle": "nothing came for so long that it is over",
}


class CannotListen(Exception):
    """There is nothing to listen to, or nobody who listens; the message says why."""


def file_sound(path: Path, limits: "MediaLimits", *, realtime: bool) -> Sound:
    """The sound of a file, or a video's sound track; in ``realtime``, as fast as it would be spoken.

    Raises:
        MediaError: the file cannot be used.
    """
    from models.media.audio import decode_audio

    samples = decode_audio(path.read_bytes(), limits, rate=RATE).samples
    scaled = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    began = time.monotonic()
    for at in range(0, len(scaled), CHUNK):
        if realtime:
            time.sleep(max(began + (at + CHUNK) / RATE - time.monotonic(), 0))
        yield scaled[at : at + CHUNK]


def microphone() -> Sound:
    """What the microphone hears, until the program is interrupted.

    Raises:
        CannotListen: there is none, or not the package that reads it.
    """
    try:
        import sounddevice
    # Without the PortAudio library the package is there, and fails when it is imported.
    except (ImportError, OSError) as error:
        said = f"A microphone needs sounddevice ({sys.executable} -m pip install sounddevice) and PortAudio."
        raise CannotListen(f"{said} Or give a file.") from error
    heard: queue.SimpleQueue[NDArray[np.int16]] = queue.SimpleQueue()
    try:
        with sounddevice.InputStream(
            RATE, CHUNK, channels=1, dtype="int16", callback=lambda data, *_: heard.put(data[:, 0].copy())
        ):
            while True:
                yield heard.get()
    except sounddevice.PortAudioError as error:
        raise CannotListen(f"The microphone cannot be read: {error}") from error


def listen_here(pipeline: "Pipeline", sound: Sound, options: dict[str, Any]) -> Iterator[Event]:
    """The events of a checkpoint in this process.

    Raises:
        CannotListen: it needs another modality, or its features are of a rate that sound cannot be brought to.
        CannotStream: it needs the whole input.
        ValidationError: it has no such options.
    """
    from models.streaming.checkpoint import recurrent_streams
    from models.streaming.errors import BadStart, CannotStream

    reason = pipeline.streaming_refusal
    if reason is not None or "audio" not in pipeline.config.modalities:
        raise CannotStream(reason or "it does not listen")
    streams = recurrent_streams(pipeline)
    try:
        reader = streams.readers({"audio": _ENCODING})["audio"]
    except BadStart as error:
        raise CannotListen(f"{error} {error.remedy}") from error
    track = streams.open(streams.options.model_validate(options), ["audio"])
    for samples in sound:
        track.feed("audio", reader.read(samples.astype("<i2", copy=False).tobytes(), 0.0)[0])
        while track.ticks:
            yield from streams.step([track.take()])[0]
    track.feed("audio", reader.finish(last=True))
    while track.ticks:
        yield from streams.step([track.take()])[0]
    yield from streams.step([track.take("end")])[0]


def listen_there(url: str, model: str, sound: Sound, options: dict[str, Any]) -> Iterator[Event]:
    """The events of a server's checkpoint.

    Raises:
        CannotListen: the server does not answer, or refuses.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    address = f"ws{url.removeprefix('http').rstrip('/')}/v1/models/{quote(model, safe='')}/stream"
    modalities = {"audio": _ENCODING}
    try:
        with connect(address, compression=None, open_timeout=_SECONDS) as socket:
            socket.send(json.dumps({"type": "session.start", "modalities": modalities, "options": options}))
            started = json.loads(socket.recv(_SECONDS))
            if started["type"] == "error":
                raise CannotListen(" ".join(filter(None, (started["detail"], started.get("remedy")))))
            room: int = started["credit"]
            most: int = started["limits"]["chunk_bytes"] // 2 * 2
            sequence = 0
            for samples in sound:
                data = samples.tobytes()
                for at in range(0, len(data), most):
                    _say(socket, HEADER.pack(sequence, 0, 0.0) + data[at : at + most])
                    sequence += 1
                room -= len(data)
                # What has come so far; where there is no room left, also what comes until there is some.
                while (event := _next(socket, _SECONDS if room < 2 * CHUNK else 0)) is not None:
                    room += event.get("bytes", 0)
                    yield event
            _say(socket, '{"type":"session.end"}')
            while (event := _next(socket, _SECONDS)) is not None:
                yield event
                if event["type"] == "session.ended":
                    return
    except (OSError, WebSocketException) as error:
        raise CannotListen(f"{url} does not answer: {error}") from error


def line(event: Event) -> str | None:
    """What is printed of an event; None for what is of no interest to a reader."""
    if event["type"] == "final" and event["words"]:
        return "\n".join(
            f"{word['start']:8.2f} - {word['end']:6.2f}  {word['word']}  ({word['probability']:.0%})"
            for word in event["words"]
        )
    if event["type"] in ("warning", "error"):
        return f"{event['type']}: {event['detail']}"
    return None


def _say(socket: Any, message: bytes | str) -> None:
    """Send a message; to a connection that is closed there is nothing to say, but still something to hear."""
    from websockets.exceptions import ConnectionClosed

    with suppress(ConnectionClosed):
        socket.send(message)


def _next(socket: Any, seconds: float) -> Event | None:
    """The next event, if it comes in time.

    Raises:
        CannotListen: the server ends the session by itself, or refuses what was sent.
    """
    try:
        event: Event = json.loads(socket.recv(seconds))
    except TimeoutError:
        return None
    if event["type"] == "error":
        raise CannotListen(" ".join(filter(None, (event["detail"], event.get("remedy")))))
    if event["type"] == "session.ended" and event["reason"] != "end":
        raise CannotListen(f"The server ended the session: {_ENDS.get(event['reason'], event['reason'])}.")
    return event
