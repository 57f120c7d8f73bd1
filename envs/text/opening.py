"""Opening files that others made: ordinary files of UTF-8 text or JSON, within generous limits.

A file from the internet may be anything. What is too large, too deep or no file at all is refused with one sentence,
before it takes memory.
"""

from __future__ import annotations

import errno
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .limits import LIMITS, raised_by

_SHOWN = 100  # characters of a line in a message

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"(\xb5/\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


def check_regular(path: Path, kind: str = "file", limit: str = "text_bytes") -> None:
    """Check that `path` is an ordinary file within the size that `limit` of `Limits` allows.

    Args:
        path: the file.
        kind: what it should be, for messages.
        limit: name of the limit of its bytes.

    Raises: FileNotFoundError for a missing file; ValueError for a folder, a pipe or device, a link that leads to
        itself, or a file too large.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"there is no {kind} {str(path)!r}") from None
    except OSError as problem:
        if problem.errno != errno.ELOOP:
            raise
        raise ValueError(
            f"{str(path)!r} is a link that leads to itself, not a {kind}; put the file in its place"
        ) from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{str(path)!r} is a folder; name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{str(path)!r} is a pipe or a device, not a file; save its content as a file first")
    most = getattr(LIMITS, limit)
    if found.st_size > most:
        raise ValueError(
            f"{path} has {found.st_size:,} bytes, but a {kind} may have at most {most:,}; {raised_by(limit)}"
        )


def check_file(path: Path, kind: str = "file", limit: str = "text_bytes") -> None:
    """As `check_regular`; ValueError for a compressed file too."""
    check_regular(path, kind, limit)
    with path.open("rb") as file:
        beginning = file.read(max(map(len, _COMPRESSED)))
    for magic, name in _COMPRESSED.items():
        if beginning.startswith(magic):
            raise ValueError(f"{path} is compressed ({name}); unpack it first")


def text_lines(
    path: Path, *, kind: str = "file", newline: str | None = None, errors: str = "strict", limit: str = "text_bytes"
) -> Iterator[str]:
    """Lines of a UTF-8 file without their line feeds; a byte-order mark at its beginning is left out.

    Args:
        path: the file.
        kind: what it should be, for messages.
        newline: as in `open`; None for line feed, carriage return or both.
        errors: as in `open`.
        limit: name of the limit of its bytes, see `Limits`.

    Raises: as `check_file`; ValueError for a line of more than `text_line` characters; UnicodeDecodeError.
    """
    check_file(path, kind, limit)
    number, most = 0, LIMITS.text_line
    with path.open(encoding="utf-8-sig", newline=newline, errors=errors) as file:
        while line := file.readline(most + 1):
            number += 1
            if len(line) > most:
                raise ValueError(f"line {number} of {path} has more than {most:,} characters; {raised_by('text_line')}")
            yield line.rstrip("\n")


def parse_json(text: str, source: str) -> Any:
    """The value of a JSON text; ValueError, naming the `source`, for what is not JSON, too large or too deep."""
    values = text.count(",") + text.count("[") + text.count("{")
    if values > LIMITS.json_values:
        raise ValueError(f"{source} has more than {LIMITS.json_values:,} values; {raised_by('json_values')}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{source} is nested too deeply to be read") from None
    except ValueError as problem:
        raise ValueError(f"{source} is not JSON: {problem}") from None


def shown(text: str) -> str:
    """`text` in quotes, of a long one its beginning, for a message."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}…"
