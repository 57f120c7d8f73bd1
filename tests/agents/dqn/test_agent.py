"""`DQN`: the interface, saving and going on, and that it learns what it should."""

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, AgentConfig, MaximumLikelihood, Schedule, evaluate, score_text
from tokenlm.envs import EnvConfig, TokenLMEnv, TokenLMVectorEnv, UnknownWords

SMALL = {
    "network": {"embedding_size": 8, "hidden_size": 16},
    "num_envs": 4,
    "batch_size": 8,
    "learning_starts": 0,
    "replay_capacity": 512,
}
TRANSFORMER = {"name": "transformer", "hidden_size": 16, "num_layers": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def agent(tiny) -> DQN:
    return DQN(tiny, **SMALL).learn(200)


def weights(agent) -> list[torch.Tensor]:
    return [p.detach().clone() for p in agent.network.parameters()]


def equal(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.mark.parametrize("make", [lambda c: c, TokenLMEnv, lambda c: TokenLMVectorEnv(2, c)])
def test_made_from_a_configuration_or_an_environment(tiny, make):
    agent = DQN(make(tiny), **SMALL)
    assert agent.env_config == tiny
    assert agent.learn(8) is agent
    assert agent.env_steps == 8


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dueling": False},
        {"temperature": 0.0, "epsilon": 0.2},
        {"temperature": Schedule(1.0, 0.1), "huber_delta": 1.0, "optimizer": "adamw", "weight_decay": 0.01},
        {"network": TRANSFORMER},
        {"network": {**TRANSFORMER, "positions": "learned"}, "optimizer": "sgd", "max_grad_norm": None},
        {"target_update_rate": 1.0, "target_update_interval": 5, "bound_values": False},
        {"optimizer": "sparse_adam"},
        {"optimizer": "sparse_adam", "dueling": False, "network": TRANSFORMER},
        {"precision": "bfloat16"},
        {"corpus_share": 0.0},
        {"corpus_share": 1.0},
        {"gamma": 0.9, "dueling": False, "temperature": 2.0},
    ],
)
def test_every_setting_trains(tiny, settings):
    agent = DQN(tiny, **{**SMALL, **settings})
    before = weights(agent)
    agent.learn(80)
    assert agent.learner.transitions_trained > 0
    assert all(torch.isfinite(w).all() for w in weights(agent))
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(agent), strict=True))


@pytest.mark.parametrize("env", [{"ending": "fixed"}, {"transition": "teacher"}, {"target": "reference"}, {"reward_every": 0}, {"min_new_tokens": 3}, {"target": "markov", "vocab_size": 12, "order": 2}])  # fmt: skip
def test_every_environment_trains(tiny, env):
    agent = DQN(EnvConfig.of(tiny, env), **SMALL).learn(80)
    assert all(torch.isfinite(w).all() for w in weights(agent))


def test_the_target_network_follows(tiny):
    agent = DQN(tiny, **SMALL, target_update_rate=1.0, target_update_interval=3)
    online, target = agent.network.head.weight, agent.learner.target_network.head.weight
    agent.learn(40)
    while agent.learner.updates % 3:
        agent.learn(4)
    assert torch.equal(online, target)
    polyak = DQN(tiny, **SMALL, target_update_rate=0.1)
    start = polyak.network.head.weight.detach().clone()
    polyak.learn(4)
    while polyak.learner.updates < 1:
        polyak.learn(4)
    assert not torch.equal(polyak.learner.target_network.head.weight, start)
    assert not torch.equal(polyak.learner.target_network.head.weight, polyak.network.head.weight)


def test_an_averaged_agent_predicts_writes_and_saves_the_average(tiny, tmp_path):
    agent = DQN(tiny, **SMALL, target_update_rate=0.1, averaged=True).learn(80)
    target = agent.learner.target_network
    assert not torch.equal(target.head.weight, agent.network.head.weight)
    windows, _ = TokenLMVectorEnv(3, tiny).reset(seed=0)
    found = agent.log_probs(windows)
    text = agent.generate(temperature=0.0, seed=0)
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path)
    assert np.array_equal(loaded.log_probs(windows), found)
    assert loaded.generate(temperature=0.0, seed=0) == text
    plain = DQN(tiny, **SMALL)
    plain.network.load_state_dict(target.state_dict())
    assert np.array_equal(plain.log_probs(windows), found)
    with pytest.raises(ValueError, match="pqn does not use averaged"):
        DQN(tiny, loss="pqn", averaged=True)


