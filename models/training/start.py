"""What training goes on from: parts, weights and words of finished checkpoints.

A network that begins with what another has learned needs fewer examples (Yosinski et al. 2014). Each modality of an
experiment goes on from the first checkpoint that has it, and the fusion and the head from the first one of the same
task. What the experiment itself says of a part is said in addition; where it names another type, that part starts anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from models.checkpoint import Checkpoint, load_checkpoint, skeleton
from models.config import CheckpointConfig, NetworkConfig
from models.features import Modality
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.training.experiment import DICTATED, READY, Experiment, ExperimentError

_WORDS, _CLASSES = frozenset({"vocabulary"}), frozenset({"classes", "outputs"})
"""Sizes of a part's configuration that count words, and those that count classes."""

Rows = tuple[Sequence[int], Sequence[int]] | None
"""Places in the new network, and those of the same things in the old one; None where nothing has a name."""


@dataclass(frozen=True, slots=True)
class Start:
    """The checkpoints to go on from, in the order in which they were named; none of them is changed."""

    checkpoints: tuple[Checkpoint, ...] = ()

    @classmethod
    def load(cls, folders: Sequence[Path]) -> "Start":
        """Read checkpoint folders.

        Raises:
            CheckpointError: a folder is not a usable checkpoint.
        """
        return cls(tuple(load_checkpoint(folder) for folder in folders))

    def names(self) -> list[str]:
        """Name, version and the first digits of the digest of each."""
        return [f"{each.config.name} {each.config.version} ({each.digest[:12]})" for each in self.checkpoints]

    def plan(self, experiment: Experiment) -> Experiment:
        """The experiment with the parts of the checkpoints where it names none.

        Raises:
            ExperimentError: a checkpoint has nothing that the experiment could go on from.
        """
        used: list[Checkpoint] = []
        modalities = {}
        for name, plan in experiment.modalities.items():
            found = self._of_modality(name)
            modalities[name] = plan
            if found is None:
                continue
            features = found.config.modalities[name].features.model_dump(mode="json")
            encoder = found.config.network.encoders[name].model_dump(mode="json")
            if plan.features.get("type", features["type"]) != features["type"]:
                continue  # The encoder learned to read other features.
            own = DICTATED | ({"size"} if features["type"] == READY else set())
            tables = {"features": _merged(features, plan.features, own), "encoder": _merged(encoder, plan.encoder, own)}
            modalities[name] = plan.model_copy(update=tables)
            used.append(found)
        update: dict[str, Any] = {"modalities": modalities}
        if (answering := self._of_task(experiment)) is not None:
            network = answering.config.network
            update["fusion"] = _merged(network.fusion.model_dump(mode="json"), experiment.fusion, DICTATED)
            update["head"] = _merged(network.head.model_dump(mode="json"), experiment.head, DICTATED)
            used.append(answering)
        for each in self.checkpoints:
            if not any(each is other for other in used):
                raise ExperimentError(
                    f"nothing can go on from {each.config.name}, which has {', '.join(each.config.modalities)} and the "
                    f"task '{each.config.task}': leave out its --start, or name a modality of it"
                )
        return experiment.model_copy(update=update)

    def tokenizer(self, experiment: Experiment) -> TextTokenizer | None:
        """The words that the parts gone on from know, or None where none of them knows any."""
        sources = [self._of_modality("text") if "text" in experiment.modalities else None, self._of_task(experiment)]
        found = [each.tokenizer for each in sources if each is not None and each.tokenizer is not None]
        if not found:
            return None
        first, *others = found
        return first.extended([word for other in others for word in other.words(range(other.size))])

    def carry(self, network: FusionRNN, config: CheckpointConfig, tokenizer: TextTokenizer | None) -> list[str]:
        """Give ``network``, of ``config``, the weights that its parts have in the checkpoints.

        Of a tensor with a row a word or a class, the rows of those that both know; of any other, all where the sizes
        agree. The rest stays as it was.

        Returns:
            a line a checkpoint: how much was taken.

        Raises:
            ExperimentError: nothing of a checkpoint fits.
        """
        weights, sizes = network.state_dict(), _counted(config.network)
        said = []
        for each in self.checkpoints:
            theirs, others = each.network.state_dict(), _counted(each.config.network)
            rows = {"words": _words(tokenizer, each.tokenizer), "classes": _shared(config.labels, each.config.labels)}
            wanted = [name for name in weights if self._source(name, config) is each]
            shares = Counter(
                _take(weights[name], theirs[name], {place: rows[kind] for place, kind in sizes.get(name, {}).items()})
                for name in wanted
                if name in theirs and sizes.get(name) == others.get(name)
            )
            if wanted and not shares["all"] + shares["some"]:
                raise ExperimentError(f"no weights of {each.config.name} fit the experiment's parts: leave out --start")
            if wanted:
                partly = f", {shares['some']} more in part" if shares["some"] else ""
                said.append(f"Goes on from {each.config.name}: {shares['all']} of {len(wanted)} tensors{partly}")
        return said

    def _of_modality(self, name: Modality) -> Checkpoint | None:
        return next((each for each in self.checkpoints if name in each.config.modalities), None)

    def _of_task(self, experiment: Experiment | CheckpointConfig) -> Checkpoint | None:
        return next((each for each in self.checkpoints if each.config.task == experiment.task), None)

    def _source(self, tensor: str, config: CheckpointConfig) -> Checkpoint | None:
        """The checkpoint that the part with this tensor goes on from, which must be of the same type."""
        part, _, rest = tensor.partition(".")
        name: Any = rest.partition(".")[0]
        found = self._of_modality(name) if part == "encoders" else self._of_task(config)
        if found is None:
            return None
        if part == "encoders" and found.config.modalities[name].features.type != config.modalities[name].features.type:
            return None  # It learned to read something else.
        mine, its = (
            each.encoders[name] if part == "encoders" else getattr(each, part)
            for each in (config.network, found.config.network)
        )
        return found if mine.type == its.type else None


