"""Train, validation and test documents that never mix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .reading import SUFFIXES, read_documents

_NAMES = ("train", "valid", "test")


@dataclass(frozen=True)
class Splits:
    """Cleaned documents of the three splits; no document stands in two."""

    train: list[str]
    valid: list[str]
    test: list[str]


def read_splits(source: str | Path | Iterable[str], clean: Callable[[str], str]) -> Splits:
    """Read, clean and split a corpus.

    A folder with train, valid and test files (.txt or .tsv) is taken as it is, less what valid and test share with
    train and with each other. Everything else is split 90/5/5 by a hash of the document, so that equal documents
    fall together and neither order nor other documents decide where one goes.

    Raises ValueError for fewer than three different documents.
    """
    given = _given(source)
    if given is not None:
        parts = [_cleaned(read_documents(file), clean) for file in given]
        train = set(parts[0])
        valid = [d for d in parts[1] if d not in train]
        known = train.union(valid)
        splits = Splits(parts[0], valid, [d for d in parts[2] if d not in known])
    else:
        splits = split_documents(_cleaned(read_documents(source), clean))
    for name in _NAMES:
        if not getattr(splits, name):
            raise ValueError(
                f"no {name} document is left in {source}; each split needs documents that the others do not hold"
            )
    return splits


def split_documents(documents: list[str]) -> Splits:
    """90/5/5 by a hash of each document; see `read_splits`."""
    place = {d: hashlib.blake2b(d.encode("utf-8"), digest_size=8).digest() for d in documents}
    if len(place) < 3:
        raise ValueError(
            f"the corpus has {len(place)} different document(s); at least three are needed, "
            "one each to train, validate and test"
        )
    split = {d: _split_of(int.from_bytes(h, "big") / 2**64) for d, h in place.items()}
    ranked = sorted(place, key=lambda d: place[d], reverse=True)
    for name in (
        "test",
        "valid",
        "train",
    ):  # a small corpus may leave a split empty; the largest hash moves there
        if name not in split.values():
            counts = {n: sum(s == n for s in split.values()) for n in _NAMES}
            largest = max(_NAMES, key=lambda n: counts[n])
            split[next(d for d in ranked if split[d] == largest)] = name
    return Splits(*([d for d in documents if split[d] == name] for name in _NAMES))


def _split_of(fraction: float) -> str:
    return "train" if fraction < 0.9 else "valid" if fraction < 0.95 else "test"


def _cleaned(documents: list[str], clean: Callable[[str], str]) -> list[str]:
    return [text for document in documents if (text := clean(document))]


def _given(source: str | Path | Iterable[str]) -> list[Path] | None:
    """The three files of a folder that holds its own splits."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return None
    found = [next((p for s in SUFFIXES if (p := Path(source) / f"{name}{s}").is_file()), None) for name in _NAMES]
    return [p for p in found if p] if all(found) else None
