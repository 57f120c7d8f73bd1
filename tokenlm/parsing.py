"""Configurations from YAML files and the command line: `[CONFIG] [--FIELD VALUE …]` to a typed dataclass."""

from __future__ import annotations

import dataclasses
import re
import sys
import textwrap
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tokenlm.envs.arguments import names_of, nearest, place
from tokenlm.envs.text.yaml_files import parse_yaml, read_mapping

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from tokenlm.agents import RunConfig
    from tokenlm.agents.runs.race import RaceConfig

Config = TypeVar("Config")

# Fields that hold settings by name. jsonargparse does not look into them; `AgentConfig` or the algorithm checks them.
_OPEN = re.compile(
    r"(?P<field>agent(?=$|\.)|algorithm_settings(?=\.)|entries\..+?\.(?:settings|search)(?=\.))(?:\.(?P<name>.+))?"
)


def config_names(command: str = "train") -> list[str]:
    """Names of the configurations that are shipped: of races for the command "race", else of runs."""
    names = [p.name for p in resources.files("tokenlm.configs").iterdir() if p.name.endswith(".yaml")]
    return sorted(n.removesuffix(".yaml") for n in names if n.startswith("race-") == (command == "race"))


def config_path(name: str, command: str = "train") -> Path:
    """The YAML file of a configuration given by name or path."""
    names = config_names(command)
    if Path(name).is_file():
        return Path(name)
    if name in names:
        return Path(str(resources.files("tokenlm.configs") / f"{name}.yaml"))
    raise FileNotFoundError(
        f"there is no configuration {name!r}{nearest(name, names)}; use a YAML file or one of {', '.join(names)}"
    )


def parse_run(words: Sequence[str], command: str = "train") -> RunConfig:
    """The run described by `[CONFIG] [--FIELD VALUE …]`."""
    from tokenlm.agents import RunConfig

    return _parsed(RunConfig, words, command)


def parse_race(words: Sequence[str]) -> RaceConfig:
    """The race described by `CONFIG [--FIELD VALUE …]`."""
    from tokenlm.agents.runs.race import RaceConfig

    return _parsed(RaceConfig, words, "race")


def _parsed(kind: type[Config], words: Sequence[str], command: str) -> Config:
    parser = _parser(kind, command)
    if any(word in ("-h", "--help") for word in words):
        print(parser.format_help() + "\n" + parts_help())
        sys.exit(0)
    words, given = list(words), {}
    if words and words[0] == "--config":
        words.pop(0)
    if words and not words[0].startswith("-"):
        path = config_path(words.pop(0), command)
        given = read_mapping(path)
    rest = _take_settings(words, given)
    agent = given.pop("agent", {}) if "agent" in names_of(kind) else None
    values = parser.instantiate(parser.parse_args(rest, namespace=parser.parse_object(given))).as_dict()
    if agent is not None:
        from tokenlm.agents import AgentConfig

        values["agent"] = AgentConfig.of(None, agent)
    return kind(**values)


def _parser(kind: type, command: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"tokenlm {command} [CONFIG]",
        description=f"CONFIG is the path of a YAML file or one of: {', '.join(config_names(command))}.",
        exit_on_error=False,
    )
    parser.add_class_arguments(kind, as_group=False, skip={"agent"} & set(names_of(kind)))
    return parser


def _take_settings(words: Sequence[str], given: dict[str, Any]) -> list[str]:
    """Put the settings among `words` into `given`, in place; the other words come back.

    Where they choose another network or rule, what the file says of the former one is kept as far as the new one has
    it.
    """
    rest: list[str] = []
    taken: list[tuple[str, list[str], Any]] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        option, equals, value = word.partition("=")
        found = _OPEN.fullmatch(option.removeprefix("--"))
        if not option.startswith("--") or not found:
            rest.append(word)
            continue
        if not equals and not queue:
            raise ValueError(f"{option} needs a value")
        chosen = parse_yaml(value if equals else queue.pop(0), option)
        taken.append((found["field"], found["name"].split(".") if found["name"] else [], chosen))
    if any(field == "agent" for field, *_ in taken) or "agent" in given:
        _take_agent(given, [(names, chosen) for field, names, chosen in taken if field == "agent"])
    for field, names, chosen in taken:
        if field == "algorithm_settings":
            place(given, [field, *names], chosen)
        elif field != "agent":  # names of entries may have dots
            _, entry, part = ["entries", *field[8:].rsplit(".", 1)]
            entries = given.get("entries", {})
            if entry not in entries:
                raise ValueError(
                    f"the race has no entry {entry!r}{nearest(entry, entries)}; it has {', '.join(entries)}"
                )
            place(given, ["entries", entry, part, *names], chosen)
    return rest


