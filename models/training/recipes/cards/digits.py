"""The card of digits."""

from collections.abc import Mapping
from typing import Any

from models.training.markdown import table
from models.training.recipes.cards import calibration, percent, seeds, took

_TEXT = """# digits

Says which digit is seen in a picture, spoken in a recording, written in a text or read from lips in a video, from any
subset of the four.

A small CNN for the picture, in which the digit is found and centred first, a convolutional GRU for the sound, a GRU
over characters, a 3-D convolution and a GRU over the lips, which are found in each frame. Each modality has its own
belief about the digit, and the answer is their normalized product. Stored in fp16.

## Figures

{n} bundles joined by class from held-back media (of MNIST every twelfth training picture, else the validation
splits), in percent, with 95 % bootstrap intervals over bundles, seed {seed}. Media recur in several bundles, so that
intervals are somewhat too narrow. Spoilt media are behind noise, out of focus, covered, or have gaps, of a severity at
which the modality alone is right about three times in four, chosen on other bundles.

{figures}

{flat}With all four spoilt the errors are {ratio} times those of the best single modality. The severities
(0 to 1): {severities}.

Every held-back medium once, as it is, and the pictures on pages as well: dark on light, anywhere, a fifth to nine
tenths of the page high, in uneven light, with a shadow's edge and noise. Print is in typefaces that were not learned:
DejaVu Serif, Computer Modern Sans and Typewriter:

{singles}

{speakers}{calibration}

Command: `{command}`. {seeds} {took}{went_on}

## Data and terms

MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0), the Free Spoken Digit Dataset (CC BY-SA 4.0), speaker 1 of the GRID
corpus (Cooke et al. 2006, CC BY 4.0; its lips without the sound, and its sound by itself, both cut at the digit), and
texts written by the recipe itself. No medium is part of this folder. The sets share nothing but their classes, so the
product is the right rule here; parts of a bundle that come from one event may err together, and the answer is then
too sure.

## Where it fails

- Lips: those of one speaker, seen from the front in good light. Other faces were not measured.
- Speech: English. Of six speakers it knows single words, and of one the digits within his sentences, which are shorter
  and run into their neighbours. Out of other people's sentences some are misread (`docs/results/digits.md`).
- Pictures: one digit, written by hand or in a common typeface, light on dark or dark on light, on a plain ground. It is
  searched for in pictures of more than 28 pixels a side, first on a light sheet where one lies on a desk or in a dark
  frame. Where nothing stands out, as in a picture cropped to the digit, the answer has the notice `no_sign`, and where
  much else does, `several_signs`: of several signs the largest counts. The pages and the print are drawn, not
  photographed. A pencil's faint strokes and a lamp's glare on the page are often misread.
- Text: one digit. Of "twenty seven" or "1.0" it names one of the digits, or another; more than one numeral has the
  notice `several_numerals`, more than one number word has none. A text without any digit gets one, too.
- A bundle whose parts contradict each other gets one answer; `explain=true` shows what each part would have answered.
"""

_FLAT = """No recurrence is the network without its GRUs, trained alike, over the same CNN for pictures, and spoilt by
severities of its own. Letters are read less well without. So are spoken words and lips in these bundles; of 300
recordings and 100 clips that may be chance.

"""


def card(metrics: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    figures = metrics["figures"]
    names = [name.removesuffix(", clean") for name in figures if name.endswith(", clean")]
    flat = metrics["baselines"].get("no recurrence", {})
    rows = [
        [
            name,
            *(percent(figures[f"{name}, {kind}"]["accuracy"]) for kind in ("clean", "spoilt")),
            *(percent(flat[f"{name}, {kind}"]["accuracy"][:1]) for kind in ("clean", "spoilt") if flat),
        ]
        for name in names
    ]
    head = ["accuracy", "clean", "spoilt", *(["clean, no recurrence", "spoilt, no recurrence"] if flat else [])]
    single = [
        [name.partition(",")[0], percent(value["accuracy"])]
        for name, value in figures.items()
        if name.endswith(("every held-back one", "unseen faces"))
    ]
    heard = metrics.get("unheard_speakers", {})
    speakers = ", ".join(f"{name} {percent(value)}" for name, value in heard.items())
    return _TEXT.format(
        n=metrics["n"],
        seed=metrics["seed"],
        figures=table(head, rows),
        flat=_FLAT if flat else "",
        ratio=f"{metrics['errors_of_all_to_best_single']:.2f}",
        severities=", ".join(f"{name} {value:.2f}" for name, value in metrics["severity"].items()),
        singles=table(["", "accuracy"], single),
        speakers=f"Speech of speakers whom a network had not heard, by speaker: {speakers}.\n\n" if speakers else "",
        calibration=calibration(metrics),
        command=metrics["command"],
        seeds=seeds(metrics, metrics["seeds"]["accuracy"], " of bundles half of whose media are spoilt"),
        took=took(metrics),
        # Where the weights are not those of the recipe run alone.
        went_on=f"\n\n{said}" if (said := metrics.get("went_on")) else "",
    )
