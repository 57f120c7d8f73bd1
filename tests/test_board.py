"""The board shows what can be recomputed, and a record only where it is certain."""

import json
import re

import gymnasium as gym
import pytest

from tokenlm.agents.runs.race.statistics import CERTAIN

from board import ENTRIES, recomputed
from board_table import CHINESE, ENGLISH, FOLDER, board_table, records, rows, why_not_shown

COMMITTED = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}


def row(name, regrets, **values):
    worlds = [{"world": w, "regret": r, "score": 1 - r / 40, "kl": None, "seconds": 1.0} for w, r in enumerate(regrets)]
    made = {"command": "python benchmarks/board.py --only markov-table", "date": "2026-01-01", "total_steps": 100}
    return {"name": name, "id": "TokenLM-Markov-v0", "temperature": 0.0, "source": "rewards", **made, **values, "worlds": worlds}  # fmt: skip


FIRST = row("first", [10.0, 12.0, 11.0, 13.0, 9.0])
BETTER = row("better", [8.0, 10.4, 8.8, 11.2, 7.2])  # about 2 nats less in every world
LUCKY = row("lucky", [0.0, 12.0, 11.0, 13.0, 9.0])  # less on average, by one world alone
WORSE = row("worse", [12.0, 14.1, 12.9, 15.0, 11.1])


def test_what_is_committed_is_shown_and_is_recomputed_by_its_command():
    assert {name: why_not_shown(found) for name, found in COMMITTED.items()} == dict.fromkeys(COMMITTED)
    assert len(rows()) == len(COMMITTED) >= 10
    for name, found in COMMITTED.items():
        assert found["command"] == f"python benchmarks/board.py --only {name}"
        entry = ENTRIES[name]
        assert (found["id"], found["name"], found["policy"]) == (entry.id, entry.title, entry.algorithm)
        assert found.get("total_steps", 0) == entry.steps
        assert {world["episodes"] for world in found["worlds"]} == {256}


@pytest.mark.parametrize("name", ["markov-constant", "markov-oracle", "markov-p-star"])
def test_a_row_comes_out_again(name, tmp_path):
    _compare(name, tmp_path, abs=1e-9)


@pytest.mark.slow
def test_a_row_that_is_trained_comes_out_again(tmp_path):
    _compare("markov-table", tmp_path, abs=0.02)


def _compare(name, folder, **within):
    (again,) = recomputed(name, [1], folder)["worlds"]
    (stored,) = [world for world in COMMITTED[name]["worlds"] if world["world"] == 1]
    assert again["regret"] == pytest.approx(stored["regret"], **within)
    assert again["score"] == pytest.approx(stored["score"], **within)


def test_a_record_is_taken_by_what_is_certainly_ahead():
    assert records([FIRST]) == {0: (None, 1.0)}
    for loser in (WORSE, LUCKY, FIRST):
        assert records([FIRST, loser]) == {0: (None, 1.0)}
    found = records([FIRST, LUCKY, BETTER, WORSE])
    assert list(found) == [2]
    before, p = found[2]
    assert before["name"] == "first"
    assert 0.0 < p < CERTAIN
    assert list(records([BETTER, FIRST])) == [0]  # what came first need not win it again


def test_only_what_is_comparable_competes_for_a_record():
    for other in (
        {"total_steps": 200}, {"temperature": 0.5}, {"source": "corpus"}, {"id": "TokenLM-Factored-v0"},
    ):  # fmt: skip
        assert list(records([FIRST, {**BETTER, **other}])) == [0, 1]
    assert list(records([{**BETTER, "source": "p*"}, FIRST])) == [1]  # being told is no record


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"command": "python benchmarks/nowhere.py"}, "its command 'python benchmarks/nowhere.py' runs no committed"),
        ({"command": "tokenlm train mine.yaml"}, "runs no committed script, and no weights are committed"),
        ({"weights": "benchmarks/results/board/none"}, "are not committed, or too large"),
        ({"id": ""}, "its environment has no registered id"),
        ({"worlds": FIRST["worlds"][:4]}, r"it needs 5 different worlds of 0 to 9, not \[0, 1, 2, 3\]"),
        ({"worlds": FIRST["worlds"][:4] * 2}, "it needs 5 different worlds"),
        ({"worlds": [{**w, "world": w["world"] + 100} for w in FIRST["worlds"]]}, "it needs 5 different worlds"),
        ({"worlds": [{**w, "regret": None} for w in FIRST["worlds"]]}, "its regret is not known in every world"),
    ],
)
def test_what_cannot_be_recomputed_is_not_shown(values, why, tmp_path):
    assert why_not_shown(FIRST) is None
    assert re.search(why, why_not_shown({**FIRST, **values}))
    (tmp_path / "row.json").write_text(json.dumps({**FIRST, **values}), encoding="utf-8")
    assert rows(tmp_path) == []


def test_small_weights_that_are_committed_are_enough(tmp_path):
    found = {**FIRST, "command": "", "weights": "mine"}
    (tmp_path / "mine").mkdir()
    assert "not committed" in why_not_shown(found, tmp_path)
    (tmp_path / "mine" / "weights.npz").write_bytes(b"0" * 1000)
    assert why_not_shown(found, tmp_path) is None
    (tmp_path / "mine" / "weights.npz").write_bytes(b"0" * 1_000_001)
    assert "too large" in why_not_shown(found, tmp_path)


def test_a_table_says_the_means_and_who_holds_the_record():
    knowing = row("optimum", [0.0] * 5, source="p*", total_steps=None)
    shown = [FIRST, BETTER, LUCKY, knowing]
    lines = board_table(ENGLISH, shown).splitlines()
    assert lines[0] == "**`TokenLM-Markov-v0`, temperature 0**"
    names = [line.split(" | ")[0] for line in lines[4:8]]
    assert names == ["| lucky", "| better", "| first", "| optimum"]  # by regret, those that learn first
    better = lines[5].split(" | ")
    assert better[2:5] == ["100", "0.772 (0.720 to 0.820)", "9.12 (7.20 to 11.20)"]
    assert better[8].startswith("yes, ahead of first, p = ")
    assert gym.make("TokenLM-Markov-v0").unwrapped.oracle.best_text().text in lines[9]  # what the score 1 looks like
    assert [line.split(" | ")[8] for line in (lines[4], *lines[6:8])] == ["", "", ""]
    assert "是，领先于first" in board_table(CHINESE, shown)
    unscored = {**FIRST, "worlds": [*FIRST["worlds"][:4], {**FIRST["worlds"][4], "score": None}]}
    assert board_table(ENGLISH, [unscored]).endswith(
        "No score in world 4, where the best trivial policy is optimal; the regret counts there."
    )
