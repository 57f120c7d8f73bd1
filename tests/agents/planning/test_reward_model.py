"""The reward model: what it keeps are the rewards, its plans are optima of the model, and it generalises."""

import dataclasses
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch

import tokenlm  # noqa: F401
from tokenlm.agents import evaluate, play
from tokenlm.agents.planning import beam_search, last_tokens
from tokenlm.agents.planning.beam_search import BeamSearch
from tokenlm.agents.planning.estimate import Earned
from tokenlm.agents.planning.remembered import Remembered
from tokenlm.agents.planning.reward_model import RewardModel
from tokenlm.agents.runs.algorithms import load, make
from tokenlm.envs import EnvConfig, Oracle, TokenLMVectorEnv, World

CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=9, max_new_tokens=4, context_length=7, ending="fixed", prompt_length=(0, 2)
)
ENDS = dataclasses.replace(CHAIN, ending="eos", min_new_tokens=2)
NO_TWICE = dataclasses.replace(CHAIN, no_repeat=1)
SMALL = {"num_envs": 16, "replay_ratio": 8.0, "batch_size": 64, "hidden_size": 32}
FIRST = np.array([[0, 0, 0, 0, 2, 6, 8], [0, 0, 0, 0, 0, 2, 5]])


@pytest.fixture(scope="module", params=["fixed", "eos", "no_repeat"])
def env(request):
    return {"fixed": CHAIN, "eos": ENDS, "no_repeat": NO_TWICE}[request.param]


@pytest.fixture(scope="module", params=[0, 16], ids=["dynamic programming", "beams"])
def trained(request, env):
    return make("reward-model", env, 0, beams=request.param, **SMALL).learn(2_500)


def test_it_keeps_what_each_token_earned(trained):
    env, length = trained.env_config, trained.env_config.context_length
    oracle = Oracle.of(World.of(env), env)
    for text, rewards in zip(trained._paid.texts[:200], trained._paid.rewards[:200], strict=True):
        for step, reward in enumerate(rewards[~np.isnan(rewards)]):
            state = oracle.track(text[None, step : step + length])
            ends = np.array([oracle.eos_valid(step)])
            assert reward == pytest.approx(float(oracle.target.log_prob(state, text[[length + step]], ends)[0]))
    assert trained.env_steps == int((~np.isnan(trained._paid.rewards)).sum()) >= 2_500


def test_what_is_paid_together_is_learned_together():
    env = dataclasses.replace(ENDS, max_new_tokens=5, reward_every=3)
    agent = make("reward-model", env, 0, **SMALL).learn(200)
    payments = []
    for text, rewards in zip(agent._paid.texts, agent._paid.rewards, strict=True):
        written = text[env.context_length :][~np.isnan(rewards)]
        tokens = list(zip(range(5), written.tolist(), rewards.tolist(), strict=False))
        payments += [tokens[i : i + 3] for i in range(0, len(tokens), 3)]
    earned = agent._earned(agent._paid.payments)
    found = [[] for _ in payments]
    for number, *token in zip(earned.paid, earned.written, earned.tokens, earned.rewards, strict=True):
        found[number].append(tuple(token))
    assert found == payments


def test_rewards_known_by_heart_are_those_of_the_environment(trained):
    env = trained.env_config
    oracle = Oracle.of(World.of(env), env)
    for written in (0, 3):
        count = np.full(2, written)
        rewards = trained.rewards(FIRST, FIRST, count).numpy()
        key = trained.estimate.key(trained._read(FIRST, FIRST), trained.masks_at(FIRST, count))
        rows, tokens, known = trained.estimate.remembered.find(key)
        assert len(rows)
        exact = oracle.target.log_probs(oracle.track(FIRST), np.full(2, bool(oracle.eos_valid(written))))
        np.testing.assert_allclose(known, exact[rows, tokens], rtol=0.0, atol=1e-6)
        np.testing.assert_allclose(rewards[rows, tokens], known, rtol=1e-6)


def test_the_model_sums_to_one_over_the_valid_tokens(trained):
    for written in (0, 3):
        row = np.exp(trained.rewards(FIRST[:1], FIRST[:1], np.array([written])).numpy()[0])
        assert row.sum() == pytest.approx(1.0, abs=1e-5)
        assert (row[:3] == 0.0).all()
        assert (row[3] > 0.0) == (trained.env_config.ending == "eos" and written >= 2)
        assert (row[8] > 0.0) == (trained.env_config.no_repeat == 0)


