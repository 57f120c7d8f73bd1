"""The help of `train`, `tune` and `race`: ten options on one screen, and every field with what its docstring says."""

from __future__ import annotations

import dataclasses
import textwrap
import typing
from typing import Any

TRAIN = """usage: tokenlm {command} [CONFIG|FILE] [--FIELD VALUE …]

  tokenlm {command} quickstart                          the built-in Chinese corpus
  tokenlm {command} poems.txt                           your own texts, one on each line
  tokenlm {command} qa --env.corpus pairs.tsv           pairs: question<TAB>answer on each line
  tokenlm {command} poems.txt --total_steps 300_000 --env.tokenizer char --name characters
  tokenlm train --continue runs/poems --total_steps 600_000   goes on with a finished run

CONFIG is a YAML file or one of:
{configs}

Most used of all fields (default):
  --total_steps N             tokens that the agent writes while it learns ({total_steps:,})
  --max_seconds N             stop after so many seconds of learning, if that comes first (none)
  --name NAME                 its folder is runs/NAME; a finished run is never overwritten ({name})
  --seed N                    of everything random ({seed})
  --env.corpus PLACE          a .txt or .tsv file, a folder, zh, en, hf:NAME ({corpus})
  --env.tokenizer NAME        auto, jieba, char, word, nltk, bpe or a tokenizer.json ({tokenizer})
  --env.max_new_tokens N      longest text; auto: what holds 95 % of the documents ({max_new_tokens})
  --agent.learning_rate X     or {{start: X, end: Y}} ({learning_rate})
  --agent.loss RULE           soft_q, dqn, double, munchausen, ilql, cross_entropy … ({loss})
  --agent.network.hidden_size N   ({hidden_size}), --agent.network.name lstm, transformer …
  --agent.temperature X       1: writes like the corpus; towards 0: the most likely text ({temperature})

A name that can mean one field only is enough: --lr, --hidden_size, --corpus.
tokenlm config [CONFIG] [--FIELD VALUE …] prints every field with its value.
`tokenlm {command} --help-all` explains all {count} fields."""

TUNE = """usage: tokenlm tune [CONFIG|FILE] [--trials N] [--FIELD VALUE …]

  tokenlm tune quickstart --trials 50                   the shipped space of its algorithm
  tokenlm tune poems.txt --trials 30 --workers 2        your own texts, two trainings side by side
  tokenlm tune sb3-ppo --space space.yaml                your own space
  tokenlm train runs/quickstart-tune/best.yaml          train with what was found

CONFIG is a YAML file or one of:
{configs}

Its own fields (default):
  --trials N                  settings to try ({trials})
  --workers N                 processes side by side ({workers})
  --share X                   part of total_steps that a trial has ({share:.2g})
  --space NAME                a YAML file of settings, or one of
{spaces}
  --worlds '[N, …]'           target seeds that are tuned on, of markov, factored, teacher ({worlds})
  --prune false               let every trial train to its end

Of all other fields, those of `tokenlm train`:
  --total_steps N             of the whole training; a trial has its share of them
  --evaluations N             in each trial; after each it may end early
  --name NAME                 its folder is runs/NAME-tune
  --env.corpus PLACE          a .txt or .tsv file, a folder, zh, en, hf:NAME

The same command goes on after a stop.
`tokenlm tune --help-all` explains all {count} fields."""

RACE = """usage: tokenlm race CONFIG [--FIELD VALUE …]

  tokenlm race race-markov                              find the most likely text of a Markov chain
  tokenlm race race-zh --seeds 3 --max_seconds 120      the built-in Chinese corpus
  tokenlm race race-songci --env.corpus PATH            your own corpus
  tokenlm race race-markov --only '[TokenLM soft DQN, SB3 DQN]'

CONFIG is a YAML file of entries or one of:
{configs}

Most used of all fields (default):
  --defaults true             every algorithm as it comes, ours too; no search
  --trials N                  settings searched for every entry with a space ({trials})
  --worlds '[N, …]'           target seeds that are raced; --tuning_worlds: searched on
  --legs '[steps]'            equal steps alone, or [seconds] (both)
  --seeds N                   runs of each entry in each world and leg ({seeds})
  --total_steps N             environment steps of the runs at equal steps ({total_steps:,})
  --max_seconds N             seconds of the runs at equal time ({max_seconds:g})
  --only '[ENTRY, …]'         these entries alone (all)
  --entries.NAME.settings.X V a setting of one entry
  --env.corpus PLACE          a .txt or .tsv file, a folder, zh, en, hf:NAME ({corpus})
  --evaluations N             points of each curve ({evaluations})
  --processes N               runs side by side ({processes})
  --threads N                 processor threads of each run ({threads})
  --output FOLDER             of all races ({output})

`tokenlm race --help-all` explains all {count} fields. The same command goes on after a stop."""


def train_page(command: str, configs: list[str]) -> str:
    """The short help of `train` and `config`."""
    from tokenlm.agents import RunConfig

    config = RunConfig()
    agent, env = config.agent, config.env
    return TRAIN.format(
        command=command, configs=_names(configs), count=_count("train"), total_steps=config.total_steps,
        name="CONFIG", seed=config.seed, corpus=env.corpus, tokenizer=env.tokenizer,
        max_new_tokens=env.max_new_tokens, loss=agent.loss, hidden_size=getattr(agent.network, "hidden_size", "-"),
        learning_rate=f"{agent.learning_rate.start:g} to {agent.learning_rate.end:g}",
        temperature=f"{agent.temperatures.start:g}",
    )  # fmt: skip


