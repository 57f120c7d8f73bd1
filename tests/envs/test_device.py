"""The environment as tensors: the same episodes as the NumPy one, and never a word to the host."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tokenlm
from tokenlm.envs import EnvConfig, NotRunning, TokenLMDeviceEnv, TokenLMVectorEnv
from tokenlm.envs.targets import NGramTarget

N = 6
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
SETTINGS = [
    {},
    {"ending": "fixed"},
    {"reward_every": 2, "min_new_tokens": 2},
    {"transition": "teacher", "reward_every": 0},
    {"target": "reference"},
    {"target": "markov", "vocab_size": 12, "order": 3},
    {"invalid_action": "random"},
    {"prompt_length": (0, 3), "order": 4},
]


class NoSynchronization(TorchDispatchMode):
    """Raises where the host would have to wait for a tensor's values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::")
        waits = (
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "item",
            "equal",
            "is_nonzero",
            "unique",
            "repeat_int",
        )
        assert not name.startswith(waits), name
        by_mask = name.startswith("index") and any(
            t is not None and t.dtype == torch.bool for a in args if isinstance(a, (list, tuple)) for t in a
        )
        assert not by_mask, name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("runs_ahead", [True, False])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_number_for_number_as_the_numpy_one(tiny, settings, device, runs_ahead):
    envs = TokenLMVectorEnv(N, tiny, autoreset_mode="SameStep", **settings)
    tensors = TokenLMDeviceEnv(N, tiny, device=device, **settings)
    tensors._runs_ahead = runs_ahead  # the way of a GPU is tested where there is none
    observations, _ = envs.reset(seed=40)
    assert np.array_equal(observations, tensors.reset(seed=40)[0].cpu().numpy())
    rng, ends = np.random.default_rng(0), 0
    for _ in range(40):
        masks = envs.action_masks()
        assert np.array_equal(masks, tensors.action_masks().cpu().numpy())
        np.testing.assert_allclose(envs.target_log_probs(), tensors.target_log_probs().cpu().numpy(), atol=1e-12)
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        *numbers, infos = envs.step(actions)
        *others, other_infos = tensors.step(torch.from_numpy(actions).to(device))
        for a, b in zip(numbers, others, strict=True):
            np.testing.assert_allclose(a, b.cpu().numpy(), atol=1e-12)
        np.testing.assert_allclose(infos["log_prob"], other_infos["log_prob"].cpu().numpy(), atol=1e-12)
        over = numbers[2] | numbers[3]
        assert np.array_equal(over, other_infos["_final_obs"].cpu().numpy())
        for row in np.flatnonzero(over):
            assert np.array_equal(infos["final_obs"][row], other_infos["final_obs"][row].cpu().numpy())
        ends += over.sum()
    assert ends > N
    assert envs.texts == tensors.texts


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_step_never_waits(tiny, settings):
    envs = TokenLMDeviceEnv(N, tiny, device="cpu", **settings)
    envs._runs_ahead = True  # as on a GPU
    envs.reset(seed=0)
    action = torch.full((N,), int(np.flatnonzero(envs.world.valid)[-1]))
    envs.step(action)  # tables are brought to the device once
    with NoSynchronization():
        for _ in range(2 * envs.config.max_new_tokens):
            envs.step(action)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoSynchronization():
        bool(action.any())


def test_a_state_dict_goes_on_exactly_there(tiny):
    envs, other = TokenLMDeviceEnv(N, tiny, device="cpu"), TokenLMDeviceEnv(N, tiny, device="cpu")
    envs.reset(seed=3)
    action = torch.full((N,), 7)
    envs.step(action)
    other.load_state_dict(envs.state_dict())
    for _ in range(20):
        for a, b in zip(envs.step(action)[:4], other.step(action)[:4], strict=True):
            assert torch.equal(a, b)


