"""The facts of a step: those of the environment, its oracle and the agent."""

import dataclasses

import numpy as np
import pytest

from tokenlm.agents import DQN
from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.evaluation.along_documents import along_documents
from tokenlm.agents.runs.algorithms import make
from tokenlm.agents.web.steps import BEST, Steps
from tokenlm.envs import EnvConfig, NotExact, TokenLMEnv, UnknownWords, Vocabulary

LSTM = {"embedding_size": 4, "hidden_size": 8}
CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=12, max_new_tokens=5, context_length=6, prompt_length=(0, 0), ending="fixed"
)
PAIRS = tuple((f"{a} and {b}", f"{b} {b}") for a in ("cat", "dog", "cow") for b in ("red", "blue", "green", "grey"))
QA = EnvConfig(corpus=PAIRS, task="qa", target="reference", tokenizer="word", context_length=12, max_new_tokens=4)


def agent_in(env: EnvConfig, **settings) -> DQN:
    return DQN(env, network=LSTM, seed=1, device="cpu", **settings)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("world", ["chain", "sentences"])
def test_p_star_and_the_optimum_are_those_of_the_environment(tiny, world, every, temperature):
    config = dataclasses.replace(CHAIN if world == "chain" else tiny, reward_every=every, target_seed=3)
    prompt = "" if world == "chain" else "the cat"
    steps, env = Steps(agent_in(config)), TokenLMEnv(config)
    how = steps.decoding(temperature)
    text = list(steps.write(steps.prompt(prompt), how, seed=4))
    observation, _ = env.reset(options={"prompt": prompt})
    unpaid, total = 0.0, 0.0
    for written, step in enumerate(text):
        arguments = {"temperature": temperature, "unpaid": unpaid, "horizon": "episode"}
        q_values = env.oracle.optimal_q(observation, written, **arguments)
        value = env.oracle.optimal_value(observation, written, **arguments)
        log_target = env.target_log_probs()
        for each in [step.written, *step.best]:
            assert each.log_target == pytest.approx(log_target[each.token], abs=1e-9)
            assert each.optimal_value == pytest.approx(q_values[each.token], abs=1e-9)
            assert each.optimal_advantage == pytest.approx(q_values[each.token] - value, abs=1e-9)
        observation, reward, terminated, truncated, info = env.step(step.written.token)
        assert info["log_prob"] == pytest.approx(step.written.log_target, abs=1e-9)
        unpaid = 0.0 if (written + 1) % every == 0 else unpaid + info["log_prob"]
        total += reward
    assert terminated or truncated
    assert total == pytest.approx(sum(step.written.log_target for step in text), abs=1e-9)


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {}, {"temperature": 0.7, "top_k": 3}])
@pytest.mark.parametrize("kind", [agent_in, Unigram])
def test_the_text_is_the_one_that_the_agent_streams(tiny, kind, how):
    agent = kind(tiny)
    if not agent.has_temperature and how.get("temperature"):
        how = how | {"temperature": 1.0}
    steps = Steps(agent)
    for seed in range(5):
        prompt = steps.prompt("the dog")
        tokens = [step.written.token for step in steps.write(prompt, steps.decoding(**how), seed)]
        whole = "".join(agent.stream("the dog", **how, seed=seed))
        assert agent.tokenizer.decode([*prompt.ids, *tokens]) == whole


def test_a_text_written_on_after_its_beginning_is_the_same_text(tiny):
    steps = Steps(agent_in(tiny))
    prompt, how = steps.prompt(""), steps.decoding(0.8, 5)
    text = list(steps.write(prompt, how, seed=2))
    tokens = [step.written.token for step in text]
    for begun in range(len(tokens) + 1):
        rest = list(steps.write(prompt, how, 2, tokens[:begun]))
        assert [step.written.token for step in rest] == tokens[begun:]
        for one, other in zip(rest, text[begun:], strict=True):
            np.testing.assert_allclose([*map(list, one.best)], [*map(list, other.best)], rtol=1e-5, atol=1e-5)
    other = next(c.token for c in text[1].best if c.token not in (tokens[1], Vocabulary.EOS))
    branch = list(steps.write(prompt, how, 2, [tokens[0], other]))
    np.testing.assert_allclose(
        [*map(list, steps.best(prompt, [tokens[0], other], how))], [*map(list, branch[0].best)], rtol=1e-5, atol=1e-5
    )


def test_following_a_text_finds_what_was_found_while_writing_it(tiny):
    steps = Steps(agent_in(tiny))
    prompt, how = steps.prompt("the"), steps.decoding()
    text = list(steps.write(prompt, how, seed=5))
    followed = steps.along(prompt, [step.written.token for step in text], how)
    for one, other in zip(followed, text, strict=True):
        np.testing.assert_allclose(list(one.written), list(other.written), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [None, 3])
