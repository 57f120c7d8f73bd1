"""Disjoint training, validation and test documents; the same ones where there are fewer than three."""

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
    """Cleaned documents, or pairs, of three disjoint splits."""

    train: list[Item]
    valid: list[Item]
    test: list[Item]


def read_splits(source: str | Path | Iterable[str], clean: Callable[[str], str]) -> Splits[str]:
    """Read, clean and split a corpus.

    A folder with train and valid or test files (.txt or .tsv) keeps these splits, but documents of valid or test that
    are also in an earlier split are removed. A missing valid or test split is taken from train by a hash of the
    documents. Every other corpus is split 90/5/5 by a hash of the document, so equal documents are in the same split,
    which does not depend on order or other documents (but an empty split takes a document from the largest). With one
    or two different documents all three splits are the same.
    """

    def read(place: str | Path | Iterable[str]) -> list[str]:
        return [text for document in read_documents(place) if (text := clean(document))]

    return _splits(source, SUFFIXES, read, str)


def read_pair_splits(
    source: str | Path | Iterable[Pair], clean: Callable[[str], str], task: str = "qa", reverse: bool = False
) -> Splits[Pair]:
    """The same for pairs (see `read_pair_corpus`), split by a hash of the cleaned source.

    Pairs with equal sources are in the same split, whatever their targets, except in a folder with given splits (.tsv
    or .jsonl). With `reverse`, source and target are swapped first.
    """
    query = ""
    if isinstance(source, str) and source:
        place = Place.of(source)
        if Path(place.path).is_dir():  # its files are read one by one, with the same keys
            source, query = place.path, f"?source={quote(place.source)}&target={quote(place.target)}"

    def read(place: str | Path | Iterable[Pair]) -> list[Pair]:
        named = f"{place}{query}" if query else place
        pairs = ((clean(s), clean(t)) for s, t in read_pair_corpus(named, task))
        return [(t, s) if reverse else (s, t) for s, t in pairs if s and t]

    return _splits(source, PAIR_SUFFIXES, read, lambda pair: pair[0])


def split_documents(documents: list[Item], key: Callable[[Item], str] = str) -> Splits[Item]:
    """90/5/5 by a hash of the key of each document; see `read_splits`."""
    place = {k: _fraction(k) for k in map(key, documents)}
    if len(place) < len(_NAMES):
        return Splits(documents, documents, documents)
    split = {k: _split_of(fraction) for k, fraction in place.items()}
    ranked = sorted(place, key=lambda k: place[k], reverse=True)
    for name in reversed(_NAMES):  # in a small corpus a split may be empty; it gets the document with the largest hash
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
                f"no {name} document is left in {source}; each split needs documents that are not in the others"
            )
    return splits


def _fraction(document: str) -> float:
    """A hash of the document as a number in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(document.encode("utf-8"), digest_size=8).digest(), "big") / 2**64


def _split_of(fraction: float) -> str:
    return "train" if fraction < 0.9 else "valid" if fraction < 0.95 else "test"


def _given(source: Any, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder with given splits, train and at least one other; else an empty dict."""
    if not isinstance(source, (str, Path)) or source == "" or not Path(source).is_dir():
        return {}
    found = {n: p for n in _NAMES for s in reversed(suffixes) if (p := Path(source) / f"{n}{s}").is_file()}
    return found if "train" in found and len(found) > 1 else {}


def _taken_out(train: list[Item], name: str, key: Callable[[Item], str]) -> tuple[list[Item], list[Item]]:
    """Move training documents to split `name` by their hash, at least one unless all are equal: (train, moved)."""
    keys = {key(d) for d in train}
    if len(keys) < 2:
        return train, []
    chosen = {k for k in keys if _split_of(_fraction(k)) == name} or {max(keys, key=_fraction)}
    return [d for d in train if key(d) not in chosen], [d for d in train if key(d) in chosen]
