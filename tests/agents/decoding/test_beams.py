"""Beam search against the enumeration of every text."""

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents import DQN
from tokenlm.agents.decoding import Decoding, beam_search
from tokenlm.agents.dqn.agent import env_config_from
from tokenlm.agents.evaluation.exact import every_text, log_policy
from tokenlm.envs import EnvConfig, Vocabulary, World

TINY = env_config_from(gym.make("TokenLM-Tiny-v0"))
WITH_END = dataclasses.replace(TINY, ending="eos", max_new_tokens=3, context_length=8)
NETWORKS = {
    "lstm": {"embedding_size": 8, "hidden_size": 16},
    "transformer": {"name": "transformer", "hidden_size": 16, "num_layers": 1, "num_heads": 2},
}


def decided(env: EnvConfig, network: str = "lstm", **settings) -> DQN:
    """Untrained, with preferences that are far from even."""
    agent = DQN(env, network=NETWORKS[network], seed=3, device="cpu", **{"temperature": 1.0, **settings})
    with torch.no_grad():
        agent.network.head.weight.mul_(40)
    return agent


def search(agent: DQN, prompts=((Vocabulary.BOS,),), horizon=None, **how):
    reader = agent.reader(prompts)
    horizon = horizon or agent.env_config.max_new_tokens
    return beam_search(reader, len(prompts), horizon, Decoding(**{"temperature": 1.0, **how}))


def ranked(agent: DQN, penalty: float = 0.0, temperature: float = 1.0) -> list[tuple[list[int], float]]:
    """Every text with its score, best first."""
    texts = every_text(World.of(agent.env_config), agent.env_config)
    scores = log_policy(agent, texts, temperature) / texts.lengths**penalty
    ids = [row[:n].tolist() for row, n in zip(texts.tokens, texts.lengths, strict=True)]
    return sorted(zip(ids, scores.tolist(), strict=True), key=lambda pair: -pair[1])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("env", "penalty"), [(TINY, 0.0), (WITH_END, 0.0), (WITH_END, 1.0), (WITH_END, -1.0), (WITH_END, 3.0)]
)
def test_as_many_beams_as_texts_find_all_of_them_in_order(env, penalty, network):
    agent = decided(env, network)
    expected = ranked(agent, penalty)
    assert len(expected) == (81 if env is TINY else 1 + 3 + 9 + 27)
    [found] = search(agent, beams=len(expected), length_penalty=penalty)
    assert [h.ids for h in found] == [ids for ids, _ in expected]
    np.testing.assert_allclose([h.score for h in found], [score for _, score in expected], atol=1e-4)


def test_a_length_penalty_changes_which_text_is_best():
    agent = decided(WITH_END)
    lengths = [len(search(agent, beams=40, length_penalty=penalty)[0][0].ids) for penalty in (-3.0, 0.0, 3.0)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_narrow_beams_never_score_below_the_greedy_text(temperature):
    for seed in range(5):
        agent = DQN(WITH_END, network=NETWORKS["lstm"], seed=seed, device="cpu", temperature=1.0)
        with torch.no_grad():
            agent.network.head.weight.mul_(40)
        table = {tuple(ids): score for ids, score in ranked(agent, temperature=temperature)}
        [[greedy]] = search(agent, temperature=0.0)
        for beams in (1, 2, 3):
            best = search(agent, beams=beams, temperature=temperature)[0][0]
            assert best.score >= table[tuple(greedy.ids)] - 1e-5
            assert best.score == pytest.approx(table[tuple(best.ids)], abs=1e-4)


def test_at_temperature_zero_the_score_is_the_loss_of_value():
    agent = decided(TINY)
    found = search(agent, beams=81, temperature=0.0)[0]
    for hypothesis in (found[0], found[7], found[-1]):
        prefixes = torch.tensor([[Vocabulary.BOS, *hypothesis.ids]])
        values = agent.network.policy_values(agent.network(prefixes)[0, :-1], agent.valid_tokens.valid).detach()
        taken = values.gather(1, torch.tensor(hypothesis.ids)[:, None])[:, 0]
        assert hypothesis.score == pytest.approx(float((taken - values.amax(1)).sum()), abs=1e-4)
    assert found[0].score == 0.0
    assert agent.generate("", beams=81, temperature=0.0) == agent.generate("", temperature=0.0)
    assert len(found) == 81


def test_prompts_of_different_length_are_searched_as_each_alone(tiny):
    agent = decided(tiny)
    prompts = ["the cat", "", "the dog sees the"]
    together = agent.generate(prompts, 3, beams=4, length_penalty=0.5)
    alone = [text for prompt in prompts for text in agent.generate(prompt, 3, beams=4, length_penalty=0.5)]
    assert together == alone
    assert len(set(together[:3])) == 3


def test_least_length_is_kept():
    agent = decided(dataclasses.replace(WITH_END, min_new_tokens=2))
    [found] = search(agent, beams=60)
    assert {len(h.ids) for h in found} == {3}
    assert len(found) == 9 + 27
    assert [h.ids for h in found] == [ids for ids, _ in ranked(agent)]


def test_stop_strings_end_a_beam_as_the_end_token_does():
    agent = decided(TINY)
    words = [agent.tokenizer.vocabulary.token(int(i)) for i in agent.world.words]
    # 1 + 2 + 4 + 8 texts that end before the stop word, and 16 of four words without it
    shown = {" ".join(text) for n in range(5) for text in itertools.product(words[1:], repeat=n)}
    texts = agent.generate("", 31, beams=40, stop=words[0])
    assert len(shown) == 31
    assert {text.strip() for text in texts} == shown
    with pytest.raises(ValueError, match="only 31 texts are possible, not 32; use a smaller count"):
        agent.generate("", 32, beams=40, stop=words[0])


def test_more_texts_than_beams_are_refused():
    with pytest.raises(ValueError, match="a search with 2 beams finds 2 texts, not 3; use more beams"):
        decided(TINY).generate("", 3, beams=2)
