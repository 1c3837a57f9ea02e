"""From an experiment's TOML file and a data folder to a checkpoint folder that is served."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.checkpoint import CARD, METRICS, NOVELTY, WEIGHTS, Checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features import Modality
from models.features.text import TextTokenizer
from models.files import write_whole
from models.network import FusionRNN
from models.novelty import save_novelty
from models.pipeline import Pipeline
from models.registry import stride_of
from models.tasks import task_of
from models.training.baselines import without_input
from models.training.calibration import calibrate
from models.training.card import model_card
from models.training.claim import CHECKPOINT, claim
from models.training.commands import train_command
from models.training.confusion import draw_confusion
from models.training.corpus import Corpus, Part, load_corpus
from models.training.curves import draw_curves
from models.training.evaluation import measure
from models.training.experiment import Experiment, ExperimentError, load_experiment
from models.training.manifest import DataError
from models.training.metrics.classes import confusion
from models.training.novelty import corpus_novelty
from models.training.report import Faults
from models.training.splits import read_splits
from models.training.stage import FusionStage, Trained
from models.training.start import Start
from models.training.targets import STEP_TARGETS, TARGETS, Target
from models.training.trainer import DivergedError, Trainer


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A trained network with all that describes it."""

    config: CheckpointConfig
    network: FusionRNN
    corpus: Corpus
    target: Target
    notes: dict[str, Any]
    """Of the metrics: what was learned from validation data after training."""
    device: str
    """Where it was trained, and is measured."""


