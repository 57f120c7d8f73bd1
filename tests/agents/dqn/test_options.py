"""Phrases as options: the SMDP Bellman equation, its optimum, and that it takes fewer decisions."""

import dataclasses
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents import DQN, AgentConfig, MaximumLikelihood, Schedule, evaluate, play, score_text
from tokenlm.agents.acting.phrases import Decisions
from tokenlm.agents.dqn.update import Update
from tokenlm.agents.evaluation.exact import every_text
from tokenlm.agents.replay.corpus import corpus_replay, decision_rewards, segment
from tokenlm.agents.replay.episodes import EpisodeBatch, EpisodeReplay
from tokenlm.envs import EnvConfig, Oracle, PhraseActions, Phrases, Vocabulary, World

T = torch.tensor
PHRASES = Phrases(((5, 6), (6, 5, 7), (7, 7)), 8)


def environment(**settings) -> EnvConfig:
    return dataclasses.replace(gym.make("TokenLM-Tiny-v0").unwrapped.config, **settings)


def agent_of(env: EnvConfig, temperature: float = 0.0, **settings) -> DQN:
    base = {
        "network": "tabular", "optimizer": "sgd", "learning_rate": 0.5 if temperature else 0.27,
        "target_update_rate": 1.0, "max_grad_norm": None, "phrases": PHRASES,
    }  # fmt: skip
    if settings.get("loss") != "pcl":  # which has two heads in any case
        base["dueling"] = False
    return DQN(env, temperature=temperature, **{**base, **settings})


class DecisionTree:
    """Every way to write every text of an environment with the ending "fixed", by hand and one token at a time."""

    def __init__(self, env: EnvConfig, phrases: Phrases) -> None:
        self.env, self.phrases, self.horizon = env, phrases, env.max_new_tokens
        self.world = World.of(env)
        texts = every_text(self.world, env)
        self.log_target = {tuple(t): v for t, v in zip(texts.tokens.tolist(), texts.log_target, strict=True)}
        self.words = self.world.words.tolist()
        self.actions = [*self.words, *range(phrases.vocab_size, phrases.num_actions)]

    @cache  # noqa: B019
    def log_prob(self, text: tuple[int, ...], token: int) -> float:
        window = np.array([([0] * 8 + [Vocabulary.BOS, *text])[-self.env.context_length :]])
        return float(self.world.target.log_probs(self.world.target.track(window), np.array([False]))[0, token])

    def written_by(self, text: tuple[int, ...], action: int) -> tuple[int, ...]:
        tokens = self.phrases.table[action, : self.phrases.lengths[action]].tolist()
        return tuple(tokens[: self.horizon - len(text)])

    def solve(self, temperature: float, gamma: float, cost: float) -> dict[tuple[int, ...], dict[int, float]]:
        """Q of every action at every prefix, by the Bellman equation of the semi-Markov decision process."""
        q_values: dict[tuple[int, ...], dict[int, float]] = {}

        def value(text: tuple[int, ...]) -> float:
            if len(text) == self.horizon:
                return 0.0
            own = {}
            for action in self.actions:
                tokens, total = self.written_by(text, action), -cost
                for i, token in enumerate(tokens):
                    total += gamma**i * self.log_prob(text + tokens[:i], token)
                own[action] = total + gamma ** len(tokens) * value(text + tokens)
            q_values[text] = own
            numbers = np.array(list(own.values()))
            if temperature == 0.0:
                return float(numbers.max())
            return float(temperature * np.logaddexp.reduce(numbers / temperature))

        value(())
        return q_values

    def ways(self) -> dict[tuple[int, ...], list[list[int]]]:
        """The decision sequences that write each text."""
        found: dict[tuple[int, ...], list[list[int]]] = {}

        def go(text: tuple[int, ...], chosen: list[int]) -> None:
            if len(text) == self.horizon:
                found.setdefault(text, []).append(chosen)
                return
            for action in self.actions:
                go(text + self.written_by(text, action), [*chosen, action])

        go((), [])
        return found

    def batch(self, gamma: float) -> EpisodeBatch:
        """All of these sequences, as the replay gives them."""
        episodes = [(text, way) for text, ways in self.ways().items() for way in ways]
        count, size = len(episodes), self.horizon
        replay = EpisodeReplay(count, 1, size, 20, keeps_actions=True, keeps_durations=True)
        tokens = torch.tensor([[Vocabulary.BOS, *text] for text, _ in episodes])
        actions, durations = np.zeros((count, size), np.int64), np.zeros((count, size), np.int64)
        token_rewards = np.zeros((count, size))
        for row, (text, way) in enumerate(episodes):
            at = 0
            for action in way:
                actions[row, at] = action
                durations[row, at] = len(self.written_by(text[:at], action))
                at += int(durations[row, at])
            token_rewards[row] = [self.log_prob(text[:i], text[i]) for i in range(size)]
        rewards = torch.from_numpy(decision_rewards(token_rewards, durations, gamma)).float()
        ones = torch.ones(count, dtype=torch.int64)
        parts = (torch.from_numpy(actions), rewards, ones, ones * size, ones.bool())
        replay.add(tokens, *parts, durations=torch.from_numpy(durations))
        return replay.rows(torch.arange(count))