def test_an_optimist_gives_an_untried_token_all_that_the_known_ones_leave():
    agent = RewardModel(CHAIN, **SMALL)
    first, zero = FIRST[:1], np.array([0])
    key = agent.estimate.key(agent._read(first, first), agent.masks_at(first, zero))
    agent.estimate.remembered.add(key, np.array([6]), np.array([np.log(0.75)]))
    for optimism, untried in ((1.0, 0.25), (0.0, 0.25 / 3)):  # four words; an untrained network is not believed
        row = np.exp(agent.rewards(first, first, zero, optimism).numpy()[0])
        np.testing.assert_allclose(row, [0, 0, 0, 0, 0, untried, 0.75, untried, untried], atol=1e-6)


def test_a_wide_search_finds_the_best_text_of_the_model(env):
    """By enumeration of all texts, after prompts and after tokens written."""
    agent = make("reward-model", env, 0, context=2, beams=16, **SMALL).learn(400)
    for written, windows in ((0, FIRST), (2, np.concatenate([FIRST[:, 2:], [[7, 5], [6, 7]]], axis=1))):
        found = agent._planner.texts(FIRST, windows, written, 300)
        for row in range(2):
            totals = _returns(agent, FIRST[row], windows[row], written)
            text = tuple(found[row][found[row] > 0].tolist())
            assert totals[text] == pytest.approx(max(totals.values()), abs=1e-5)
            assert found.shape == (2, env.max_new_tokens - written)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_dynamic_programming_gives_the_soft_values_of_the_model(env, tau):
    """By enumeration: τ log Σ exp(R/τ) over the texts that begin with a token; at τ = 0 the best of them."""
    agent = make("reward-model", env, 0, temperature=tau, beams=0, **SMALL).learn(400)
    for written, windows in ((0, FIRST), (2, np.concatenate([FIRST[:, 2:], [[7, 5], [6, 7]]], axis=1))):
        values = agent.state_values(FIRST, windows, np.full(2, written))
        for row in range(2):
            totals = _returns(agent, FIRST[row], windows[row], written)
            for token in range(9):
                returns = np.array([total for text, total in totals.items() if text[0] == token])
                if tau == 0.0:
                    exact = returns.max(initial=-np.inf)
                else:
                    exact = tau * np.logaddexp.reduce(returns / tau) if len(returns) else -np.inf
                assert values[row, token] == pytest.approx(exact, abs=1e-4)


def _returns(agent, first, windows, written):
    """Returns under the model of all texts that can be written from here, by their tokens."""
    env, known, totals = agent.env_config, {}, {}
    for words in itertools.product(range(5, 9), repeat=env.max_new_tokens - written):
        for end in range(len(words) + 1):  # a text may end after each of its tokens
            text = (*words[:end], 3)[: len(words)] if env.ending == "eos" else words
            total, now = 0.0, windows
            for step, token in enumerate(text):
                key = now.tobytes()
                if key not in known:
                    known[key] = agent.rewards(first[None], now[None], np.array([written + step]))[0].tolist()
                total += known[key][token]
                now = np.append(now[1:], token)
            totals[text] = total
    return {text: total for text, total in totals.items() if np.isfinite(total)}


def test_plans_of_many_prompts_are_made_in_pieces(trained, monkeypatch):
    first = np.array([[0, 0, 0, 0, 2, word, other] for word in range(5, 9) for other in range(5, 9)])
    zeros = np.zeros(16, np.int64)
    trained._planner.forget()
    whole = trained.state_values(first, first, zeros)
    for module in (beam_search, last_tokens):
        monkeypatch.setattr(module, "_ENTRIES", 3 * 4 * 9)  # a few prompts
    trained._planner.forget()
    np.testing.assert_allclose(trained.state_values(first, first, zeros), whole, rtol=0.0, atol=1e-5)


