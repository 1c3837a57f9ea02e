"""The card of voice-commands."""

from collections.abc import Mapping
from typing import Any

from models.training.markdown import table
from models.training.recipes.cards import calibration, percent, seeds, took

_TEXT = """# voice-commands

Says which of ten English commands is spoken in a recording (down, go, left, no, off, on, right, stop, up, yes), or that
it is another word (`unknown`) or none (`silence`).

Log-mel frames, three causal convolutions over time and frequency, a one-way GRU of 128 units, and the mean of its
outputs under attention. 233,924 parameters, stored in fp16 (0.5 MB). Nothing looks ahead, so the encoder follows a
stream frame by frame and gives what it gives for the whole (a test holds them equal within 1e-5).

## Figures

Validation split of Speech Commands (n={n}; no speaker of it is in training), in percent, with 95 % bootstrap intervals
over recordings, seed {seed}, as `fusionrnn evaluate` measures what is served. The split also chose the epoch, the seed
and the temperature. The mean over seeds, the network without recurrence and the false accepts are of the same
recordings rounded to 16 bits, as training reads them.

{figures}

{seeds} {calibration}

Command: `{command}`. {took}

**False accepts.** When the first answer counts as a command {threshold}, {unknown} % of the
unknown words, {silence} % of the silences, {environment} % of 80 environmental sounds (fold 4 of ESC-10, not heard
in training) and {digits} % of 300 spoken digits (others than in training, by the same speakers) pass as one, and
{accepted} % of the commands pass as what they are. The threshold is the lowest at which at most 5 % of the unknown
words pass.

**Other recordings.** Accuracy on every sixth validation recording, changed and posted as a file. The hall's echo is as
loud as the voice and dies away in 1.2 s; faster is also higher, slower also deeper:

{recordings}

## How long a recording may be

Any length. There is one answer for the whole recording: attention finds the moments that sound most like a command, so
of one word within a minute of quiet it names that word, and of several words it names one. To know when each of many
was said, post pieces of a second or two.

## Data and terms

Speech Commands v0.02 (Warden 2018), CC BY 4.0: 3710 recordings, 303 to 329 of each class, cut from what is officially
its test set, so the figures are not comparable with published ones. Mixed in as background, and for silence: ESC-10
(Piczak 2015), folds 1 to 3, CC BY 3.0, and synthetic noise. Further words that are no command: 2400 digits of the Free
Spoken Digit Dataset, CC BY-SA 4.0, and commands played backwards. Talk: 3964 lines of the game Flight of the Amazon
Queen, which may be handed on free of charge, and 752 prompts of Asterisk in Italian and Russian, CC BY 3.0. No
recording is part of this folder.

## Where it fails

- Words that sound alike: most mistakes are among "down", "go" and "no", and among "off", "on" and "up". The confusion
  matrix is in `docs/results/voice-commands.md`. Commands in other languages are unknown words.
- Environmental sounds pass for a command several times as often as unknown words: it was taught speech, not the world.
  A higher threshold keeps more of them out.
- Who talks beside the microphone is now and then taken for a command: a stream with the threshold of 0.75 reports 53
  words an hour in English prompts of a telephone exchange, some of which say commands, and none in French ones or in
  GRID's sentences ([measured](../../../docs/results/voice-commands.md#talk)).
- 303 recordings of unknown words are few, and a single word that was not among them is a guess: 13 % of 590 words cut
  out of GRID's validation sentences, in 0.2 s of quiet, have a command as their first answer (by a script).
- Halls, and voices much higher or deeper than most, are heard less well, and noise as loud as the voice takes a seventh
  (`docs/results/voice-commands.md`). Whispered, sung and children's speech were not measured.
"""


def card(metrics: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    figures, accepts, recordings = (metrics[key] for key in ("figures", "false_accepts", "recordings"))
    rows = [["voice-commands", percent(figures["accuracy"]), percent(figures["macro_f1"])]]
    rows += [[name, percent(value["accuracy"]), ""] for name, value in metrics["baselines"].items()]
    return _TEXT.format(
        n=metrics["n"],
        seed=metrics["seed"],
        figures=table(["", "accuracy", "macro F1"], rows),
        seeds=seeds(metrics, metrics["seeds"]["accuracy"]),
        calibration=calibration(metrics),
        command=metrics["command"],
        took=took(metrics),
        threshold=_from(accepts["threshold"]),
        unknown=percent(accepts["unknown_accepted"]),
        silence=percent(accepts["silence_accepted"]),
        environment=percent(accepts["environment_accepted"]),
        digits=percent(accepts["digits_accepted"]),
        accepted=percent(accepts["commands_accepted_rightly"]),
        recordings=table(list(recordings), [[percent(value) for value in recordings.values()]]),
    )


def _from(threshold: float) -> str:
    """From which probability on a command counts."""
    return "whatever its probability" if threshold < 0.005 else f"from a probability of {threshold:.2f} on"
