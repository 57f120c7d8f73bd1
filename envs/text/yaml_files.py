"""YAML of configurations, read within limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .opening import check_file

MAX_BYTES = 4_000_000
MAX_DEPTH = 50
MAX_NODES = 100_000  # aliases counted as what they stand for


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text and None as text; people mean a number and null."""


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what `_Loader` would not read as text."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("None$"), ["N"])
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Args:
        text: YAML.
        source: where it comes from, for messages.

    Raises ValueError for what is not YAML, and for a text that is too deep or, with its aliases, too large.
    """
    try:
        _check_size(text, source)
    except yaml.YAMLError as problem:
        raise ValueError(_not_yaml(source, problem)) from None
    try:
        return yaml.load(text, _Loader)  # derived from the safe loader
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as problem:
        raise ValueError(_not_yaml(source, problem)) from None


def dump_yaml(value: Any) -> str:
    """The YAML text that `parse_yaml` reads as `value`, of dicts, lists, numbers and text."""
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    return text


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ValueError where it is none, OSError where it cannot be read."""
    check_file(path, "configuration", MAX_BYTES)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no configuration: its YAML must be a mapping of fields")
    return value


def _not_yaml(source: str, problem: Exception) -> str:
    return f"{source} is not YAML: {' '.join(str(problem).split())}"


def _check_size(text: str, source: str) -> None:
    sizes: dict[str, int] = {}
    above: list[tuple[str | None, int]] = []  # anchor and size of every open collection
    total = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        size = 0
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            above.append((event.anchor, 1))
            if len(above) > MAX_DEPTH:
                raise ValueError(f"{source} is nested more than {MAX_DEPTH} deep; a configuration is not")
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            anchor, size = above.pop()
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
        if above and size:
            above[-1] = (above[-1][0], above[-1][1] + size)
        total = max(total, size, above[0][1] if above else 0)
        if total > MAX_NODES:
            raise ValueError(
                f"{source} has more than {MAX_NODES:,} values, counting aliases; a configuration has fewer"
            )