def _merged(given: Mapping[str, Any], own: Mapping[str, Any], dictated: AbstractSet[str]) -> dict[str, Any]:
    """A part's table: the checkpoint's, but for what the data dictate, and what the experiment says itself."""
    if own.get("type", given["type"]) != given["type"]:
        return dict(own)
    return {key: value for key, value in given.items() if key not in dictated} | dict(own)


def _counted(config: NetworkConfig) -> dict[str, dict[int, str]]:
    """By tensor, which of its dimensions count words or classes: those that grow when there is one more."""
    before = _shapes(config)
    found: dict[str, dict[int, str]] = {}
    for kind, keys in (("words", _WORDS), ("classes", _CLASSES)):
        for name, shape in _shapes(NetworkConfig.model_validate(_one_more(config.model_dump(), keys))).items():
            for place, (size, more) in enumerate(zip(before[name], shape, strict=True)):
                if more != size:
                    found.setdefault(name, {})[place] = kind
    return found


def _shapes(config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in skeleton(config).state_dict().items()}


def _one_more(value: Any, keys: frozenset[str]) -> Any:
    """A configuration with one more of what ``keys`` count, wherever they stand."""
    if not isinstance(value, Mapping):
        return value
    return {
        key: item + 1 if key in keys and isinstance(item, int) else _one_more(item, keys) for key, item in value.items()
    }


def _words(mine: TextTokenizer | None, its: TextTokenizer | None) -> Rows:
    if mine is None or its is None:
        return None
    return _shared(mine.words(range(mine.size)), its.words(range(its.size)))


def _shared(mine: Sequence[str] | None, its: Sequence[str] | None) -> Rows:
    """Places of what is in both lists."""
    if mine is None or its is None:
        return None
    there = {name: place for place, name in enumerate(its)}
    pairs = [(place, there[name]) for place, name in enumerate(mine) if name in there]
    return [new for new, _ in pairs], [old for _, old in pairs]


def _take(new: Tensor, old: Tensor, rows: Mapping[int, Rows]) -> str:
    """Copy into ``new`` what it shares with ``old``: all, some or none of it.

    Args:
        rows: of the dimensions that count something.
    """
    named = {place: found for place, found in rows.items() if found is not None}
    if new.dim() != old.dim():
        return "none"
    if any(new.shape[place] != old.shape[place] for place in range(new.dim()) if place not in named):
        return "none"
    here, there = ([np.array(places) for places in _places(each, named, side)] for side, each in enumerate((new, old)))
    if not all(len(places) for places in here):
        return "none"
    # A state dictionary's tensors are the network's own memory.
    new.numpy()[np.ix_(*here)] = old.to(new.dtype).numpy()[np.ix_(*there)]
    return "all" if all(len(places) == size for places, size in zip(here, new.shape, strict=True)) else "some"


def _places(tensor: Tensor, named: Mapping[int, tuple[Sequence[int], Sequence[int]]], side: int) -> list[Sequence[int]]:
    return [named[place][side] if place in named else range(size) for place, size in enumerate(tensor.shape)]
