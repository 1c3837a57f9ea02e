"""A loaded checkpoint from media to answer: decode, features, network, task. Knows nothing of HTTP or queues."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, get_args

import torch
from pydantic import BaseModel
from torch import Tensor

from models.checkpoint import CONFIG, Checkpoint, CheckpointError, load_checkpoint
from models.config import ModalityConfig
from models.decoding.decoder import SharedDecoder, StepAnswer
from models.device import choose_device
from models.features import Extracted, Features, Modality
from models.features.features import Sources, empty, nothing_in
from models.media.errors import MediaOutOfBounds, UnsupportedMedia
from models.media.limits import MediaLimits
from models.profile import Profile
from models.runtime import RuntimeName, accelerate
from models.sequence import Padded, pad
from models.streaming.fronts import refusal
from models.tasks import task_of
from models.tasks.streaming import StreamSearch
from models.tasks.task import Query, Result
from models.tasks.writing import WritingTask

Bundle: TypeAlias = Mapping[Modality, bytes | str | Sequence[bytes | str]]
"""Media as they are, one or several a part: ``{"image": [jpeg, png], "text": "a dog"}``."""

_LIMITS = MediaLimits()

UNFAMILIAR = "unfamiliar"
"""The notice of a medium that is farther from the training data than what was held back of their kind."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A bundle's media, decoded, by the modality that the network knows them as; absent ones are left out."""

    media: dict[Modality, list[Any]]


def parts_for(
    name: Modality, features: Features | type[Features], modalities: Collection[Modality]
) -> frozenset[Modality]:
    """The parts of a bundle that may serve as modality ``name`` of a network that knows ``modalities``.

    A part that is a modality itself stands in for another only where it can be both.
    """
    return frozenset({name, *(part for part in features.stand_ins if features.shares or part not in modalities)})


def accepted(items: Mapping[Modality, int], features: Iterable[Features | type[Features]]) -> dict[Modality, int]:
    """How many items of each part a bundle may hold: ``items`` of a modality, and one of what only stands in for it."""
    found = dict(items)
    for each in features:
        for part in each.stand_ins:
            found.setdefault(part, 1)
    return found


