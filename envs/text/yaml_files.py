"""YAML of configurations, read within limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .limits import LIMITS, raised_by
from .opening import check_file

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
MAX_DEPTH = 50
MAX_PLAIN = 1_000  # characters of a value without quotes: 1:1:1:… is a number in YAML 1.1, and takes long to compute
_PLAIN = (str, int, float, bool, type(None))


# libyaml is many times as fast as Python, where PyYAML was built with it.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Safe):
    """YAML 1.1 reads 1e-3 and None as text, 2026-01-01 as a date; people mean a number, null and text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in _Safe.yaml_implicit_resolvers.items()
}


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

    Returns: text, numbers, truth values, None, and lists and mappings from text to these.
    Raises ValueError for what is not YAML or not of these, and for a text that is too deep or, with its aliases, too
    large.
    """
    try:
        _check_size(text, source)
    except yaml.YAMLError as problem:
        raise ValueError(_not_yaml(source, problem)) from None
    try:
        value = yaml.load(text, _Loader)  # derived from the safe loader
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, LookupError, AttributeError) as problem:
        raise ValueError(_not_yaml(source, problem)) from None
    _check_plain(value, source)
    return value


def dump_yaml(value: Any) -> str:
    """The YAML text that `parse_yaml` reads as `value`, of dicts, lists, numbers and text."""
    text: str = yaml.dump(value, Dumper=_Dumper, allow_unicode=True, sort_keys=False)
    if _LINE_ENDS.search(text):  # YAML takes these for line ends; escaped they are characters
        text = yaml.dump(value, Dumper=_Dumper, allow_unicode=False, sort_keys=False)
    return text


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ValueError where it is none, OSError where it cannot be read."""
    check_file(path, "configuration", "yaml_bytes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no configuration: its YAML must be a mapping of fields")
    return value


def _check_plain(value: Any, source: str) -> None:
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{source} has {name!r} as a name of a setting; names are text")
            _check_plain(part, source)
    elif isinstance(value, list):
        for part in value:
            _check_plain(part, source)
    elif not isinstance(value, _PLAIN):
        raise ValueError(f"{source} has a value of type {type(value).__name__}; use text, numbers, lists and mappings")


def _not_yaml(source: str, problem: Exception) -> str:
    return f"{source} is not YAML: {' '.join(str(problem).split())}"


def _check_size(text: str, source: str) -> None:
    sizes: dict[str, int] = {}
    above: list[tuple[str | None, int]] = []  # anchor and size of every open collection
    total = 0  # of what has been begun
    for event in yaml.parse(text, _Safe):
        size = 0
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            above.append((event.anchor, 1))
            total += 1
            if len(above) > MAX_DEPTH:
                raise ValueError(f"{source} is nested more than {MAX_DEPTH} deep; a configuration is not")
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            anchor, size = above.pop()
            if anchor:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"{source} is not YAML: *{event.anchor} stands for nothing that comes before it")
            size = sizes[event.anchor]
            total += size
        elif isinstance(event, yaml.ScalarEvent):
            size = 1
            total += 1
            if event.anchor:
                sizes[event.anchor] = 1
            if not event.style and len(event.value) > MAX_PLAIN:
                raise ValueError(
                    f"{source} has a value of {len(event.value):,} characters without quotes; put a long text in quotes"
                )
        if above and size:
            above[-1] = (above[-1][0], above[-1][1] + size)
        if total > LIMITS.yaml_values:
            raise ValueError(
                f"{source} has more than {LIMITS.yaml_values:,} values, counting aliases; a configuration has fewer; "
                f"{raised_by('yaml_values')}"
            )
