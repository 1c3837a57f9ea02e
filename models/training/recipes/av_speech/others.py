"""Word error rates by sound alone, of other speakers than the one whom a checkpoint has seen."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from models.pipeline import Pipeline
from models.tasks.transcription import TranscriptionResult
from models.training.manifest import DataError, read_manifest
from models.training.markdown import interval, paragraph, table
from models.training.metrics.words import word_figures
from models.training.progress import progress

Rates = dict[tuple[str, str], tuple[int, list[float]]]
"""By folder and speaker: recordings, and percent of wrong words with the interval."""


def other_speakers(pipeline: Pipeline, folders: Sequence[Path]) -> Rates:
    """What the checkpoint makes of the recordings that ``val.jsonl`` in each folder names, as if they were posted.

    A line has ``audio``, ``speaker``, and the sentence as ``text``.

    Raises:
        DataError: a folder has no such manifest.
    """
    rates: Rates = {}
    for folder in folders:
        manifest = read_manifest(folder, "val", media=("audio",))
        written: dict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)
        with progress(folder.name, total=len(manifest.examples)) as advance:
            for example, line in zip(manifest.examples, manifest.lines, strict=True):
                said = str(example.get("text", "")).split()
                if not said or "speaker" not in example:
                    raise DataError(f"{folder}/val.jsonl, line {line}: it needs `speaker` and `text`")
                answer = pipeline.answer({"audio": manifest.path(example, "audio").read_bytes()})
                assert isinstance(answer, TranscriptionResult)
                written[str(example["speaker"])].append((answer.text.split(), said))
                advance()
        for speaker, pairs in sorted(written.items()):
            found, wanted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            rates[folder.name, speaker] = len(pairs), word_figures(found, wanted).intervals()["wer"]
    return rates


def section(rates: Rates) -> list[str]:
    """Lines of Markdown; none where nothing was measured."""
    if not rates:
        return []
    text = (
        "Other speakers, none of whom is in any training, by sound. Sentences follow the grammar; recordings are "
        "posted as they are. Those of `grid_voices` are synthetic voices, a man's of the USA and a British woman's:"
    )
    rows = [[folder, name, str(count), interval(rate)] for (folder, name), (count, rate) in rates.items()]
    return [paragraph(text), "", table(["data", "speaker", "recordings", "sound"], rows), ""]