def tune_page(configs: list[str], spaces: list[str]) -> str:
    """The short help of `tune`."""
    from tokenlm.agents.runs.search.config import SHARE, TUNING_SEED, TuneConfig

    own = {f.name: f.default for f in dataclasses.fields(TuneConfig)}
    return TUNE.format(
        configs=_names(configs), trials=own["trials"], workers=own["workers"], share=SHARE, worlds=[TUNING_SEED],
        spaces=_names(spaces), count=_count("tune"),
    )  # fmt: skip


def race_page(configs: list[str]) -> str:
    """The short help of `race`."""
    from tokenlm.agents.runs.race import RaceConfig

    fields = {f.name: f.default for f in dataclasses.fields(RaceConfig)}
    from tokenlm.envs import EnvConfig

    return RACE.format(**fields | {"corpus": EnvConfig().corpus}, configs=_names(configs), count=_count("race"))


def all_pages(command: str) -> str:
    """Every field of a command, grouped: the environment, the agent, its parts, the run."""
    return "\n".join(line for field, choice, kinds in groups(command) for line in _group(field, choice, kinds))


def groups(command: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Groups of fields: where they stand, the option that chooses among several classes, and these by name."""
    from tokenlm.agents import AgentConfig, RunConfig
    from tokenlm.agents.dqn.actors import ActorsConfig
    from tokenlm.agents.dqn.config import PhraseConfig, RewardConfig
    from tokenlm.agents.dqn.optimizer import OptimizerConfig
    from tokenlm.agents.dqn.rules import RULES
    from tokenlm.agents.networks import NETWORKS
    from tokenlm.agents.runs.race import RaceConfig
    from tokenlm.envs import EnvConfig
    from tokenlm.envs.text import Cleaning

    world: list[tuple[str, str, dict[str, Any]]] = [("env", "", {"": EnvConfig}), ("env.cleaning", "", {"": Cleaning})]
    if command == "race":
        from tokenlm.agents.runs.race.config import EntryConfig

        return [*world, ("entries.NAME", "", {"": EntryConfig}), ("", "", {"": RaceConfig})]
    from tokenlm.agents.runs.search import TuneConfig

    return [
        *world,
        ("agent", "", {"": AgentConfig}),
        ("agent.network", "--agent.network.name", dict(NETWORKS)),
        ("agent.rule", "--agent.loss", dict(RULES)),
        ("agent.optimizer", "", {"": OptimizerConfig}),
        ("agent.phrases", "", {"": PhraseConfig}),
        ("agent.rewards", "", {"": RewardConfig}),
        ("actors", "", {"": ActorsConfig}),
        ("", "", {"": RunConfig}),
        *([("", "", {"": TuneConfig})] if command == "tune" else []),
    ]


def field_names(command: str) -> list[str]:
    """All fields of a command, with dots."""
    names = []
    for field, _, kinds in groups(command):
        for kind in kinds.values():
            names += [f"{field}.{inner.name}" if field else inner.name for inner in dataclasses.fields(kind)]
    return list(dict.fromkeys(names))


def _count(command: str) -> int:
    return len(field_names(command))


def _names(configs: list[str]) -> str:
    return "\n".join(
        textwrap.wrap(", ".join(configs), 98, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    )


_TITLES = {
    "env": "environment", "env.cleaning": "cleaning of the texts", "agent": "agent", "agent.network": "network",
    "agent.rule": "learning rule", "agent.optimizer": "optimizer", "agent.phrases": "phrases",
    "agent.rewards": "model of the rewards",
    "actors": "actors on Ray",
    "entries.NAME": "an entry",
}  # fmt: skip


def _group(field: str, choice: str, kinds: dict[str, Any]) -> list[str]:
    title = _TITLES.get(field, "run")
    lines = [f"{title}, --{field}.…" if field else title, ""]
    settings: dict[str, tuple[str, dataclasses.Field[Any], Any]] = {}
    for name, kind in kinds.items():
        explained, hints = _explained(kind), typing.get_type_hints(kind)
        own = [inner for inner in dataclasses.fields(kind) if inner.name != "name" or not choice]
        for inner in own:
            settings.setdefault(inner.name, (explained.get(inner.name, "").rstrip("."), inner, hints[inner.name]))
        if choice:
            known = ", ".join(f"{inner.name} {inner.default}" for inner in own)
            lines.append(f"  {choice} {name}: {(kind.__doc__ or '').splitlines()[0]}")
            lines += _wrapped(f"settings: {known}" if known else "no settings")
    lines += [""] if choice else []
    for name, (text, inner, hint) in settings.items():
        lines.append(f"  --{field}.{name} {name.upper()}" if field else f"  --{name} {name.upper()}")
        lines += _wrapped(f"{text} (type: {_type(hint)}, default: {_default(inner)})")
    return [*lines, ""]


def _type(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else _short(str(hint))


def _short(text: str) -> str:
    for word in ("typing.", "tokenlm.agents.", "tokenlm.envs."):
        text = text.replace(word, "")
    return text


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return "its own" if dataclasses.is_dataclass(made) else made
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