class Pipeline(Profile):
    """One checkpoint, ready to answer: ``decode`` and ``features`` in any thread, the rest in one thread a device.

    >>> sentiment = Pipeline.load("models/zoo/sentiment")
    >>> answer = sentiment.answer({"text": "A wonderful film!"}, top_k=1)
    >>> answer.predictions[0].label
    'positive'
    """

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device | str = "cpu", runtime: RuntimeName = "auto"
    ) -> None:
        """Serve a loaded checkpoint; any ``runtime`` but torch changes its network, for inference only.

        Raises:
            ValueError: the network does not fit the task, or the checkpoint's defaults do not.
        """
        self.network = checkpoint.network.to(device)
        for novelty in checkpoint.novelty.values():
            novelty.to(device)
        used = accelerate(self.network, runtime)
        self.task = task_of(checkpoint)
        self._tokenizer = checkpoint.tokenizer
        modalities = checkpoint.config.modalities
        self._nothing = nothing_in(
            checkpoint.config.task, {name: item.features for name, item in modalities.items() if not item.required}
        )
        accepts = accepted(
            {name: item.max_items for name, item in modalities.items()}, [item.features for item in modalities.values()]
        )
        super().__init__(
            config=checkpoint.config,
            digest=checkpoint.digest,
            metrics=checkpoint.metrics,
            card=checkpoint.card,
            device=torch.device(device),
            runtime=used,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            options=self.task.options,
            result=self.task.result,
            example=self.task.example,
            explains=self.task.explains,
            draws=self.task.draws,
            languages=list(self.task.languages),
            accepts=accepts,
            streaming_refusal=refusal(checkpoint.config, checkpoint.network),
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pipeline is not pickled nor copied, for its weights are packed: load it in each process")

    def profile(self) -> Profile:
        """What there is to know of the checkpoint, without holding its weights."""
        return Profile(**{field.name: getattr(self, field.name) for field in fields(Profile)})

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu", runtime: RuntimeName = "auto") -> "Pipeline":
        """Load a checkpoint folder.

        Args:
            device: as torch calls it, or ``auto``: cuda where torch finds a CUDA device.

        Raises:
            CheckpointError: the folder is not a usable checkpoint.
            ValueError: there is no such runtime, or no CUDA device where one is asked for.
        """
        if runtime not in get_args(RuntimeName):
            raise ValueError(f"there is no runtime '{runtime}': ask for {', '.join(get_args(RuntimeName))}")
        if device in ("auto", "cuda"):
            device = choose_device(str(device))
        checkpoint = load_checkpoint(folder)
        try:
            return cls(checkpoint, device, runtime)
        except ValueError as error:
            raise CheckpointError(Path(folder), f"{CONFIG}, {error}") from error

    def answer(self, bundle: Bundle, *, limits: MediaLimits = _LIMITS, explain: bool = False, **options: Any) -> Result:
        """The answer about media as they are: ``decode``, ``features`` and ``predict`` in one.

        Args:
            options: of the checkpoint's task, by the names and within the bounds of ``self.options``.

        Raises:
            MediaError: a part cannot be used.
            ValidationError: an option is unknown or out of bounds.
        """
        chosen = self.options.model_validate(options)
        return self.predict(self.features(self.decode(bundle, limits)), chosen, explain=explain)

    def decode(self, bundle: Bundle, limits: MediaLimits = _LIMITS) -> Decoded:
        """Bytes to arrays.

        Raises:
            MediaError: a medium cannot be used, or the bundle has more than ``accepts`` allows.
        """
        sources, media = self._listed(bundle), {}
        for name, item in self.config.modalities.items():
            if found := item.features.decode(name, self._sources(name, item, sources), limits, item.max_items):
                media[name] = found
            elif item.required or len(self.config.modalities) == 1:
                posted = ", ".join(part for part, given in sources.items() if given) or "bundle"
                raise UnsupportedMedia(name, f"There is no {name} in the {posted}.", f"Post a part '{name}'.")
        if not media:
            names = ", ".join(self.config.modalities)
            raise UnsupportedMedia(names, f"There is none of {names} in the bundle.", f"Post one of {names}.")
        return Decoded(media)

    def features(self, decoded: Decoded) -> Extracted:
        """Decoded media to the tensors [T, ...] that the network reads.

        A modality that has nothing in it, such as a video's silent sound track, is left out where it need not be there
        and others are. An embedding is of each modality by itself, and so of that one, too.

        Raises:
            MediaOutOfBounds: the network's fusion pairs steps, and the modalities have unequal numbers of them.
        """
        read = self._read(decoded)
        left_out = empty(read.tensors, read.notices, self._nothing)
        return Extracted({name: read.tensors[name] for name in read.tensors if name not in left_out}, read.notices)

    def _read(self, decoded: Decoded) -> Extracted:
        tensors, notices = {}, {}
        for name, media in decoded.media.items():
            features = self.config.modalities[name].features
            tensors[str(name)] = read = features.extract(media, self._tokenizer)
            if noticed := features.notices(media, read, self._tokenizer):
                notices[str(name)] = noticed
        self._check_pairs(tensors)
        return Extracted(tensors, notices)

    def padded(self, bundles: Sequence[Extracted]) -> dict[str, Padded]:
        """Every modality that a bundle has, on the device, a row a bundle; of length 0 in the rows that lack it."""
        rows = [bundle.tensors for bundle in bundles]
        posted = dict.fromkeys(name for tensors in rows for name in tensors)
        return {name: pad([tensors.get(name) for tensors in rows]).to(self.device) for name in posted}

    def decoder(self) -> SharedDecoder[Any] | None:
        """What takes the steps of this checkpoint's searches, where its task writes token by token."""
        return self.task.decoder if isinstance(self.task, WritingTask) else None

    @torch.inference_mode()
    def searches(self, queries: Sequence[Query]) -> list[StreamSearch[Result]]:
        """Each answer as a search over ``decoder()``, whose steps can be shared; the bundles are encoded together."""
        assert isinstance(self.task, WritingTask)
        found = self.task.searches(self._inputs(queries), queries)
        return [_finish(steps, query.features) for steps, query in zip(found, queries, strict=True)]

    @torch.inference_mode()
    def predict_batch(self, queries: Sequence[Query]) -> list[Result]:
        """The answer to each query, the same whatever the others are: one run of the network for all of them."""
        results = self.task.predict(self._inputs(queries), queries)
        return [_noticed(result, query.features) for result, query in zip(results, queries, strict=True)]

    def predict(self, features: Extracted, options: BaseModel, *, explain: bool = False) -> Result:
        """The answer for one bundle."""
        return self.predict_batch([Query(features, options, explain)])[0]

    def stream(self, features: Extracted, options: BaseModel) -> Iterator[dict[str, Any]]:
        """Parts of the answer as they become certain, then ``{"result": whole answer}``."""
        query = Query(features, options, told=True)
        steps = self.task.stream(self._inputs([query]), query)
        while True:
            # Per step, not around the loop: a suspended generator must not leave the mode on in its thread.
            with torch.inference_mode():
                part = next(steps, None)
            if part is None:
                return
            if "result" in part:
                result = _noticed(self.result.model_validate(part["result"]), features)
                part["result"] = result.model_dump(exclude_none=True)
            yield part

    def overlay(self, decoded: Decoded, result: Result) -> bytes:
        """PNG of where the network looked for each word of an explained result."""
        return self.task.overlay(decoded.media.get("image", []), result)

    def warm_up(self) -> None:
        """Run once on made-up input of the real size, so that the first request pays for nothing."""
        self.predict(self.blank(), self.options())

    def blank(self) -> Extracted:
        """The features of made-up media of a usual size, one of each modality."""
        return self._read(Decoded({name: item.features.blank() for name, item in self.config.modalities.items()}))

    def _check_pairs(self, tensors: dict[str, Tensor]) -> None:
        steps = {name: len(tensor) for name, tensor in tensors.items()}
        fusion = self.config.network.fusion
        if fusion.paired and len(set(steps.values())) > 1:
            said = ", ".join(f"{name} has {count}" for name, count in steps.items())
            raise MediaOutOfBounds(
                ", ".join(steps),
                f"This network pairs the modalities step by step, and {said}.",
                "Send as many steps of each.",
                "equal numbers of steps",
            )

    def _listed(self, bundle: Bundle) -> Sources:
        sources = {part: _media(part, data) for part, data in bundle.items()}
        for part, items in sources.items():
            most = self.accepts.get(part)
            if most is None:
                raise UnsupportedMedia(part, f"This model takes no {part}.", f"It takes {', '.join(self.accepts)}.")
            if len(items) > most:
                said = f"There are {len(items)} parts '{part}', more than this model takes."
                raise MediaOutOfBounds(part, said, "Send fewer.", f"{most} of {part}")
        return sources

    def _sources(self, name: Modality, item: ModalityConfig, sources: Sources) -> Sources:
        taken = parts_for(name, item.features, self.config.modalities)
        return {part: data for part, data in sources.items() if part in taken}

    def _inputs(self, queries: Sequence[Query]) -> dict[str, Padded]:
        return self.padded([query.features for query in queries])


def _media(part: Modality, data: Any) -> list[bytes | str]:
    """The media of a part, one or several.

    Raises:
        UnsupportedMedia: one is neither bytes nor text, but a path, an open file, an array.
    """
    # Bytes of other types are sequences too, of numbers.
    one = isinstance(data, bytes | bytearray | memoryview | str) or not isinstance(data, Sequence)
    items: list[bytes | str] = [data] if one else list(data)
    for item in items:
        if not isinstance(item, bytes | str):
            raise UnsupportedMedia(
                part,
                f"The {part} is a Python object of type {type(item).__name__}, not the bytes of a medium.",
                "Give bytes: what a file holds, as Path.read_bytes() reads it, or what a library encodes.",
            )
    return items


def _noticed(result: Result, features: Extracted) -> Result:
    """The result with what the features noticed, and with what is unlike anything that was learned from."""
    notices = dict(features.notices)
    for name, modality in result.modalities.items():
        if modality.novelty is not None and modality.novelty > 1:
            notices[name] = [*notices.get(name, []), UNFAMILIAR]
    return result.model_copy(update={"notices": notices}) if notices else result


def _finish(steps: StreamSearch[Result], features: Extracted) -> StreamSearch[Result]:
    """A search whose steps run without gradients, and whose result has the notices."""
    answer: StepAnswer | None = None
    while True:
        try:
            with torch.inference_mode():
                part = steps.send(answer)
        except StopIteration as stop:
            return _noticed(stop.value, features)
        answer = yield part
