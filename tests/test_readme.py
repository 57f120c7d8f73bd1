"""The README is short, and what it shows runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_run(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(EXAMPLES[number], f"README example {number}", "exec"), names)
    if "agent" in names:
        assert names["agent"].generate("今天", 2)
        assert names["agent"].transitions_trained > 20_000  # it shows training, not an untrained network
    if "best" in names:
        assert names["env"].action_space.contains(names["best"])


def test_it_is_short():
    assert len(README.splitlines()) <= 200
    tables = re.findall(r"(?:^\|.*\n)+", README, re.MULTILINE)
    assert tables
    assert max(len(table.splitlines()) - 2 for table in tables) <= 10
