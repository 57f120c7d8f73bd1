"""A Transformer with random weights as p*: against its definition, against transformers' Llama, against enumeration."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import transformers

from tokenlm.agents.baselines.unigram import Unigram
from tokenlm.agents.evaluation import evaluate, play, trivial_returns
from tokenlm.agents.evaluation.exact import every_text
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.envs import EnvConfig, Oracle, TokenLMDeviceEnv, TokenLMEnv, TokenLMVectorEnv, World
from tokenlm.envs.sampled_trivial import sampled_policy_returns
from tokenlm.envs.targets import check_target
from tokenlm.envs.targets.teacher import Sizes, TeacherTarget, teacher_weights
from tokenlm.envs.trivial import policy_returns, start_distribution

SMALL = EnvConfig(
    target="teacher", vocab_size=8, target_seed=100, max_new_tokens=4, context_length=5, ending="fixed",
    prompt_length=(0, 0),
)  # fmt: skip
ENDS = dataclasses.replace(
    SMALL, vocab_size=20, max_new_tokens=6, context_length=10, ending="eos", prompt_length=(0, 3)
)
CPU = torch.device("cpu")
# Of seed 0 at V = 1,000: what the registered id means.
WEIGHT = 0.026124175752832757
LOG_PROBS = [
    [-9.82399293542359, -8.909001658819816, -14.711081006991487],
    [-10.301176789083605, -6.315212639521209, -14.381586720157005],
]


@pytest.fixture(scope="module")
def teacher() -> TeacherTarget:
    return TeacherTarget(1_000, seed=0)


def test_it_is_a_distribution_and_its_memory_gives_what_the_whole_text_gives():
    check_target(TeacherTarget(30, seed=3, eos_probability=0.1), atol=1e-12, longest=80)


def test_transformers_llama_with_the_same_weights_has_the_same_logits(teacher):
    model, sizes = teacher.model_on(CPU), Sizes()
    config = transformers.LlamaConfig(
        vocab_size=1_000, hidden_size=sizes.width, intermediate_size=sizes.inner, num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads, rms_norm_eps=1e-6, rope_theta=10_000.0, tie_word_embeddings=False,
        attention_bias=False, mlp_bias=False, max_position_embeddings=64,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config).double().eval()
    llama.load_state_dict(model.weights)
    texts = torch.from_numpy(np.random.default_rng(0).integers(2, 1_000, (3, 64)))
    with torch.no_grad():
        expected = llama(texts).logits
        # Llama computes its rotary angles in float32.
        torch.testing.assert_close(model.logits(texts), expected, atol=1e-4, rtol=0.0)


def test_a_seed_gives_the_same_numbers_everywhere(teacher):
    weights = teacher_weights(1_000, 0)
    assert weights["model.embed_tokens.weight"][5, 1] == pytest.approx(WEIGHT, rel=1e-9)
    found = teacher.log_probs(np.array([[0, 0, 0, 2], [2, 7, 500, 999]]))[:, [5, 500, 999]]
    np.testing.assert_allclose(found, LOG_PROBS, atol=1e-9)
    assert not np.allclose(weights["lm_head.weight"], teacher_weights(1_000, 1)["lm_head.weight"])


def test_its_perplexity_is_that_of_text(teacher):
    """The head is scaled to an entropy of 0.6 log V by texts of the same length; these are others."""
    texts = torch.tensor([[2, *text] for text in teacher.sample_documents(48, 63, seed=5)])
    entropies = teacher.model_on(CPU).entropies(texts)
    assert 0.5 < float(entropies.mean()) / math.log(1_000) < 0.7
    rows = torch.log_softmax(teacher.model_on(CPU).logits(texts[:2, :5])[..., 5:], -1)
    expected = torch.distributions.Categorical(logits=rows).entropy()
    torch.testing.assert_close(entropies[:2, :5], expected, atol=1e-10, rtol=0.0)


def test_documents_are_drawn_from_it():
    target = TeacherTarget(12, seed=2, eos_probability=0.3)
    documents = target.sample_documents(4_000, 2, seed=1)
    first = np.bincount([document[0] for document in documents], minlength=12) / 4_000
    expected = np.exp(target.log_probs(np.array([[2]]))[0])
    expected[3] = 0.0  # no document is empty
    expected /= expected.sum()
    assert np.all(np.abs(first - expected) < 4.5 * np.sqrt(expected / 4_000) + 1e-12)
    ended = np.mean([len(document) == 1 for document in documents])
    assert ended == pytest.approx(0.3, abs=4.5 * math.sqrt(0.21 / 4_000))
    commonest = int(first.argmax())
    second = [document[1] for document in documents if document[0] == commonest and len(document) == 2]
    follows = np.exp(target.log_probs(np.array([[2, commonest]]))[0]) / 0.7
    found = np.bincount(second, minlength=12) / len(second)
    assert np.all(np.abs(found - follows)[5:] < 4.5 * np.sqrt(follows[5:] / len(second)) + 1e-12)


def test_single_vector_and_device_environments_agree():
    world, rng = World.of(ENDS), np.random.default_rng(0)
    single = [TokenLMEnv(ENDS) for _ in range(3)]
    vector = TokenLMVectorEnv(3, ENDS, autoreset_mode="SameStep")
    device = TokenLMDeviceEnv(3, ENDS, device="cpu")
    for i, env in enumerate(single):
        env.reset(seed=7 + i)
    vector.reset(seed=7)
    device.reset(seed=7)
    ends = 0
    for _ in range(20):
        actions = rng.choice(np.append(world.words, 3), 3)
        rows = [env.target_log_probs() for env in single]
        texts = [np.array([env._episodes.tokens(0)]) for env in single]
        for row, text in zip(rows, texts, strict=True):
            np.testing.assert_allclose(row, world.target.log_probs(world.target.track(text), True)[0], atol=1e-12)
        steps = [env.step(int(action)) for env, action in zip(single, actions, strict=True)]
        _, of_vector, terminated, truncated, _ = vector.step(actions)
        of_device = device.step(torch.from_numpy(actions))[1]
        np.testing.assert_allclose(of_vector, [step[1] for step in steps], atol=1e-12)
        np.testing.assert_allclose(of_device.numpy(), of_vector, atol=1e-12)
        for i, over in enumerate(terminated | truncated):
            if over:
                single[i].reset()
                ends += 1
    assert ends > 5


def test_a_sparse_twin_pays_the_sum_with_the_last_word():
    dense, sparse = TokenLMEnv(SMALL), TokenLMEnv(dataclasses.replace(SMALL, reward_every=0))
    paid = [[], []]
    for env, rewards in ((dense, paid[0]), (sparse, paid[1])):
        env.reset(seed=0)
        rewards += [env.step(action)[1] for action in (5, 7, 6, 6)]
    assert paid[1][:3] == [0.0, 0.0, 0.0]
    assert paid[1][3] == pytest.approx(sum(paid[0]), abs=1e-12)


@pytest.mark.parametrize("config", [SMALL, ENDS, dataclasses.replace(SMALL, reward_every=0)])
def test_at_temperature_1_p_star_has_the_soft_return_0_and_no_regret_in_any_text(config):
    world = World.of(config)
    played = play("target", world, config, 64, 0, 1.0, objective=1.0)
    scale = Scale.of(world, config, played.prefixes, 1.0)
    assert scale.optimal == 0.0
    np.testing.assert_allclose(played.regret, 0.0, atol=1e-12)
    assert scale.score(float(played.regret.mean())) == pytest.approx(1.0, abs=1e-12)


def test_regret_and_trivial_returns_are_those_of_all_texts():
    world = World.of(SMALL)
    log_target = every_text(world, SMALL).log_target
    assert math.log(np.exp(log_target).sum()) == pytest.approx(0.0, abs=1e-12)  # V* = 0
    uniform = -math.log(81) - log_target.mean()  # KL(uniform ‖ p*)
    played = play("random", world, SMALL, 2_000, 0, 1.0, objective=1.0).regret
    assert played.mean() == pytest.approx(uniform, abs=4.5 * played.std() / math.sqrt(len(played)))
    found = trivial_returns(SMALL, 1.0)
    texts = every_text(world, SMALL).tokens
    assert found["constant"] == pytest.approx(log_target[(texts == texts[:, :1]).all(1)].max(), abs=1e-10)
    spread = np.std(sampled_policy_returns(*_oracle_and_starts(SMALL), 1.0)["random"])
    assert found["random"] == pytest.approx(-uniform, abs=4.5 * spread / 16)


def _oracle_and_starts(config):
    oracle = Oracle.of(World.of(config), config)
    return oracle, start_distribution(oracle)


@pytest.mark.parametrize(
    "settings",
    [
        {"prompt_length": (0, 2)},
        {"ending": "fixed", "prompt_length": (0, 0)},
        {"prompt_length": (1, 1), "min_new_tokens": 2, "log_prob_weight": 0.5},
        {"ending": "fixed", "prompt_length": (0, 0), "no_repeat": 1},
    ],
)
def test_played_trivial_policies_return_what_the_exact_programme_says(settings):
    config = EnvConfig(target="markov", order=2, vocab_size=12, max_new_tokens=6, context_length=9, **settings)
    oracle, starts = _oracle_and_starts(config)
    exact = policy_returns(oracle, starts, 1.0)
    exact.pop("same_text", None)
    found = sampled_policy_returns(oracle, starts, 1.0)
    assert set(found) == set(exact)
    for name, values in found.items():
        margin = 4.5 * values.std() / math.sqrt(len(values)) + 1e-10
        assert values.mean() == pytest.approx(exact[name], abs=margin), name


def test_an_evaluation_has_a_score_at_temperature_1_and_says_why_there_is_none_at_others():
    agent = Unigram(ENDS, seed=0)
    known, unknown = (evaluate(agent, documents=5, episodes=64, temperature=tau) for tau in (1.0, 0.5))
    assert known["no_optimum"] is None
    assert known["normalized_score"] <= 1.0
    assert known["trivial_regret_ci"][0] < known["trivial_regret"] < known["trivial_regret_ci"][1]
    assert unknown["regret"] is None
    assert unknown["normalized_score"] is None
    assert "at temperature 1 p* itself is the optimum" in unknown["no_optimum"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TeacherTarget(5), "vocab_size above 5, not 5"),
        (lambda: TeacherTarget(9, eos_probability=1.0), r"\[0, 1\), not 1.0"),
        (lambda: TeacherTarget(9, sizes=Sizes(width=60, heads=8)), "multiple of heads 8"),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
