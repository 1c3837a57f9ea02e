import pytest
import torch
from torch import Tensor

from models.encoded import Encoded
from models.heads.captioning import CaptioningConfig, CaptioningHead
from models.sequence import FusionOutput, SequenceOutput
from models.training.captions import Taught, caption_cross_entropy, self_critical, teach
from tests.support import tiny_config, tiny_network, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
START, END, PAD = TOKENIZER.start("en"), TOKENIZER.end, TOKENIZER.pad


@pytest.fixture
def head() -> CaptioningHead:
    head = tiny_network(tiny_config()).head
    assert isinstance(head, CaptioningHead)
    assert isinstance(head.config, CaptioningConfig)
    return head


def encoded(rows: int = 2) -> Encoded:
    generator = torch.Generator().manual_seed(3)
    regions = torch.rand(rows, 4, 16, generator=generator)
    lengths = torch.full((rows,), 4)
    pooled = regions.mean(1)
    return Encoded(
        {"image": SequenceOutput(regions, lengths, pooled)}, FusionOutput(pooled, lambda: torch.ones(rows, 1))
    )


def captions(*texts: list[str]) -> Tensor:
    """Each row's captions, from long to short, ended and padded."""
    tokens = torch.full((len(texts), len(texts[0]), 7), PAD)
    for row, group in enumerate(texts):
        for column, text in enumerate(group):
            ids = [*TOKENIZER.encode(text), END]
            tokens[row, column, : len(ids)] = torch.tensor(ids)
    return tokens


TARGETS = captions(["a dog runs in the snow", "a dog"], ["the dog runs", "snow"])


def test_teaching_scores_each_word_as_stepping_through_the_caption_does(head: CaptioningHead) -> None:
    taught = teach(head, encoded(), 0, START, TARGETS, pad=PAD)
    scores = taught.logits.log_softmax(1).gather(1, taught.wanted.unsqueeze(1)).squeeze(1)
    sums = torch.zeros(2, 2).index_put((taught.rows, taught.columns), scores, accumulate=True)
    memory = head.remember(encoded(), torch.zeros(2, dtype=torch.int64))
    state = head.initial_state(encoded().fusion.fused, 2)
    tokens, expected = torch.full((2, 2), START), torch.zeros(2, 2)
    for step in range(TARGETS.shape[2]):
        log_probabilities, state, _ = head.step(tokens, state, memory)
        tokens = TARGETS[:, :, step]
        gained = log_probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2)
        expected += torch.where(tokens == PAD, 0.0, gained)
    torch.testing.assert_close(sums, expected)


def test_words_of_another_language_are_read_but_not_asked_for(head: CaptioningHead) -> None:
    mixed = captions(["a dog 一 snow", "a dog"], ["the dog runs", "snow"])
    taught = teach(head, encoded(), 0, START, mixed, pad=PAD)
    assert int(((taught.rows == 0) & (taught.columns == 0)).sum()) == 4
    assert bool(caption_cross_entropy(taught).isfinite())


def test_self_critical_raises_what_beats_the_other_samples_and_lowers_the_rest() -> None:
    logits = torch.zeros(3, 5, requires_grad=True)
    taught = Taught(logits, torch.tensor([1, 2, 2]), torch.tensor([0, 0, 0]), torch.tensor([0, 1, 1]))
    self_critical(taught, torch.tensor([[1.0, 0.2]])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    # Baselines are the other sample's reward, so the advantages are 0.8 and -0.8; the mean is over three words.
    chances = torch.full((3, 5), 0.2)
    hot = torch.nn.functional.one_hot(taught.wanted, 5).float()
    advantages = torch.tensor([[0.8], [-0.8], [-0.8]])
    torch.testing.assert_close(logits.grad, advantages * (chances - hot) / 3)


def test_equal_rewards_teach_nothing() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    taught = Taught(logits, torch.tensor([1, 2]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    self_critical(taught, torch.tensor([[0.7, 0.7]])).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == pytest.approx(0, abs=1e-6)
