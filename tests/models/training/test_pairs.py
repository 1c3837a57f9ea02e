import numpy as np

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
