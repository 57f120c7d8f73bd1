"""Every learning rule, with a table for a network, ends at its exact fixed point."""

import dataclasses

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, Schedule
from tokenlm.agents.dqn.rule import TDRule
from tokenlm.agents.dqn.rule_names import make_rule, rule_class
from tokenlm.envs import EnvConfig, Oracle, World
from tokenlm.envs.arguments import names_of

from fixed_points import AllTexts, distance, fixed_point, learned, solve


def environment(every: int = 1, **settings) -> EnvConfig:
    base = {
        "target": "markov", "order": 3, "vocab_size": 8, "max_new_tokens": 3, "context_length": 4,
        "prompt_length": (0, 0), "ending": "fixed", "reward_every": every,
    }  # fmt: skip
    return EnvConfig(**{**base, **settings})


def agent_of(env: EnvConfig, loss: str, temperature: float | None, **settings) -> DQN:
    base = {
        "network": "tabular", "learning_rate": Schedule(0.3, 3e-5, shape="exponential"), "target_update_rate": 0.5,
        "max_grad_norm": None,
    }  # fmt: skip
    histogram = {"value_range": (-20.0, 0.0), "atoms": 41}
    has = {field.name for field in dataclasses.fields(rule_class(loss))}
    base |= {name: value for name, value in histogram.items() if name in has}
    if issubclass(rule_class(loss), TDRule):
        base["huber_delta"] = 1e6  # squared: the same fixed point, in fewer updates
    chosen = {name: value for name, value in {**base, **settings}.items() if name not in rule_class(loss).ignores}
    return DQN(env, loss=loss, temperature=temperature, **chosen)


def steps(start: float, end: float, target_update_rate: float = 1.0) -> dict:
    schedule = Schedule(start, end, shape="exponential")
    return {"learning_rate": schedule, "target_update_rate": target_update_rate}


def by_entry(rate: float) -> dict:
    return {"optimizer": "sgd", "learning_rate": rate, "target_update_rate": 1.0}


SLOW = steps(0.3, 3e-5, 0.5)
ADAM = {  # kinks, a LayerNorm before the heads, or a softmax between them and the values: updates and their sizes
    "pqn": (1_600, SLOW), "hl_gauss": (500, steps(1.0, 1e-2)), "c51": (500, steps(1.0, 1e-2)),
    "iq_learn, τ = 0": (1_200, SLOW), "pcl, τ = 0": (1_200, SLOW),
}  # fmt: skip


def descend_by_entry(agent: DQN, texts: AllTexts) -> None:
    """Plain gradient descent, each entry of the table at its own rate: its gradient over how often it is met.

    The root is met in every text and a prefix of two tokens in one of nine, so one rate for all is slow for most.
    """
    with torch.no_grad():
        met = agent.network(texts.batch().tokens)[:, :-1].flatten(0, 1).square().mean(0).clamp(min=1e-9)
    for head in (agent.network.head, agent.network.value_head, agent.network.behaviour_head, agent.network.reward_head):
        if head is not None:
            head.weight.register_hook(lambda gradient: gradient / met)
            head.bias.register_hook(torch.zeros_like)  # one for all prefixes: the table needs none
    for group in agent.learner.optimizer.dense.param_groups:
        group["momentum"] = 0.0


def pace(loss: str, settings: dict, temperature: float) -> tuple[int, float]:
    """How many updates `descend_by_entry` takes, and its rate: what is steep wants a small one, kinks want more."""
    rule = make_rule(loss, {name: value for name, value in settings.items() if name in names_of(rule_class(loss))})
    if loss in ("cross_entropy", "q_sft", "iq_learn", "quantile"):
        return {"cross_entropy": (80, 2.0), "q_sft": (60, 1.0), "iq_learn": (140, 2.0), "quantile": (150, 10.0)}[loss]
    if loss == "munchausen":
        return 80, 0.6
    if loss == "pcl" and rule.n_step > 1:
        return 120, 0.6
    if rule.dueling and (temperature == 0.0 or rule.hard):
        return 100, 0.8
    return 60, 0.9


def error_of(loss: str, every: int, temperature: float, **settings) -> float:
    env = environment(every)
    texts, with_adam = AllTexts(env), ADAM.get(loss)
    if temperature == 0.0 and (loss == "iq_learn" or (loss == "pcl" and settings)):
        with_adam = ADAM[f"{loss}, τ = 0"]
    if with_adam:
        updates, sizes = with_adam
        agent = agent_of(env, loss, temperature, **{**sizes, **settings})
    else:
        updates, rate = pace(loss, settings, temperature)
        agent = agent_of(env, loss, temperature, **{**settings, **by_entry(rate)})
        descend_by_entry(agent, texts)
    if loss == "cross_entropy":  # of a table of zeros the policy is uniform already
        torch.nn.init.normal_(agent.network.head.weight, generator=torch.Generator().manual_seed(0))
    solve(agent, texts, updates)
    return distance(learned(agent, texts), fixed_point(agent.config, texts, temperature))


