"""Exercises of chapters 3 and 4: the environment, its rewards, and the exact optimum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, Oracle, TokenLMEnv, Vocabulary, World
from ..evaluation.scores import normalized_score, trivial_returns
from .exercise import Exercise, Mark, compared, overlap, same_numbers

NextLogProbs = Callable[[Sequence[int]], dict[int, float]]
Policy = Callable[[Sequence[int]], dict[int, float]]

NEARLY_GREEDY = (5, 7, 13, 17, 20)  # seeds of chains where greedy writing has 0.98 on average
PLANNED = (2, 5, 9, 10, 11)  # where it has 0.5
LENGTH = 8


def chain(seed: int, words: int = 12, length: int = LENGTH, order: int = 2, **settings: Any) -> EnvConfig:
    """A random Markov chain whose texts have exactly `length` words."""
    return EnvConfig(
        target="markov", order=order, vocab_size=Vocabulary.FIRST_WORD + words, max_new_tokens=length,
        context_length=length + 1, prompt_length=(0, 0), target_seed=seed, **{"ending": "fixed", **settings},
    )  # fmt: skip


def next_log_probs(config: EnvConfig) -> NextLogProbs:
    """The function from the words written so far to log p*(word) of every word, nats."""
    world = World.of(config)

    def log_probs(prefix: Sequence[int]) -> dict[int, float]:
        ids = [Vocabulary.BOS, *prefix]
        window = np.array([[Vocabulary.PAD] * (config.context_length - len(ids)) + ids])
        row = world.target.log_probs(world.target.track(window), False)[0]
        return {int(word): float(row[word]) for word in world.words}

    return log_probs


def log_prob(config: EnvConfig, text: Sequence[int]) -> float:
    """Log p* of a text of as many words as texts have there, nats; ValueError for any other."""
    words = World.of(config).words.tolist()
    if len(text) != config.max_new_tokens or any(word not in words for word in text):
        raise ValueError(f"a text must be {config.max_new_tokens} words of {words[0]} to {words[-1]}, not {list(text)}")
    log_probs = next_log_probs(config)
    return sum(log_probs(text[:t])[int(word)] for t, word in enumerate(text))


def score_of(config: EnvConfig, text: Sequence[int]) -> float:
    """(log p*(text) - trivial)/(best - trivial), at least 0; trivial is the best policy that does not look."""
    start = np.array([[Vocabulary.PAD] * (config.context_length - 1) + [Vocabulary.BOS]])
    best = float(Oracle(World.of(config), config).optimal_return(start)[0])
    score = normalized_score(log_prob(config, text), max(trivial_returns(config).values()), best)
    return 1.0 if score is None else min(1.0, max(0.0, score))


def mean_score(solve: Callable[[EnvConfig], Sequence[int]], worlds: Sequence[EnvConfig], hint: str) -> Mark:
    """The mean score of the texts found in several worlds."""
    found = float(np.mean([score_of(config, solve(config)) for config in worlds]))
    return Mark(1.0) if found > 1.0 - 1e-9 else Mark(found, hint)


def episode_return(env: Any, actions: Sequence[int]) -> float:
    """The sum of rewards of an episode; actions after its end are not taken."""
    total, over = 0.0, False
    env.reset(seed=0)
    for action in actions:
        if not over:
            _, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
    return float(total)


def paid(rewards: Sequence[float], every: int) -> list[float]:
    """Rewards of one episode as paid with `reward_every`: sums at every k-th token and at the end; 0: at the end."""
    given, owed = [], 0.0
    for count, reward in enumerate(rewards, 1):
        owed += reward
        due = count == len(rewards) or (every > 0 and count % every == 0)
        given.append(owed if due else 0.0)
        owed = 0.0 if due else owed
    return given


def soft_value(q_values: Sequence[float] | npt.NDArray[np.float64], temperature: float) -> float:
    """τ log Σ exp(Q/τ), the maximum at τ = 0."""
    values = np.asarray(q_values, np.float64)
    best = float(values.max())
    if temperature == 0.0:
        return best
    return best + temperature * math.log(float(np.exp((values - best) / temperature).sum()))


def _returns(solution: Callable[..., Any]) -> Mark:
    played = [
        (chain(1, words=3, length=4), [5, 6, 7, 5]),
        (chain(1, words=3, length=4, reward_every=0), [7, 7, 5, 6]),
        (chain(2, words=3, length=4, ending="eos"), [5, 6, Vocabulary.EOS, 6]),
        (chain(2, words=3, length=4, ending="eos"), [5, 6, 7, 7, 5, 5]),
    ]
    cases = [(gym.make("TokenLM-v0", config=config), actions) for config, actions in played]
    return compared(
        cases,
        episode_return,
        same_numbers,
        "把每一步的奖励加起来，直到 terminated 或 truncated；结束以后不能再 step",
    )(solution)


def _policy(solution: Callable[..., Any]) -> Mark:
    def text_of(config: EnvConfig) -> list[int]:
        env = TokenLMEnv(config)
        env.reset(seed=0)
        text: list[int] = []
        for _ in range(config.max_new_tokens):
            text.append(int(solution(env)))
            env.step(text[-1])
        return text

    hint = "每一步都选 log p* 最大的词就够及格；想得满分，要看得比一步更远（下一章）"
    return mean_score(text_of, [chain(seed) for seed in NEARLY_GREEDY], hint)


def _best_text(solution: Callable[..., Any]) -> Mark:
    def text_of(config: EnvConfig) -> Sequence[int]:
        found: Sequence[int] = solution(next_log_probs(config), config.max_new_tokens)
        return found

    hint = "贪心不够：从最后一步往前推，V(s) = max_a [log p*(a|s) + V(s·a)]"
    return mean_score(text_of, [chain(seed) for seed in PLANNED], hint)


def whole_texts(policy: Policy, words: Sequence[int], length: int) -> dict[tuple[int, ...], float]:
    """The probability of every text under a policy."""
    texts: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for text, chance in texts.items():
            given = policy(text)
            longer.update({(*text, word): chance * float(given.get(word, 0.0)) for word in words})
        texts = longer
    return texts


def _sharpened(config: EnvConfig, temperature: float) -> dict[tuple[int, ...], float]:
    """p*(text)^{1/τ}, normalised over whole texts; at τ = 0 the best text."""
    texts = list(itertools.product(World.of(config).words.tolist(), repeat=config.max_new_tokens))
    scores = np.array([log_prob(config, text) for text in texts])
    if temperature == 0.0:
        chances = (np.arange(len(texts)) == scores.argmax()).astype(np.float64)
    else:
        chances = np.exp((scores - soft_value(scores, temperature)) / temperature)
    return dict(zip(texts, chances.tolist(), strict=True))


def _optimal_policy(solution: Callable[..., Any]) -> Mark:
    config = chain(0, words=3, length=4, order=3)
    log_probs, words = next_log_probs(config), World.of(config).words.tolist()
    found, local = [], []
    for tau in (1.0, 0.5, 0.2, 0.0):

        def policy(prefix: Sequence[int], tau: float = tau) -> dict[int, float]:
            given: dict[int, float] = solution(log_probs, prefix, config.max_new_tokens, tau)
            return given

        def each_step(prefix: Sequence[int], tau: float = tau) -> dict[int, float]:
            given = log_probs(prefix)
            return {w: math.exp((q - soft_value(list(given.values()), tau)) / tau) for w, q in given.items()}

        texts = whole_texts(policy, words, config.max_new_tokens)
        found.append(overlap(texts, _sharpened(config, tau)))
        local.append(overlap(texts, whole_texts(each_step, words, config.max_new_tokens)) if tau else 1.0)
    if (score := float(np.mean(found))) > 1.0 - 1e-9:
        return Mark(1.0)
    if min(local) > 1.0 - 1e-9:
        return Mark(score, "你把每一步的 p* 各自锐化了；最优策略锐化的是整句：π ∝ exp(Q*/τ)，Q* 里有后面的软价值")
    return Mark(score, "先用 V(s) = τ·log Σ exp(Q/τ) 从后往前求 Q*，再取 π ∝ exp(Q*/τ)；τ = 0 时取最大者")


_REWARDS = ([-1.0, -2.0, -3.0, -4.0, -5.0], [-0.5], [-1.0, -1.0, -2.0, -2.0])
_Q_VALUES = ([-1.0, -2.0, -3.0], [-1000.0, -1001.0], [0.5], [1000.0, 999.0, -np.inf])

WORLDS = (
    Exercise("chapter3.1", "episode_return(env, actions)", _returns),
    Exercise("chapter3.2", "policy(env)", _policy),
    Exercise(
        "chapter3.3",
        "paid(rewards, every)",
        compared(
            [(rewards, every) for rewards in _REWARDS for every in (0, 1, 2, 3)],
            paid,
            same_numbers,
            "每 k 个词发一次累计奖励，其余时刻为 0；every = 0 时全在最后",
            (
                (
                    lambda rewards, k: [r if k and (i + 1) % k == 0 else 0.0 for i, r in enumerate(rewards)],
                    "欠着的奖励要累计起来一起发，不能丢掉",
                ),
                (
                    lambda rewards, k: (
                        [0.0] * (len(rewards) - 1) + [sum(rewards)]
                        if not k
                        else [sum(rewards[i + 1 - k : i + 1]) if (i + 1) % k == 0 else 0.0 for i in range(len(rewards))]
                    ),
                    "回合结束时，没发完的也要发",
                ),
            ),
        ),
    ),
    Exercise("chapter4.1", "best_text(log_probs, length)", _best_text, pass_mark=0.99),
    Exercise(
        "chapter4.2",
        "soft_value(q_values, temperature)",
        compared(
            [(q_values, tau) for q_values in _Q_VALUES for tau in (1.0, 0.5, 0.01, 0.0)],
            soft_value,
            same_numbers,
            "先减去最大值再取指数，否则会溢出；τ = 0 时就是最大值",
            (
                (lambda q, tau: max(q), "这是硬的最大值；软价值是 τ·log Σ exp(Q/τ)"),
                (lambda q, tau: soft_value(q, 1.0) if tau else max(q), "别忘了 τ：先除以 τ，最后再乘回来"),
                (lambda q, tau: soft_value(q, tau) / tau if tau else max(q), "最后要乘回 τ"),
            ),
        ),
    ),
    Exercise("chapter4.3", "optimal_policy(log_probs, prefix, length, temperature)", _optimal_policy),
)
