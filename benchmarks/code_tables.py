"""Tables made from the code, for README.md and docs/; `tables.py` puts them there."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import gymnasium as gym

import tokenlm
from tokenlm.envs import EnvConfig, TokenLMEnv
from tokenlm.envs.registration import UNMASKED
from tokenlm.envs.targets.registry import SAMPLES_DOCUMENTS
from tokenlm.envs.text.limits import Limits

from result_tables import worlds_table

ROOT = Path(__file__).parents[1]

# What each id is for, in one line, and what a good score in it shows.
IDS = {
    "TokenLM-v0": (
        "The built-in Chinese corpus; p\\* is a Kneser-Ney trigram model, and every token is paid.",
        "How well p\\* is learned. At temperature 1 it says nothing about credit assignment.",
    ),
    "TokenLM-Sparse-v0": (
        "`TokenLM-v0` without prompts, with the whole reward at the last token.",
        "Credit assigned back over a text, at a temperature above 0. At temperature 0 its best text is a single token.",
    ),
    "TokenLM-Markov-v0": (
        "A random Zipfian chain of 200 tokens; texts of exactly 16.",
        "Finding the most likely text (temperature towards 0): exploration and planning. A table of token pairs is "
        "enough for it, so it says nothing about generalising.",
    ),
    "TokenLM-Tiny-v0": (
        "Three words, four tokens: 81 texts in all.",
        "Everything, by enumeration: for tests, lectures and new algorithms.",
    ),
    "TokenLM-QA-v0": (
        "Built-in questions and answers; p\\* is the smoothed reference answer.",
        "Answers learned from rewards: exact match and token F1 on held-out questions.",
    ),
    "TokenLM-Translation-v0": (
        'Built-in Chinese sentences with their English; `corpus="en"` for the other direction.',
        "chrF and BLEU of held-out sentences.",
    ),
    "TokenLM-Classification-v0": (
        "Built-in sentences with one of four labels.",
        "Accuracy. An episode is one token, so it says nothing about sequences.",
    ),
    "TokenLM-Text-v0": (
        "The built-in Chinese corpus; texts of exactly 16 words after two. The best text is not the shortest.",
        "Planning, in sentences that one can read, at temperature 0 and above.",
    ),
    "TokenLM-Factored-v0": (
        "Prompts of two words with a hidden topic, 200 tokens in hidden classes; texts of exactly 16.",
        "Finding the best text for new prompts (temperature towards 0): generalising, exploration and planning. "
        "A table of the last tokens stays below the same text for all prompts.",
    ),
    "TokenLM-Factored-Sparse-v0": (
        "`TokenLM-Factored-v0` with the whole reward at the last token.",
        "Finding the best text for new prompts, with credit assigned back over 16 tokens.",
    ),
    "TokenLM-Teacher-v0": (
        "p\\* is a Transformer with random weights, made from a seed: 1,000 words, texts of exactly 64.",
        "How well p\\* is learned at temperature 1, where it is the optimum itself and the regret is KL(π ‖ p\\*). "
        "Words are alike and all of the text bears on the next one: no table is enough. `vocab_size` goes to 50,000.",
    ),
    "TokenLM-Teacher-Sparse-v0": (
        "`TokenLM-Teacher-v0` with the whole reward at the last word.",
        "Credit assigned back over 64 words, at temperature 1, where p\\* is the optimum.",
    ),
    "TokenLM-Form-v0": (
        "Quatrains: lines three and four after the first two, tones kept; a rhyme with line two is paid 10 nats.",
        "Planning, in verse that one can read: a rhyme is asked for twelve tokens before it is paid, which p\\* cannot "
        "see.",
    ),
    "TokenLM-Form-Sparse-v0": (
        "`TokenLM-Form-v0` with the whole reward, the rhyme's too, at the last character.",
        "Planning in verse, with credit assigned back over 12 characters.",
    ),
}
REFERENCES = (
    "constant", "same-text", "beam", "oracle", "unigram", "table", "bandit", "reward-model", "maximum-likelihood",
)  # fmt: skip
_SHOWN = (
    "corpus", "task", "target", "order", "vocab_size", "vocabularies", "form", "no_repeat", "ending", "prompt_length",
    "max_new_tokens", "reward_every", "context_length",
)  # fmt: skip


def page_of(name: str) -> str:
    """The name of an id's page: "TokenLM-Markov-v0" has markov.md."""
    middle = name.removeprefix("TokenLM").removesuffix("v0").strip("-").lower()
    return middle or "tokenlm"


