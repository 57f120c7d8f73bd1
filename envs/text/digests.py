"""Digests of saved files, so that damage is noticed when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from .files import read_json, write_json

DIGESTS = "digests.json"
_BLOCK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def write_digests(folder: Path, paths: Iterable[Path]) -> None:
    """Write the digests of `paths`, files in `folder`, beside those that were written before."""
    place = folder / DIGESTS
    known = read_json(place) if place.exists() else {}
    found = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    write_json(place, {**known, **found})


def check_digests(folder: Path) -> None:
    """Compare the files of `folder` with the digests that were written for them.

    Raises ValueError for a file that is missing or differs, and where there are no digests.
    """
    place = folder / DIGESTS
    if not place.exists():
        raise ValueError(f"{folder} has no {DIGESTS}, so its files cannot be checked; restore it, or pass --trust")
    known = read_json(place)
    if not isinstance(known, dict) or not known:
        raise ValueError(f"{place} is damaged: it must map file names to digests; restore it from a copy")
    for name, digest in known.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ValueError(f"{place} is damaged: {name!r} is not a file in the folder; restore it from a copy")
        if not path.is_file() or file_digest(path) != digest:
            what = "was changed since it was saved" if path.is_file() else "is missing"
            raise ValueError(f"{path} {what}; restore it from a copy, or pass --trust (trust=True) to read it as it is")
