import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.training.curves import draw_curves, log_lines
from models.training.trainer import DivergedError, ResumeError, Schedule, Stage, Trainer, multiplies_bf16


class Killed(Exception):
    pass


class Regression(Stage):
    """Learns y = 2x with dropout, so that a resumed run needs the same chance as well as the same weights."""

    def __init__(
        self, model: nn.Module, name: str = "regression", *, kill_at: int = -1, nan_at: int = -1, steep_at: int = -1
    ) -> None:
        self.model, self.name, self.calls = model, name, 0
        self.kill_at, self.nan_at, self.steep_at = kill_at, nan_at, steep_at
        self.schedule = Schedule(epochs=3, metric="fit", warmup_steps=2)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.model.parameters()), "lr": 0.05}]

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return list(torch.split(torch.randperm(40, generator=generator), 8))

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        self.calls += 1
        if self.calls == self.kill_at:
            raise Killed
        x = batch.float().unsqueeze(1) / 40
        loss = (nn.functional.dropout(self.model(x), 0.2, self.model.training) - 2 * x).square().mean()
        if self.calls == self.steep_at:
            # The root of 0 has no finite slope.
            loss = loss + (0 * self.model(x)).square().sum().sqrt()
        return (loss * float("nan") if self.calls == self.nan_at else loss), {}

    def validate(self) -> dict[str, float]:
        with torch.no_grad():
            return {"fit": -float((self.model(torch.ones(1, 1)) - 2).abs())}


def model() -> nn.Module:
    torch.manual_seed(7)
    return nn.Linear(1, 1)


def run(folder: Path, *stages_of: dict[str, int]) -> dict[str, Tensor]:
    network = model()
    stages: list[Stage] = [Regression(network, f"stage-{i}", **kwargs) for i, kwargs in enumerate(stages_of)]
    Trainer(network, stages, folder, seed=3, save_every_s=0).run()
    return network.state_dict()


@pytest.mark.parametrize("kill_at", [2, 7, 15])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, kill_at: int) -> None:
    whole = run(tmp_path / "whole", {}, {})
    with pytest.raises(Killed):
        run(tmp_path / "killed", {"kill_at": kill_at}, {})
    resumed = run(tmp_path / "killed", {}, {})
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


def test_a_run_that_is_interrupted_between_two_stages_has_the_same_chance_afterwards(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", {}, {})
    with pytest.raises(Killed):
        # Before anything of the second stage is saved: its first batch is the sixteenth.
        run(tmp_path / "killed", {}, {"kill_at": 1})
    resumed = run(tmp_path / "killed", {}, {})
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4])
def test_a_run_that_is_killed_once_an_epoch_is_saved_trains_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    class Patient(Regression):
        def __init__(self, model: nn.Module) -> None:
            super().__init__(model)
            self.schedule = Schedule(epochs=9, metric="fit", warmup_steps=2, patience=2)

        def validate(self) -> dict[str, float]:
            # The second epoch is the best.
            return {"fit": -float(abs(self.epoch - 1))}

        def start_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    def train(folder: Path) -> dict[str, Tensor]:
        network = model()
        Trainer(network, [Patient(network)], folder, seed=3).run()
        return network.state_dict()

    whole = train(tmp_path / "whole")
    save, saved = Trainer._save, [0]

    def killed(self: Trainer) -> None:
        save(self)
        saved[0] += 1
        if saved[0] == kill_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_save", killed)
        with pytest.raises(Killed):
            train(tmp_path / "killed")
    resumed = train(tmp_path / "killed")
    lines = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "killed")]
    assert len(lines[0]) == len(lines[1]) == 2 * 4
    for name, value in whole.items():
        assert torch.equal(value, resumed[name])


def test_a_damaged_resume_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    run(tmp_path, {})
    path = tmp_path / "resume.pt"
    whole = path.read_bytes()
    for left in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(left)
        with pytest.raises(ResumeError, match=r"resume.pt is damaged, .*: delete it to train from the start \(.+\)$"):
            run(tmp_path, {})
    path.unlink()
    run(tmp_path, {})