def registered() -> list[str]:
    """Our ids, in the order in which they were registered."""
    return [name for name in gym.registry if name.startswith("TokenLM")]


def ids_table() -> str:
    """Every id with what it is and shows."""
    lines = ["| id | what it is | what a good score shows |", "|---|---|---|"]
    for name in registered():
        what, shows = _described(name)
        lines.append(f"| [`{name}`]({page_of(name)}.md) | {what} | {shows} |")
    return "\n".join(lines)


def _described(name: str) -> tuple[str, str]:
    return IDS.get(name, (f"See `help({name!r})`.", ""))


_UNMASKED = "A masked action is then replaced by a random valid one; the optimum is the same."


def environment_part(name: str) -> str:
    """Spaces, settings, returns of reference policies and picture of one id."""
    env = gym.make(name)
    config: EnvConfig = env.unwrapped.config  # type: ignore[attr-defined]
    actions, observations = env.action_space, env.observation_space
    what, shows = _described(name)
    settings = [f"`{n}={getattr(config, n)!r}`" for n in _SHOWN if n in gym.spec(name).kwargs or n == "corpus"]
    if config.target in SAMPLES_DOCUMENTS:
        settings = [s for s in settings if not s.startswith("`corpus")]
    lines = [
        f"For a library without action masks: `gym.make({UNMASKED + name!r})`. {_UNMASKED}",
        "",
        what,
        "",
        f"What a good score shows: {shows}" if shows else "",
        "",
        "| | |",
        "|---|---|",
        f"| made by | `gym.make({name!r})`, many at once: `gym.make_vec({name!r}, num_envs=64)` |",
        f"| actions | `Discrete({actions.n})`: ids of tokens |",  # type: ignore[attr-defined]
        f"| observations | `Box(0, {int(observations.high.max())}, {observations.shape}, int64)` |",  # type: ignore[attr-defined]
        f"| longest text | {config.max_new_tokens} token{'s' if config.max_new_tokens > 1 else ''} |",
        f"| arguments | {', '.join(settings)} |",
        "",
        worlds_table(name),
        "",
        f"![Texts of three policies, each token coloured by its log-likelihood](pictures/{page_of(name)}.svg)",
    ]
    return "\n".join(line for i, line in enumerate(lines) if line or (i and lines[i - 1]))


