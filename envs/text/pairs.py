"""Reading pairs (source, target) from files, folders, iterables, built-in corpora and Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ..arguments import nearest
from .opening import parse_json, shown
from .reading import load_columns, read_lines, read_pairs

Pair = tuple[str, str]

_KEYS_SHOWN = 8
PAIR_SUFFIXES = (".tsv", ".jsonl")
_LANGUAGES = ("zh", "en")
_SOURCES = (
    "use a .tsv file (source<TAB>target per line), a .jsonl file, a folder of these, "
    f"'hf:NAME?source=COLUMN&target=COLUMN', an iterable of (source, target) or one of {', '.join(_LANGUAGES)}"
)
# The built-in file of each task and source language; both directions of translation share one file.
_BUILT_IN = {
    ("qa", "zh"): "qa_zh",
    ("qa", "en"): "qa_en",
    ("translation", "zh"): "translation_zh_en",
    ("translation", "en"): "translation_zh_en",
    ("classification", "zh"): "classification_zh",
    ("classification", "en"): "classification_en",
}


class Place(NamedTuple):
    """A path or dataset, with the names of its source and target.

    Args:
        path: the path without its query.
        source: key or column of the sources.
        target: key or column of the targets.
        split: split of a dataset.
    """

    path: str
    source: str = "source"
    target: str = "target"
    split: str = "train"

    @classmethod
    def of(cls, name: str) -> Place:
        """Parse `PATH?source=KEY&target=KEY` or `hf:NAME?split=…&source=…&target=…`; ValueError for other options."""
        path, mark, query = name.partition("?")
        if not mark or Path(name).exists():
            return cls(name)
        options = dict(parse_qsl(query))
        known = ("source", "target", "split") if path.startswith("hf:") else ("source", "target")
        for option in options:
            if option not in known:
                raise ValueError(
                    f"{name!r} has the unknown option {option!r}{nearest(option, known)}; use {' and '.join(known)}"
                )
        return cls(path, **options)


def read_pair_corpus(corpus: str | Path | Iterable[Pair], task: str = "qa") -> list[Pair]:
    """The pairs of a corpus, without those with a blank side.

    Args:
        corpus: "zh" or "en", the built-in pairs of `task` with sources in that language; a .tsv file with
            `source<TAB>target` per line; a .jsonl file with one object per line, of the keys "source" and "target" or
            those in "FILE.jsonl?source=KEY&target=KEY"; a folder of these files, read in order of their names; a
            Hugging Face dataset "hf:NAME[:CONFIG]?split=train&source=COLUMN&target=COLUMN"; or an iterable of pairs.
        task: "qa", "translation" or "classification".

    Raises: FileNotFoundError for a missing file; ValueError for a file that is empty, not UTF-8 or not of pairs;
        ImportError naming the extra if the library of datasets is missing.
    """
    if not isinstance(corpus, (str, Path)):
        return _checked(_given(corpus), "the iterable of pairs")
    name = str(corpus)
    if corpus == "":
        raise ValueError(f"the name of the corpus is empty; {_SOURCES}")
    if name in _LANGUAGES:
        return _built_in(task, name)
    place = Place.of(name)
    if place.path.startswith("hf:"):
        columns = load_columns(name, place.path.removeprefix("hf:"), place.split, (place.source, place.target))
        return _checked(((_text(s), _text(t)) for s, t in zip(*columns, strict=True)), name)
    path = Path(place.path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in PAIR_SUFFIXES and p.is_file())
        if not files:
            raise FileNotFoundError(f"the folder {path} holds no .tsv or .jsonl file; {_SOURCES}")
        return _checked((pair for f in files for pair in _pairs(f, place)), f"the folder {path}")
    if not path.exists():
        raise FileNotFoundError(f"there is no corpus {name!r}; {_SOURCES}")
    if path.suffix.lower() not in PAIR_SUFFIXES:
        raise ValueError(f"{path} is not a file of pairs (suffix {path.suffix!r}); {_SOURCES}")
    return _checked(_pairs(path, place), str(path))


def _pairs(path: Path, place: Place) -> Iterable[Pair]:
    return _json_lines(path, place) if path.suffix.lower() == ".jsonl" else read_pairs(path)


def _json_lines(path: Path, place: Place) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"line {number} of {path}")
        if not isinstance(row, dict):
            raise ValueError(f"line {number} of {path} is a {type(row).__name__}, not an object with two keys")
        for key in (place.source, place.target):
            if key not in row:
                raise ValueError(
                    f"line {number} of {path} has no key {key!r}; its keys are {_few(row)}; "
                    f"name them as '{path.name}?source=KEY&target=KEY'"
                )
            if isinstance(row[key], (dict, list)):
                raise ValueError(f"line {number} of {path} has a {type(row[key]).__name__} as {key!r}, not a text")
        yield _text(row[place.source]), _text(row[place.target])


def _few(keys: Iterable[str]) -> str:
    """The first of the keys, for a message."""
    names = list(islice((shown(key)[1:-1] for key in keys), _KEYS_SHOWN))
    return ", ".join(names) or "none"


def _text(value: Any) -> str:
    """A value as text on one line; numbers become labels, None becomes blank."""
    return "" if value is None else " ".join(str(value).split())


def _given(corpus: Iterable[Pair]) -> Iterator[Pair]:
    if not isinstance(corpus, Iterable) or isinstance(corpus, (bytes, bytearray)):
        raise ValueError(f"a corpus of pairs cannot be of type {type(corpus).__name__}; {_SOURCES}")
    for number, pair in enumerate(corpus):
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(side, str) for side in pair):
            raise ValueError(f"item {number} of the corpus is {pair!r}, not a pair (source, target) of texts")
        yield pair[0], pair[1]


def _checked(pairs: Iterable[Pair], name: str) -> list[Pair]:
    result = [pair for pair in pairs if pair[0].strip() and pair[1].strip()]
    if not result:
        raise ValueError(f"{name} is empty; a corpus needs at least one pair")
    return result


def _built_in(task: str, language: str) -> list[Pair]:
    if (task, language) not in _BUILT_IN:
        known = ", ".join(sorted({t for t, _ in _BUILT_IN}))
        raise ValueError(f"the task {task!r} has no built-in pairs; use one of {known}")
    file = resources.files(__package__) / "data" / f"{_BUILT_IN[task, language]}.tsv"
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    pairs = [(source, target) for source, _, target in (line.partition("\t") for line in lines)]
    return [(t, s) for s, t in pairs] if (task, language) == ("translation", "en") else pairs
