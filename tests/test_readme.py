"""What the README shows runs as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from tokenlm.envs import EnvConfig
from tokenlm.parsing import config_names, parse_race, parse_run

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    if "agent" in names:
        assert names["agent"].generate("今天", 2)
    if "best" in names:
        assert names["env"].action_space.contains(names["best"])


def test_every_argument_is_in_the_table_with_its_default():
    table = README.split("## Arguments of the environment")[1].split("## ")[0]
    rows = {}
    for line in table.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]):
            rows[name] = cells[1]
    assert set(rows) == set(EnvConfig.__dataclass_fields__)
    for name in ("context_length", "reward_every", "epsilon", "ending", "split", "invalid_action"):
        assert rows[name].strip('`"') == str(getattr(EnvConfig(), name))
    assert rows["prompt_length"] == f"`{EnvConfig().prompt_length}`"


def test_every_configuration_named_there_is_shipped():
    assert set(re.findall(r"tokenlm train ([\w-]+)", README)) <= {*config_names(), "--help"}
    assert set(re.findall(r"tokenlm race ([\w-]+)", README)) <= set(config_names("race"))


def test_every_command_named_there_is_understood():
    text = README.replace("\\\n", " ")
    commands = [
        re.split(r"\s#|\s{3,}[a-z]", c)[0].strip().rstrip(".,;:)")
        for c in re.findall(r"tokenlm (?:train|config|race) [^`\n|]+", text)
    ]
    understood = 0
    for command, *words in (shlex.split(c)[1:] for c in commands):
        if not any("…" in word or "CONFIG" in word for word in words) and "--help" not in words:
            (parse_race if command == "race" else parse_run)(words)
            understood += 1
    assert understood > 10