# Of three tokens the first earns nothing, the second for both, the third at once: late and dense rewards in one world.
BOTH = 2
EVERY = [BOTH, pytest.param(1, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.slow)]
TEMPERATURES = [0.0, 0.5, 1.0]
RULES = {
    "soft_q": {}, "soft_q without dueling": {"dueling": False}, "soft_q, 3 steps": {"n_step": 3}, "double": {},
    "soft_q, centred": {"centred": True},
    "pcl": {}, "pcl, 2 steps": {"n_step": 2}, "cql": {}, "munchausen": {"munchausen_alpha": 0.5}, "iq_learn": {},
}  # fmt: skip


def loss_of(rule: str) -> str:
    return rule.split(",")[0].split(" ")[0]


# At temperature 0 cql has no smooth objective and munchausen no policy to take the logarithm of.
CASES = [(r, tau) for r in RULES for tau in TEMPERATURES if tau > 0 or loss_of(r) not in ("cql", "munchausen")]


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(("rule", "temperature"), CASES)
def test_rules_for_every_temperature(rule, temperature, every):
    assert error_of(loss_of(rule), every, temperature, **RULES[rule]) < 1e-3


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    ("loss", "within", "settings"),
    [
        ("dqn", 1e-3, {}),
        ("dqn", 1e-3, {"n_step": 3}),
        ("dqn", 1e-3, {"dueling": True}),
        ("pqn", 1e-3, {}),
        ("cross_entropy", 1e-5, {}),
        ("q_sft", 1e-5, {}),
        ("ilql", 1e-3, {}),
    ],
)
def test_rules_with_one_temperature(loss, within, settings, every):
    assert error_of(loss, every, 1.0, **settings) < within


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(("loss", "within"), [("hl_gauss", 0.1), ("c51", 0.05), ("quantile", 0.05)])
def test_rules_that_learn_distributions(loss, within, every):
    # A softmax or a quantile reaches its end only as 1/updates; half a bin is 0.25 nats.
    temperature = 1.0 if loss == "hl_gauss" else 0.0
    assert error_of(loss, every, temperature) < within


def test_the_fixed_point_is_the_oracles_optimum():
    env = environment()
    texts, oracle = AllTexts(env), Oracle(World.of(env), env)
    window = np.array([[0, 0, 0, 2]])
    for temperature in (0.0, 0.5, 1.0):
        q_values = fixed_point(agent_of(env, "soft_q", temperature).config, texts, temperature)[0]
        np.testing.assert_allclose(
            q_values, oracle.optimal_q(window, temperature=temperature)[0, texts.words], atol=1e-12
        )


@pytest.mark.parametrize("gamma", [0.0, 0.6])
def test_discounted_dense_rewards_keep_p_star(gamma):
    """Identity 1: at τ = 1 V* = 0 for every discount, so the agent is the language model all the same."""
    env = environment()
    texts, agent = AllTexts(env), agent_of(env, "soft_q", 1.0, gamma=gamma, **by_entry(0.9))
    descend_by_entry(agent, texts)
    solve(agent, texts, 60)
    np.testing.assert_allclose(learned(agent, texts)[2], texts.tree(texts.rewards)[2], atol=1e-3)


def test_teacher_transitions_are_a_bandit_that_finds_p_star():
    """With γ = 0 the value of a word is its own log-likelihood, whichever word the document goes on with."""
    env = environment(transition="teacher")
    agent = agent_of(
        env, "soft_q", 1.0, gamma=0.0, corpus_share=0.0, learning_starts=64, num_envs=16, replay_ratio=16.0,
        epsilon=0.5, learning_rate=Schedule(0.1, 1e-4, shape="exponential"),
    ).learn(5_000)  # fmt: skip
    world = agent.world
    windows = np.array([[0, 0, 0, 2], [0, 0, 2, 5], [0, 2, 7, 6]])
    prompts = [[2], [2, 5], [2, 7, 6]]
    p_star = world.target.log_probs(world.target.track(windows), np.zeros(3, bool))
    for row, prompt in enumerate(prompts):
        hidden = agent.network(torch.tensor([prompt]))[:, -1]
        log_policy = (
            torch.log_softmax(agent.network.policy_values(hidden, agent.valid_tokens.valid), -1)[0].detach().numpy()
        )
        np.testing.assert_allclose(log_policy[5:], p_star[row, 5:], atol=0.05)


