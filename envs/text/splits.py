"""Train, validation and test documents that never mix."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from .pairs import PAIR_SUFFIXES, Pair, Place, read_pair_corpus
from .reading import SUFFIXES, read_documents

_NAMES = ("train", "valid", "test")


Item = TypeVar("Item", str, tuple[str, str])


@dataclass(frozen=True)
class Splits(Generic[Item]):
    """Cleaned documents, or pairs, of the three splits; none stands in two."""

    train: list[Item]
    valid: list[Item]
    test: list[Item]


def read_splits(source: str | Path | Iterable[str], clean: Callable[[str], str]) -> Splits[str]:
    """Read, clean and split a corpus.

    A folder with train, valid and test files (.txt or .tsv) is taken as it is, less what valid and test share with
    train and with each other; where valid or test is missing, documents of train that their hash puts there stand in.
    Everything else is split 90/5/5 by a hash of the document, so that equal documents fall together and neither order
    nor other documents decide where one goes (except that a split left empty takes one from the largest).

    Raises ValueError for fewer than three different documents.
    """

    def read(place: str | Path | Iterable[str]) -> list[str]:
        return [text for document in read_documents(place) if (text := clean(document))]

    return _splits(source, SUFFIXES, read, str)


def read_pair_splits(
    source: str | Path | Iterable[Pair], clean: Callable[[str], str], task: str = "qa", reverse: bool = False
) -> Splits[Pair]:
    """The same for pairs (see `read_pair_corpus`), split by a hash of the cleaned source.

    Equal sources never stand in two splits, however their targets differ; only in a folder with splits of its own
    (.tsv or .jsonl) they may. With `reverse` source and target change places before anything else.
    """
    query = ""
    if isinstance(source, str) and source:
        place = Place.of(source)
        if Path(place.path).is_dir():  # its files are read one by one, with the same names of keys
            source, query = place.path, f"?source={quote(place.source)}&target={quote(place.target)}"

    def read(place: str | Path | Iterable[Pair]) -> list[Pair]:
        named = f"{place}{query}" if query else place
        pairs = ((clean(s), clean(t)) for s, t in read_pair_corpus(named, task))
        return [(t, s) if reverse else (s, t) for s, t in pairs if s and t]

    return _splits(source, PAIR_SUFFIXES, read, lambda pair: pair[0])


def split_documents(documents: list[Item], key: Callable[[Item], str] = str) -> Splits[Item]:
    """90/5/5 by a hash of the key of each document; see `read_splits`."""
    place = {k: _fraction(k) for k in map(key, documents)}
    if len(place) < 3:
        raise ValueError(
            f"the corpus has {len(place)} different document(s); at least three are needed, "
            "one each to train, validate and test"
        )
    split = {k: _split_of(fraction) for k, fraction in place.items()}
    ranked = sorted(place, key=lambda k: place[k], reverse=True)
    for name in reversed(_NAMES):  # a small corpus may leave a split empty; the largest hash moves there
        if name not in split.values():
            counts = {n: sum(s == n for s in split.values()) for n in _NAMES}
            largest = max(_NAMES, key=lambda n: counts[n])
            split[next(k for k in ranked if split[k] == largest)] = name
    return Splits(*([d for d in documents if split[key(d)] == name] for name in _NAMES))


def _splits(
    source: Any, suffixes: tuple[str, ...], read: Callable[[Any], list[Item]], key: Callable[[Item], str]
) -> Splits[Item]:
    files = _given(source, suffixes)
    if files:
        given = {name: read(file) for name, file in files.items()}
        for name in ("valid", "test"):
            if name not in given:
                given["train"], given[name] = _taken_out(given["train"], name, key)
        train = set(given["train"])
        valid = [d for d in given["valid"] if d not in train]
        known = train.union(valid)
        splits = Splits(given["train"], valid, [d for d in given["test"] if d not in known])
    else:
        splits = split_documents(read(source), key)
    for name in _NAMES:
        if not getattr(splits, name):
            raise ValueError(
                f"no {name} document is left in {source}; each split needs documents that the others do not hold"
            )
    return splits


def _fraction(document: str) -> float:
    """A number in [0, 1) that the document alone decides."""
    return int.from_bytes(hashlib.blake2b(document.encode("utf-8"), digest_size=8).digest(), "big") / 2**64


def _split_of(fraction: float) -> str:
    return "train" if fraction < 0.9 else "valid" if fraction < 0.95 else "test"


def _given(source: Any, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder that holds its own splits: train and at least one other. None for every other source."""
    if not isinstance(source, (str, Path)) or source == "" or not Path(source).is_dir():
        return {}
    found = {n: p for n in _NAMES for s in reversed(suffixes) if (p := Path(source) / f"{n}{s}").is_file()}
    return found if "train" in found and len(found) > 1 else {}


def _taken_out(train: list[Item], name: str, key: Callable[[Item], str]) -> tuple[list[Item], list[Item]]:
    """Training documents without those that their hash puts into split `name`, and those (at least one of several)."""
    keys = {key(d) for d in train}
    if len(keys) < 2:
        return train, []
    chosen = {k for k in keys if _split_of(_fraction(k)) == name} or {max(keys, key=_fraction)}
    return [d for d in train if key(d) not in chosen], [d for d in train if key(d) in chosen]