def test_predict_single_batched_and_with_state(agent, tiny):
    env = TokenLMEnv(tiny)
    observation, _ = env.reset(seed=0)
    action, state = agent.predict(observation, deterministic=True)
    assert action.shape == ()
    assert env.action_masks()[action]
    envs = TokenLMVectorEnv(3, tiny, autoreset_mode="SameStep")
    observations, _ = envs.reset(seed=0)
    state, start = None, None
    for _ in range(20):
        actions, state = agent.predict(observations, state, start, deterministic=True, action_masks=envs.action_masks())
        afresh, _ = agent.predict(observations, deterministic=True, action_masks=envs.action_masks())
        assert actions.tolist() == afresh.tolist()
        observations, _, terminated, truncated, _ = envs.step(actions)
        start = terminated | truncated


def test_predict_respects_the_mask(agent, tiny):
    observation, _ = TokenLMEnv(tiny).reset(seed=0)
    only = np.zeros(len(agent.tokenizer.vocabulary), bool)
    only[7] = True
    assert agent.predict(observation, action_masks=only)[0] == 7


def test_generate(agent):
    texts = agent.generate("the cat", 3, seed=0)
    assert len(texts) == 3
    assert all(t.startswith("the cat") for t in texts)
    assert texts == agent.generate("the cat", 3, seed=0)
    assert len(set(agent.generate(["the", "the dog"], 2, temperature=0.0))) <= 2
    assert agent.generate("the", max_new_tokens=1, temperature=0)[0].count(" ") <= 1
    with pytest.raises(ValueError, match="'zebra' has words outside the vocabulary only"):
        agent.generate("zebra")
    with pytest.warns(UnknownWords, match="read as <unk>: 'zebra' in the prompt 'the zebra'"):
        agent.generate("the zebra")


@pytest.mark.parametrize("network", [SMALL["network"], TRANSFORMER])
def test_one_seed_one_result_bit_for_bit(tiny, network):
    settings = {**SMALL, "network": network}
    one, other = (DQN(tiny, **settings, seed=3).learn(120) for _ in range(2))
    assert equal(one, other)
    assert not equal(one, DQN(tiny, **settings, seed=4).learn(120))


@pytest.mark.parametrize("settings", [{}, {"network": TRANSFORMER}, {"corpus_share": 0.0, "dueling": False}])
def test_an_interrupted_run_goes_on_bit_for_bit(tiny, settings, tmp_path):
    from tokenlm.agents.runs.checkpoints import Checkpoints

    settings = {**SMALL, **settings}
    whole = DQN(tiny, **settings).learn(240)
    part = DQN(tiny, **settings)
    part.learn(240, lambda agent: agent.num_steps < 100)
    Checkpoints(tmp_path).save(part.state_dict())
    resumed = DQN(tiny, **settings, seed=0)
    resumed.load_state_dict(Checkpoints(tmp_path).load()[0])
    resumed.learn(240, resume=True)
    assert resumed.num_steps == whole.num_steps
    assert equal(whole, resumed)
    assert whole.generate("", 4) == resumed.generate("", 4)


@pytest.mark.parametrize("kind", [DQN, MaximumLikelihood])
def test_saved_and_loaded(tiny, kind, tmp_path):
    agent = kind(tiny, **SMALL).learn(80)
    agent.save(tmp_path)
    assert {p.suffix for p in tmp_path.rglob("*.*")} == {".json", ".safetensors"}
    alone = kind.load(tmp_path)
    assert equal(agent, alone)
    assert alone.generate("the", 3, seed=1) == agent.generate("the", 3, seed=1)
    with pytest.raises(ValueError, match="no environment to learn in"):
        alone.learn(8)
    with pytest.raises(ValueError, match="no environment to be evaluated in"):
        evaluate(alone)
    inside = kind.load(tmp_path, env=tiny)
    assert inside.config == agent.config
    inside.learn(16)