def test_reference_rewards_read_out_the_probability_of_the_next_word():
    """Identity 6: with γ = 0, Q is affine in p(y | s), and that map gives the probabilities of the corpus back."""
    corpus = tuple(f"{a} {b}" for a, b in [("a", "b")] * 3 + [("a", "c")] + [("b", "a")] * 2 + [("c", "a")] * 2)
    env = EnvConfig(
        corpus=tuple(f"{text} d{i}" for i, text in enumerate(corpus * 12)), tokenizer="word", min_count=2,
        target="reference", epsilon=0.2, transition="teacher", context_length=4, max_new_tokens=2,
        prompt_length=(1, 1),
    )  # fmt: skip
    agent = DQN(
        env, loss="dqn", gamma=0.0, corpus_share=0.0, epsilon=1.0, learning_starts=64, num_envs=32,
        network={"name": "lstm", "embedding_size": 8, "hidden_size": 16}, learning_rate=Schedule(2e-2, 1e-4),
        bound_values=False, replay_ratio=16.0,
    ).learn(6_000)  # fmt: skip
    world = agent.world
    documents = [world.documents["train"][i].tolist() for i in range(len(world.documents["train"]))]
    word = {token: world.vocabulary.id(token) for token in ("a", "b", "c")}
    after = [d[1] for d in documents if d[0] == word["a"]]
    chance = {token: after.count(i) / len(after) for token, i in word.items()}

    valid = np.flatnonzero(world.valid)
    size, mass = world.vocab_size, float(np.log1p(-(world.vocab_size - len(valid)) * 0.2 / world.vocab_size))
    low, high = np.log(0.2 / size) - mass, np.log(0.8 + 0.2 / size) - mass
    hidden = agent.network(torch.tensor([[2, word["a"]]]))[:, -1]
    q_values = agent.network.q_values(hidden)[0].detach().numpy()
    for token, i in word.items():
        assert (q_values[i] - low) / (high - low) == pytest.approx(chance[token], abs=0.06)


def test_texts_that_cannot_be_listed_are_refused():
    with pytest.raises(ValueError, match='ending="fixed"'):
        AllTexts(environment(ending="eos"))
    with pytest.raises(ValueError, match="no smooth objective"):
        fixed_point(agent_of(environment(), "cql", 0.0).config, AllTexts(environment()), 0.0)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_munchausen_without_its_bonus_is_soft_q(temperature):
    texts = AllTexts(environment(0))
    agents = [
        agent_of(texts.env_config, loss, temperature, **settings)
        for loss, settings in (("munchausen", {"munchausen_alpha": 0.0}), ("soft_q", {}), ("pcl", {}))
    ]
    for agent in agents:
        solve(agent, texts, 60)
    trees = [learned(agent, texts) for agent in agents]
    assert distance(trees[0], trees[1]) < 1e-5
    assert distance(trees[2], trees[1]) < 1e-5  # path consistency of one step too


def test_one_step_of_several_is_the_plain_rule():
    texts = AllTexts(environment(0))
    agents = [agent_of(texts.env_config, "soft_q", 1.0, **s) for s in ({}, {"n_step": 1, "trace_decay": 0.3})]
    for agent in agents:
        solve(agent, texts, 30)
    assert distance(learned(agents[0], texts), learned(agents[1], texts)) == 0.0


def test_a_reward_shared_out_keeps_every_return():
    """What the reward head says sums to what was paid, and the policy is the optimum's."""
    texts, dense = AllTexts(environment(0)), AllTexts(environment())
    agent = agent_of(texts.env_config, "soft_q", 0.5, redistribute=True, **by_entry(0.6))
    descend_by_entry(agent, texts)
    solve(agent, texts, 150)
    batch = texts.batch()
    hidden = agent.network(batch.tokens)[:, :-1]
    shared = agent.network.action_rewards(hidden, batch.actions).sum(1)
    assert torch.allclose(shared, batch.rewards.sum(1), atol=1e-3)

    def log_policy(q_values):
        return [q / 0.5 - torch.logsumexp(torch.from_numpy(q / 0.5), -1, keepdim=True).numpy() for q in q_values]

    optimal = fixed_point(agent.config, dense, 0.5)
    assert distance(log_policy(learned(agent, texts)), log_policy(optimal)) < 1e-2
