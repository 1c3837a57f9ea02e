"""The page of thumbnails: one HTML file that needs nothing else, and runs no script."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from app.search.index import Hit
from app.search.moments import clock

HEAD = b"<!doctype html>"
"""How a page begins."""
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }}
body {{ margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; font-weight: 600; display: flex; align-items: center; gap: 1rem;
  overflow-wrap: anywhere; }}
h1 img {{ height: 6rem; border-radius: 6px; }}
main {{ display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }}
figure {{ margin: 0; border: 1px solid color-mix(in srgb, CanvasText 15%, transparent); border-radius: 8px;
  overflow: hidden; }}
figure a {{ display: block; background: color-mix(in srgb, CanvasText 6%, transparent); }}
figure img {{ display: block; width: 100%; height: 11rem; object-fit: contain; }}
figcaption {{ padding: .6rem .8rem .8rem; }}
.place {{ display: flex; gap: .6rem; font-size: .85rem; }}
.place b {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-weight: 500; flex: 1; }}
p {{ margin: .35rem 0 0; }}
</style>
<h1>{query}</h1>
<main>
{figures}
</main>
</html>
"""
_FIGURE = """<figure><a href="{link}"><img src="{thumbnail}" alt="{alt}" loading="lazy"></a><figcaption>
<div class="place"><b title="{path}">{path}</b><span>{time}</span><span>{score:.3f}</span></div>{captions}
</figcaption></figure>"""


def render(hits: Sequence[Hit], folder: Path, *, text: str | None = None, thumbnail: bytes | None = None) -> str:
    """The page for a query by ``text``, or by a photo of which there is a ``thumbnail``; links lead into ``folder``."""
    shown = escape(text) if text is not None else "Photos like this"
    picture = f'<img src="{_data(thumbnail)}" alt="The photo that was searched with">' if thumbnail else ""
    return _PAGE.format(
        title=escape(text or "Search"),
        query=picture + shown,
        figures="\n".join(_figure(hit, folder) for hit in hits) or "<p>Nothing is in this index.</p>",
    )


def _figure(hit: Hit, folder: Path) -> str:
    place = "" if hit.seconds is None else f"#t={hit.seconds:g}"
    captions = "".join(f'<p lang="{escape(lang)}">{escape(text)}</p>' for lang, text in hit.captions.items())
    return _FIGURE.format(
        link=escape((folder / hit.path).absolute().as_uri() + place),
        thumbnail=_data(hit.thumbnail),
        alt=escape(next(iter(hit.captions.values()), hit.path)),
        path=escape(hit.path),
        time="" if hit.seconds is None else clock(hit.seconds),
        score=hit.score,
        captions=captions,
    )


def _data(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
