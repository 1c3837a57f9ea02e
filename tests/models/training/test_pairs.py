import numpy as np

from models.training.metrics.retrieval import group_retrieval_figures, pair_retrieval_figures
from models.training.pairs import Pairs

LINES = [{"image": image, "text": text} for image, text in (("a", "x"), ("a", "y"), ("b", "y"))]


def test_a_medium_belongs_to_all_that_it_was_ever_listed_with() -> None:
    pairs = Pairs(LINES)
    assert pairs.media["image"].tolist() == [0, 0, 1]
    # Photo b was never listed with text x, photo a with both.
    wanted = np.array([[True, True, True], [True, True, True], [False, True, True]])
    assert np.array_equal(pairs.among("image", "text"), wanted)
    assert np.array_equal(pairs.among("text", "image"), wanted.T)


def test_a_batch_knows_the_pairs_of_lines_outside_it() -> None:
    # Only the line between them says that photo a and text y belong together.
    assert Pairs(LINES).among("image", "text", np.array([2, 0])).tolist() == [[True, False], [True, True]]


def test_a_photo_on_a_line_for_each_caption_is_found_as_one_with_all_of_them_is() -> None:
    draw = np.random.default_rng(0)
    owners, places = np.repeat(np.arange(20), 3), np.arange(20)
    photos = draw.normal(size=(20, 8))
    texts = photos[owners] + draw.normal(size=(60, 8))
    photos, texts = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (photos, texts))
    pairs = Pairs([{"image": f"photo {owner}", "text": f"text {row}"} for row, owner in enumerate(owners)])
    groups = pairs.coarser("text", "image")
    there = pair_retrieval_figures(texts, photos[owners], pairs, ("text", "image"), groups)
    wanted = group_retrieval_figures(texts, photos, owners, places)
    assert there.values() == wanted.values()
    assert 10 < there.values()["recall_at_1"] < 90
    # Captions of one photo fare alike, in whichever direction.
    assert there.intervals() == wanted.intervals()
    back = pair_retrieval_figures(photos[owners], texts, pairs, ("image", "text"), pairs.coarser("image", "text"))
    assert back.intervals() == group_retrieval_figures(photos, texts, places, owners).intervals()
