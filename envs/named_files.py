"""The files and folders that the arguments of an environment name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .config import EnvConfig
from .targets.registry import SAMPLES_DOCUMENTS
from .text import BUILT_IN_CORPORA
from .text.cleaning import STOP_WORDS


def named_files(config: EnvConfig) -> dict[str, str]:
    """What making the environment reads besides the package, by the argument that names it: files, folders, hub names.

    Arguments inside another one have its name before them: "cleaning.stop_words".
    """
    fields = ("corpus", "tokenizer", "user_dictionary", "arpa", "target_model")
    named = {name: value for name in fields if isinstance(value := getattr(config, name), str)}
    if config.corpus in BUILT_IN_CORPORA or config.target in SAMPLES_DOCUMENTS:  # which ignore the corpus
        named.pop("corpus", None)
    if not config.tokenizer.endswith(".json"):  # the name of one
        del named["tokenizer"]
    words = config.cleaning.stop_words
    if words is not None and not set(words.split("+")) <= set(STOP_WORDS):
        named["cleaning.stop_words"] = words
    return named


def absolute_paths(config: EnvConfig) -> EnvConfig:
    """`config` with the files and folders that it names from the root on, so that they are found from elsewhere."""
    found: dict[str, Any] = {name: _absolute(value) for name, value in named_files(config).items()}
    words = found.pop("cleaning.stop_words", None)
    cleaning = config.cleaning if words is None else dataclasses.replace(config.cleaning, stop_words=words)
    return dataclasses.replace(config, **found, cleaning=cleaning)


def _absolute(name: str) -> str:
    """The absolute path of a file or folder, with a query behind it such as "?source=KEY"; other names as they are."""
    path, mark, query = name.partition("?")
    path, mark, query = (name, "", "") if Path(name).exists() else (path, mark, query)
    return f"{Path(path).absolute()}{mark}{query}" if path and Path(path).exists() else name