def descend_by_entry(agent: DQN, batch: EpisodeBatch) -> None:
    """Plain gradient descent, each entry of the table at its own rate: its gradient over how often it is met."""
    met = agent.learner.update_of(batch, 0.0)
    states = met.online.hidden.detach()  # one-hot
    taken = torch.zeros(agent.network.num_actions, states.shape[1]).index_add(0, met.actions, states)
    for head, often in ((agent.network.head, taken), (agent.network.value_head, states.sum(0))):
        share = torch.where(often > 0, often / len(states), torch.inf)
        head.weight.register_hook(lambda gradient, share=share: gradient / share)
        head.bias.register_hook(torch.zeros_like)  # one for all prefixes: the table needs none
    for group in agent.learner.optimizer.dense.param_groups:
        group["momentum"] = 0.0


def solved(
    env: EnvConfig, temperature: float, updates: int, phrases: Phrases = PHRASES, **settings
) -> tuple[DQN, DecisionTree]:
    agent = agent_of(env, temperature, phrases=phrases, **settings)
    tree = DecisionTree(env, phrases)
    batch = tree.batch(agent.config.gamma)
    descend_by_entry(agent, batch)
    for number in range(updates):
        agent.learner.update(batch, number / updates)
    agent.progress = 1.0
    return agent, tree


@torch.no_grad()
def error_of(agent: DQN, tree: DecisionTree) -> float:
    config = agent.config
    exact = tree.solve(agent.temperature, config.gamma, config.phrases.decision_cost)
    largest = 0.0
    for text, own in exact.items():
        hidden = agent.network(T([[Vocabulary.BOS, *text]]))[:, -1]
        q_values = agent.network.q_values(hidden)[0]
        if config.rule.dueling:
            valid = agent.valid_actions.valid
            maximum = torch.logsumexp(q_values[valid], 0) if agent.temperature else q_values[valid].max()
            q_values = agent.network.state_values(hidden) + q_values - maximum
        largest = max(largest, *(abs(float(q_values[a]) - q) for a, q in own.items()))
    return largest


@pytest.mark.parametrize(
    ("temperature", "settings"),
    [
        (0.0, {"dueling": True}),
        (0.0, {"gamma": 0.8, "dueling": True}),
        (0.0, {"decision_cost": 0.05, "loss": "double", "dueling": True}),
        (1.0, {"dueling": True}),
        (1.0, {"loss": "pcl", "gamma": 0.9}),
    ],
)
def test_option_values_solve_the_bellman_equation_of_the_semi_markov_process(temperature, settings):
    updates = 100 if temperature else 240  # the maximum has kinks
    assert error_of(*solved(environment(max_new_tokens=3), temperature, updates, **settings)) < 1e-3


def test_the_same_optimum_in_the_fewest_decisions():
    """At τ = 0 and γ = 1 phrases only add ways to write the same texts; a small cost picks the shortest of them."""
    env = environment()
    tree = DecisionTree(env, PHRASES)
    best = max(tree.log_target, key=tree.log_target.__getitem__)
    free = tree.solve(0.0, 1.0, 0.0)
    assert max(free[()].values()) == pytest.approx(tree.log_target[best], abs=1e-12)
    # A phrase of the best text that saves a decision, so that there is something to save.
    phrases = Phrases(((best[0], best[1]), *PHRASES.ids), 8)
    agent, _ = solved(env, 0.0, 240, phrases, decision_cost=0.02, dueling=True)
    world = World.of(env)
    greedy = play(agent, world, env, 1, seed=0, temperature=0.0)
    fewest = min(map(len, DecisionTree(env, phrases).ways()[best]))
    assert fewest < env.max_new_tokens
    assert greedy.returns[0] == pytest.approx(tree.log_target[best])
    assert greedy.texts == [world.tokenizer.decode(list(best))]
    assert greedy.decisions.tolist() == [fewest]
    assert greedy.tokens.tolist() == [env.max_new_tokens]


