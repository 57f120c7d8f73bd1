"""Configurations from YAML files and the command line: `[CONFIG] [--FIELD VALUE …]` to a typed dataclass."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tokenlm.aliases import without_aliases
from tokenlm.commands.command import note
from tokenlm.envs import fitted
from tokenlm.envs.arguments import names_of, nearest, place
from tokenlm.envs.text.yaml_files import parse_yaml, read_mapping
from tokenlm.help_pages import all_pages, field_names, race_page, train_page, tune_page

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from tokenlm.agents import RunConfig
    from tokenlm.agents.runs.race import RaceConfig
    from tokenlm.agents.runs.search import Space, TuneConfig

Config = TypeVar("Config")

AUTO = "auto"  # as env.max_new_tokens: what `fitted` finds. EnvConfig itself holds a number
_KINDS = ("race", "search")  # beginnings of names of configurations that are not those of a run
TEXTS, PAIRS = (".txt", ".gz"), (".tsv", ".jsonl")  # suffixes of a corpus in place of a configuration

# Fields that hold settings by name. jsonargparse does not look into them; `AgentConfig` or the algorithm checks them.
_OPEN = re.compile(
    r"(?P<field>agent(?=$|\.)|algorithm_settings(?=\.)|entries\..+?\.(?:settings|search)(?=\.))(?:\.(?P<name>.+))?"
)


def config_names(command: str = "train") -> list[str]:
    """Names of the configurations that are shipped: races for "race", spaces for "search", else those of runs."""
    names = [
        p.name.removesuffix(".yaml") for p in resources.files("tokenlm.configs").iterdir() if p.name.endswith(".yaml")
    ]
    kinds = {name: next((kind for kind in _KINDS if name.startswith(f"{kind}-")), "train") for name in names}
    return sorted(name for name in names if kinds[name] == (command if command in _KINDS else "train"))


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
    """The run described by `[CONFIG] [--FIELD VALUE …]`, or by `--continue [RUN] [--FIELD VALUE …]`."""
    from tokenlm.agents import RunConfig
    from tokenlm.agents.runs.config import plain
    from tokenlm.agents.runs.continuing import check_longer, finished_run_of, going_on, is_finished, placed, settings_of

    words, run = _take_continue(words)
    if run is None:
        return _parsed(RunConfig, words, command)
    if not run:  # the same command with more steps
        config = _parsed(RunConfig, words, command)
        folder = finished_run_of(config)
        return check_longer(going_on(config, folder), folder)
    if words and not words[0].startswith("-"):
        raise ValueError(f"--continue {run} takes the settings of that run; leave out {words[0]!r} or {run!r}")
    folder = Path(run) if Path(run).name not in ("", "..") else Path(run).resolve()
    before = settings_of(folder)
    if is_finished(folder):
        return check_longer(_parsed(RunConfig, words, command, plain(going_on(before, folder))), folder)
    if words:
        raise ValueError(f"{run} is not finished; `tokenlm train --continue {run}` alone finishes it first")
    return placed(before, folder)


def parse_race(words: Sequence[str]) -> RaceConfig:
    """The race described by `CONFIG [--FIELD VALUE …]`."""
    from tokenlm.agents.runs.race import RaceConfig

    return _parsed(RaceConfig, words, "race")


def parse_tune(words: Sequence[str]) -> TuneConfig:
    """The search described by `[CONFIG] [--trials N …] [--FIELD VALUE …]`."""
    from tokenlm.agents.runs.search import TuneConfig

    own = [name for name in names_of(TuneConfig) if name != "run"]
    rest: list[str] = []
    chosen: dict[str, Any] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        if not option.startswith("--") or name not in own:
            rest.append(word)
            continue
        if not equals and not queue:
            raise ValueError(f"{option} needs a value")
        chosen[name] = parse_yaml(value if equals else queue.pop(0), option)
    run = parse_run(rest, "tune")
    chosen["space"] = read_space(str(chosen["space"])) if "space" in chosen else default_space(run.algorithm)
    return TuneConfig(run, **chosen)


def read_space(name: str) -> Space:
    """The space of a search, given by name or path."""
    from tokenlm.agents.runs.search import Space

    path = config_path(name, "search")
    space = read_mapping(path).get("space")
    if not isinstance(space, dict):
        raise ValueError(f"{path} has no space of settings by name, as in configs/search-dqn.yaml")
    return Space.of(space, str(path))


def default_space(algorithm: str) -> Space:
    """The space that is shipped for an algorithm; ValueError where there is none."""
    for name in config_names("search"):
        if algorithm in read_mapping(config_path(name, "search")).get("algorithms", ()):
            return read_space(name)
    raise ValueError(
        f"no space of settings is shipped for the algorithm {algorithm!r}; write one, as configs/search-dqn.yaml is, "
        "and give it with --space FILE"
    )


def _take_continue(words: Sequence[str]) -> tuple[list[str], str | None]:
    """The words without `--continue [RUN]`, and RUN: empty where none is named, None without the option."""
    rest = list(words)
    place = next((n for n, word in enumerate(rest) if word.partition("=")[0] == "--continue"), None)
    if place is None:
        return rest, None
    _, equals, run = rest.pop(place).partition("=")
    if not equals and place < len(rest) and not rest[place].startswith("-"):
        run = rest.pop(place)
    return rest, run


def _parsed(kind: type[Config], words: Sequence[str], command: str, settings: dict[str, Any] | None = None) -> Config:
    """A configuration from words, over those of a file or over `settings`."""
    words = list(words)
    if any(word in ("-h", "--help", "--help-all", "--help_all") for word in words):
        _help(command, any(word.startswith("--help") and word.endswith("all") for word in words))
    given = settings or {}
    if words and words[0] == "--config":
        words.pop(0)
    if words and not words[0].startswith("-"):
        given = _given(words.pop(0), command)
    words, said = without_aliases(words, field_names(command))
    for sentence in said:
        note(sentence)
    parser = _parser(kind, command)
    rest = _take_settings(words, given)
    automatic, has_context = _take_automatic(rest, given)
    if not isinstance(given.get("actors", {}), dict):
        raise ValueError(f"actors must be settings by name, not {given['actors']!r}")
    agent = given.pop("agent", {}) if "agent" in names_of(kind) else None
    values = parser.instantiate(parser.parse_args(rest, namespace=parser.parse_object(given))).as_dict()
    values["env"].check_given(_asked(values["env"].fixed, rest, given))
    if automatic:
        values["env"] = fitted(values["env"], context=not has_context)
    if agent is not None:
        from tokenlm.agents import AgentConfig

        values["agent"] = AgentConfig.of(None, agent)
    return kind(**values)


def _asked(names: Collection[str], words: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the environment among `names` that the words ask for, or else the settings."""
    env = given.get("env")
    asked = dict(env) if isinstance(env, dict) else {}
    for option, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = option.partition("=")
        if name.startswith("--env.") and name.removeprefix("--env.") in names:
            asked[name.removeprefix("--env.")] = parse_yaml(value if equals else following, name)
    return asked


