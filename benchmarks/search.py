"""Measure search over HTTP: photos of a data set are put into a collection, and their captions must find them.

One caption of each photo and language is searched; a figure is the share of captions whose photo is among the first
ten. Also asks for dogs in both languages, and says how many of the ten photos' captions speak of one, and compares the
captions that the collection has of its photos with people's.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from app.log import configure_logging
from app.main import create_app
from app.settings import Settings
from models.training.evaluation.captioning import caption_figures
from models.training.metrics.intervals import bootstrap
from models.training.progress import progress

_PUPPIES = ("a puppy", "一只小狗")
_DOG = re.compile(r"\b(dogs?|pupp(y|ies))\b|狗|犬", re.IGNORECASE)
_PLACE = "/v1/collections/photos"


def main() -> None:
    """Print a Markdown table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder with val.jsonl and captions by language")
    arguments.add_argument("--limit", type=int, help="number of photos")
    chosen = arguments.parse_args()
    lines = (chosen.data / "val.jsonl").read_text(encoding="utf-8").splitlines()[: chosen.limit]
    examples: list[dict[str, Any]] = [json.loads(line) for line in lines]
    with tempfile.TemporaryDirectory() as store, TestClient(_app(Path(store))) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.1)
        started = time.perf_counter()
        written = []
        with progress("put", total=len(examples)) as advance:
            for number, example in enumerate(examples):
                data = (chosen.data / example["image"]).read_bytes()
                answer = client.put(f"{_PLACE}/items/{number}", files={"image": data}).raise_for_status()
                written.append(answer.json()["moments"][0]["captions"])
                advance()
        print(f"{len(examples)} photos put, {1e3 * (time.perf_counter() - started) / len(examples):.1f} ms each\n")
        print("| searched | measured | figure |\n|---|---|---|")
        for language in examples[0]["captions"]:
            _recall(client, examples, language)
            if written[0]:
                _captions([captions[language] for captions in written], examples, language)
        for text in _PUPPIES:
            seen = sum(_shows_a_dog(examples[int(item)]) for item in _found(client, text))
            print(f"| {text} | photos of dogs among the first ten, by their captions | {seen} |")


def _shows_a_dog(example: dict[str, Any]) -> bool:
    return any(_DOG.search(caption) for captions in example["captions"].values() for caption in captions)


def _recall(client: TestClient, examples: list[dict[str, Any]], language: str) -> None:
    texts = [example["captions"][language][0] for example in examples]
    took, hits = [], []
    with progress(language, total=len(texts)) as advance:
        for number, text in enumerate(texts):
            started = time.perf_counter()
            hits.append(str(number) in _found(client, text))
            took.append(time.perf_counter() - started)
            advance()
    found = np.array(hits)
    low, high = bootstrap(lambda rows: np.array([100 * found[rows].mean()]), len(found))
    print(f"| one caption a photo, {language} | R@10 | {100 * found.mean():.1f} % ({low[0]:.1f} to {high[0]:.1f}) |")
    print(f"| one caption a photo, {language} | median | {1e3 * float(np.median(took)):.1f} ms |")


def _captions(written: list[str], examples: list[dict[str, Any]], language: str) -> None:
    references = [example["captions"][language] for example in examples]
    value, low, high = caption_figures(written, references)["cider_d"]
    print(f"| its captions, {language} | CIDEr-D | {value:.1f} ({low:.1f} to {high:.1f}) |")


def _found(client: TestClient, text: str) -> list[str]:
    answer = client.post(f"{_PLACE}/search", json={"text": text, "limit": 10}).raise_for_status()
    return [item["id"] for item in answer.json()["data"]]


def _app(store: Path) -> Any:
    settings = Settings(collections_dir=store, log_level="warning")
    configure_logging(settings)
    return create_app(settings)


if __name__ == "__main__":
    main()