def test_actions_are_checked_on_request_only(tiny):
    free, checked = (TokenLMDeviceEnv(2, tiny, device="cpu", check_actions=check) for check in (False, True))
    masked = torch.tensor([7, 2])  # <bos> may never be written
    for envs in (free, checked):
        envs.reset(seed=0)
    assert free.step(masked)[1].tolist()[1] == -torch.inf
    with pytest.raises(ValueError, match=r"action 2 \(<bos>\) is masked in this state"):
        checked.step(masked)
    with pytest.raises(ValueError, match="action 4000 is out of range"):
        checked.step(torch.tensor([7, 4000]))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda c: TokenLMDeviceEnv(0, c), ValueError, "num_envs must be at least 1, not 0"),
        (lambda c: TokenLMDeviceEnv(2, c).step(torch.zeros(2).long()), NotRunning, r"call reset\(\) before step"),
        (lambda c: TokenLMDeviceEnv(2, c).reset(seed=[1]), ValueError, "seed must be one number or 2 of them, not 1"),
        (
            lambda c: TokenLMDeviceEnv(2, c).reset(options={"reset_mask": None}),
            ValueError,
            "reset_mask is not supported",
        ),
    ],
)
def test_bad_use_gets_one_clear_sentence(tiny, wrong, error, message):
    with pytest.raises(error, match=message):
        wrong(tiny)


@pytest.mark.parametrize("actions", [np.zeros(2, np.int64), torch.zeros(2), torch.zeros(3).long()])
def test_actions_are_an_int64_tensor(tiny, actions):
    envs = TokenLMDeviceEnv(2, tiny, device="cpu")
    envs.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected actions as a \(2,\) int64 tensor, not"):
        envs.step(actions)


def test_prompts_and_spaces(tiny):
    envs = TokenLMDeviceEnv(2, tiny, device="cpu")
    envs.reset(options={"prompt": ["the cat", "the dog sees"]})
    envs.step(torch.full((2,), envs.world.vocabulary.id("bird")))
    assert envs.texts == ["the cat bird", "the dog sees bird"]
    assert isinstance(envs, gym.vector.VectorEnv)
    assert envs.observation_space.shape == (2, envs.config.context_length)
    assert tokenlm.envs.TokenLMDeviceEnv is TokenLMDeviceEnv


@pytest.mark.parametrize("order", [3, 4, 5])
def test_a_large_n_gram_model_answers_in_batches_without_a_loop_over_rows(order):
    size, rng = 10_000, np.random.default_rng(order)
    documents = [rng.zipf(1.3, 30) % (size - 5) + 5 for _ in range(2_000)]
    target = NGramTarget.fit(documents, size, order)
    prefixes = torch.from_numpy(np.stack([d[:20] for d in documents[:1024]]))
    states = target.state_of(prefixes)
    tokens = torch.from_numpy(rng.integers(5, size, 1024))

    calls = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func.name())
            return func(*args, **(kwargs or {}))

    for rows in (1, 1024):
        with Count():
            log_prob, after = target.advance(states[:rows], tokens[:rows])
        calls.append("end")
    first, second = " ".join(calls).split("end")[:2]
    assert first.split() == second.split()  # the same operations for one row and for a thousand
    whole = target.state_log_probs(states[:64])
    torch.testing.assert_close(whole.exp().sum(1), torch.ones(64, dtype=torch.float64))
    torch.testing.assert_close(whole.gather(1, tokens[:64, None]).squeeze(1), log_prob[:64])
    assert torch.equal(after, target.state_of(torch.cat([prefixes, tokens[:, None]], 1)))


def test_the_configuration_may_be_shared_with_the_numpy_one(tiny):
    config = EnvConfig.of(tiny, {"order": 2})
    assert TokenLMDeviceEnv(2, config, device="cpu").world is TokenLMVectorEnv(2, config).world


def test_infos_carry_masks_as_int8(tiny):
    envs = TokenLMDeviceEnv(3, tiny, device="cpu", mask_in_info=True, min_new_tokens=1)
    for move in (lambda: envs.reset(seed=0)[1], lambda: envs.step(torch.full((3,), 7))[4]):
        infos = move()
        assert infos["action_mask"].dtype == torch.int8
        assert torch.equal(infos["action_mask"].bool(), envs.action_masks())
