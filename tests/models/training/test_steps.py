"""A target a step: conversations whose utterances are understood only by the one before."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.media.limits import MediaLimits
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.sequence import Padded
from models.training import cli_evaluate, cli_train, run
from models.training.experiment import ExperimentError, load_experiment
from models.training.manifest import DataError
from models.training.metrics.classes import class_figures
from models.training.stage import FusionStage, Trained, drop_modalities
from models.training.targets import STEP_TARGETS
from tests.models.training.data import PER_STEP, UTTERANCES, Change, corpus_of, make_conversations, make_experiment

CONTEXTUAL = '[fusion]\ntype = "contextual"\nhidden = 12\n'
RECURRENT = '[fusion]\ntype = "recurrent"\nhidden = 12\n'
MEMORY = '[fusion]\ntype = "memory"\nhidden = 8\nmemory = 8\ninner = 8\n'
LEARN = "epochs = 10\nbatch_size = 4\nrate = 0.03\naveraging = 0.9\n"


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Drawing takes longer than training here; what would be drawn is kept."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(run, "draw_curves", lambda *arguments: None)
    monkeypatch.setattr(run, "draw_confusion", lambda table, labels, picture: kept.update(table=table, labels=labels))
    return kept


def make_stage(
    tmp_path: Path, task: str, *tables: str, training: str = "", change: Change | None = None, audio_rate: int = 1
) -> FusionStage:
    data = make_conversations(tmp_path / "data", train=6, val=4, change=change, audio_rate=audio_rate)
    toml = make_experiment(tmp_path / "my.toml", task, UTTERANCES, *tables, PER_STEP, training=training)
    experiment = load_experiment(toml)
    target = STEP_TARGETS[task](experiment)
    corpus = corpus_of(experiment, target, data, tmp_path / "cache")
    config = experiment.checkpoint(
        head=target.head(None), vocabulary=0, vectors=corpus.vectors, labels=target.labels, defaults={}
    )
    torch.manual_seed(0)
    network = FusionRNN(config.network)
    target.prepare(network, config, None, corpus.train.targets)
    return FusionStage(Trained(network, experiment, target), experiment, target, corpus)


def trained(folder: Path, toml: Path, data: Path) -> dict[str, Any]:
    cli_train(str(toml), data, folder)
    metrics: dict[str, Any] = json.loads((folder / "checkpoint" / "metrics.json").read_text())
    return metrics


def test_the_contextual_fusion_learns_what_an_utterance_alone_does_not_say(
    tmp_path: Path, drawn: dict[str, Any]
) -> None:
    data = make_conversations(tmp_path / "data")
    toml = make_experiment(tmp_path / "my.toml", "classification", UTTERANCES, CONTEXTUAL, PER_STEP, training=LEARN)
    metrics = trained(tmp_path / "run", toml, data)
    assert metrics["figures"]["accuracy"][0] > 0.95
    assert (metrics["n"], metrics["steps"]) == (8, 36)
    assert drawn["table"].sum() == 36
    assert metrics["calibration"]["error_after"] <= metrics["calibration"]["error_before"]
    checkpoint = tmp_path / "run" / "checkpoint"
    assert "8 examples with 36 steps" in (checkpoint / "README.md").read_text()
    report = json.loads((tmp_path / "run" / "report.json").read_text())["splits"]["val"]["target"]
    assert report["steps"] == sum(report["classes"].values()) == 36

    pipeline = Pipeline.load(checkpoint)
    line = json.loads((data / "val.jsonl").read_text().splitlines()[3])
    bundle: dict[Any, Any] = {part: [(data / line[part]).read_bytes()] for part in ("text", "audio")}
    result = pipeline.predict(pipeline.features(pipeline.decode(bundle, MediaLimits())), pipeline.options())
    assert [step["predictions"][0]["label"] for step in result.model_dump()["steps"]] == line["label"]


def test_a_network_of_single_utterances_cannot_learn_it(tmp_path: Path) -> None:
    data = make_conversations(tmp_path / "data", alone=True)
    training = LEARN.replace("size = 4", "size = 16")
    toml = make_experiment(tmp_path / "my.toml", "classification", UTTERANCES, training=training)
    assert trained(tmp_path / "run", toml, data)["figures"]["accuracy"][0] < 0.8


@pytest.mark.parametrize("fusion", [RECURRENT, MEMORY], ids=["recurrent", "memory"])
def test_numbers_of_steps_are_learned_though_a_modality_may_be_missing(tmp_path: Path, fusion: str) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines[::4]:
            del line["audio"]

    data = make_conversations(tmp_path / "data", change=change)
    toml = make_experiment(
        tmp_path / "my.toml", "regression", UTTERANCES, fusion, PER_STEP,
        training=LEARN + "modality_dropout = 0.2\nauxiliary = 0.3",
    )  # fmt: skip
    metrics = trained(tmp_path / "run", toml, data)
    assert metrics["figures"]["mae"][0] < 0.5
    assert metrics["figures"]["correlation"][0] > 0.8
    assert cli_evaluate(tmp_path / "run" / "checkpoint", data)["figures"] == metrics["figures"]


def test_only_real_steps_count_in_the_loss(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "classification", RECURRENT)
    stage.network.eval()
    assert [len(value) for value in stage.corpus.train.targets[:2]] == [3, 4]
    together, first, second = (stage.loss(torch.tensor(rows))[0].item() for rows in ([1, 0], [0], [1]))
    assert together == pytest.approx((3 * first + 4 * second) / 7, abs=1e-6)


def test_modalities_are_balanced_by_what_each_says_about_the_steps(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "classification", RECURRENT, training='epochs = 1\nbalance = "ogm-ge"')
    loss, _ = stage.loss(torch.arange(6))
    loss.backward()  # type: ignore[no-untyped-call]
    stage.after_backward()
    assert stage.scores.keys() == {"audio", "text"}
    assert all(0 < score < 1 for score in stage.scores.values())


@torch.inference_mode()
def test_answers_are_those_of_each_real_step(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, "regression", CONTEXTUAL)
    stage.network.eval()
    answers = stage.answers(stage.corpus.val)
    assert [len(answer) for answer in answers] == [len(value) for value in stage.corpus.val.targets]
    encoded = stage.network.encode(stage.corpus.val.inputs(torch.tensor([2])))
    alone = stage.target.answers(encoded, stage.corpus.val.targets[2:3])
    assert np.allclose(answers[2], alone[0], atol=1e-6)


def _half_steps(split: str, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        line["value"] = [value for value in line["value"] for _ in range(2)]


def test_a_slower_modality_is_read_at_the_steps_of_the_longest(tmp_path: Path) -> None:
    stage = make_stage(
        tmp_path, "regression", RECURRENT, change=_half_steps, audio_rate=2,
        training="auxiliary = 1.0\nmodality_dropout = 0.9",
    )  # fmt: skip
    stage.start_epoch(29)
    _, figures = stage.loss(torch.arange(6))
    assert figures["auxiliary_loss"] > 0
    rows = stage.target.rows(stage.network.encode(stage.corpus.train.inputs(torch.arange(6))))
    text, goals = rows.outputs["text"].pooled, stage.target.goals(torch.arange(6))
    assert goals is not None
    assert len(text) == len(goals) == sum(map(len, stage.corpus.train.targets))
    assert torch.equal(text[0::2], text[1::2])


def test_baselines_count_steps_and_leave_out_a_modality_that_has_too_few(tmp_path: Path) -> None:
    data = make_conversations(tmp_path / "data", train=6, val=4, change=_half_steps, audio_rate=2)
    toml = make_experiment(tmp_path / "my.toml", "regression", UTTERANCES, RECURRENT, PER_STEP, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "run", baselines=True)
    metrics = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    assert metrics["baselines"].keys() == {"always the median"}
    assert metrics["alone"].keys() == {"audio"}
    values = [value for line in (data / "val.jsonl").read_text().splitlines() for value in json.loads(line)["value"]]
    # Remarks, -1, are the most, so the median's error is 2 at each answer.
    assert metrics["baselines"]["always the median"]["mae"][0] == pytest.approx(
        2 * np.mean(np.array(values) > 0), abs=1e-4
    )


def test_dropout_spares_the_modality_that_sets_the_steps() -> None:
    torch.manual_seed(0)
    short, long = torch.full((200,), 2), torch.full((200,), 4)
    inputs = {"a": Padded(torch.ones(200, 2, 1), short), "b": Padded(torch.ones(200, 4, 1), long)}
    hidden = drop_modalities(inputs, 0.8, torch.tensor([[False, True]] * 200))
    assert torch.equal(hidden["b"].lengths, long)
    assert 20 < int((hidden["a"].lengths > 0).sum()) < 60


def _set(split: str, line: int, **fields: Any) -> Change:
    def change(name: str, lines: list[dict[str, Any]]) -> None:
        if name == split:
            lines[line] |= fields

    return change


LONGER = "vectors/train-3-audio.npy"
OTHER, UNPAIRED, MALFORMED = "targets for other steps", "steps that do not pair", "malformed examples"


@pytest.mark.parametrize(
    ("fusion", "change", "kind", "said"),
    [
        (RECURRENT, _set("train", 0, label=["answer"] * 4), OTHER, "4 in 'label', but 3 of text, 3 of audio"),
        (RECURRENT, _set("train", 0, audio=LONGER), OTHER, "3 in 'label', but 3 of text, 6 of audio"),
        (CONTEXTUAL, _set("train", 0, audio=LONGER), UNPAIRED, "3 of text, 6 of audio"),
        (RECURRENT, _set("train", 0, label=["remark", 1.5, "answer"]), MALFORMED, "step 2 of 3: 'label' must be"),
        (RECURRENT, _set("train", 0, label="remark"), MALFORMED, "'label' must be a list with one entry a step"),
    ],
)
def test_faults_of_steps_are_named(tmp_path: Path, fusion: str, change: Change, kind: str, said: str) -> None:
    stage = make_stage(tmp_path, "classification", fusion, change=change, training="epochs = 1\nleft_out = 0.3")
    faults = stage.corpus.report.faults
    assert list(faults.found) == [kind]
    where, what = faults.found[kind][0]
    assert where.startswith("train.jsonl, line 1")
    assert said in what
    assert len(stage.corpus.train.targets) == 5


def test_a_fault_in_vectors_of_text_names_their_file(tmp_path: Path) -> None:
    stage = make_stage(
        tmp_path, "classification", RECURRENT, change=_set("train", 0, text=LONGER), training="left_out = 0.3"
    )
    ((where, _),) = stage.corpus.report.faults.found[OTHER]
    assert where == f"train.jsonl, line 1 (vectors/train-0-audio.npy, {LONGER})"


def test_paired_steps_are_checked_for_one_target_a_bundle_too(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["value"] = sum(line["value"])
        if split == "val":
            lines[0]["audio"] = LONGER

    data = make_conversations(tmp_path / "data", train=6, val=4, change=change)
    toml = make_experiment(tmp_path / "my.toml", "regression", UTTERANCES, CONTEXTUAL)
    with pytest.raises(
        DataError, match=r"steps that do not pair: 1\..*\n  val.jsonl, line 1 .*: 3 of text, 6 of audio"
    ):
        cli_train(str(toml), data, tmp_path / "run")


def test_what_cannot_be_measured_is_named(tmp_path: Path) -> None:
    data = make_conversations(tmp_path / "data", train=6, val=4)
    toml = make_experiment(
        tmp_path / "my.toml", "classification", UTTERANCES, CONTEXTUAL, PER_STEP, training="epochs = 1"
    )
    cli_train(str(toml), data, tmp_path / "run")
    for change, said in (
        (_set("val", 1, label=["remark"]), r"line 2 .*: 1 targets, but 4 steps"),
        (
            _set("val", 0, label=["remark", "joke", "remark"]),
            r"line 1 .* the label 'joke', which the checkpoint does not",
        ),
        (
            _set("val", 0, audio="vectors/val-3-audio.npy"),
            r"steps that do not pair: 1\. .*\n.*line 1 .*: This network pairs the modalities step by step",
        ),
    ):
        make_conversations(tmp_path / "data", train=6, val=4, change=change)
        with pytest.raises(DataError, match=said):
            cli_evaluate(tmp_path / "run" / "checkpoint", data)


@pytest.mark.parametrize("fusion", ["concat", "decision"])
def test_a_fusion_without_steps_is_refused(tmp_path: Path, fusion: str) -> None:
    data = make_conversations(tmp_path / "data", train=6, val=4)
    toml = make_experiment(
        tmp_path / "my.toml", "classification", UTTERANCES, f'[fusion]\ntype = "{fusion}"\n', PER_STEP
    )
    with pytest.raises(ExperimentError, match=r"per 'step' needs a fusion that gives a sequence \(contextual, memory"):
        cli_train(str(toml), data, tmp_path / "run")


def test_a_list_of_labels_without_the_heads_word_is_explained(tmp_path: Path) -> None:
    data = make_conversations(tmp_path / "data", train=6, val=4)
    toml = make_experiment(tmp_path / "my.toml", "classification", UTTERANCES)
    with pytest.raises(DataError, match=r"one label a step needs `per = 'step'` in \[head\]"):
        cli_train(str(toml), data, tmp_path / "run")


def test_intervals_of_steps_draw_whole_examples() -> None:
    # Twenty sequences of ten steps, each wholly right or wholly wrong: they tell no more than twenty answers.
    truth = np.zeros(200, np.int64)
    right = np.repeat(np.arange(20) % 2 == 0, 10)
    figures = class_figures(np.eye(2)[np.where(right, 0, 1)], truth)
    grouped, single = figures.grouped([10] * 20).intervals()["accuracy"], figures.intervals()["accuracy"]
    assert grouped[0] == single[0] == 0.5
    assert grouped[2] - grouped[1] > 2.5 * (single[2] - single[1])


def test_the_guides_experiment_is_complete(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "train-your-own.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    toml = tmp_path / "talks.toml"
    toml.write_text(block.replace('name = "talks"', 'name = "talks"\ntraining = { epochs = 1 }'))
    cli_train(str(toml), make_conversations(tmp_path / "data", train=6, val=4), tmp_path / "run")
    assert "steps" in Pipeline.load(tmp_path / "run" / "checkpoint").result.model_fields
