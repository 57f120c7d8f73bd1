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
    train and with each other; where valid or test is missing, documents of train that their hash puts there stand in.
    Everything else is split 90/5/5 by a hash of the document, so that equal documents fall together and neither order
    nor other documents decide where one goes (except that a split left empty takes one from the largest).

    Raises ValueError for fewer than three different documents.
    """
    files = _given(source)
    if files:
        given = {name: _cleaned(read_documents(file), clean) for name, file in files.items()}
        for name in ("valid", "test"):
            if name not in given:
                given["train"], given[name] = _taken_out(given["train"], name)
        train = set(given["train"])
        valid = [d for d in given["valid"] if d not in train]
        known = train.union(valid)
        splits = Splits(given["train"], valid, [d for d in given["test"] if d not in known])
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
    place = {d: _fraction(d) for d in documents}
    if len(place) < 3:
        raise ValueError(
            f"the corpus has {len(place)} different document(s); at least three are needed, "
            "one each to train, validate and test"
        )
    split = {d: _split_of(fraction) for d, fraction in place.items()}
    ranked = sorted(place, key=lambda d: place[d], reverse=True)
    for name in reversed(_NAMES):  # a small corpus may leave a split empty; the largest hash moves there
        if name not in split.values():
            counts = {n: sum(s == n for s in split.values()) for n in _NAMES}
            largest = max(_NAMES, key=lambda n: counts[n])
            split[next(d for d in ranked if split[d] == largest)] = name
    return Splits(*([d for d in documents if split[d] == name] for name in _NAMES))


def _fraction(document: str) -> float:
    """A number in [0, 1) that the document alone decides."""
    return int.from_bytes(hashlib.blake2b(document.encode("utf-8"), digest_size=8).digest(), "big") / 2**64


def _split_of(fraction: float) -> str:
    return "train" if fraction < 0.9 else "valid" if fraction < 0.95 else "test"


def _cleaned(documents: list[str], clean: Callable[[str], str]) -> list[str]:
    return [text for document in documents if (text := clean(document))]


def _given(source: str | Path | Iterable[str]) -> dict[str, Path]:
    """The files of a folder that holds its own splits: train and at least one other. None for every other source."""
    if not isinstance(source, (str, Path)) or source == "" or not Path(source).is_dir():
        return {}
    found = {n: p for n in _NAMES for s in reversed(SUFFIXES) if (p := Path(source) / f"{n}{s}").is_file()}
    return found if "train" in found and len(found) > 1 else {}


def _taken_out(train: list[str], name: str) -> tuple[list[str], list[str]]:
    """Training documents without those that their hash puts into split `name`, and those (at least one of several)."""
    if len(set(train)) < 2:
        return train, []
    chosen = {d for d in train if _split_of(_fraction(d)) == name} or {max(train, key=_fraction)}
    return [d for d in train if d not in chosen], [d for d in train if d in chosen]
