"""Opening files that others made: ordinary files of UTF-8 text or JSON, within generous limits.

A file from the internet may be anything. What is too large, too deep or no file at all is refused with one sentence,
before it takes memory.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_TEXT_BYTES = 8 << 30  # of a file that is read line by line
MOST_LINE = 10_000_000  # characters of a line
MOST_JSON_BYTES = 64 << 20  # the largest tokenizer.json in common use has half of it
MOST_JSON_VALUES = 4_000_000
MOST_TOKENS = 2_000_000  # of a vocabulary
_SHOWN = 100  # characters of a line in a message

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


def check_file(path: Path, kind: str = "file", most_bytes: int = MOST_TEXT_BYTES) -> None:
    """Check that `path` is an ordinary file of at most `most_bytes` that is not compressed.

    Args:
        path: the file.
        kind: what it should be, for messages.
        most_bytes: the largest size.

    Raises: FileNotFoundError for a missing file; ValueError for a folder, a pipe or device, or a file too large or
        compressed.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no {kind} {str(path)!r}") from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{str(path)!r} is a folder; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{str(path)!r} is a pipe or a device, not a file; save its content as a file first")
    if found.st_size > most_bytes:
        raise ValueError(f"{path} has {found.st_size:,} bytes, but a {kind} may have at most {most_bytes:,}")
    with path.open("rb") as file:
        beginning = file.read(max(map(len, _COMPRESSED)))
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            raise ValueError(f"{path} is compressed ({name}); unpack it first")


def text_lines(
    path: Path, *, kind: str = "file", newline: str | None = None, errors: str = "strict", most_bytes: int | None = None
) -> Iterator[str]:
    """Lines of a UTF-8 file without their line feeds; a byte-order mark at its beginning is left out.

    Args:
        path: the file.
        kind: what it should be, for messages.
        newline: as in `open`; None for line feed, carriage return or both.
        errors: as in `open`.
        most_bytes: the largest size; None for `MOST_TEXT_BYTES`.

    Raises: as `check_file`; ValueError for a line of more than `MOST_LINE` characters; UnicodeDecodeError.
    """
    check_file(path, kind, MOST_TEXT_BYTES if most_bytes is None else most_bytes)
    number = 0
    with path.open(encoding="utf-8-sig", newline=newline, errors=errors) as file:
        while line := file.readline(MOST_LINE + 1):
            number += 1
            if len(line) > MOST_LINE:
                raise ValueError(f"line {number} of {path} has more than {MOST_LINE:,} characters")
            yield line.rstrip("\n")


def parse_json(text: str, source: str) -> Any:
    """The value of a JSON text; ValueError, naming the `source`, for what is not JSON, too large or too deep."""
    values = text.count(",") + text.count("[") + text.count("{")
    if values > MOST_JSON_VALUES:
        raise ValueError(f"{source} has more than {MOST_JSON_VALUES:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{source} is nested too deeply to be read") from None
    except ValueError as problem:
        raise ValueError(f"{source} is not JSON: {problem}") from None


def shown(text: str) -> str:
    """`text` in quotes, of a long one its beginning, for a message."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"