def train_experiment(
    path: Path,
    data: Path,
    out: Path,
    *,
    seed: int | None = None,
    start: Sequence[Path] = (),
    baselines: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train in ``out``, resuming what is there, write the checkpoint folder ``out/checkpoint``, and return its metrics.

    Args:
        seed: instead of the experiment's.
        start: checkpoint folders to go on from.
        baselines: also train each modality alone, and measure the constant answer.
        device: where the networks are trained and measured, as torch calls it.

    Raises:
        CheckpointError: a folder to start from is not a usable checkpoint.
        ExperimentError: the TOML file has an unknown key or parts that do not fit.
        DataError: the data cannot be trained on.
        DivergedError: the loss stopped being a number.
    """
    begun = Start.load(start)
    experiment = load_experiment(path, begun.plan)
    if seed is not None:
        experiment = experiment.model_copy(update={"training": experiment.training.model_copy(update={"seed": seed})})
    with ExitStack() as held:
        outcome = _train(experiment, begun, data, out, device, held)
        folder = out / CHECKPOINT
        pipeline = Pipeline.load(folder, device)
        known = corpus_novelty(pipeline, outcome.corpus)
        save_novelty(folder / NOVELTY, known)
        # What else is known of these very weights, by an earlier run of the command or `evaluate --save`.
        metrics = {**(pipeline.metrics or {}), **_measured(folder, outcome)}
        compared = baselines or "baselines" in metrics
        metrics["command"] = train_command(
            path, data, out, seed, usual=None, start=start, baselines=compared, device=device
        )
        metrics |= {"seed": experiment.training.seed, **outcome.notes}
        if "left_out" in experiment.training.model_fields_set:  # `evaluate` goes by it too
            metrics["left_out"] = experiment.training.left_out
        if experiment.target is not None:
            metrics["target"] = experiment.target
        if begun.checkpoints:
            metrics["start"] = begun.names()
        if known:
            metrics["novelty"] = list(known)
        _describe(folder, experiment, outcome, metrics)
        if baselines:
            metrics["baselines"] = _constant(experiment, outcome)
            metrics["alone"] = _alone(experiment, begun, outcome, data, out, held)
            _describe(folder, experiment, outcome, metrics)
        return metrics


def _train(experiment: Experiment, start: Start, data: Path, out: Path, device: str, held: ExitStack) -> _Outcome:
    """Train in ``out``, which stays claimed as long as ``held``, and write the checkpoint."""
    target = (STEP_TARGETS if experiment.by_step else TARGETS)[experiment.task](experiment)
    faults = Faults()
    splits = read_splits(experiment, target, data, faults)
    held.enter_context(claim(experiment, start.names(), splits.values(), out))
    corpus = load_corpus(experiment, target, splits, out / "cache", faults, start.tokenizer(experiment))
    print(corpus.report.text(), flush=True)
    (out / "report.json").write_text(json.dumps(corpus.report.as_json(), indent=2) + "\n", encoding="utf-8")
    _check_words(experiment, target, corpus)
    config = _config(experiment, target, corpus, {})
    torch.manual_seed(experiment.training.seed)
    try:
        network = FusionRNN(config.network)
    except ValueError as error:
        raise ExperimentError(f"The network cannot be built: {error}") from error
    for line in start.carry(network, config, corpus.tokenizer):
        print(line, flush=True)
    network.to(device)
    target.prepare(network, config, corpus.tokenizer, corpus.train.targets)
    try:
        task_of(Checkpoint(config, network, corpus.tokenizer, None, None, ""))
    except ValueError as error:
        raise ExperimentError(f"The trained network could not be served: {error}") from error
    trained = Trained(network, experiment, target).to(device)
    stage = FusionStage(trained, experiment, target, corpus)
    Trainer(trained, [stage], out, seed=experiment.training.seed).run()
    draw_curves(out / "log.jsonl", out / "curves.png")
    network.eval()
    notes: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    if experiment.task == "classification":
        notes, defaults = _calibrated(stage, target, corpus, out)
    elif experiment.task == "transcription" and (seconds := seconds_per_step(config, network)) is not None:
        defaults = {"seconds_per_step": seconds}
    config = _config(experiment, target, corpus, defaults)
    _save(out / CHECKPOINT, config, network, corpus)
    return _Outcome(config, network, corpus, target, notes, device)


def _save(folder: Path, config: CheckpointConfig, network: FusionRNN, corpus: Corpus) -> None:
    """Write the checkpoint; the metrics that lie there stay if they are of the same weights."""
    before = _digest(folder / WEIGHTS)
    save_checkpoint(folder, config, network.cpu(), corpus.tokenizer)
    if _digest(folder / WEIGHTS) != before:
        (folder / METRICS).unlink(missing_ok=True)


def _digest(path: Path) -> str | None:
    if not path.exists():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_words(experiment: Experiment, target: Target, corpus: Corpus) -> None:
    bare = TextTokenizer.build([], target.languages())
    if corpus.tokenizer is not None and corpus.tokenizer.size == bare.size:
        raise DataError(
            f"no word is {experiment.training.minimum_count} times in the training texts, which `minimum_count` in "
            "[training] asks for: lower it, or give more texts"
        )


def _config(experiment: Experiment, target: Target, corpus: Corpus, defaults: Mapping[str, Any]) -> CheckpointConfig:
    return experiment.checkpoint(
        head=target.head(corpus.tokenizer),
        vocabulary=0 if corpus.tokenizer is None else corpus.tokenizer.size,
        vectors=corpus.vectors,
        labels=target.labels,
        defaults={**target.defaults(), **defaults},
    )


def _calibrated(stage: FusionStage, target: Target, corpus: Corpus, out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Notes for the metrics, and the temperature as a default of the task; the picture of confusions beside them."""
    probabilities = np.stack(target.items(stage.answers(corpus.val)))
    places = {label: index for index, label in enumerate(target.labels or ())}
    truth = np.array([places[value] for value in target.items(corpus.val.targets)], np.int64)
    calibrated = calibrate(probabilities, truth)
    draw_confusion(confusion(probabilities.argmax(1), truth, len(places)), list(places), out / "confusion.png")
    return {"calibration": calibrated.note}, {"temperature": calibrated.heat}


def seconds_per_step(config: CheckpointConfig, network: FusionRNN) -> float | None:
    """How long one transcribed step lasts; None where that is not the same for every bundle.

    So it is where ``frames`` are spread over what is longer than ``max_frames``, where the pace is that of whichever
    modalities are there, and where their sequences are read one after another.
    """
    paces: list[float] = []
    for name, item in config.modalities.items():
        seconds = item.features.pace
        if seconds is None:
            return None
        paces.append(seconds * stride_of(network.encoders[name]))
    together = len(paces) == 1 or config.network.fusion.stepwise
    return paces[0] if together and math.isclose(min(paces), max(paces)) else None


def _describe(folder: Path, experiment: Experiment, outcome: _Outcome, metrics: Mapping[str, Any]) -> None:
    """Write the checkpoint's ``metrics.json`` and model card."""
    parameters = sum(parameter.numel() for parameter in outcome.network.parameters())
    card = model_card(experiment, outcome.config, outcome.corpus.report, metrics, parameters)
    write_whole(folder / METRICS, json.dumps(metrics, indent=2) + "\n")
    write_whole(folder / CARD, card)


def _measured(folder: Path, outcome: _Outcome) -> dict[str, Any]:
    """Figures of the saved checkpoint, as it is served, on the validation examples that were used."""
    return measure(Pipeline.load(folder, outcome.device), outcome.corpus.val.examples())


def _constant(experiment: Experiment, outcome: _Outcome) -> dict[str, Any]:
    """Figures of the best constant answer on the same examples."""
    train, val = outcome.corpus.train, outcome.corpus.val
    items = outcome.target.items
    groups = [len(value) for value in val.targets] if experiment.by_step else None
    return dict(without_input(experiment.task, items(train.targets), items(val.targets), groups))


def _alone(
    experiment: Experiment, start: Start, outcome: _Outcome, data: Path, out: Path, held: ExitStack
) -> dict[str, Any]:
    """By modality, figures of a network of it alone and of the fused one, both on the examples that have it."""
    if len(experiment.modalities) < 2 or experiment.task == "embedding":
        return {}
    found: dict[str, Any] = {}
    train, val = outcome.corpus.train, outcome.corpus.val
    for name in experiment.modalities:
        if experiment.by_step and not all(_sets_steps(part, name) for part in (train, val)):
            print(f"No baseline of {name} alone: no example has a target for each of its steps", flush=True)
            continue
        print(f"Baseline: {name} alone", flush=True)
        folder = out / "baselines" / name
        try:
            alone = _train(_of_one(experiment, name), start, data, folder, outcome.device, held)
            found[name] = _compared(folder / CHECKPOINT, alone, out / CHECKPOINT, outcome)
        except (DataError, DivergedError) as error:
            # What is lacking alone need not be lacking together, and is no reason to lose the other baselines.
            print(f"No baseline of {name} alone: {error}", flush=True)
    return found


def _compared(folder: Path, alone: _Outcome, fused: Path, outcome: _Outcome) -> dict[str, Any]:
    """Figures of both checkpoints on the validation examples that both can use.

    Raises:
        DataError: there is none.
    """
    splits = [each.corpus.val.examples() for each in (alone, outcome)]
    lines = set.intersection(*({example.line for example in split.examples} for split in splits))
    if not lines:
        raise DataError("no example of val.jsonl is used by both")
    mine, its = (
        replace(split, examples=[example for example in split.examples if example.line in lines]) for split in splits
    )
    return {
        "n": len(lines),
        "figures": measure(Pipeline.load(folder, alone.device), mine)["figures"],
        "fused": measure(Pipeline.load(fused, outcome.device), its)["figures"],
    }


def _sets_steps(part: Part, name: Modality) -> bool:
    """Whether an example has as many steps of this modality as targets."""
    return any(count == len(value) for count, value in zip(part.lengths[name], part.targets, strict=True))


def _of_one(experiment: Experiment, name: Modality) -> Experiment:
    """The experiment with one modality, and nothing that needs two."""
    plan = experiment.training.model_copy(
        update={"modality_dropout": 0.0, "balance": "none", "auxiliary": 0.0, "left_out": 0.999}
    )
    # Weights that were given to each modality have nothing to weigh.
    fusion = {key: value for key, value in experiment.fusion.items() if key != "weights"}
    modalities = {name: experiment.modalities[name]}
    return experiment.model_copy(update={"modalities": modalities, "fusion": fusion, "training": plan})
