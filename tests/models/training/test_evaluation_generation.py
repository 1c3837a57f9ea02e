"""The perplexity of texts, read whole or in part, against the probabilities that the network itself gives."""

import json
import math
from pathlib import Path

import pytest
import torch

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.heads import LanguageModelHead
from models.network import FusionRNN
from models.sequence import pad
from models.training.evaluation import evaluate
from models.training.manifest import DataError
from tests.support import ENGLISH, tiny_tokenizer

WORDS = ENGLISH[:5]


def saved(folder: Path, most: int) -> FusionRNN:
    tokenizer = tiny_tokenizer()
    encoder = {"type": "text-rnn", "vocabulary": tokenizer.size, "embedding": 6, "hidden": 8}
    config = CheckpointConfig.model_validate(
        {
            "name": "writer",
            "version": "0.0.1",
            "task": "generation",
            "description": "Random weights, for tests.",
            "modalities": {"text": {"features": {"type": "tokens", "max_tokens": most}}},
            "network": {
                "encoders": {"text": encoder},
                "fusion": {"type": "concat", "width": 8},
                "head": {"type": "language-model", "vocabulary": tokenizer.size},
            },
        }
    )
    torch.manual_seed(0)
    network = FusionRNN(config.network).eval()
    for parameter in network.head.parameters():
        parameter.data *= 20  # so that words differ in how likely they are
    assert isinstance(network.head, LanguageModelHead)
    network.head.spoken[tokenizer.unknown] = 0
    save_checkpoint(folder, config, network, tokenizer)
    return network


@pytest.mark.parametrize("most", [3, 8])
def test_the_end_is_asked_for_only_where_the_text_ends(tmp_path: Path, most: int) -> None:
    network = saved(tmp_path / "writer", most)
    (tmp_path / "val.jsonl").write_text(json.dumps({"text": " ".join(WORDS)}))
    tokenizer = tiny_tokenizer()
    ids = tokenizer.encode(" ".join(WORDS))[:most]
    following = [*ids[1:], tokenizer.end] if most > len(WORDS) else ids[1:]
    with torch.no_grad():
        scores = network({"text": pad([torch.tensor(ids)])})[0].log_softmax(1)
    surprise = -sum(float(scores[place, word]) for place, word in enumerate(following)) / len(following)
    found = evaluate(tmp_path / "writer", tmp_path, "val")["figures"]["perplexity"][0]
    assert found == pytest.approx(math.exp(surprise), rel=2e-2)  # weights are stored in half precision


def test_unknown_words_count_neither_way(tmp_path: Path) -> None:
    network = saved(tmp_path / "writer", 8)
    tokenizer = tiny_tokenizer()
    texts = [" ".join(WORDS), f"{WORDS[0]} zzz zzz zzz zzz"]
    (tmp_path / "val.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    surprises = []
    for text in texts:
        ids = tokenizer.encode(text)
        with torch.no_grad():
            scores = network({"text": pad([torch.tensor(ids)])})[0].log_softmax(1)
        following = enumerate([*ids[1:], tokenizer.end])
        surprises += [-float(scores[place, word]) for place, word in following if word != tokenizer.unknown]
    assert len(surprises) == len(WORDS) + 1
    found = evaluate(tmp_path / "writer", tmp_path, "val")["figures"]["perplexity"][0]
    assert found == pytest.approx(math.exp(sum(surprises) / len(surprises)), rel=2e-2)


def test_a_cut_text_of_unknown_words_is_left_out(tmp_path: Path) -> None:
    saved(tmp_path / "writer", 3)
    texts = ["zzz zzz zzz zzz", " ".join(WORDS)]
    (tmp_path / "val.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    both = evaluate(tmp_path / "writer", tmp_path, "val")["figures"]["perplexity"][0]
    (tmp_path / "val.jsonl").write_text(json.dumps({"text": texts[1]}))
    assert evaluate(tmp_path / "writer", tmp_path, "val")["figures"]["perplexity"][0] == both


def test_texts_of_which_nothing_is_asked_for_have_no_perplexity(tmp_path: Path) -> None:
    saved(tmp_path / "writer", 1)
    (tmp_path / "val.jsonl").write_text(json.dumps({"text": " ".join(WORDS)}))
    with pytest.raises(DataError, match="max_tokens"):
        evaluate(tmp_path / "writer", tmp_path, "val")