def arguments_table() -> str:
    """Every argument of the environment with its default and meaning, from the docstring of `EnvConfig`."""
    explained = explanations(EnvConfig)
    lines = ["| argument | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(EnvConfig):
        default = "all off" if field.name == "cleaning" else f"`{getattr(EnvConfig(), field.name)!r}`"
        lines.append(f"| `{field.name}` | {default} | {_cell(explained[field.name])} |")
    return "\n".join(lines)


def explanations(kind: type) -> dict[str, str]:
    """The text of each argument under "Args:" in a docstring, in one line."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in inspect.cleandoc(kind.__doc__ or "").splitlines():
        if line.strip() == "Args:":
            inside = True
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            name, found[match[1]] = match[1], match[2]
        elif inside and line.startswith("        "):
            found[name] += " " + line.strip()
        elif line and not line.startswith(" "):
            inside = line.strip() == "Args:"
    return found


def _cell(text: str) -> str:
    """A text as the cell of a table."""
    return _outside_code(text.replace("|", "\\|"))


def _outside_code(text: str) -> str:
    """Stars and angle brackets outside of code mean themselves."""
    return "".join(
        part if part.startswith("`") else re.sub(r"([*<])", r"\\\1", part) for part in re.split(r"(`[^`]*`)", text)
    )


def manual() -> str:
    """The manual of the environment, its docstring."""
    parts = re.split(r"(```python\n.*?```)", inspect.cleandoc(TokenLMEnv.__doc__ or ""), flags=re.DOTALL)
    text = "".join(part if part.startswith("```") else _outside_code(part) for part in parts)
    return text.partition("\n")[2].replace("\n## ", "\n### ").strip()


def rules_list() -> str:
    """Every learning rule with its settings."""
    from tokenlm.agents.dqn.rule_names import BUILT_IN
    from tokenlm.agents.dqn.rules import RULES

    lines = ["| `loss` | what it is | settings of its own |", "|---|---|---|"]
    for name in BUILT_IN:
        lines.append(f"| `{name}` | {_cell(_first_line(RULES[name]))} | {_settings(RULES[name])} |")
    return "\n".join(lines)


def networks_list() -> str:
    """Every network with its settings."""
    from tokenlm.agents.networks.making import NETWORKS

    lines = ["| `network` | what it is | settings |", "|---|---|---|"]
    for name, kind in NETWORKS.items():
        lines.append(f"| `{name}` | {_cell(_first_line(kind))} | {_settings(kind)} |")
    return "\n".join(lines)


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").splitlines()[0]


def _settings(kind: type) -> str:
    own = [field for field in dataclasses.fields(kind) if field.name != "name"]
    return ", ".join(f"`{field.name}` {_cell(str(field.default))}" for field in own) or "none"


def agent_table() -> str:
    """Every setting of the agent with its default and meaning."""
    from tokenlm.agents import AgentConfig

    explained = explanations(AgentConfig)
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(AgentConfig):
        lines.append(f"| `{field.name}` | {_cell(_default(field))} | {_cell(explained[field.name])} |")
    return "\n".join(lines)


def run_table() -> str:
    """Every field of a run with its default and meaning."""
    from tokenlm.agents import RunConfig

    explained = explanations(RunConfig)
    lines = ["| field | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(RunConfig):
        default = "" if field.name in ("env", "agent", "actors") else _cell(_default(field))
        lines.append(f"| `{field.name}` | {default} | {_cell(explained[field.name])} |")
    return "\n".join(lines)


def limits_table() -> str:
    """Every limit of files with its default and meaning."""
    lines = ["| limit | default | the most |", "|---|---|---|"]
    lines += [f"| `{each.name}` | {each.default:,} | {each.metadata['of']} |" for each in dataclasses.fields(Limits)]
    return "\n".join(lines)


def _default(field: dataclasses.Field[Any]) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
    if dataclasses.is_dataclass(value) and hasattr(value, "start"):
        share = "" if value.share == 1.0 else f" over {value.share:g} of the training"
        return f"{value.start:g} to {value.end:g}{share}" if value.start != value.end else f"{value.start:g}"
    if isinstance(value, dict):
        return ", ".join(str(v) for v in value.values()) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if value is None:
        return "the rule's" if field.name in ("temperature", "corpus_share") else "none"
    return str(value)


def configurations() -> str:
    """The configurations that are shipped, with the first comment of each."""
    lines = ["| name | what it is |", "|---|---|"]
    for path in sorted(_configs()):
        text = path.read_text(encoding="utf-8")
        comment = " ".join(line.lstrip("# ").strip() for line in text.split("name:")[0].splitlines())
        lines.append(f"| `{path.stem}` | {_cell(comment.strip())} |")
    return "\n".join(lines)


def references() -> str:
    """Algorithms that others are compared with."""
    from tokenlm.agents.runs.algorithms import algorithm, knows_target, uses_corpus

    lines = ["| `algorithm` | what it does | learns from |", "|---|---|---|"]
    for name in REFERENCES:
        source = "is told p\\*" if knows_target(name) else "corpus" if uses_corpus(name, {}) else "rewards"
        lines.append(f"| `{name}` | {_cell(_first_line(algorithm(name)))} | {source} |")
    return "\n".join(lines)


def _configs() -> Iterator[Path]:
    return (Path(str(p)) for p in resources.files("tokenlm.configs").iterdir() if p.name.endswith(".yaml"))


def digests() -> str:
    """SHA-256 of the built-in corpora."""
    folder = ROOT / "envs" / "text" / "data"
    lines = ["| file | lines | SHA-256 |", "|---|---|---|"]
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        count = len(data.splitlines())
        lines.append(f"| {path.name} | {count:,} | `{hashlib.sha256(data).hexdigest()}` |")
    return "\n".join(lines)


def version() -> str:
    """The version that these pages describe."""
    return f"Version {tokenlm.__version__}."


CODE: dict[str, Callable[[], str]] = {
    "ids": ids_table,
    "arguments": arguments_table,
    "manual": manual,
    "rule_settings": rules_list,
    "networks": networks_list,
    "agent_settings": agent_table,
    "run_settings": run_table,
    "limits": limits_table,
    "configurations": configurations,
    "references": references,
    "digests": digests,
    "version": version,
    **{f"env_{page_of(name)}": partial(environment_part, name) for name in registered()},
}
