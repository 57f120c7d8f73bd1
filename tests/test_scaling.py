"""The model of many devices against values worked out by hand, and the committed result against the model."""

import dataclasses
import json
from pathlib import Path

import pytest

from cluster import Rates, Work, apart, best_split, broadcast_seconds, knee, ring_seconds, rows_of, together
from large import Device, Model, cache_bytes, fewest_devices, figures, texts_at_once, training_bytes, update_flops

RATES = Rates(acting=100.0, environment=100.0, learning=1_000.0, bandwidth=1e3, latency=0.5)
WORK = Work(weight_bytes=4_000.0, gradient_bytes=4_000.0, batch=1_000.0, replay_ratio=10.0, length=5, texts=8)
QUIET = dataclasses.replace(RATES, bandwidth=1e30, latency=0.0)


def test_a_ring_sends_each_part_once_a_step():
    # 2 · 3 steps, each with a quarter of 4,000 bytes: 1 s and half a second of latency.
    assert ring_seconds(4_000.0, 4, 2, RATES) == pytest.approx(2 * 3 * (1.0 + 0.5))
    assert ring_seconds(4_000.0, 1, 2, RATES) == 0.0
    assert broadcast_seconds(4_000.0, 7, RATES) == pytest.approx(4.0 + 3 * 0.5)


def test_a_device_takes_turns():
    # A token: 10 ms of acting, 10 ms of environment, ten transitions of 2 ms each.
    assert together(1, WORK, dataclasses.replace(RATES, learning=500.0)) == {
        "tokens/s": pytest.approx(25.0), "limit": "learning", "share": pytest.approx(0.5),
    }  # fmt: skip
    # Two devices: averaging takes 2 · 1 · (2 + 0.5) = 5 s an update, of which a token is a hundredth.
    found = together(2, WORK, RATES)
    assert found["tokens/s"] == pytest.approx(2 / (0.03 + 0.05))
    assert found["limit"] == "network"
    assert knee(WORK, RATES) == 1


def test_without_a_network_many_devices_are_as_many_lone_ones():
    for devices in (2, 64, 1_024):
        assert together(devices, WORK, QUIET)["tokens/s"] == pytest.approx(devices / 0.03)
    assert knee(WORK, QUIET) is None


def test_the_knee_is_where_half_the_pace_is_left():
    """An update computes for 10 ms a token; averaging costs 2 (n - 1) latencies, a hundredth of it a token."""
    rates = dataclasses.replace(QUIET, latency=0.1)
    at = knee(WORK, rates)
    assert 2 * (at - 1) * 0.1 / 100 <= 0.03 < 2 * at * 0.1 / 100


def test_a_batch_of_all_makes_the_updates_of_each_smaller():
    bounded = dataclasses.replace(WORK, total_batch=4_000.0)
    assert [bounded.batch_of(n) for n in (1, 4, 8)] == [1_000.0, 1_000.0, 500.0]
    assert together(8, bounded, RATES)["tokens/s"] < together(8, WORK, RATES)["tokens/s"]


def test_actors_and_learners_pass_at_the_pace_of_the_slower():
    # An actor writes 50 tokens/s, a learner trains 100 tokens' worth: two actors feed one.
    found = apart(3, 1, WORK, QUIET)
    assert found["tokens/s"] == pytest.approx(100.0)
    assert best_split(3, WORK, QUIET) == 1
    assert best_split(30, WORK, QUIET) == 10
    assert apart(12, 2, WORK, QUIET)["limit"] == "learning"
    assert apart(12, 6, WORK, QUIET)["limit"] == "acting"
    # 8 texts on each of 2 actors: 16 / 100 s a token, two tokens to the end of a text on average; an update takes 1 s.
    assert found["lag"] == pytest.approx(2 * 0.16 + 0.5)
    assert found["replay age"] == pytest.approx(1e6 / 2 / 100.0)


def test_rarer_copies_are_older_and_slow_links_hold_the_learner_up():
    often, rarely = (apart(3, 1, dataclasses.replace(WORK, refresh=n), QUIET)["lag"] for n in (1, 11))
    assert rarely - often == pytest.approx(5.0)
    slow = apart(3, 1, WORK, dataclasses.replace(QUIET, bandwidth=400.0))  # 10 s to send the weights
    assert slow["limit"] == "weights"
    assert slow["tokens/s"] == pytest.approx(10.0)


def test_memory_of_seven_billion():
    model = Model()
    assert training_bytes(model) == pytest.approx(140e9)  # 4 + 4 + 8 + 4 bytes each
    assert training_bytes(model, 8, whole_copy=True) == pytest.approx(17.5e9 + 28e9)
    # 0.9 · 80 GB holds a quarter of 140 GB and more, but 44 GB beside the copy need a third.
    assert fewest_devices(model, Device(), whole_copy=False) == 2
    assert fewest_devices(model, Device(), whole_copy=True) == 4
    assert fewest_devices(dataclasses.replace(model, parameters=70e9), Device(), whole_copy=True) is None
    # Keys and values of 32 layers, 8 heads of 128 numbers, 4,096 tokens, two bytes each.
    assert cache_bytes(model) == 2 * 32 * 1_024 * 4_096 * 2 == 536_870_912
    assert texts_at_once(model, Device()) == int(58e9 / 536_870_912) == 108


def test_operations_of_a_transition():
    body, attention = 7e9 - 2 * 128_000 * 4_096, 32 * 2 * 2 * 4_096 * 2_048
    assert update_flops(Model()) == pytest.approx(4 * (2 * body + attention) + 6 * 4_096 * 128_000)
    found = figures()
    assert found["logits bytes"] == 4_096 * 128_000 * 4
    assert found["activation bytes"] == 32 * 4_096 * 4_096 * 2
    assert found["replay bytes of a million texts"] == 4_096e6 * 8
    assert found["seconds to send the weights"] == pytest.approx(14e9 / 50e9)
    assert found["seconds to average gradients"] == pytest.approx(2 * 28e9 / 50e9)


def test_the_committed_result_is_the_model_at_its_own_rates():
    path = Path(__file__).parents[1] / "benchmarks" / "results" / "cluster.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    settings = result["settings"]
    rows = [
        row
        for name, rates in settings["rates"].items()
        for row in rows_of(name, Work(**settings["work"][name]), Rates(**rates))
    ]
    assert result["rows"] == json.loads(json.dumps(rows))
    assert settings["large"] == figures()
    assert all(settings["sources"][name] for name in settings["rates"])
    assert all(0.85 < row["ratio"] < 1.15 for row in settings["beside measurements"])


def test_two_processes_learn_from_as_many_samples_as_one():
    """At every number of environment steps the ranges of KL over the seeds overlap."""
    path = Path(__file__).parents[1] / "benchmarks" / "results" / "ranks.json"
    curves = json.loads(path.read_text(encoding="utf-8"))["settings"]["curves"]
    assert len(curves) >= 8
    for row in curves:
        one, two = row["KL, one"], row["KL, two"]
        assert len(one) == len(two) >= 3
        assert min(one) <= max(two), row
        assert min(two) <= max(one), row
