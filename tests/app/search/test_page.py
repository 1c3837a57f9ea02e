"""The page of thumbnails holds all that it shows, and nothing that a file's name or a caption could make of it."""

from html.parser import HTMLParser
from pathlib import Path

from app.search.index import Hit
from app.search.moments import clock, thumbnail
from app.search.page import render
from models.media.image import decode_image
from models.media.limits import MediaLimits
from tests.app.search.checkpoints import BLUE, RED, picture


class Tags(HTMLParser):
    """Collects a page's elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def small(colour: tuple[int, int, int]) -> bytes:
    return thumbnail(decode_image(picture(colour), MediaLimits()))


def test_what_was_found_is_shown() -> None:
    hits = [
        Hit("sub/red.png", None, 0.91, {"en": "a red square", "zh": "红色"}, small(RED)),
        Hit("film.mp4", 62.5, 0.5, {}, small(BLUE)),
    ]
    page = Tags(render(hits, Path("/home/me/pictures"), text="红色的 square"))
    assert [link["href"] for link in page.every("a")] == [
        "file:///home/me/pictures/sub/red.png",
        "file:///home/me/pictures/film.mp4#t=62.5",
    ]
    assert len(page.every("img")) == 2
    for said in ("红色的 square", "a red square", "红色", "0.910", "1:02"):
        assert said in page.text
    assert {line["lang"] for line in page.every("p")} == {"en", "zh"}


def test_it_loads_nothing() -> None:
    page = Tags(render([Hit("a.png", None, 0.5, {}, small(RED))], Path("/p"), thumbnail=small(BLUE)))
    assert [str(image["src"])[:23] for image in page.every("img")] == ["data:image/jpeg;base64,"] * 2
    assert page.every("script") == page.every("link") == []
    (policy,) = [meta["content"] for meta in page.every("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy).startswith("default-src 'none'")


def test_names_captions_and_queries_are_text() -> None:
    hostile = "\"><script>alert('x')</script>"
    hits = [Hit(f"{hostile}.png", 1.0, 0.5, {'en" onclick="x': hostile}, small(RED))]
    page = Tags(render(hits, Path("/p"), text=hostile))
    assert page.every("script") == []
    assert not any("onclick" in attributes for _, attributes in page.elements)
    assert page.text.count(hostile) >= 3


def test_a_page_without_hits_says_so() -> None:
    assert "Nothing is in this index" in render([], Path("/p"), text="dog")


def test_places_in_a_film() -> None:
    assert [clock(seconds) for seconds in (0.5, 62.5, 3723.9)] == ["0:00", "1:02", "1:02:03"]
