"""Other libraries learn on TokenLM as it comes, each in a file that fits a page."""

import importlib
import json
import re
from pathlib import Path

import pytest

from tokenlm.agents.examples import outside

NEEDS = {"skrl_dqn": ("skrl",), "agilerl_dqn": ("agilerl", "peft"), "tianshou_dqn": ("tianshou", "rliable")}
FOLDER = Path(outside.__file__).parent
ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", NEEDS)
def test_a_script_has_at_most_35_lines_and_its_measured_scores_in_the_first(name):
    lines = (FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 35
    rows = json.loads((ROOT / "benchmarks" / "results" / "outside.json").read_text(encoding="utf-8"))["rows"]
    scores = {row["id"]: row["score"] for row in rows if f"{row['library']}_dqn" == name}
    said = dict(re.findall(r"(Markov|Factored) (-?\d\.\d\d)", lines[0]))
    assert said == {world: f"{scores[f'TokenLM-{world}-v0']:.2f}" for world in ("Markov", "Factored")}


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
@pytest.mark.filterwarnings("default")  # theirs
def test_a_script_trains_and_scores(name, tmp_path, monkeypatch):
    for library in NEEDS[name]:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)  # some write logs
    train = importlib.import_module(f"tokenlm.agents.examples.outside.{name}").train
    score = train("TokenLM-Tiny-v0", steps=12_800)
    assert 0.5 < score <= 1.0  # 81 texts in all; 0 is the best trivial policy