def test_a_vocabulary_that_does_not_fit(agent, tiny, tmp_path):
    agent.save(tmp_path)
    other = EnvConfig.of(tiny, {"corpus": ("a b", "b c", "c d", "d e")})
    with pytest.raises(ValueError, match="vocabulary of 16 tokens that differs from the environment's"):
        DQN.load(tmp_path, env=other)
    with pytest.raises(FileNotFoundError, match="holds no saved agent"):
        DQN.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lerning_rate": 1e-3}, "no setting 'lerning_rate'; did you mean 'learning_rate'"),
        ({"gamma": 1.5}, "gamma must lie between 0 and 1, not 1.5"),
        ({"loss": "soft"}, "loss 'soft' is unknown; did you mean 'soft_q'"),
        ({"optimizer": "adamm"}, "name 'adamm' is unknown; did you mean 'adam'"),
        ({"loss": "cross_entropy", "corpus_share": 0.5}, "cross_entropy needs corpus_share 1.0, not 0.5: it learns"),
        (
            {"loss": "pcl", "dueling": False},
            "loss 'pcl' has no setting 'dueling'; soft_q, dqn, double, cql, pqn have it",
        ),
        (
            {"loss": "c51", "n_step": 3},
            "loss 'c51' has no setting 'n_step'; soft_q, dqn, double, pcl, hl_gauss, cql have it",
        ),
        ({"loss": "pqn", "corpus_share": 0.5}, "pqn needs corpus_share 0.0, not 0.5"),
        ({"loss": "munchausen", "temperature": 0.0}, "munchausen needs a temperature above 0"),
        ({"loss": "munchausen", "munchausen_clip": 1.0}, "munchausen_clip must be at most 0, or None, not 1.0"),
        ({"loss": "hl_gauss", "value_range": (0.0, -1.0)}, "lowest < highest"),
        ({"loss": "ilql", "expectile": 0.2}, "expectile must lie between 0.5"),
        ({"network": "tabular"}, "a table over .* is too large"),
        ({"batch_size": "8"}, "batch_size must be a whole number, not '8'"),
        ({"dueling": "no"}, "dueling must be True or False, not 'no'"),
        ({"temperature": -1.0}, "must be finite and not negative, not -1.0"),
        (
            {"learning_rate": {"start": 1, "end": 0, "shape": "exponential"}},
            "exponential schedule needs positive ends",
        ),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
    ],
)
def test_settings_that_cannot_work_say_why(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        DQN(tiny, **settings)


def test_no_steps_are_no_learning(tiny):
    agent = DQN(tiny, **SMALL).learn(0)
    assert (agent.env_steps, agent.transitions_trained) == (0, 0)
    for steps, message in (
        (-1, "at least 0, not -1"),
        (1.5, "a whole number, not 1.5"),
        ("9", "a whole number, not '9'"),
    ):
        with pytest.raises(ValueError, match=f"total_steps must be {message}"):
            agent.learn(steps)


def test_schedules_by_hand():
    assert [Schedule(1.0, 0.0, 0.5)(p) for p in (0.0, 0.25, 0.5, 0.9)] == [1.0, 0.5, 0.0, 0.0]
    assert Schedule(1.0, 0.01, shape="exponential")(0.5) == pytest.approx(0.1)
    assert Schedule(2.0, 0.0, shape="cosine")(0.5) == pytest.approx(1.0)
    assert AgentConfig(temperature=0.5).temperature(0.3) == 0.5


def test_soft_q_learns_the_target_from_rewards_alone():
    """Identity 1: with τ = γ = 1 the optimal policy is p* itself, here without one corpus episode."""
    env = EnvConfig(
        target="markov",
        order=2,
        vocab_size=10,
        max_new_tokens=6,
        context_length=8,
        ending="fixed",
        prompt_length=(0, 0),
    )
    agent = DQN(
        env, corpus_share=0.0, num_envs=16, batch_size=32, learning_starts=64, learning_rate=Schedule(2e-2, 2e-4),
        network={"embedding_size": 16, "hidden_size": 32}, target_update_rate=0.05,
    ).learn(6_000)  # fmt: skip
    score = score_text(agent, "test")
    assert score.perplexity == pytest.approx(score.target_perplexity, rel=1e-3)
    result = evaluate(agent)
    assert 0 <= result["kl_to_target"] < 1e-2


def test_greedy_learning_finds_the_most_likely_text():
    """Identity 4: at τ → 0 the optimum is the most likely text."""
    env = EnvConfig(
        target="markov", order=2, vocab_size=10, max_new_tokens=6, context_length=8, ending="fixed",
        prompt_length=(0, 0),
    )  # fmt: skip
    agent = DQN(
        env, corpus_share=0.0, num_envs=16, batch_size=32, learning_starts=64, learning_rate=Schedule(1e-2, 2e-4),
        temperature=Schedule(1.0, 0.0, 0.8), epsilon=0.05, target_update_rate=0.05,
        network={"embedding_size": 16, "hidden_size": 32},
    ).learn(9_000)  # fmt: skip
    result = evaluate(agent)
    assert result["perplexity"] is None
    assert result["greedy_return"] == pytest.approx(result["optimal_return"], abs=1e-9)
    assert result["normalized_score"] == pytest.approx(1.0)


def test_maximum_likelihood_never_acts(tiny):
    agent = MaximumLikelihood(tiny, **SMALL).learn(200)
    assert agent.env_steps == 0
    assert agent.learner.transitions_trained > 200 * 8 * 0.9
    score = score_text(agent, "valid")
    assert score.perplexity < 0.6 * len(agent.tokenizer.vocabulary)


@pytest.mark.parametrize(("steps", "reads"), [(1, False), (2, True)])
def test_texts_that_all_end_need_no_target_network(tiny, steps, reads):
    env = EnvConfig.of(tiny, {"ending": "fixed", "max_new_tokens": steps})
    agent = DQN(env, **SMALL).learn(40)
    learner = agent.learner
    update = learner.update_of(agent.sampler.sample(), 1.0)
    expected = update.rewards + update.discounts * learner.target_network.state_values(
        update._forward(learner.target_network).index_select(0, update._after)
    ).clamp(max=0.0)
    target = update.targets(update.rewards, update.value_next)
    assert ("_target_hidden" in vars(update)) == reads
    assert torch.allclose(target, expected)


def test_start_from_begins_with_the_weights_of_a_saved_agent(tiny, tmp_path):
    learned = MaximumLikelihood(tiny, **SMALL).learn(200)
    learned.save(tmp_path / "learned")
    settings = SMALL | {"network": SMALL["network"] | {"initial_value": 3.0}}
    again = DQN(tiny, start_from=str(tmp_path / "learned"), loss="pcl", seed=1, **settings)
    target = again.learner.target_network
    for name, weight in again.network.named_parameters():
        assert torch.equal(weight, target.get_parameter(name))
        if name.startswith("value_head."):  # another reward has other values
            assert not torch.equal(weight, learned.network.get_parameter(name))
        else:
            assert torch.equal(weight, learned.network.get_parameter(name))
    assert again.network.value_head.bias.item() == 3.0
    again.learn(200).save(tmp_path / "again")
    (tmp_path / "learned").rename(tmp_path / "elsewhere")
    assert equal(DQN.load(tmp_path / "again"), again)  # the start is not needed any more


def test_start_from_refuses_what_does_not_fit(tiny, agent, tmp_path):
    agent.save(tmp_path)
    other = {**SMALL, "network": {"embedding_size": 8, "hidden_size": 32}}
    with pytest.raises(ValueError, match=r"differs in head.weight, .*; give this agent the same settings"):
        DQN(tiny, start_from=str(tmp_path), **other)
    with pytest.raises(ValueError, match=r"differs in behaviour_head.bias, .* a loss with the same heads"):
        DQN(tiny, start_from=str(tmp_path), loss="ilql", **SMALL)
    with pytest.raises(ValueError, match="vocabulary of 16 tokens that differs from the environment's"):
        DQN(EnvConfig.of(tiny, {"corpus": ("a b", "b c", "c d", "d e")}), start_from=str(tmp_path), **SMALL)
    with pytest.raises(FileNotFoundError, match="holds no saved agent"):
        DQN(tiny, start_from=str(tmp_path / "nowhere"), **SMALL)
