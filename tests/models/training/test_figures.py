"""Figures against hand-computed numbers."""

import numpy as np
import pytest

from models.training.baselines import without_input
from models.training.calibration import calibrate, scaled, temperature
from models.training.metrics.classes import class_figures, confusion, expected_calibration_error, macro_f1
from models.training.metrics.numbers import number_figures
from models.training.metrics.retrieval import retrieval_figures
from models.training.metrics.words import edit_distance, word_figures


def test_accuracy_and_macro_f1() -> None:
    truth = np.array([0, 0, 0, 1, 1, 2])
    guesses = np.array([0, 0, 1, 1, 0, 2])
    probabilities = np.eye(4)[guesses] * 0.7 + 0.075
    values = class_figures(probabilities, truth).values()
    # F1: 2*2/(3+3) = 2/3, 2*1/(2+2) = 1/2 and 1; the fourth class does not occur and does not count.
    assert values["accuracy"] == pytest.approx(4 / 6)
    assert values["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert values["cross_entropy"] == pytest.approx(-(4 * np.log(0.775) + 2 * np.log(0.075)) / 6)
    assert confusion(guesses, truth, 3).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert macro_f1(np.array([[3, 0], [0, 5]])) == 1


def test_intervals_enclose_the_value_and_narrow_with_more_examples() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (50, 800):
        truth = rng.integers(0, 2, count)
        right = rng.random(count) < 0.8
        probabilities = np.eye(2)[np.where(right, truth, 1 - truth)]
        value, low, high = class_figures(probabilities, truth).intervals()["accuracy"]
        assert low < value < high
        widths.append(high - low)
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.3)


def test_calibration_error_by_hand() -> None:
    # One bin holds two of confidence 0.95, one right; another two of 0.55, both right.
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.45, 0.55]])
    truth = np.array([0, 1, 0, 1])
    assert expected_calibration_error(probabilities, truth) == pytest.approx((2 * 0.45 + 2 * 0.45) / 4)


def test_temperature_finds_the_factor_that_was_put_in() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 4)) * 2
    honest = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([rng.choice(4, p=row) for row in honest])
    boastful = scaled(honest, 1 / 3)
    assert temperature(boastful, truth) == pytest.approx(3, rel=0.1)
    assert scaled(boastful, 3) == pytest.approx(honest, abs=1e-9)
    assert expected_calibration_error(scaled(boastful, 3), truth) < expected_calibration_error(boastful, truth) / 4


def test_answers_without_an_error_are_not_made_surer() -> None:
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]])
    assert temperature(probabilities, np.array([0, 1, 0])) == 1
    assert temperature(probabilities, np.array([0, 1, 1])) > 1


def test_error_and_correlation() -> None:
    truth = np.array([[1.0], [2.0], [4.0], [5.0]])
    guesses = np.array([[1.5], [1.0], [4.0], [6.0]])
    values = number_figures(guesses, truth).values()
    assert values["mae"] == pytest.approx(2.5 / 4)
    assert values["correlation"] == pytest.approx(np.corrcoef(guesses[:, 0], truth[:, 0])[0, 1])
    assert number_figures(np.zeros((4, 1)), truth).values()["correlation"] == 0


def test_of_several_numbers_each_has_an_error_in_its_own_unit() -> None:
    truth = np.array([[1.0, 1000.0], [3.0, 2000.0]])
    values = number_figures(truth + np.array([0.5, -100]), truth).values()
    assert values == pytest.approx({"mae[0]": 0.5, "mae[1]": 100, "correlation": 1})


@pytest.mark.parametrize("count", [3, 7, 10])
def test_what_does_not_vary_correlates_with_nothing(count: int) -> None:
    # Their means are not 3.3 to the last digit.
    constant = np.full((count, 1), 3.3)
    assert number_figures(constant, constant).values()["correlation"] == 0
    assert number_figures(constant, np.arange(float(count))[:, None]).values()["correlation"] == 0


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("a b", "", 2), ("a b c", "a c", 1), ("a b c", "b c d", 2), ("a b", "b a", 2), ("x", "y", 1)],
)
def test_edit_distance(a: str, b: str, edits: int) -> None:
    assert edit_distance(a.split(), b.split()) == edit_distance(b.split(), a.split()) == edits


def test_word_error_rate_weighs_sentences_by_their_length() -> None:
    values = word_figures([["a", "b"], ["x"]], [["a", "b"], ["a", "b", "c"]]).values()
    assert values == pytest.approx({"wer": 100 * 3 / 5, "sentence_error": 50})


def test_recall_and_rank() -> None:
    answers = np.eye(12)
    queries = answers.copy()
    queries[0] = answers[1]
    values = retrieval_figures(queries, answers).values()
    assert values["recall_at_1"] == pytest.approx(100 * 11 / 12)
    # Row 0 ties with ten others at 0 behind one at 1: rank 12.
    assert values["recall_at_10"] == pytest.approx(100 * 11 / 12)
    assert values["median_rank"] == 1
    alike = np.tile(answers[:1], (12, 1))
    assert retrieval_figures(alike, alike).values()["recall_at_10"] == 0


def test_of_several_right_answers_the_first_counts_and_the_others_do_not_stand_before_it() -> None:
    # Rows 0 and 1 are one photo with two captions; the captions of rows 1 and 2 are one text.
    photos = np.eye(3)[[0, 0, 1]]
    texts = np.array([[0.6, 0.0, 0.8], [0.8, 0.6, 0.0], [0.8, 0.6, 0.0]])
    right = np.array([[True, True, True], [True, True, True], [False, True, True]])
    alone = retrieval_figures(photos, texts).values()
    assert alone["recall_at_1"] == 0
    figures = retrieval_figures(photos, texts, right, np.array([0, 0, 1]))
    assert figures.count == 2
    assert figures.values()["recall_at_1"] == 100


def test_constant_answers() -> None:
    found = without_input("classification", ["a", "a", "b"], ["a", "b", "b", "b"])
    assert found["always 'a'"]["accuracy"][0] == 0.25
    numbers = without_input("regression", [(0.0,), (1.0,), (9.0,)], [(2.0,), (4.0,)])
    assert numbers["always the median"]["mae"][0] == 2
    assert without_input("transcription", ["a"], ["a"]) == {}


def test_calibration_lowers_the_confidence_of_a_network_that_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 1000)
    right = rng.random(1000) < 0.8
    guesses = np.where(right, truth, 1 - truth)
    sure = np.full((1000, 2), 0.01)
    sure[np.arange(1000), guesses] = 0.99
    found = calibrate(sure, truth)
    assert found.heat > 1
    assert found.probabilities.max() == pytest.approx(0.8, abs=0.03)
    assert found.note["error_after"] < 0.03 < found.note["error_before"]
    assert (found.probabilities.argmax(1) == guesses).all()
