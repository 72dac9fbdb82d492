"""NORMALISERS: what of two transcripts is compared, before their words are.

    none      the text as it stands
    basic     no case, no punctuation, no signs that are not seen, such as soft hyphens
    english   the same, and contractions, titles and numbers in one way of writing

Words are parted by blanks, which are collapsed, in each of them. A normaliser has a version, which
the fingerprint of a split holds: numbers of two normalisers, or of two versions, never mix.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from zoobench.errors import unknown

VERSIONS = {"none": 1, "basic": 2, "english": 2}
"""The version of each; another one where a text may come out otherwise."""
DEFAULT = "basic"
APOSTROPHES = "\u2019\u02bc'"
"""Signs that are written for an apostrophe, which is the last one."""


def check(name: str, where: str = "") -> None:
    """Raises UnknownName."""
    if name not in VERSIONS:
        raise unknown(where, "normaliser", name, VERSIONS)


def normaliser(name: str) -> Callable[[str], str]:
    """What the normaliser does to one text. Raises UnknownName."""
    check(name)
    return {"none": _blanks, "basic": basic, "english": english}[name]


ZERO_WIDTH_SPACE = "\u200b"
"""Of category Cf, but it parts words (Unicode Standard Annex 29, table 3): a blank."""
UNSEEN = re.compile("[\u034f\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Marks that choose a form of the sign before them, and that which keeps two signs apart."""


def _seen(text: str) -> str:
    """Without soft hyphens, joiners and whatever else is of category Cf or UNSEEN: they stand
    inside of words, and part none."""
    text = UNSEEN.sub("", text.replace(ZERO_WIDTH_SPACE, " "))
    return "".join(sign for sign in text if unicodedata.category(sign) != "Cf")


def _blanks(text: str) -> str:
    return " ".join(text.split())


class _Signs(dict[int, str]):
    """The sign that stands for a sign: itself for letters, marks, digits and the apostrophe; a
    blank for all else."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        if sign in APOSTROPHES:
            kept = APOSTROPHES[-1]
        else:
            kept = sign if unicodedata.category(sign)[0] in "LMN" else " "
        self[code] = kept
        return kept


_SIGNS = _Signs()


def basic(text: str) -> str:
    """NFKC and case folded (The Unicode Standard, section 3.13); what is no letter, mark or digit
    is a blank, but for apostrophes inside a word; format characters (category Cf) are deleted."""
    folded = _seen(text)
    for _ in range(2):  # to fold may undo the form
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())
    words = (word.strip("'") for word in folded.translate(_SIGNS).split())
    return " ".join(word for word in words if word)


def english(text: str) -> str:
    """Whisper's normaliser of English texts (Radford et al. 2022, arXiv:2212.04356, appendix C) as
    transformers has it, without its table of British spellings.

    Format characters are deleted before, as in `basic`. It leaves out what stands in brackets,
    "hmm", "uh" and the like, and accents; it writes out contractions and titles, and writes numbers
    in digits. A number that it cannot write leaves the whole text as `basic` makes it.
    """
    try:
        return _blanks(_english()(_seen(text)))
    except (ValueError, OverflowError):  # of thousands of digits
        return basic(text)


@cache
def _english() -> Callable[[str], str]:
    # transformers takes seconds to import.
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    found: Callable[[str], str] = EnglishTextNormalizer({})
    return found