def _take_agent(given: dict[str, Any], taken: list[tuple[list[str], Any]]) -> None:
    """Put settings of the agent over those of the file, both in their long form."""
    from tokenlm.agents import AgentConfig
    from tokenlm.agents.dqn.format_1 import agent_settings, is_format_1
    from tokenlm.agents.dqn.forms import PARTS, mapping_of
    from tokenlm.agents.dqn.forms import place as place_of
    from tokenlm.agents.dqn.rules import RULES
    from tokenlm.agents.dqn.schedules import Schedule
    from tokenlm.agents.networks import NETWORKS

    for names, chosen in taken:
        if not names:  # --agent '{loss: dqn}'
            given["agent"] = chosen
    agent = given.get("agent", {})
    if not isinstance(agent, dict):
        raise ValueError(f"agent must be settings by name, not {agent!r}")
    agent = AgentConfig.long_form(agent_settings(agent) if is_format_1(agent) else agent)
    loss, fields = agent.get("loss", "soft_q"), names_of(AgentConfig)
    placed: list[tuple[list[str], Any]] = []
    for names, chosen in taken:
        if not names:
            continue
        part, inside = place_of(names[0], loss, fields)
        path = [inside, *names[1:]] if part is None else [part, inside, *names[1:]]
        if len(path) == 1 and path[0] in PARTS:
            settings = mapping_of(path[0], chosen)
            if isinstance(chosen, dict):
                agent[path[0]] = {}
            placed += [([path[0], name], value) for name, value in settings.items()]
        else:
            placed.append((path, chosen))
    for part, kinds, path in (("network", NETWORKS, ["network", "name"]), ("rule", RULES, ["loss"])):
        kind = next((kinds.get(chosen) for names, chosen in placed if names == path and isinstance(chosen, str)), None)
        if kind is not None and part in agent:
            agent[part] = {name: value for name, value in agent[part].items() if name in names_of(kind)}
    for names, chosen in placed:
        if len(names) > 1 and names[0] in ("temperature", "epsilon", "learning_rate"):
            before = agent.get(names[0])
            if isinstance(before, (int, float)):
                agent[names[0]] = dataclasses.asdict(Schedule.of(before))
        place(agent, names, chosen)
    given["agent"] = agent


def field_names(config: Any, prefix: str = "") -> list[str]:
    """All fields of a configuration, with dots."""
    names = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        names.append(prefix + field.name)
        if dataclasses.is_dataclass(value):
            names += field_names(value, f"{prefix}{field.name}.")
    return names


def parts_help() -> str:
    """What can be set of the agent, each network and rule, the optimizer and the phrases, with defaults."""
    from tokenlm.agents import AgentConfig
    from tokenlm.agents.dqn.config import PhraseConfig
    from tokenlm.agents.dqn.optimizer import OptimizerConfig
    from tokenlm.agents.dqn.rules import RULES
    from tokenlm.agents.networks import NETWORKS

    return "\n".join(
        [
            *_part_help("agent", "", {"": AgentConfig}),
            *_part_help("agent.network", "--agent.network.name", NETWORKS),
            *_part_help("agent.rule", "--agent.loss", RULES),
            *_part_help("agent.optimizer", "", {"": OptimizerConfig}),
            *_part_help("agent.phrases", "", {"": PhraseConfig}),
        ]
    )


def _part_help(field: str, choice: str, kinds: dict[str, Any]) -> list[str]:
    lines = [f"settings below {field}:", ""]
    settings: dict[str, tuple[str, dataclasses.Field[Any]]] = {}
    for name, kind in kinds.items():
        explained = _explained(kind)
        own = [inner for inner in dataclasses.fields(kind) if inner.name != "name" or not choice]
        for inner in own:
            settings.setdefault(inner.name, (explained.get(inner.name, "").rstrip("."), inner))
        if choice:
            known = ", ".join(f"{inner.name} {inner.default}" for inner in own)
            lines.append(f"  {choice} {name}: {(kind.__doc__ or '').splitlines()[0]}")
            lines += _wrapped(f"settings: {known}" if known else "no settings")
    lines += [""] if choice else []
    for name, (text, inner) in settings.items():
        shown = str(inner.type).removeprefix("Literal")
        lines.append(f"  --{field}.{name} {name.upper()}")
        lines += _wrapped(f"{text} (type: {shown}, default: {_default(inner)})")
    return [*lines, ""]


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 96, initial_indent=" " * 8, subsequent_indent=" " * 8)


def _explained(kind: Any) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each argument."""
    from docstring_parser import parse

    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for argument in parse(each.__doc__ or "").params:
            texts[argument.arg_name] = " ".join((argument.description or "").split())
    return texts