def test_above_temperature_0_a_text_weighs_as_often_as_it_can_be_written():
    """π(text) ∝ N(text)·p*(text)^{1/τ}, so V(∅) = τ log Σ N p*^{1/τ}, which the bound of V* lies above."""
    tree = DecisionTree(environment(), PHRASES)
    for tau in (0.5, 1.0):
        q_values = tree.solve(tau, 1.0, 0.0)
        value = tau * np.logaddexp.reduce(np.array(list(q_values[()].values())) / tau)
        weights = {text: np.log(len(ways)) + tree.log_target[text] / tau for text, ways in tree.ways().items()}
        assert value == pytest.approx(tau * np.logaddexp.reduce(np.array(list(weights.values()))), abs=1e-10)
        policy = dict.fromkeys(weights, 0.0)
        for text, ways in tree.ways().items():
            for way in ways:
                log_pi, at = 0.0, ()
                for action in way:
                    log_pi += q_values[at][action] / tau - np.logaddexp.reduce(np.array([*q_values[at].values()]) / tau)
                    at += tree.written_by(at, action)
                policy[text] += np.exp(log_pi)
        total = np.logaddexp.reduce(np.array(list(weights.values())))
        assert policy == pytest.approx({text: np.exp(w - total) for text, w in weights.items()}, abs=1e-10)
        agent = agent_of(tree.env, tau)
        update = agent.learner.update_of(tree.batch(1.0), tau)
        assert value <= float(update.online.bound[update.written == 0].min())
    assert value > 0  # phrases lift even V* above that of the tokens, which is 0 at τ = 1


def test_a_batch_of_phrases_by_hand():
    replay = EpisodeReplay(2, 2, 4, 11, keeps_actions=True, keeps_durations=True)
    tokens = T([[2, 5, 5, 6, 7, 0], [2, 6, 5, 7, 5, 0]])
    actions, durations = T([[8, 0, 7, 0], [9, 0, 0, 5]]), T([[2, 0, 1, 0], [3, 0, 0, 1]])
    rewards = T([[-3.0, 0, -1, 0], [-6.0, 0, 0, -1]])
    end = (T([2, 1]), T([3, 4]), T([True, False]))
    replay.add(tokens, actions, rewards, *end, durations=durations)
    assert replay.num_transitions == 4
    batch = replay.rows(T([0, 1]))
    assert batch.is_action.tolist() == [[False, True, False, True], [True, False, False, True]]
    assert batch.actions[batch.is_action].tolist() == [8, 7, 9, 5]
    assert batch.durations[batch.is_action].tolist() == [2, 1, 3, 1]
    assert batch.terminal[batch.is_action].tolist() == [False, True, False, False]
    assert batch.num_actions == 4
    agent = agent_of(environment(), gamma=0.5, decision_cost=0.25)
    backup = dataclasses.replace(agent.learner.backup, temperature=0.0)
    update = Update(batch, agent.network, agent.network, agent.valid_actions, backup)
    assert update.online_next.written.tolist() == [2, 3, 3, 4]
    assert update.discounts.tolist() == [0.25, 0.0, 0.125, 0.5]
    taken_off, _ = agent.learner._forward(batch, 1.0)
    assert taken_off.rewards.tolist() == [-3.25, -1.25, -6.25, -1.25]
    hidden = agent.network(batch.tokens)
    expected = torch.stack([hidden[0, 3], hidden[0, 4], hidden[1, 3], hidden[1, 4]])
    assert torch.equal(update.online_next.hidden, expected)


def test_rewards_of_decisions_by_hand():
    rewards, durations = np.array([[-1.0, -2.0, -4.0, -8.0]]), np.array([[3, 0, 0, 1]])
    assert decision_rewards(rewards, durations, 0.5).tolist() == [[-1 - 1 - 1, 0, 0, -8]]