def test_the_policy_is_a_distribution_over_the_tokens_kept(tiny, top_k):
    agent = agent_in(tiny)
    steps = Steps(agent)
    best = steps.best(steps.prompt("the cat"), [], steps.decoding(0.5, top_k))
    policy = np.exp([each.log_policy for each in best])
    if top_k:
        assert np.count_nonzero(policy) == top_k
        assert policy.sum() == pytest.approx(1.0)
    else:  # A = τ log π
        np.testing.assert_allclose([each.advantage for each in best], 0.5 * np.log(policy), atol=1e-6)
    assert len(best) == BEST
    assert [each.value for each in best] == sorted((each.value for each in best), reverse=True)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_the_optimal_policy_has_the_exact_advantages(temperature):
    steps = Steps(make("oracle", CHAIN, 0, temperature=temperature))
    for step in steps.write(steps.prompt(""), steps.decoding(temperature), seed=0):
        for each in step.best:
            assert each.advantage == pytest.approx(each.optimal_advantage, abs=1e-9)


def test_the_credit_of_a_text_is_that_of_the_document(tiny):
    agent = agent_in(tiny, temperature=0.5)
    _, credit = along_documents(agent, "valid", limit=3)
    steps, documents = Steps(agent), agent.world.documents["valid"]
    for number in range(3):
        own = credit.document == number
        prompt = agent.tokenizer.decode(documents[number][: documents.shortest_prompt[number]].tolist())
        text = agent.tokenizer.decode(credit.token[own].tolist())
        tokens = steps.tokens(text)
        assert tokens == credit.token[own].tolist()
        followed = [step.written for step in steps.along(steps.prompt(prompt), tokens, steps.decoding())]
        np.testing.assert_allclose([w.advantage for w in followed], credit.learned[own], atol=1e-5)
        np.testing.assert_allclose([w.optimal_advantage for w in followed], credit.exact[own], atol=1e-9)


def test_p_star_of_a_reference_is_known_where_the_corpus_has_the_question():
    steps = Steps(agent_in(QA, temperature=1.0))
    prompt = steps.prompt("cat and blue")
    assert steps.agent.tokenizer.decode(prompt.reference) == "blue blue"
    text = steps.along(prompt, steps.tokens("blue blue"), steps.decoding())
    kept, share, words = 1.0 - QA.epsilon, QA.epsilon / steps.world.vocab_size, steps.world.valid.sum()
    for step in text:
        assert np.exp(step.written.log_target) == pytest.approx((kept + share) / (kept + words * share))
        assert step.written.optimal_value == pytest.approx(step.written.log_target)  # p* is optimal at τ = 1
    assert steps.why_no_target(prompt) is None
    unknown = steps.prompt("blue and cat")
    assert unknown.reference is None
    assert "the corpus has none for this prompt" in steps.why_no_target(unknown)
    assert steps.best(unknown, [], steps.decoding())[0].log_target is None


def test_the_optimum_is_p_star_itself_where_that_is_all_that_is_known():
    """With ε = 0.001 p* writes the answer of the corpus."""
    steps = Steps(agent_in(dataclasses.replace(QA, epsilon=0.001), temperature=1.0))
    optimum, tau = steps.optimum(1.0)
    prompt = steps.prompt("cow and grey")
    for step, token in zip(optimum.write(prompt, steps.decoding(tau), seed=0), steps.tokens("grey grey"), strict=True):
        assert step.written.token == token
        assert step.written.advantage == pytest.approx(step.written.log_target)
    with pytest.raises(ValueError, match="the corpus has none for this prompt"):
        list(optimum.write(steps.prompt("grey and cow"), steps.decoding(tau), seed=0))
    with pytest.raises(NotExact, match="at temperature 1 p\\* itself is the optimum"):
        steps.optimum(0.5)


def test_the_optimum_of_a_chain_has_the_return_of_the_oracle():
    steps = Steps(agent_in(CHAIN))
    optimum, tau = steps.optimum(0.0)
    total = sum(step.written.log_target for step in optimum.write(steps.prompt(""), steps.decoding(tau), seed=0))
    assert total == pytest.approx(TokenLMEnv(CHAIN).oracle.most_likely_text().log_prob)


def test_what_cannot_be_followed_gets_one_sentence(tiny):
    steps = Steps(agent_in(dataclasses.replace(tiny, min_new_tokens=3)))
    with pytest.raises(ValueError, match="words outside the vocabulary"):
        steps.tokens("the elephant")
    with pytest.raises(ValueError, match="the text has 9 tokens, but at most 8 are written here"):
        steps.tokens("the cat sees the dog the cat sees the")
    with pytest.raises(ValueError, match="the token '<eos>' cannot be written after 'the cat' here"):
        steps.along(steps.prompt(""), steps.tokens("the cat"), steps.decoding())
    with pytest.warns(UnknownWords):
        steps.prompt("the elephant")
    assert "sequence reward" in Steps(agent_in(dataclasses.replace(tiny, sequence_reward="bleu"))).why_no_optimum(0.5)