def _take_automatic(rest: list[str], given: dict[str, Any]) -> tuple[bool, bool]:
    """Take `env.max_new_tokens: auto` out of words and settings, in place.

    Returns whether it stands there last, and whether a context_length is given.
    """
    env = given.get("env")
    env = env if isinstance(env, dict) else {}
    automatic = env.get("max_new_tokens") == AUTO
    if automatic:
        del env["max_new_tokens"]
    has_context = "context_length" in env or any(w.partition("=")[0] == "--env.context_length" for w in rest)
    place = 0
    while place < len(rest):
        option, equals, value = rest[place].partition("=")
        length = 1 if equals else 2
        if option == "--env.max_new_tokens":
            value = value if equals else "".join(rest[place + 1 : place + 2])
            automatic = value == AUTO
            if automatic:
                del rest[place : place + length]
                continue
        place += 1
    return automatic, has_context


def _help(command: str, everything: bool) -> NoReturn:
    from tokenlm.agents.runs.output import say

    configs = config_names(command)
    if command == "tune":
        page = tune_page(configs, config_names("search"))
    else:
        page = race_page(configs) if command == "race" else train_page(command, configs)
    say(all_pages(command) if everything else page)
    sys.exit(0)


def _given(name: str, command: str) -> dict[str, Any]:
    """The settings that the first word names: those of a configuration, or "text" with a file of texts as corpus."""
    path = Path(name)
    folder = path.is_dir() and name not in config_names(command)  # runs/ has folders of these names
    if command == "race" or not (folder or path.suffix.lower() in (*TEXTS, *PAIRS)):
        return read_mapping(config_path(name, command))
    if not path.exists():
        raise FileNotFoundError(f"there is no file {name!r}; give a file of texts, one on each line")
    if path.suffix.lower() in PAIRS:
        raise ValueError(
            f"{name} holds pairs; say what they are for: tokenlm {command} qa --env.corpus {name} "
            "(or translation, classification)"
        )
    if folder and (path / "config.yaml").exists():
        raise ValueError(f"{name} is a run; `tokenlm train --continue {name} --total_steps N` goes on with it")
    given = read_mapping(config_path("text"))
    given["name"] = path.name if folder else path.name.split(".")[0] or "text"
    given["env"] = {**given.get("env", {}), "corpus": name}
    return given


def _parser(kind: type, command: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(
        prog=f"tokenlm {command} [CONFIG]",
        description=f"CONFIG is the path of a YAML file or one of: {', '.join(config_names(command))}.",
        exit_on_error=False,
        allow_abbrev=False,
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
    rule = next((RULES.get(chosen) for names, chosen in placed if names == ["loss"] and isinstance(chosen, str)), None)
    if rule is not None:
        unused = (*rule.ignores, *(() if rule.starts_from_likelihood else ("pretrain",)))
        agent = {name: value for name, value in agent.items() if name not in unused}
    for names, chosen in placed:
        if len(names) > 1 and names[0] in ("temperature", "epsilon", "learning_rate"):
            before = agent.get(names[0])
            if isinstance(before, (int, float)):
                agent[names[0]] = dataclasses.asdict(Schedule.of(before))
        place(agent, names, chosen)
    given["agent"] = agent
