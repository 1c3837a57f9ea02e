"""Written digits: English and Chinese words and numerals, in short sentences and with typing errors."""

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from models.features.text import END, PAD, UNKNOWN, TextTokenizer
from models.training.recipes.waveforms import chance, choice

FORMS: tuple[tuple[str, ...], ...] = (
    ("zero", "0", "零", "〇", "nought"),
    ("one", "1", "一", "壹"),
    ("two", "2", "二", "两", "兩", "贰", "貳"),
    ("three", "3", "三", "叁", "參"),
    ("four", "4", "四", "肆"),
    ("five", "5", "五", "伍"),
    ("six", "6", "六", "陆", "陸"),
    ("seven", "7", "七", "柒"),
    ("eight", "8", "八", "捌"),
    ("nine", "9", "九", "玖"),
)
"""How each digit is written, the English word first."""

CARRIERS = (
    "the number {}", "it is {}", "i said {}", "digit {}", "{} please", "number {}", "this is a {}",
    "数字{}", "这是{}", "我说{}", "{}号",
)  # fmt: skip

AROUND = (
    "a", "about", "again", "and", "answer", "apples", "are", "at", "big", "cats", "chapter", "choose", "clock", "days",
    "floor", "for", "give", "go", "have", "he", "here", "i", "in", "is", "it", "just", "line", "me", "minutes", "my",
    "now", "o'clock", "of", "oh", "ok", "on", "only", "open", "page", "people", "please", "press", "room", "say", "see",
    "she", "small", "take", "thanks", "that", "the", "then", "there", "they", "this", "times", "to", "very", "want",
    "was", "we", "well", "with", "yes", "you",
)  # fmt: skip
"""Words that may stand around a digit and say nothing of it."""

STRANGER = "人"
"""A character that is no token, as most are that may stand around a Chinese digit."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"


def tokenizer() -> TextTokenizer:
    """Each character is a token, so that a misspelt word is still nearly that word; case and punctuation fall away."""
    chinese = "".join(sorted({c for text in (*CARRIERS, *sum(FORMS, ())) for c in text if ord(c) > 127}))
    tokens = [PAD, UNKNOWN, END, " ", *LETTERS, *DIGITS, *chinese]
    characters = Tokenizer(models.WordLevel({token: place for place, token in enumerate(tokens)}, unk_token=UNKNOWN))
    characters.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\p{L}\p{M}\p{N}]+"), " "),
            normalizers.Strip(),
        ]
    )
    characters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return TextTokenizer(characters)


def misspelt(word: str) -> str:
    """A word with one typing error: a letter too many, missing, wrong, or in its neighbour's place."""
    place, letter = choice(len(word)), LETTERS[choice(len(LETTERS))]
    kind = choice(4)
    if kind == 0:
        return word[:place] + letter + word[place:]
    if kind == 1 and len(word) > 2:
        return word[:place] + word[place + 1 :]
    if kind == 2 and place + 1 < len(word):
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + letter + word[place + 1 :]


def written(digit: int) -> str:
    """A digit as someone might write it; half of the English words have a typing error."""
    forms = FORMS[digit]
    form = forms[0] if chance(0.5) else forms[choice(len(forms))]
    if len(form) > 2 and chance(0.5):
        form = misspelt(form)
    if chance(0.3):
        return CARRIERS[choice(len(CARRIERS))].format(form)
    return among_others(form) if chance(0.4) else form


def among_others(form: str) -> str:
    """A digit with up to four words on either side, or, where it is not of letters, other characters."""
    before, after = choice(5), choice(5)
    if form.isascii() and (form.isalpha() or chance(0.5)):
        words = [AROUND[choice(len(AROUND))] for _ in range(before + after)]
        return " ".join([*words[:before], form, *words[before:]])
    return STRANGER * before + form + STRANGER * after


def garbled(text: str, severity: float) -> str:
    """Each character replaced by another letter with half the probability ``severity``, or lost with the other half."""
    kept = []
    for character in text:
        if not chance(severity):
            kept.append(character)
        elif chance(0.5):
            kept.append(LETTERS[choice(len(LETTERS))])
    return "".join(kept) or LETTERS[choice(len(LETTERS))]
