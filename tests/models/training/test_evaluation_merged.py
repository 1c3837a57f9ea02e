"""What a new measurement does to the figures that a checkpoint came with: it takes the place of its own, no others."""

from typing import Any

from models.training.evaluation import merged

BEFORE: dict[str, Any] = {
    "dataset": "photos",
    "split": "val",
    "n": 100,
    "command": "fusionrnn train mine",
    "seed": 2,
    "figures": {"accuracy": [0.8, 0.7, 0.9], "on a page": [0.6, 0.5, 0.7]},
    "baselines": {"always the same": {"accuracy": 0.1}},
    "calibration": {"temperature": 1.2},
}


def measured(accuracy: float, **also: Any) -> dict[str, Any]:
    found = {"dataset": "photos", "split": "val", "n": 100, "command": "fusionrnn evaluate mine"}
    return found | {"figures": {"accuracy": [accuracy, 0.0, 1.0]}} | also


def test_the_same_data_take_the_place_of_their_figures() -> None:
    after = merged(BEFORE, measured(0.9))
    assert after["figures"] == {"accuracy": [0.9, 0.0, 1.0], "on a page": [0.6, 0.5, 0.7]}
    assert after["command"] == "fusionrnn evaluate mine"
    assert {key: after[key] for key in ("seed", "baselines", "calibration")} == {
        key: BEFORE[key] for key in ("seed", "baselines", "calibration")
    }
    assert merged({}, measured(0.9)) == measured(0.9)


def test_other_data_stand_beside_them() -> None:
    after = merged(BEFORE, measured(0.5, dataset="drawings"))
    assert {key: after[key] for key in BEFORE} == BEFORE
    after = merged(merged(after, measured(0.6, split="test")), measured(0.7, dataset="drawings"))
    assert after["elsewhere"] == [measured(0.6, split="test"), measured(0.7, dataset="drawings")]


def test_a_target_that_is_not_named_is_the_usual_one() -> None:
    assert merged(BEFORE, measured(0.9, target="label"))["figures"]["accuracy"][0] == 0.9
    emotion = measured(0.9, target="emotion")
    assert merged(BEFORE | {"target": "label"}, emotion)["elsewhere"] == [emotion]
