from pathlib import Path

import numpy as np
from PIL import Image

from models.training.confusion import draw_confusion


def test_classes_may_have_chinese_names(tmp_path: Path) -> None:
    """A glyph that no font has is a warning of matplotlib's, and warnings are errors here."""
    draw_confusion(np.array([[3, 1], [0, 4]]), ["猫 cat", "小狗"], tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.format == "PNG"
