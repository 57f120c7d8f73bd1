"""The learners on pairs: bound of weighted and scored rewards, episodes that begin at the prompt, and learning."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, MaximumLikelihood, evaluate, play, score_text
from tokenlm.agents.acting.valid_actions import ValidActions
from tokenlm.agents.dqn.losses import value_bound
from tokenlm.agents.evaluation.claims import supported_claims
from tokenlm.agents.replay.corpus import corpus_replay
from tokenlm.envs import EnvConfig, TokenLMEnv, Vocabulary, World, metrics

COLOURS, THINGS = ("red", "green", "blue"), ("bird", "fish", "tree", "car")
PAIRS = tuple((f"a {c} {t} {n}", f"one {t} {c}") for c in COLOURS for t in THINGS for n in range(5))
LABELS = tuple((source, source.split()[1]) for source, _ in PAIRS)
NETWORK = {"embedding_size": 16, "hidden_size": 32}
SMALL = {
    "network": NETWORK,
    "num_envs": 16,
    "batch_size": 16,
    "learning_starts": 64,
    "learning_rate": 1e-2,
    "replay_ratio": 8.0,
}


def config(task, **settings):
    corpus = LABELS if task == "classification" else PAIRS
    length = {} if task == "classification" else {"max_new_tokens": 5}
    return EnvConfig(
        **{"corpus": corpus, "tokenizer": "word", "task": task, "target": "reference", "context_length": 8},
        **length,
        **settings,
    )


TASKS = {
    "qa": config("qa"),
    "translation": config("translation", vocabularies="separate"),
    "classification": config("classification"),
}


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("sharpness", [0.0, 3.0])
def test_values_never_pass_their_bound(weight, temperature, sharpness):
    """V* of random trees of 3 words and 3 tokens, by enumeration of every text."""
    rng = np.random.default_rng(0)
    words, horizon, sequence_weight = 3, 3, 1.5
    log_p, scores = {}, {}
    for length in range(horizon + 1):
        for text in itertools.product(range(words), repeat=length):
            logits = sharpness * rng.normal(size=words)
            log_p[text] = logits - np.log(np.exp(logits).sum())
            scores[text] = rng.uniform() if sharpness else 1.0

    def value(text):
        if len(text) == horizon:
            return sequence_weight * scores[text]
        q = np.array([weight * log_p[text][a] + value((*text, a)) for a in range(words)])
        return q.max() if temperature == 0 else temperature * np.log(np.exp(q / temperature).sum())

    for length in range(horizon):
        bound = float(value_bound(temperature, torch.tensor(horizon - length), words, weight, sequence_weight))
        values = [value(text) for text in itertools.product(range(words), repeat=length)]
        assert max(values) <= bound + 1e-6
        if not sharpness and temperature >= weight:  # p* uniform and every score 1: the bound is the value
            assert values == pytest.approx([bound] * len(values))


def bound(agent):
    """That of V* at the beginning of a text."""
    agent.prepare()
    batch = agent.sampler.sample()
    update = agent.learner.update_of(batch, 1.0)
    return float(update.online.bound[update.written == 0][0])


def value_of_the_bound(agent, largest_score):
    steps = torch.tensor(agent.env_config.max_new_tokens)
    return float(value_bound(1.0, steps, agent.world.vocab_size, 0.2, largest_score))


def test_the_learner_is_told_what_is_paid():
    env = dataclasses.replace(TASKS["qa"], log_prob_weight=0.2, sequence_reward="f1", sequence_weight=4.0)
    agent = DQN(env, **SMALL)
    assert bound(agent) == pytest.approx(value_of_the_bound(agent, 4.0))
    assert agent.valid_tokens.env == env
    assert np.array_equal(agent.valid_tokens.valid.numpy(), agent.world.valid)
    agent = DQN(dataclasses.replace(env, sequence_weight=-4.0), **SMALL)
    assert bound(agent) == pytest.approx(value_of_the_bound(agent, 0.0))
    with pytest.raises(ValueError, match="the valid actions of the task 'qa' depend on its tokenizer"):
        ValidActions.of(env, agent.world.vocab_size, torch.device("cpu"))


@pytest.mark.parametrize("max_new_tokens", [2, 5])
def test_corpus_episodes_begin_at_the_prompt(max_new_tokens):
    """Also where a target is too long for an episode, or holds a word that cannot be written."""
    rare = (("a red rare 1", "one rareness red"), ("a rare red 2", "rareness one"))
    env = dataclasses.replace(TASKS["qa"], corpus=PAIRS + rare, max_new_tokens=max_new_tokens, min_count=2)
    world = World.of(env)
    replay = corpus_replay(world, env, seed=0)
    batch = replay.rows(torch.arange(len(replay)))
    first = batch.is_action.int().argmax(1)
    assert (batch.tokens.gather(1, first[:, None]) == Vocabulary.SEP).all()
    ends = batch.terminal.any(1)
    cut = replay.lengths == max_new_tokens
    assert bool(ends.all()) is False if max_new_tokens == 2 else bool((ends | ~cut).all())
    assert len(replay) <= len(world.documents["train"])


def test_only_targets_are_scored():
    env = TASKS["qa"]
    agent = DQN(env, **SMALL)
    world = agent.world
    score = score_text(agent, "test")
    assert score.tokens == sum(len(target.split()) + 1 for _, target in world.pairs["test"])
    epsilon, size = 0.1, world.vocab_size
    mass = 1 - epsilon * (size - int(world.valid.sum())) / size  # of the words that may be written
    expected = mass / (1 - epsilon + epsilon / size)
    assert score.target_perplexity == pytest.approx(expected)
    total = 0.0
    for source, target in world.pairs["test"]:
        ids = [Vocabulary.BOS, *world.tokenizer.encode_source(source), Vocabulary.SEP]
        for token in [*world.tokenizer.encode(target), Vocabulary.EOS]:
            window = np.array(([0] * 8 + ids)[-8:])[None]
            total += float(agent.log_probs(window)[0, token])
            ids.append(token)
    assert score.perplexity == pytest.approx(math.exp(-total / score.tokens), rel=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", [DQN, MaximumLikelihood])
def test_learning_out_of_the_box(task, kind):
    env = TASKS[task]
    settings = {**SMALL, "epsilon": 0.1}
    if kind is MaximumLikelihood:
        del settings["epsilon"], settings["learning_starts"]
    agent = kind(env, **settings).learn(1_000 if task == "classification" else 3_000)
    played = play(agent, agent.world, env, 40, 0, temperature=0.0)
    answers = dict(agent.world.pairs["train"])
    pairs = [text.split(" → ") for text in played.texts]
    assert np.mean([metrics.exact_match(answer, answers[source]) for source, answer in pairs]) > 0.8
    assert score_text(agent, "train").perplexity < 2.0
    held_out = play(agent, agent.world, dataclasses.replace(env, split="valid"), 5, 0)
    assert {text.split(" → ")[0] for text in held_out.texts} <= {source for source, _ in agent.world.pairs["valid"]}


def test_a_sequence_reward_alone_is_learned():
    env = dataclasses.replace(
        TASKS["classification"], sequence_reward="accuracy", sequence_weight=5.0, log_prob_weight=0.0
    )
    agent = DQN(env, **{**SMALL, "replay_ratio": 2.0}, corpus_share=0.0).learn(1_500)
    assert play(agent, agent.world, env, 30, 0, temperature=0.0).returns.mean() > 4.0
    result = evaluate(agent, episodes=16)
    assert result["optimal_return"] is None
    assert result["normalized_score"] is None
    assert result["exact"] is None
    assert "no optimum is known" in result["supports"]


def test_claims_follow_the_weight():
    """With weight w the optimum at temperature τ is that of τ/w."""
    env = EnvConfig()
    assert "V* = 0" in supported_claims(env, 1.0, 1.0)
    heavier = dataclasses.replace(env, log_prob_weight=2.0)
    assert "V* = 0" in supported_claims(heavier, 2.0, 1.0)
    assert "p*^(1/0.5)" in supported_claims(heavier, 1.0, 1.0)
    assert "One token per episode" in supported_claims(TASKS["classification"], 1.0, 1.0)


def test_an_agent_comes_back_without_its_environment(tmp_path):
    agent = DQN(TASKS["translation"], **SMALL)
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path)
    assert torch.equal(loaded.valid_tokens.valid, agent.valid_tokens.valid)
    source = agent.world.pairs["valid"][0][0]
    assert loaded.generate(source, temperature=0.0) == agent.generate(source, temperature=0.0)


def test_an_environment_of_its_own_steps_with_the_agent():
    env = TokenLMEnv(TASKS["qa"])
    agent = DQN(env, **SMALL)
    observation, _ = env.reset(seed=0)
    action, _ = agent.predict(observation, action_masks=env.action_masks())
    assert env.action_masks()[action]
