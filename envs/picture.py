"""Text as an image, each token coloured by its log-likelihood, for videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .rendering import EMPTY, Colour, colour, pieces
from .text import Tokenizer, Vocabulary
from .world import World

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

WIDTH, HEIGHT = 640, 360  # even, as video codecs require
_MARGIN, _SIZE, _SMALL, _LINE = 20, 22, 13, 32  # pixels
_NOTE = "Boxes: no font here shows these characters. Install one with Chinese characters, such as Noto Sans CJK."
_BACKGROUND: Colour = (24, 24, 24)
_PROMPT: Colour = (200, 200, 200)
_CHINESE = (
    "Noto Sans CJK", "Noto Serif CJK", "Source Han", "WenQuanYi", "Droid Sans Fallback", "Microsoft YaHei", "SimHei",
    "SimSun", "PingFang", "Hiragino Sans", "Heiti", "STHeiti", "Songti", "Arial Unicode",
)  # fmt: skip


class Painter:
    """Draws texts of one world as images.

    Args:
        tokenizer: the tokenizer of the world.
        font: a TrueType or OpenType file.
        note: a sentence to write below every text; empty for none.
    """

    def __init__(self, tokenizer: Tokenizer, font: Path, note: str = "") -> None:
        self.tokenizer = tokenizer
        self.font = font
        self.note = note

    @classmethod
    def of(cls, world: World) -> Painter:
        """A painter with a system font for the words of `world`.

        Where no font shows half of their characters, the others are boxes, and a note in the image says why.
        """
        text = "".join(world.tokenizer.decode([i]) for i in range(Vocabulary.SEP, world.vocab_size))
        font, missing = _best_font(frozenset(text))
        return cls(world.tokenizer, font, _NOTE if missing else "")

    def paint(self, prompt: Sequence[int], written: Sequence[int], log_probs: Sequence[float]) -> npt.NDArray[np.uint8]:
        """The prompt in grey, then every written token in the `colour` of its log-likelihood.

        Args:
            prompt: ids of the prompt.
            written: ids written after it.
            log_probs: log-likelihood of each written id, nats.

        Returns: (HEIGHT, WIDTH, 3) uint8; of a long text, the last lines; of an empty one, `<bos>`.
        """
        from PIL import Image, ImageDraw

        font = _load(self.font)
        parts = pieces(self.tokenizer, [*prompt, *written])
        colours = [_PROMPT] * len(prompt) + [colour(log_prob) for log_prob in log_probs]
        if not any(parts):
            parts, colours = [EMPTY], [_PROMPT]
        room = (HEIGHT - 2 * _MARGIN) // _LINE - bool(self.note)
        lines = list(_lines(parts, colours, font))[-room:]
        image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
        draw = ImageDraw.Draw(image)
        for row, line in enumerate(lines):
            for x, character, fill in line:
                draw.text((_MARGIN + x, _MARGIN + row * _LINE), character, fill, font)
        if self.note:
            draw.text((_MARGIN, HEIGHT - _MARGIN), self.note, _PROMPT, _load(self.font, _SMALL), anchor="ls")
        return np.array(image)


def font_for(characters: frozenset[str]) -> Path:
    """The first font with glyphs for all `characters`, else the one with the most; Matplotlib's own comes first.

    Raises ValueError if no font has glyphs for half of them.
    """
    font, missing = _best_font(characters)
    if missing:
        raise ValueError(
            f"no font on this system shows {missing!r}, so no image can be drawn; install one with Chinese "
            'characters, such as Noto Sans CJK, or use render_mode="ansi"'
        )
    return font


@lru_cache(maxsize=16)
def _best_font(characters: frozenset[str]) -> tuple[Path, str]:
    """The font of `font_for`, and some characters that it lacks if it has glyphs for less than half of them."""
    wanted = {ord(c) for c in characters if not c.isspace() and c != "\ufffd"}
    best, most = Path(), -1
    for path in _candidates():
        shown = len(wanted & _shown(path))
        if shown > most:
            best, most = path, shown
        if shown == len(wanted):
            break
    lacking = wanted - _shown(best) if 2 * most < len(wanted) else ()
    return best, "".join(sorted(map(chr, lacking))[:5])


def _candidates() -> Iterator[Path]:
    """Matplotlib's own font, then the system's Chinese fonts in the order of `_CHINESE`."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    yield Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in _CHINESE:
        yield from sorted(Path(font.fname) for font in fontManager.ttflist if font.name.startswith(name))


@lru_cache(maxsize=64)
def _shown(font: Path) -> frozenset[int]:
    """Code points for which a font has glyphs."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font)).get_charmap())


@lru_cache(maxsize=4)
def _load(font: Path, size: int = _SIZE) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(font), size)


def _lines(parts: list[str], colours: list[Colour], font: Any) -> Iterator[list[tuple[float, str, Colour]]]:
    """Lines of (x, character, colour); a token that fits into a line is not broken."""
    line: list[tuple[float, str, Colour]] = []
    x, limit = 0.0, WIDTH - 2 * _MARGIN
    for part, fill in zip(parts, colours, strict=True):
        if x + font.getlength(part.split("\n")[0]) > limit >= font.getlength(part):
            yield line
            line, x, part = [], 0.0, part.lstrip()
        for character in part:
            width = font.getlength(character)
            if character == "\n" or x + width > limit:
                yield line
                line, x = [], 0.0
            if character.isprintable():
                line.append((x, character, fill))
                x += width
    yield line
