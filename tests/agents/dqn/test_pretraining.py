"""A start from maximum likelihood: what the heads hold after it, when it happens, and for whom it is refused."""

import copy
import itertools

import numpy as np
import pytest
import torch

from tokenlm.agents import DQN, AgentConfig, MaximumLikelihood, score_text
from tokenlm.agents.replay.corpus import corpus_replay
from tokenlm.agents.runs.algorithms import make
from tokenlm.agents.runs.race.config import EntryConfig
from tokenlm.envs import EnvConfig

SMALL = {
    "network": {"embedding_size": 8, "hidden_size": 16},
    "num_envs": 4,
    "batch_size": 8,
    "learning_starts": 0,
    "replay_capacity": 512,
}


def frequencies(env: EnvConfig, agent: DQN) -> dict[tuple[int, ...], torch.Tensor]:
    """Prefix -> how often each token follows it in the corpus episodes of the agent's seed."""
    corpus = corpus_replay(agent.world, env, agent.seed)
    counts: dict[tuple[int, ...], torch.Tensor] = {}
    for row in range(len(corpus)):
        tokens, first = corpus.tokens[row].tolist(), int(corpus.prompt_lengths[row])
        for i in range(int(corpus.lengths[row])):
            prefix = tuple(tokens[: first + i])
            counts.setdefault(prefix, torch.zeros(agent.world.vocab_size))[int(tokens[first + i])] += 1
    return {prefix: count / count.sum() for prefix, count in counts.items()}


def action_values(agent: DQN, prefix: tuple[int, ...]) -> torch.Tensor:
    hidden, _ = agent.network.encode(torch.tensor([prefix]), torch.tensor([len(prefix)]))
    return agent.network.q_values(hidden, agent.valid_tokens.valid)[0].detach()


def texts_that_end_at_will() -> EnvConfig:
    """One to three words each: batches of short and of long texts, which must not disagree about the first word."""
    texts = tuple(" ".join(words) for n in (1, 2, 3) for words in itertools.product("ab", repeat=n)) + ("b",) * 6
    return EnvConfig(corpus=texts, tokenizer="word", order=2, max_new_tokens=4, context_length=6, prompt_length=(0, 0))


def test_maximum_likelihood_learns_the_frequencies_of_texts_of_any_length():
    """A mean over each batch's own actions favours short texts: 0.73 for a first word of frequency 2/3."""
    env = texts_that_end_at_will()
    rate = {"start": 0.05, "end": 5e-5, "shape": "exponential"}
    agent = MaximumLikelihood(env, network="tabular", batch_size=4, learning_rate=rate).learn(8_000)
    for prefix, expected in frequencies(env, agent).items():
        policy = action_values(agent, prefix).softmax(-1)
        assert policy.tolist() == pytest.approx(expected.tolist(), abs=0.03)


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.0])
def test_cross_entropy_is_that_of_the_policy_acted_by(temperature):
    """At temperature 0 that has no density, and the one at 1 is meant."""
    env = texts_that_end_at_will()
    agent = DQN(env, **SMALL, loss="cross_entropy", temperature=temperature)
    agent.prepare()
    agent.network.eval()
    update = agent.learner.update_of(agent.sampler.sample(), temperature)
    log_policy = torch.log_softmax(update.online.preferences.double() / (temperature or 1.0), -1)
    expected = -log_policy.gather(1, update.actions[:, None]).squeeze(1)
    assert agent.config.rule.loss(update).loss.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_action_values_begin_as_log_probabilities():
    """Cross-entropy alone leaves log Σ exp(Q) open; with the penalty a table finds Q = log of the frequencies."""
    env = texts_that_end_at_will()
    agent = DQN(env, network="tabular", pretrain=1_600_000, learning_rate=0.05, batch_size=1_024, num_envs=4,
                redistribute=True, learning_starts=10**6, corpus_share=0.0)  # fmt: skip
    agent.learn(4)
    network = agent.network
    for prefix, expected in frequencies(env, agent).items():
        hidden, _ = network.encode(torch.tensor([prefix]), torch.tensor([len(prefix)]))
        values = action_values(agent, prefix)
        assert torch.logsumexp(values, -1).item() == pytest.approx(0.0, abs=0.05)
        met = expected > 0
        assert values[met].exp().tolist() == pytest.approx(expected[met].tolist(), abs=0.05)
        # Under log-likelihood rewards and τ = 1 they are the rewards too.
        actions = met.nonzero().squeeze(1)
        assert network.action_rewards(hidden.expand(len(actions), -1), actions).tolist() == values[actions].tolist()
    for online, target in zip(network.parameters(), agent.learner.target_network.parameters(), strict=True):
        assert torch.equal(online, target)