def test_it_finds_the_optimum_of_a_small_world(trained):
    assert evaluate(trained, episodes=30, documents=2)["greedy_regret"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_it_finds_the_soft_optimum_of_a_small_world(tau):
    """The soft regret τ·KL(π‖π*) of whole texts is 0 at the optimum alone."""
    agent = make("reward-model", CHAIN, 0, temperature=tau, **SMALL).learn(3_000)
    assert evaluate(agent, episodes=64, documents=2)["regret"] == pytest.approx(0.0, abs=0.02)


VERSE = {
    "quatrain": EnvConfig(
        corpus=("月水风不山，不月水风山。山风山月水，水月不山风。", "不月山水风，水不月山风。风山风水不，月不月山风。"),
        order=2, context_length=25, form="jueju5", form_bonus=2.0, split="train",
    ),
    "couplet": EnvConfig(
        corpus=("风月，水山", "山水，月风", "水山，风月", "月天，天水", "天水，月山"), order=2, prompt_length=(3, 3),
        max_new_tokens=4, context_length=8, form="couplet", form_bonus=1.5,
    ),
    "acrostic": EnvConfig(
        corpus=("ab c cab", "c ab cab", "cab ab", "cab c", "ab cab ab c"), tokenizer="word", order=2,
        prompt_length=(1, 1), max_new_tokens=5, context_length=8, form="lines?length=2", form_bonus=1.0,
    ),
}  # fmt: skip


class Rising:
    """Words never fall in the order of their ids: of two states the later allows fewer tokens."""

    most_bonus = 0.0

    def __init__(self, tokenizer):
        pass

    def start(self, prefixes):
        return 0 * prefixes[:, :1] + 5

    def allowed(self, states, tokens):
        return (tokens >= states) | (tokens == 3)

    def next(self, states, tokens):
        return np.where(tokens == 3, states[:, 0], tokens)[:, None]

    def bonus(self, states, tokens):
        return 0.0 * (states + tokens)


VERSE["rising"] = dataclasses.replace(ENDS, min_new_tokens=3, form=f"{__name__}:Rising")


def test_it_judges_itself_by_rewards_that_it_has_not_seen():
    """`explained` is 1 - squared error / variance of the new ones, averaged by 0.9 for a batch and less for a part."""
    agent = RewardModel(CHAIN, **SMALL)
    estimate, fitted = agent.estimate, agent.estimate._fitted
    windows, written = FIRST[:1].repeat(4, axis=0), np.zeros(4, np.int64)
    masks = agent.masks_at(windows, written)
    tokens, rewards = np.flatnonzero(masks[0])[:4], np.array([-1.0, -3.0, -8.0, -2.0])

    def earned(*chosen):
        rows = list(chosen)
        read = agent._read(windows, windows)[rows]
        return Earned(read, masks[rows], written[rows], tokens[rows], rewards[rows], np.arange(len(rows)))

    def error(*chosen):
        modelled = estimate._modelled(estimate._fitted.averaged, earned(*chosen)).detach().numpy()
        return float(((modelled - rewards[list(chosen)]) ** 2).mean())

    estimate.judge(earned(0, 1))
    assert fitted.spread == pytest.approx(1.0)
    assert fitted.error == pytest.approx(error(0, 1))
    estimate.judge(earned(0, 2, 3))  # the first is known by heart
    kept = 0.9 ** (2 / 3)
    assert fitted.spread == pytest.approx(kept * 1.0 + (1.0 - kept) * 9.0)
    assert fitted.error == pytest.approx(kept * error(0, 1) + (1.0 - kept) * error(2, 3))


class Told:
    """p* of the next token after the last one, as an estimate of the rewards."""

    device, explained = torch.device("cpu"), 1.0

    def __init__(self, env):
        free = dataclasses.replace(env, form="", no_repeat=0, ending="eos", min_new_tokens=0)
        self.oracle, self.length = Oracle.of(World.of(free), free), free.context_length

    def rewards(self, read, masks, written, optimism=0.0):
        states = self.oracle.track(np.pad(read[:, -1:], ((0, 0), (self.length - 1, 0))))
        rows = torch.from_numpy(np.asarray(self.oracle.target.log_probs(states, np.full(len(read), True))))
        valid = torch.from_numpy(masks)
        return torch.log_softmax(rows.masked_fill(~valid, -1e300), -1).masked_fill(~valid, -torch.inf).float()


@pytest.mark.parametrize("name", list(VERSE))
@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_its_plans_are_the_optimum_where_the_rewards_are_known(name, tau):
    """Q* of the oracle under a form, along random texts, when the model is p* itself."""
    env = VERSE[name]
    agent, oracle = RewardModel(env, temperature=tau, beams=0), Oracle.of(World.of(env), env)
    agent.estimate = Told(env)
    envs, rng = TokenLMVectorEnv(8, env), np.random.default_rng(0)
    first, _ = envs.reset(seed=0)
    windows = first
    for step in range(env.max_new_tokens):
        masks, written = envs.action_masks(), np.full(8, step)
        exact = oracle.optimal_q(windows, written, temperature=tau, horizon="episode")
        found = agent.state_values(first, windows, written)
        np.testing.assert_allclose(found[masks], exact[masks], rtol=0.0, atol=1e-4)
        assert (found[~masks] == -np.inf).all()
        actions = np.where(masks, rng.random(masks.shape), 0.0).argmax(1)
        windows, _, terminated, truncated, _ = envs.step(actions)
        if (terminated | truncated).any():
            break
    assert step >= 2


@pytest.mark.parametrize("name", list(VERSE))
@pytest.mark.parametrize("beams", [0, 16])
def test_it_finds_the_best_text_under_a_form(name, beams):
    """Against the oracle of the form: the bonus is planned for, and what is not allowed is never written."""
    agent = make("reward-model", VERSE[name], 0, beams=beams, **SMALL).learn(4_000)
    assert evaluate(agent, episodes=32, documents=2)["regret"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("every", [0, 3])
def test_it_learns_from_sums_of_rewards(every):
    """A small world where rewards are paid late has the same optimum."""
    agent = make("reward-model", dataclasses.replace(CHAIN, reward_every=every), 0, **SMALL).learn(4_000)
    assert evaluate(agent, episodes=32, documents=2)["greedy_regret"] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("every", [1, 3, 0])
def test_it_begins_with_documents(every):
    """They are texts of p*: what is fitted to them plans nearly the best text before anything was written."""
    env = dataclasses.replace(CHAIN, prompt_length=(0, 0), max_new_tokens=6, reward_every=every)
    agent = make("reward-model", env, 0, pretrain=60_000, **SMALL)
    assert agent.env_steps == 0
    assert agent.learning_seconds > 0.0
    assert 0.8 < agent.estimate.explained <= 1.0
    oracle = Oracle.of(World.of(env), env)
    for text, rewards in zip(agent._paid.texts[:50], agent._paid.rewards[:50], strict=True):
        states = oracle.track([text[i : i + 7] for i in range(6)])
        earned = oracle.target.log_prob(states, text[7:], np.zeros(6, np.bool_)).reshape(-1, every or 6)
        np.testing.assert_allclose(rewards.reshape(earned.shape).sum(1), earned.sum(1), rtol=0.0, atol=1e-12)
    found = evaluate(agent, episodes=64, documents=2)
    assert found["greedy_regret"] < 0.2
    assert found["greedy_score"] > 0.9


def test_too_few_documents_are_refused():
    one = EnvConfig(corpus=("a b c",), tokenizer="word", order=2, max_new_tokens=4, context_length=8)
    with pytest.raises(ValueError, match=r"at least 2 documents .*, but there are \d; use a larger corpus"):
        make("reward-model", one, 0, pretrain=100, **SMALL)
    with pytest.raises(ValueError, match="pretrain must be at least 1, not -1"):
        make("reward-model", CHAIN, 0, pretrain=-1, **SMALL)


def test_documents_of_verse_teach_it_without_their_rhymes():
    """The bonus is a rule that it reads; what a document was paid for its rhyme is no reward of p*."""
    agent = make("reward-model", VERSE["couplet"], 0, beams=0, pretrain=2_000, **SMALL)
    assert len(agent._paid.texts)
    assert np.nanmax(agent._paid.rewards) <= 0.0


def test_it_plans_anew_where_another_text_was_begun():
    agent = make("reward-model", CHAIN, 0, beams=16, **SMALL).learn(300)
    first = FIRST[:1]
    plan = agent._planner.texts(first, first, 0, 16)[0]
    for written in range(4):
        now = np.append(first[0], plan[:written])[None, written:]
        assert agent.state_values(first, now, np.array([written]))[0].argmax() == plan[written]
    other = 5 if plan[0] != 5 else 6
    now = np.append(first[0, 1:], other)[None]
    again = agent._planner.texts(first, now, 1, 16)[0, 0]
    assert agent.state_values(first, now, np.array([1]))[0].argmax() == again


def test_rewards_that_differ_after_the_same_tokens_are_forgotten():
    remembered = Remembered()
    read = np.array([[1, 2], [1, 2], [3, 4], [1, 2], [1, 2]])
    remembered.add(read, np.array([7, 8, 7, 7, 8]), np.array([-1.0, -2.0, -3.0, -1.0, -2.5]))
    rows, tokens, rewards = remembered.find(np.array([[3, 4], [5, 6], [1, 2]]))
    assert rows.tolist() == [0, 2]
    assert tokens.tolist() == [7, 7]
    assert rewards.tolist() == [-3.0, -1.0]


@pytest.mark.parametrize("beams", [0, 16])
def test_it_writes_the_same_after_it_was_saved(tmp_path, beams):
    agent = make("reward-model", ENDS, 3, beams=beams, **SMALL).learn(400)
    agent.save(tmp_path)
    again = load("reward-model", tmp_path, ENDS)
    assert again.env_steps == agent.env_steps
    texts = [play(a, World.of(ENDS), ENDS, 40, 0, 0.0).written for a in (agent, again)]
    assert texts[0] == texts[1]
    with pytest.raises(ValueError, match=r"has the shape .*, not .* as here"):
        load("reward-model", tmp_path, dataclasses.replace(ENDS, vocab_size=8))


def test_equal_seeds_learn_the_same():
    agents = [make("reward-model", CHAIN, 5, **SMALL).learn(200) for _ in range(2)]
    np.testing.assert_array_equal(agents[0]._paid.texts, agents[1]._paid.texts)
    for name, value in agents[0].estimate.network.state_dict().items():
        torch.testing.assert_close(value, agents[1].estimate.network.state_dict()[name], rtol=0.0, atol=0.0)


LARGE = dataclasses.replace(CHAIN, vocab_size=4_000, max_new_tokens=20)


@pytest.mark.parametrize(
    ("env", "settings", "message"),
    [
        (dataclasses.replace(CHAIN, transition="teacher"), {}, "a model of rewards needs those of tokens"),
        (CHAIN, {"beams": -1}, "beams must be at least 0, not -1"),
        (CHAIN, {"context": 8}, r"context must lie between 0 and context_length \(7\), not 8"),
        (CHAIN, {"context": 2, "beams": 0}, "context must be at most 1, not 2"),
        (CHAIN, {"context": 2, "temperature": 0.5}, "context must be at most 1, not 2"),
        (CHAIN, {"beams": 4, "temperature": 0.5}, "temperature must be 0 with beams, not 0.5"),
        (LARGE, {"temperature": 0.5}, "entries .* is too much, at most"),
    ],
)
def test_what_it_cannot_do_is_refused(env, settings, message):
    with pytest.raises(ValueError, match=message):
        RewardModel(env, **settings)


def test_it_searches_with_beams_where_dynamic_programming_is_too_much():
    assert isinstance(RewardModel(LARGE)._planner, BeamSearch)
    assert isinstance(RewardModel(CHAIN, context=2)._planner, BeamSearch)
    assert not isinstance(RewardModel(CHAIN)._planner, BeamSearch)
    with pytest.raises(ValueError, match="at temperature 0, not 1"):
        RewardModel(CHAIN, context=2).policy_temperature(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_it_generalises_where_a_table_cannot(tau):
    """On a tuning world of `TokenLM-Factored-v0`, prompts of the test split: near the optimum, a table near 0."""
    env = dataclasses.replace(gym.make("TokenLM-Factored-v0").unwrapped.config, target_seed=101)
    scores = {}
    for name in ("reward-model", "table"):
        agent = make(name, env, 0, temperature=tau)
        agent.train(100_000)
        scores[name] = evaluate(agent, episodes=128, documents=2)["normalized_score"]
    assert scores["reward-model"] > 0.8
    assert scores["table"] < 0.1


@pytest.mark.slow
def test_it_keeps_up_with_a_table_where_nothing_generalises():
    """On tuning worlds of `TokenLM-Markov-v0`, 20,000 steps: regrets beside those of the table."""
    regrets = {"reward-model": [], "table": []}
    for seed in (100, 101, 103):
        env = dataclasses.replace(gym.make("TokenLM-Markov-v0").unwrapped.config, target_seed=seed)
        for name, found in regrets.items():
            agent = make(name, env, 0)
            agent.train(20_000)
            found.append(evaluate(agent, episodes=32, documents=2)["regret"])
    assert np.mean(regrets["reward-model"]) < np.mean(regrets["table"]) + 5.0
