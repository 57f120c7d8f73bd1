"""Tones and rhymes of Chinese characters, as they are read today."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..arrays import Ints
from ..text import Tokenizer

LEVEL, OBLIQUE, NO_TONE = 0, 1, -1
NO_RHYME = -1
# Finals that rhyme, by the fourteen groups of today's standard rhymes (中华新韵), with er and ü by themselves. The i of
# zhi, chi, shi, ri, zi, ci and si is another vowel than that of ni.
_GROUPS = (
    ("a", "ia", "ua"), ("o", "e", "uo", "io"), ("ie", "ve", "ê"), ("ai", "uai", "iai"), ("ei", "uei"), ("ao", "iao"),
    ("ou", "iou"), ("an", "ian", "uan", "van"), ("en", "in", "uen", "vn", "n", "m"), ("ang", "iang", "uang"),
    ("eng", "ing", "ueng", "ong", "iong", "ng"), ("i",), ("-i",), ("u",), ("v",), ("er",),
)  # fmt: skip
NUM_RHYMES = len(_GROUPS)
_RHYME = {final: group for group, finals in enumerate(_GROUPS) for final in finals}
_APICAL = ("zh", "ch", "sh", "r", "z", "c", "s")


@lru_cache(maxsize=1 << 16)
def reading(character: str) -> tuple[int, int]:
    """Tone and rhyme group of a character in its commonest reading: LEVEL or OBLIQUE, and 0 to NUM_RHYMES - 1.

    NO_TONE and NO_RHYME for what is no Chinese character. First and second tone are level, all others oblique, as they
    are spoken today; what was an entering tone in the Tang is where it is now.

    Source: the readings of the library pypinyin.
    """
    from pypinyin import Style, pinyin

    if not "\u3400" <= character <= "\u9fff" or len(character) != 1:
        return NO_TONE, NO_RHYME
    final = pinyin(character, style=Style.FINALS_TONE3, neutral_tone_with_five=True, errors="ignore")
    if not final or final[0][0][-1:] not in tuple("12345"):
        return NO_TONE, NO_RHYME
    vowel, tone = final[0][0][:-1], final[0][0][-1]
    initial = pinyin(character, style=Style.INITIALS, strict=False)[0][0]
    group = _RHYME.get("-i" if vowel == "i" and initial in _APICAL else vowel, NO_RHYME)
    return LEVEL if tone in "12" else OBLIQUE, group


def readings(tokenizer: Tokenizer) -> tuple[Ints, Ints]:
    """(V,) tones and (V,) rhyme groups of the tokens, as of `reading`."""
    vocabulary = tokenizer.vocabulary
    found = [reading(vocabulary.token(i)) for i in range(len(vocabulary))]
    tones, rhymes = np.array(found, np.int64).T
    return tones, rhymes