def test_an_epoch_that_a_kill_had_done_twice_is_read_once(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        {"stage": "one", "epoch": epoch, "kind": kind, "loss": loss}
        for epoch, loss in ((1, 3.0), (2, 2.5), (2, 2.0))
        for kind in ("train", "validation")
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert log_lines(log) == lines[:2] + lines[4:]


@pytest.mark.parametrize("kill_at", [3, 6])
def test_the_means_of_an_epoch_that_was_interrupted_are_of_all_its_batches(tmp_path: Path, kill_at: int) -> None:
    run(tmp_path / "whole", {})
    with pytest.raises(Killed):
        run(tmp_path / "killed", {"kill_at": kill_at})
    run(tmp_path / "killed", {})
    one, other = (_means(tmp_path / name / "log.jsonl") for name in ("whole", "killed"))
    assert [sorted(line) for line in one] == [["epoch", "gradient_norm", "kind", "loss", "stage"]] * 3
    assert one == other


def test_an_epoch_that_was_interrupted_after_its_last_batch_has_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Regression) -> dict[str, float]:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Regression, "validate", killed)
        with pytest.raises(Killed):
            run(tmp_path, {})
    (before,) = _means(tmp_path / "log.jsonl")
    run(tmp_path, {})
    assert _means(tmp_path / "log.jsonl")[0] == before


def test_what_an_older_version_left_is_gone_on_from(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, {"kill_at": 3})
    state = torch.load(tmp_path / "resume.pt", weights_only=True)
    del state["position"]["sums"], state["position"]["count"]
    torch.save(state, tmp_path / "resume.pt")
    run(tmp_path, {})
    assert all("loss" in line for line in _means(tmp_path / "log.jsonl"))


def _means(log: Path) -> list[dict[str, Any]]:
    lines = [line for line in log_lines(log) if line["kind"] == "train"]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_training_learns_logs_and_draws(tmp_path: Path) -> None:
    run(tmp_path, {})
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["train", "validation"] * 3
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < losses[0]
    draw_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_diverging_run_stops_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="stage stage-0, epoch 2, step 1"):
        run(tmp_path, {"nan_at": 7})


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    network = model()
    stage = Regression(network, steep_at=1)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    with pytest.raises(DivergedError, match="epoch 1, step 0: norm of the gradient nan; lower the learning rate"):
        Trainer(network, [stage], tmp_path, seed=3).run()
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_a_validation_that_is_not_finite_stops_and_says_where_also_when_it_is_gone_on_with(tmp_path: Path) -> None:
    class Lost(Regression):
        def validate(self) -> dict[str, float]:
            return {"fit": float("nan")}

    for _ in range(2):
        network = model()
        with pytest.raises(
            DivergedError, match="stage regression, epoch 1: validation fit nan; lower the learning rat"
        ):
            Trainer(network, [Lost(network)], tmp_path, seed=3, save_every_s=0).run()


def test_averaged_weights_stay_in_no_network_that_fails_in_validation(tmp_path: Path) -> None:
    class Failing(Regression):
        seen: list[Tensor]

        def validate(self) -> dict[str, float]:
            self.seen = [parameter.detach().clone() for parameter in network.parameters()]
            raise ZeroDivisionError

    network = model()
    stage = Failing(network)
    with pytest.raises(ZeroDivisionError):
        Trainer(network, [stage], tmp_path, seed=3).run()
    assert not any(torch.equal(old, new) for old, new in zip(stage.seen, network.parameters(), strict=True))


def test_a_line_of_the_log_that_a_kill_cut_off_is_skipped(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(Killed):
        run(tmp_path, {"kill_at": 7})
    with log.open("a") as file:
        file.write('{"stage": "stage-0", "epo')
    run(tmp_path, {})
    lines = log.read_text().splitlines()
    assert [line for line in lines if not line.endswith("}")] == ['{"stage": "stage-0", "epo']
    assert len(lines) == 7
    draw_curves(log, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("able", "faster"),
    [
        ({}, False),
        ({"avx512_f": True, "cpu_name": "AMD EPYC"}, False),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Processor"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel(R) Xeon(R) Processor"}, True),
    ],
)
def test_bfloat16_is_used_where_its_products_are_faster(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, object], faster: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert multiplies_bf16() is faster