def test_documents_are_cut_into_what_they_are_made_of():
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, 8, (400, 6))
    lengths = rng.integers(1, 7, 400)
    actions, durations = segment(PHRASES, tokens, lengths, rng)
    for row, length in enumerate(lengths):
        chosen = actions[row][durations[row] > 0]
        written = [t for a in chosen for t in PHRASES.table[a, : PHRASES.lengths[a]]]
        assert written == tokens[row, :length].tolist()
        assert durations[row].sum() == length
    assert set(actions[durations > 0]) == {5, 6, 7, 8, 9, 10}


def test_a_phrase_goes_on_until_it_is_written_or_interrupted():
    decisions = Decisions(PHRASES, 2)
    seen = [decisions.write(T([a, b])) for a, b in ((9, 5), (5, 8))]
    decisions.interrupt(T([1]))
    seen += [decisions.write(T([5, 7])), decisions.write(T([6, 10]))]
    assert [tokens.tolist() for tokens, _ in seen] == [[6, 5], [5, 5], [7, 7], [6, 7]]
    assert [place.tolist() for _, place in seen] == [[0, 0], [1, 0], [2, 0], [0, 0]]


@pytest.mark.parametrize("env", [{}, {"min_new_tokens": 3}, {"reward_every": 0, "prompt_length": (0, 0)}])
@pytest.mark.parametrize("settings", [{}, {"dueling": False, "exploration": "least_tried", "priority_exponent": 0.6}])
def test_what_the_collector_keeps_is_what_the_environment_paid(tiny, env, settings):
    config = EnvConfig.of(tiny, env)
    agent = DQN(
        config, phrases=12, num_envs=8, epsilon=0.5, temperature=1.0, gamma=0.9, learning_starts=200, batch_size=8,
        network={"embedding_size": 8, "hidden_size": 16}, replay_capacity=4096, **settings,
    ).learn(320)  # fmt: skip
    batch = agent.replay.rows(torch.arange(len(agent.replay)))
    assert batch.log_probs is None
    table, lengths = agent.phrases.table, agent.phrases.lengths
    assert (batch.durations[batch.is_action] > 1).any()
    dense = dataclasses.replace(config, reward_every=1)
    world = World.of(dense)
    for row in range(0, len(batch.tokens), 5):
        at = batch.is_action[row].nonzero().squeeze(1).tolist()
        for column in at:
            action, size = int(batch.actions[row, column]), int(batch.durations[row, column])
            tokens = batch.tokens[row, column + 1 : column + 1 + size].tolist()
            assert tokens == table[action, :size].tolist()
            assert size == lengths[action] or int(batch.written[row, column]) + size == config.max_new_tokens
            if config.reward_every == 1:
                paid = 0.0
                for i, token in enumerate(tokens):
                    prefix = batch.tokens[row, : column + 1 + i].numpy()
                    window = np.pad(prefix, (config.context_length, 0))[-config.context_length :][None]
                    may_end = np.array([int(batch.written[row, column]) + i >= config.min_new_tokens])
                    log_p = world.target.log_probs(world.target.track(window), may_end)[0, token]
                    paid += 0.9**i * log_p
                assert float(batch.rewards[row, column]) == pytest.approx(paid, abs=1e-4)


def test_saved_and_resumed_agents_write_the_same_phrases(tiny, tmp_path):
    settings = {"network": {"embedding_size": 8, "hidden_size": 16}, "num_envs": 4, "learning_starts": 0}
    agent = DQN(tiny, phrases=10, **settings).learn(120)
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path)
    assert loaded.phrases == agent.phrases
    env = PhraseActions(gym.make("TokenLM-v0", config=tiny), agent.phrases)
    observation, _ = env.reset(seed=3)
    chosen = [a.predict(observation, deterministic=True, action_masks=env.action_masks())[0] for a in (agent, loaded)]
    assert chosen[0] == chosen[1]
    assert agent.generate("the", 2, seed=0) == loaded.generate("the", 2, seed=0)


def test_an_interrupted_run_goes_on_bit_for_bit(tiny):
    """Stopped in the middle of phrases."""
    settings = {"network": {"embedding_size": 8, "hidden_size": 16}, "num_envs": 4, "learning_starts": 0, "phrases": 10}
    whole, part, resumed = (DQN(tiny, **settings) for _ in range(3))
    whole.learn(240)
    part.learn(240, lambda agent: agent.num_steps < 100 or not (agent.collector.decisions.left > 0).any())
    assert (part.collector.decisions.left > 0).any()
    assert part.num_steps < 240
    resumed.load_state_dict(part.state_dict())
    resumed.learn(240, resume=True)
    assert torch.equal(whole.network.head.weight, resumed.network.head.weight)


