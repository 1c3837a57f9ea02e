"""The page at /live is whole, and loads nothing from another host."""

import re

from fastapi.testclient import TestClient


def test_the_page_and_all_that_it_names_are_served(commands: TestClient) -> None:
    page = commands.get("/live")
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="(live/[^"]+)"', page.text)
    assert len(named) == 2
    texts = [page.text]
    for name in [*named, "live/capture.js"]:
        answer = commands.get(f"/{name}")
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        texts.append(answer.text)
    assert not re.search(r"https?://", "".join(texts))


def test_nothing_else_is_served_beside_it(commands: TestClient) -> None:
    for name in ("__init__.py", "..%2Fsettings.py", "other.js"):
        assert commands.get(f"/live/{name}").status_code == 404
