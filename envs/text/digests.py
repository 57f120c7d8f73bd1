"""Digests of saved files, so that damage is noticed when they are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .files import read_json, write_json
from .opening import check_regular

DIGESTS = "digests.json"
# What a run tells of itself: checked by whoever reads it. Who only wants the agent may remove or edit it.
FIGURES = ("summary.json", "results.jsonl")
_BLOCK = 1 << 20
_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 200  # characters of a path in the folder
_MOST = 10_000  # files of a folder


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def write_digests(
    folder: Path, paths: Iterable[Path] = (), texts: Mapping[str, str] | None = None, forget: Iterable[str] = ()
) -> None:
    """Write the digests of files in `folder`, beside those that were written before for files still there.

    Args:
        folder: of the files.
        paths: files that are there.
        texts: what files hold, by name; unlike a file, what was written cannot have been changed since.
        forget: names whose digests no longer count.
    """
    place = folder / DIGESTS
    try:
        before = read_json(place)
    except (FileNotFoundError, ValueError):  # what cannot be read is written anew
        before = {}
    known = {name: digest for name, digest in _entries(before) if name not in forget and (folder / name).is_file()}
    found = {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}
    coming = {name: hashlib.sha256(text.encode("utf-8")).hexdigest() for name, text in (texts or {}).items()}
    write_json(place, {**known, **found, **coming})


def check_digests(folder: Path, needed: Iterable[str] = ()) -> None:
    """Compare the files of `folder` with the digests that were written for them, all but `FIGURES`.

    Args:
        folder: of the files.
        needed: names of files that must have one.

    Raises ValueError for a file that is missing, no ordinary file, too large or another one, and where there are no
    digests.
    """
    place = folder / DIGESTS
    if not place.exists():
        raise ValueError(f"{folder} has no {DIGESTS}, so its files cannot be checked; restore it, or pass --trust")
    known = read_json(place)
    entries = _entries(known)
    if not entries or len(entries) != len(known):
        raise ValueError(f"{place} is damaged: it must map names of files to digests; restore it from a copy")
    for name in needed:
        if name not in known:
            raise ValueError(f"{place} is damaged: it has no digest of {name}; restore it from a copy")
    for name, digest in entries:
        if name in FIGURES:
            continue
        path = folder / name
        try:  # nothing longer would be read, so it need not be hashed; a pipe would be waited for
            check_regular(path, limit="json_bytes" if path.suffix == ".json" else "weights_bytes")
            what = "" if file_digest(path) == digest else "was changed since it was saved"
        except FileNotFoundError:
            what = "is missing"
        if what:
            raise ValueError(f"{path} {what}; restore it from a copy, or pass --trust (trust=True) to read it as it is")


def check_figures(folder: Path) -> None:
    """Compare those of `FIGURES` that are in `folder` with their digests, if there are any; ValueError for others."""
    paths = [path for name in FIGURES if (path := folder / name).is_file()]
    if not paths or not (folder / DIGESTS).exists():
        return
    known = dict(_entries(read_json(folder / DIGESTS)))
    for path in paths:
        check_regular(path, limit="json_bytes")  # nothing longer would be read, so it need not be hashed
        if path.name in known and file_digest(path) != known[path.name]:
            raise ValueError(
                f"{path} was changed since it was saved, so its figures are not those of the run; restore it from a "
                "copy"
            )


def _entries(known: Any) -> list[tuple[str, str]]:
    """Those that can be: paths in the folder, and digests."""
    if not isinstance(known, dict) or len(known) > _MOST:
        return []
    return [
        (name, digest)
        for name, digest in known.items()
        if isinstance(digest, str) and _DIGEST.fullmatch(digest) and _is_inside(name)
    ]


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    plain = "/".join(parts) == name  # a file has one name, and is hashed once
    return plain and name.isprintable() and len(name) <= _LONGEST and bool(parts) and ".." not in parts
