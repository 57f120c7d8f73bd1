"""`make gpu`: failing parts are rows, missing packages come from wheels, a checkout is enough."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import torch

import checkout
from agreement import TOLERANCE, difference, relative
from gpu_parts import PARTS, Chosen, row, scaled
from gpu_run import Case, outcome
from gpu_table import table_of

ROOT = Path(__file__).parents[1]


def test_a_part_that_raises_and_one_that_hangs_are_rows(tmp_path):
    asked = Chosen("cpu", tiny=True)
    unknown = outcome(Case("no such part", asked, tmp_path / "a.json"), 60.0)
    hanging = outcome(Case("quickstart", asked, tmp_path / "b.json"), 0.0)
    assert [each["reached"] for each in unknown + hanging] == [False, False]
    assert "exit code 1" in unknown[0]["note"]
    assert "more than 0 s" in hanging[0]["note"]
    assert (tmp_path / "b.json").exists()


def test_all_parts_together_take_the_minutes_given():
    assert sum(scaled(Chosen(), name, 8.0).seconds for name in PARTS) == pytest.approx(8 * 60)


def test_agreement_is_relative_to_the_largest_entry():
    assert relative(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])) == 0.5
    assert relative(torch.zeros(2), torch.zeros(2)) == 0.0
    assert difference("soft_q", "cpu") == 0.0 < TOLERANCE  # one device gives one result


def test_a_wheel_is_unpacked_with_the_files_that_its_package_reads(tmp_path):
    wheels, into = tmp_path / "wheels", tmp_path / "into"
    wheels.mkdir()
    for name in ("two_words-1.0-py3-none-any.whl", "two_words_more-1.0-py3-none-any.whl"):
        with zipfile.ZipFile(wheels / name, "w") as archive:
            archive.writestr(f"{name.split('-')[0]}/words.txt", "words")
    checkout.unpack("two-words", wheels, into)
    assert [path.name for path in into.iterdir()] == ["two_words"]
    assert (into / "two_words" / "words.txt").read_text() == "words"


def test_a_checkout_is_enough(tmp_path):
    """Without `.pth` files an editable install does not exist, only the packages beside it."""
    code = f"""
import pathlib, sys
sys.path[:0] = [{str(ROOT / "benchmarks")!r}, {sysconfig.get_path("purelib")!r}]
import checkout
print(checkout.prepare(pathlib.Path({str(tmp_path)!r})))
from tokenlm.envs import EnvConfig, World
print(World.of(EnvConfig(target="markov", order=2, vocab_size=8)).vocab_size)
import tokenlm.agents
print(tokenlm.agents.__file__)
"""
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["8", str(ROOT / "agents" / "__init__.py")]


def test_the_table_has_shares_aims_and_notes():
    rows = [
        {"part": "agreement", **row("soft_q, lstm", 3e-6, "of the largest", aim=1e-4, reached=True)},
        {"part": "agreement", **row("dqn, lstm", 2e-2, "of the largest", aim=1e-4, reached=False)},
        {"part": "learner", **row("dqn", 6.2e6, "transitions/s", share=0.31, ceiling="roofline", aim=5e6)},
        {"part": "learner", **row("failed", None, "", note="more than 70 s", reached=False)},
    ]
    hardware = {"gpu": "A GPU", "cores": 2, "processor": "one"}
    result = {"rows": rows, "hardware": hardware, "settings": {"minutes": 7.5}, "versions": {"torch": "2.11"}}
    lines = table_of({**result, "command": "python benchmarks/gpu.py", "commit": "abc"}).splitlines()
    assert lines[2:6] == [
        "| agreement | dqn, lstm | 0.02 of the largest |  | 0.0001 not reached |",
        "| learner | dqn | 6.2 M transitions/s | 31 % of roofline | 5 M reached |",
        "|  | failed | - (more than 70 s) |  | failed |",
        "| agreement | 1 updates equal those of the CPU, to | 3e-06 | | reached |",
    ]
