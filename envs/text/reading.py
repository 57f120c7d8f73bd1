"""Reading documents from files, folders, iterables, built-in corpora and Hugging Face datasets."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from ..arguments import nearest
from .opening import text_lines

BUILT_IN_CORPORA = ("zh", "en", "jueju")
SUFFIXES = (".txt", ".tsv")
_SOURCES = f"use a text file, a .tsv file, a folder, 'hf:NAME' or one of {', '.join(BUILT_IN_CORPORA)}"
_BLOCK = 1 << 20  # bytes
_HF_OPTIONS = {"split": "train", "column": "text"}


def read_documents(source: str | Path | Iterable[str]) -> list[str]:
    """The documents of a corpus, without blank ones.

    Args:
        source: "zh", "en" or "jueju" (built in); a text file with one document per line; a .tsv file with the
            documents in its second column; a folder of .txt and .tsv files, read in order of their names; a Hugging
            Face dataset "hf:NAME[:CONFIG]", optionally with "?split=train&column=text"; or an iterable of texts.

    Raises: FileNotFoundError for a missing file; ValueError for a file that is empty or not UTF-8, or a source of
        another type; ImportError naming the extra if the library of datasets is missing.
    """
    if not isinstance(source, (str, Path)):
        return _checked(_texts(source), "the iterable of texts")
    name = str(source)
    if source == "":
        raise ValueError(f"the name of the corpus is empty; {_SOURCES}")
    if name in BUILT_IN_CORPORA:
        text = (resources.files(__package__) / "data" / f"{name}.txt").read_text(encoding="utf-8")
        return text.split("\n")[:-1]
    if name.startswith("hf:"):
        return _checked(_dataset(name), name)
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise FileNotFoundError(f"the folder {path} holds no .txt or .tsv file")
        return _checked((d for f in files for d in _documents(f)), f"the folder {path}")
    if not path.exists():
        raise FileNotFoundError(f"there is no corpus {name!r}; {_SOURCES}")
    return _checked(_documents(path), str(path))


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Pairs from a .tsv file with `source<TAB>target` per line, without blank lines.

    Raises ValueError with a line that does not have exactly one tab.
    """
    pairs = []
    for number, line in enumerate(read_lines(Path(path)), 1):
        if not line.strip():
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            raise ValueError(
                f"line {number} of {path} has {len(columns) - 1} tabs; every line must be source<TAB>target"
            )
        pairs.append((columns[0], columns[1]))
    if not pairs:
        raise ValueError(f"{path} is empty; it needs at least one line source<TAB>target")
    return pairs


def _documents(path: Path) -> Iterator[str]:
    if path.suffix.lower() == ".tsv":
        return (target for _, target in read_pairs(path))
    return read_lines(path)


def read_lines(path: Path, limit: str = "text_bytes") -> Iterator[str]:
    """Lines of a UTF-8 file, separated by line feed, carriage return or both, but no other Unicode line ends.

    Args:
        path: the file.
        limit: name of the limit of its bytes, see `Limits`.

    Raises: FileNotFoundError for a missing file; ValueError for a folder, a pipe, a compressed file, one that is not
        UTF-8, or a line too long (see `opening`).
    """
    try:
        yield from text_lines(path, limit=limit)
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not UTF-8 (first invalid byte at offset {_first_invalid_byte(path)}); convert it to UTF-8"
        ) from None


def _first_invalid_byte(path: Path) -> int:
    decoder = codecs.getincrementaldecoder("utf-8")()
    read = 0
    with path.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            pending = len(decoder.getstate()[0])  # bytes of a character that the block before began
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as problem:
                return read - pending + problem.start
            if not block:
                return read
            read += len(block)


def _texts(source: Iterable[str]) -> Iterator[str]:
    if not isinstance(source, Iterable) or isinstance(source, (bytes, bytearray)):
        raise ValueError(f"a corpus cannot be of type {type(source).__name__}; {_SOURCES}, or an iterable of texts")
    for number, text in enumerate(source):
        if not isinstance(text, str):
            raise ValueError(
                f"document {number} is {type(text).__name__}, not text; a corpus must be an iterable of str"
            )
        yield text


def _checked(documents: Iterable[str], name: str) -> list[str]:
    result = [d for d in documents if d.strip()]
    if not result:
        raise ValueError(f"{name} is empty; a corpus needs at least one line of text")
    return result


def _dataset(source: str) -> Iterator[str]:
    place, _, query = source.removeprefix("hf:").partition("?")
    options = {**_HF_OPTIONS, **dict(parse_qsl(query))}
    for option in options:
        if option not in _HF_OPTIONS:
            raise ValueError(
                f"{source!r} has the unknown option {option!r}{nearest(option, _HF_OPTIONS)}; use split and column"
            )
    (texts,) = load_columns(source, place, options["split"], (options["column"],))
    return (line for text in texts if text is not None for line in re.split(r"\r\n?|\n", str(text)))


def load_columns(source: str, place: str, split: str, columns: tuple[str, ...]) -> list[Iterable[Any]]:
    """Columns of a Hugging Face dataset.

    Args:
        source: the name as the user gave it, for error messages.
        place: NAME or NAME:CONFIG.
        split: split of the dataset.
        columns: names of the columns.

    Raises: ImportError naming the extra if the library is missing, ValueError for a missing column.
    """
    try:
        import datasets
    except ImportError:
        raise ImportError(f'{source!r} needs the library datasets; pip install "tokenlm[hf]"') from None
    name, _, config = place.partition(":")
    rows = datasets.load_dataset(name, config or None, split=split)
    for column in columns:
        if column not in rows.column_names:
            option = "column" if len(columns) == 1 else "source" if column == columns[0] else "target"
            raise ValueError(
                f"{source!r} has no column {column!r}; add ?{option}= with one of {', '.join(rows.column_names)}"
            )
    return [rows[column] for column in columns]
