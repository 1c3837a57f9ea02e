import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from models.training.metrics.bleu import bleu, bleu_statistics
from models.training.metrics.cider import CiderD
from models.training.metrics.figures import rounded
from models.training.metrics.intervals import bootstrap

WORDS = ["a", "dog", "runs", "in", "the", "snow", "on", "green", "grass", "with", "two", "men"]


@pytest.fixture(scope="module")
def corpus() -> tuple[list[list[str]], list[list[list[str]]]]:
    rng = np.random.default_rng(0)

    def sentence() -> list[str]:
        return list(rng.choice(WORDS, rng.integers(1, 14)))

    hypotheses = [sentence() for _ in range(60)]
    references = [[sentence() for _ in range(5)] for _ in range(60)]
    hypotheses[0] = references[0][2]
    return hypotheses, references


def as_coco(sentences: list[list[list[str]]]) -> dict[int, list[str]]:
    return {index: [" ".join(words) for words in group] for index, group in enumerate(sentences)}


def test_cider_equals_the_coco_toolkit(corpus: tuple[list[list[str]], list[list[list[str]]]]) -> None:
    hypotheses, references = corpus
    expected, _ = Cider().compute_score(as_coco(references), as_coco([[words] for words in hypotheses]))
    scorer = CiderD(references)
    ours = np.mean([scorer.score(h, scorer.prepare(r)) for h, r in zip(hypotheses, references, strict=True)])
    assert ours == pytest.approx(expected, abs=1e-9)


def test_bleu_equals_the_coco_toolkit(corpus: tuple[list[list[str]], list[list[list[str]]]]) -> None:
    hypotheses, references = corpus
    expected, _ = Bleu(4).compute_score(as_coco(references), as_coco([[words] for words in hypotheses]), verbose=0)
    ours = bleu(np.sum([bleu_statistics(h, r) for h, r in zip(hypotheses, references, strict=True)], 0))
    assert ours == pytest.approx([100 * value for value in expected], abs=1e-6)


def test_interval_of_a_mean_has_the_textbook_width() -> None:
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap(lambda rows: np.array([values[rows].mean()]), 400)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)


@pytest.mark.parametrize(
    ("value", "said"), [(172.60491, 172.6049), (0.93333, 0.9333), (1.23456e-8, 1.235e-8), (-2e-5, -2e-5), (0.0, 0.0)]
)
def test_a_figure_in_a_small_unit_keeps_its_digits(value: float, said: float) -> None:
    assert rounded(value) == said
    assert np.isnan(rounded(float("nan")))