@pytest.mark.parametrize("settings", [{}, {"dueling": False}, {"loss": "ilql"}, {"optimizer": "sparse_adam"}])
def test_it_knows_the_language_before_it_acts(tiny, settings):
    agent = DQN(tiny, **{**SMALL, **settings, "pretrain": 4_000, "learning_starts": 10**6}).learn(4)
    untaught = DQN(tiny, **{**SMALL, **settings, "learning_starts": 10**6}).learn(4, lambda _: True)
    assert agent.learner.updates == 0
    assert score_text(agent, "train").perplexity < 0.5 * score_text(untaught, "train").perplexity


def test_once_and_bit_for_bit(tiny):
    first, second = (DQN(tiny, **SMALL, pretrain=500).learn(80) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))
    state = copy.deepcopy(DQN(tiny, **SMALL, pretrain=500).learn(80, lambda agent: agent.num_steps < 40).state_dict())
    resumed = DQN(tiny, **SMALL, pretrain=500)
    resumed.load_state_dict(state)
    resumed.learn(80, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), resumed.network.parameters(), strict=True))


def test_a_loaded_agent_goes_on_from_its_own_weights(tiny, tmp_path):
    agent = DQN(tiny, **{**SMALL, "pretrain": 500, "learning_starts": 10**6}).learn(4)
    agent.save(tmp_path)
    loaded = DQN.load(tmp_path, env=tiny).learn(4)
    assert torch.equal(loaded.network.head.weight, agent.network.head.weight)


def test_its_time_counts_and_ends_it(tiny):
    agent = DQN(tiny, **SMALL, pretrain=10**9).learn(10**9, max_seconds=0.1)
    assert agent.learning_seconds >= 0.1
    assert agent.progress == 1.0
    assert agent.num_steps == agent.config.num_envs  # it took all the time there was, so one step is the last


def test_maximum_likelihood_needs_none(tiny):
    assert MaximumLikelihood(tiny, AgentConfig(pretrain=500), **SMALL).config.pretrain == 0
    with pytest.raises(ValueError, match="maximum likelihood has pretrain fixed"):
        MaximumLikelihood(tiny, **SMALL, pretrain=500)


class Own(DQN):
    """An agent that a user derived from ours."""


@pytest.mark.parametrize("name", ["dqn", f"{__name__}:Own"])
def test_an_entry_that_begins_with_the_corpus_uses_it(name, tiny):
    assert EntryConfig(name, {"pretrain": 100, "corpus_share": 0.0}).uses_corpus
    assert EntryConfig(name).uses_corpus
    assert not EntryConfig(name, {"corpus_share": 0.0}).uses_corpus
    assert not EntryConfig("nowhere:Agent").uses_corpus
    agent = make(name, tiny, 0, "cpu", **SMALL, pretrain=100)
    assert isinstance(agent, DQN)
    assert agent.config.pretrain == 100


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"loss": "c51"}, "c51 cannot use"),
        ({"loss": "q_sft"}, "q_sft cannot use"),
        ({"phrases": 4}, "phrases cannot use"),
    ],
)
def test_refused_where_logits_are_no_action_values(tiny, settings, why):
    with pytest.raises(ValueError, match=why):
        DQN(tiny, **SMALL, pretrain=100, **settings)


def test_pretraining_reads_the_temperature_of_a_language_model(tiny):
    """The penalty is on the mass at τ = 1, whatever temperature the agent will act at."""
    agents = [DQN(tiny, **{**SMALL, "pretrain": 500, "learning_starts": 10**6, "temperature": t}).learn(4)
              for t in (0.3, 1.0)]  # fmt: skip
    assert np.array_equal(*(a.network.head.weight.detach().numpy() for a in agents))
