"""What an evaluation says of written texts, by task."""

import pytest
import torch

from tokenlm.agents import DQN, evaluate, play
from tokenlm.agents.evaluation.diversity import distinct, repetition, self_bleu
from tokenlm.agents.evaluation.tasks import diversity, task_figures
from tokenlm.agents.runs.report import shown, summary_text
from tokenlm.envs import EnvConfig, Vocabulary, World

GENERATION = {"distinct_1", "distinct_2", "distinct_3", "self_bleu", "repetition"}


def decided(env: EnvConfig, **settings) -> DQN:
    """Untrained, with preferences that are far from even."""
    network = {"embedding_size": 8, "hidden_size": 16}
    agent = DQN(env, network=network, seed=3, device="cpu", **{"temperature": 1.0, **settings})
    with torch.no_grad():
        agent.network.head.weight.mul_(20)
    return agent


def test_played_tokens_are_those_of_the_texts_without_the_prompt(tiny):
    agent = decided(tiny)
    played = play(agent, agent.world, tiny, 40, 0)
    for window, text, written in zip(played.prefixes, played.texts, played.written, strict=True):
        prompt = [int(i) for i in window if i != Vocabulary.PAD]
        assert agent.tokenizer.decode([*prompt, *written]) == text
        assert all(i > Vocabulary.SEP for i in written)


def test_generation_is_measured_by_its_diversity(tiny):
    agent = decided(tiny)
    result = evaluate(agent, episodes=30, documents=5)
    written = play(agent, agent.world, EnvConfig.of(tiny, {"split": "test"}), 30, 0).written
    assert result["distinct_2"] == distinct(written, 2)
    assert result["self_bleu"] == self_bleu(written)
    assert result["repetition"] == repetition(written)
    assert result.keys() >= GENERATION
    assert "accuracy" not in result


def test_a_policy_that_repeats_itself_is_found_out(tiny):
    sharp, even = (decided(tiny, temperature=t) for t in (0.0, 10.0))
    one, other = (evaluate(agent, episodes=30, documents=5) for agent in (sharp, even))
    assert one["distinct_2"] < 0.5 * other["distinct_2"]
    assert one["self_bleu"] > other["self_bleu"]


def test_nothing_written_has_no_figures():
    assert diversity([]) == dict.fromkeys(GENERATION)
    world = World.of(EnvConfig())
    assert task_figures(None, world, EnvConfig(), "test", None, 0) == dict.fromkeys(GENERATION)


def test_the_summary_shows_the_figures_of_the_task(tiny, tmp_path):
    result = {**evaluate(decided(tiny), episodes=8, documents=5), "baseline": None}
    text = summary_text(result, {}, tmp_path)
    assert shown(result["distinct_2"]) in text
    assert "chrF" not in text
    assert "accuracy" not in text
    labels = {name: value for name, value in result.items() if name not in GENERATION} | {"accuracy": 0.875}
    assert "accuracy" in summary_text(labels, {}, tmp_path)
    assert "0.875" in summary_text(labels, {}, tmp_path)
    assert "distinct" not in summary_text(labels, {}, tmp_path)


@pytest.mark.parametrize("transition", ["free", "teacher"])
def test_every_transition_is_measured(tiny, transition):
    result = evaluate(decided(EnvConfig.of(tiny, {"transition": transition})), episodes=8, documents=5)
    assert 0 < result["distinct_1"] <= 1
