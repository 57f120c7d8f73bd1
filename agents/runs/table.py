"""Tables for a terminal, in which a Chinese character is as wide as two letters, and as CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

GAP = "  "  # between columns


def width_of(text: str) -> int:
    """Columns of a terminal that a text takes."""
    return sum(_width(c) for c in text)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table.

    Args:
        rows: of cells, the titles first.
        right: numbers of the columns that are set to the right.
    """
    widths = [max(width_of(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            " " * (width - width_of(cell)) + cell if n in right else cell + " " * (width - width_of(cell))
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(GAP.join(cells).rstrip())
    return lines


def beside(columns: Sequence[Sequence[str]], width: int) -> list[str]:
    """Texts of equal number side by side, each wrapped to its column.

    Args:
        columns: the texts of each column, its title first.
        width: of the terminal.
    """
    room = max(8, (width - len(GAP) * (len(columns) - 1)) // len(columns))
    lines = []
    for texts in zip_longest(*columns, fillvalue=""):
        for parts in zip_longest(*(_wrapped(text, room) for text in texts), fillvalue=""):
            padded = (part + " " * (room - width_of(part)) for part in parts)
            lines.append(GAP.join(padded).rstrip())
    return lines


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """CSV with a column for every name in the order of their first appearance; empty where a row lacks it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _wrapped(text: str, room: int) -> Iterator[str]:
    """Lines of at most `room` columns, broken at the last blank or, without one, anywhere."""
    while width_of(text) > room:
        end, used = 0, 0
        while end < len(text) and used + _width(text[end]) <= room:
            used += _width(text[end])
            end += 1
        blank = text.rfind(" ", 1, end + 1)
        cut = blank if blank > 0 else max(1, end)
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    yield text


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
