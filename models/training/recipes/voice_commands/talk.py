"""People who talk, for ``voice-commands``: ``python -m models.training.recipes.voice_commands.talk FOLDER OUT``.

``FOLDER`` is where packages of Debian were unpacked (``dpkg-deb -x``): flight-of-the-amazon-queen, a game whose
characters are spoken by actors, and asterisk-core-sounds-en-wav, -fr-wav, -it-wav and -ru-wav, prompts of a telephone
exchange. ``OUT`` becomes a data folder: the game, Italian and Russian to train on, English and French, which have
speakers of their own, to measure on.
"""

import argparse
import json
import struct
from collections.abc import Iterator
from pathlib import Path

from models.training.manifest import DataError

_GAME = "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
_PROMPTS = "usr/share/asterisk/sounds"
_SPLITS = {"it_IT_m_Carlo": "train", "ru_RU_f_IvrvoiceRU": "train", "en_US_f_Allison": "val", "fr_CA_f_June": "val"}
_NO_TALK = frozenset(("digits", "letters", "phonetic", "silence"))
"""Folders of single words and of silence."""
_LEAST_BYTES = 4000
"""A second of the game's MP3s, a quarter of a second of the prompts: what is shorter is a word, a sigh or a beep."""


def main() -> None:
    """Write the folder."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path, help="where the packages were unpacked")
    arguments.add_argument("out", type=Path, help="the data folder to write")
    chosen = arguments.parse_args()
    counts = write_talk(chosen.folder, chosen.out)
    print(", ".join(f"{count} to {split}.jsonl" for split, count in counts.items()))


def write_talk(folder: Path, out: Path) -> dict[str, int]:
    """Copy what is said in unpacked packages to ``out``, with a manifest of each split; returns how many each has.

    Raises:
        DataError: a package is missing, or the game's archive is of another edition.
    """
    game = folder / _GAME
    missing = [path for path in (game, *(folder / _PROMPTS / name for name in _SPLITS)) if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]} does not exist: unpack the packages named in docs/data.md into {folder}")
    manifests: dict[str, list[str]] = {"train": [], "val": []}
    (out / "game").mkdir(parents=True, exist_ok=True)
    for name, sound in spoken(game.read_bytes()):
        manifests["train"].append(f"game/{name}.mp3")
        (out / "game" / f"{name}.mp3").write_bytes(sound)
    for speaker, split in _SPLITS.items():
        source = folder / _PROMPTS / speaker
        for path in sorted(source.rglob("*.wav")):
            place = path.relative_to(source)
            if path.stat().st_size < _LEAST_BYTES or _NO_TALK.intersection(place.parts):
                continue
            (out / speaker / place).parent.mkdir(parents=True, exist_ok=True)
            (out / speaker / place).write_bytes(path.read_bytes())
            manifests[split].append(f"{speaker}/{place.as_posix()}")
    for split, names in manifests.items():
        lines = (json.dumps({"audio": name}) + "\n" for name in names)
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {split: len(names) for split, names in manifests.items()}


def spoken(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The names and MP3s of what is said in the game's archive.

    The archive begins with ``QTBL``, six bytes of version, one each of features, language and compression (1 is MP3),
    and the count of its table's entries: a name of twelve bytes, a flag, offset and size. What is said ends in ``.SB``.

    Raises:
        DataError: the archive is of another kind.
    """
    if archive[:4] != b"QTBL" or archive[12:13] != b"\x01":
        raise DataError("queen.1c is not the archive of the edition with speech in MP3: take Debian's package")
    (count,) = struct.unpack_from(">H", archive, 13)
    for name, _, offset, size in struct.iter_unpack(">12sBII", archive[15 : 15 + 21 * count]):
        title = name.split(b"\0")[0].decode("latin-1")
        if title.endswith(".SB") and size >= _LEAST_BYTES:
            yield title.removesuffix(".SB"), archive[offset : offset + size]


if __name__ == "__main__":
    main()