def test_predict_reads_the_whole_phrase(tiny):
    agent = DQN(tiny, phrases=10, temperature=0.0, network={"embedding_size": 8, "hidden_size": 16})
    env = PhraseActions(gym.make("TokenLM-v0", config=tiny), agent.phrases)
    observation, _ = env.reset(seed=0)
    _, state = agent.predict(observation, deterministic=True)
    observation, *_ = env.step(agent.phrases.vocab_size)
    masks = env.action_masks()
    carried, _ = agent.predict(observation, state, deterministic=True, action_masks=masks)
    afresh, _ = agent.predict(observation, deterministic=True, action_masks=masks)
    assert carried == afresh


def test_phrases_that_cannot_be_learned_are_refused(tiny):
    for settings in ({"n_step": 3}, {"loss": "pqn"}, {"loss": "cross_entropy"}):
        with pytest.raises(ValueError, match="phrases are learned one decision ahead"):
            AgentConfig.of(None, {"phrases": 4, **settings})
    with pytest.raises(ValueError, match="need the transition 'free', not 'teacher'"):
        DQN(dataclasses.replace(tiny, transition="teacher"), phrases=4)
    with pytest.raises(ValueError, match="length must lie between 2 and 64, not 1"):
        AgentConfig.of(None, {"phrase_length": 1})
    assert MaximumLikelihood(tiny, AgentConfig.of(None, {"phrases": 4})).phrases is None


def test_corpus_episodes_hold_the_documents(tiny):
    world = World.of(tiny)
    agent = DQN(tiny, phrases=10, network={"embedding_size": 8, "hidden_size": 16})
    plain, cut = corpus_replay(world, tiny, 0), corpus_replay(world, tiny, 0, "cpu", agent.phrases)
    rows = torch.arange(len(plain))
    a, b = plain.rows(rows), cut.rows(rows)
    assert torch.equal(a.tokens, b.tokens)
    assert torch.allclose(a.rewards.sum(1), b.rewards.sum(1), atol=1e-4)
    assert b.num_actions < a.num_actions
    assert torch.equal(a.terminal.any(1), b.terminal.any(1))


def markov(size: int, length: int) -> EnvConfig:
    return EnvConfig(
        target="markov", order=2, vocab_size=size, max_new_tokens=length, context_length=length + 1, ending="fixed",
        prompt_length=(0, 0),
    )  # fmt: skip


def learned_on(env: EnvConfig, steps: int, **settings) -> dict[str, float]:
    agent = DQN(
        env, seed=0, temperature=Schedule(1.0, 0.02), dueling=True, decision_cost=0.2, epsilon=Schedule(0.3, 0.0, 0.8),
        learning_rate=Schedule(1e-2, 1e-4), target_update_rate=0.05, learning_starts=500,
        **{"network": {"embedding_size": 32, "hidden_size": 32, "skip": True}, **settings},
    ).learn(steps)  # fmt: skip
    greedy = play(agent, agent.world, env, 1, seed=0, temperature=0.0)
    best = Oracle(agent.world, env).optimal_return(greedy.prefixes)
    return {"regret": float(best[0] - greedy.returns[0]), "decisions": int(greedy.decisions[0])}


def test_a_markov_chain_is_solved_in_fewer_decisions():
    env = markov(15, 8)
    options = learned_on(env, 10_000, phrases=20)
    assert options["regret"] < 1e-6
    assert options["decisions"] < env.max_new_tokens


@pytest.mark.slow
def test_a_larger_chain_is_solved_in_fewer_decisions():
    env = markov(50, 16)
    options = learned_on(env, 60_000, phrases=60, network={"embedding_size": 64, "hidden_size": 64, "skip": True})
    assert options["regret"] < 1e-6
    assert options["decisions"] < env.max_new_tokens


def test_evaluation_counts_decisions(tiny):
    network = {"embedding_size": 8, "hidden_size": 16, "unigram_bias": False}  # with it <eos> would come first
    for phrases in (0, 12):
        agent = DQN(tiny, phrases=phrases, network=network, decision_cost=5.0)
        agent.learn(600, lambda _: True) if phrases else None
        result = evaluate(agent, episodes=8, documents=5)
        assert (result["decisions"] < result["tokens_written"]) == bool(phrases)
        assert (result["kl_to_target"] is None) == bool(phrases)
        assert score_text(agent, limit=5).perplexity > 1
