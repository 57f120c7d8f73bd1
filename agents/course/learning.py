"""Exercises of chapters 5 and 6: the steps of DQN, exploration and credit assignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, TokenLMEnv, World
from ..evaluation.exact import every_text, exact_score
from ..protocol import Agent
from .exercise import Exercise, Mark, WrongAnswer, compared, overlap, same_numbers
from .worlds import PLANNED, chain, mean_score

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STEPS = 1_200  # environment steps of chapter6.3


def td_targets(rewards: Floats, next_q: Floats, terminated: Bools, valid: Bools, gamma: float) -> Floats:
    """(B,) r + γ max over valid a' of Q̄(s', a'), without the second term after termination.

    Args:
        rewards: (B,).
        next_q: (B, V) values of the target network in the next states.
        terminated: (B,) bool.
        valid: (B, V) bool, valid actions of the next states.
        gamma: discount.
    """
    best = np.where(valid, next_q, -np.inf).max(1)
    return rewards + gamma * np.where(terminated, 0.0, best)


def epsilon_greedy(q_values: Floats, valid: Bools, epsilon: float) -> Floats:
    """(V,) probabilities: the best valid action with 1 - ε, a uniformly random valid one with ε."""
    best = np.where(valid, q_values, -np.inf).argmax()
    return (1.0 - epsilon) * (np.arange(len(valid)) == best) + epsilon * valid / valid.sum()


def n_step_targets(rewards: Floats, values: Floats, n: int, gamma: float) -> Floats:
    """(T,) Σ_{i<n} γ^i r_{t+i} + γ^n V(s_{t+n}), shorter at the end; rewards (T,), values (T + 1,)."""
    targets = []
    for t in range(len(rewards)):
        end = min(t + n, len(rewards))
        earned = sum(gamma**i * rewards[t + i] for i in range(end - t))
        targets.append(earned + gamma ** (end - t) * values[end])
    return np.array(targets)


class StepBudget(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that takes so many steps and no more.

    Attributes:
        words: ids of the valid actions.
        length: words in a text.
        steps_left: steps that may still be taken.
    """

    def __init__(self, env: gym.Env[Any, Any], steps: int) -> None:
        super().__init__(env)
        self.steps_left = steps
        inner: Any = env.unwrapped
        self.words: list[int] = inner.world.words.tolist()
        self.length: int = inner.config.max_new_tokens

    def step(self, action: Any) -> Any:
        """A step, if one is left."""
        if self.steps_left <= 0:
            raise WrongAnswer("步数用完了：请看 env.steps_left")
        self.steps_left -= 1
        return self.env.step(action)


def closeness(agent: Agent, config: EnvConfig) -> float:
    """1 - KL(π ‖ p*)/KL(uniform ‖ p*) over whole texts, at least 0; the policy is that at τ = 1."""
    own = exact_score(agent, temperature=1.0, env=config).kl_to_target
    log_target = every_text(World.of(config), config).log_target  # of texts of one length: uniform over them
    uniform = -np.log(len(log_target)) - float(log_target.mean())
    return max(0.0, 1.0 - own / uniform)


def _replay(solution: Callable[..., Any]) -> Mark:
    rng = np.random.default_rng(0)

    def filled(count: int) -> Any:
        replay = solution(4)
        for item in range(count):
            replay.add(item)
        return replay

    early, full = filled(2), filled(10)
    drawn = Counter(int(item) for _ in range(500) for item in full.sample(8, rng))
    uniform = overlap({item: count / drawn.total() for item, count in drawn.items()}, dict.fromkeys(range(6, 10), 0.25))
    checks = (
        (len(early) == 2 and len(full) == 4, "len() 是现存的条数，最多为 capacity"),
        (set(drawn) <= {6, 7, 8, 9}, "装满以后，新的要覆盖最旧的"),
        (uniform > 0.95, "sample 应当有放回地均匀抽取，每条机会相等"),
        ({int(i) for i in early.sample(50, rng)} <= {0, 1}, "还没装满时，只能抽到已经放进去的"),
    )
    failed = [hint for good, hint in checks if not good]
    return Mark(1.0 - len(failed) / len(checks), failed[0] if failed else "")


def _trained(solution: Callable[..., Any]) -> Mark:
    config = chain(0, words=3, length=4, order=3)  # TokenLM-Tiny-v0
    score = closeness(solution(), config)
    return Mark(score, "" if score == 1.0 else "多训练几步，或提高学习率；π ∝ exp(Q/τ) 在 τ = 1 时应当等于 p*")


def _explored(solution: Callable[..., Any]) -> Mark:
    def text_of(config: EnvConfig) -> Sequence[int]:
        found: Sequence[int] = solution(StepBudget(TokenLMEnv(config), STEPS), STEPS)
        return found

    hint = "奖励只取决于前一个词：记下试过的每一对词得多少分，没试过的当作 0（乐观），再用动态规划选句子"
    return mean_score(text_of, [chain(seed) for seed in PLANNED[-3:]], hint)


def _td_cases() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(5)
    cases = []
    for gamma in (1.0, 0.9):
        valid = rng.random((6, 4)) < 0.6
        valid[:, 2] = True
        cases.append((-rng.random(6), rng.normal(-3.0, 2.0, (6, 4)), rng.random(6) < 0.4, valid, gamma))
    return cases


_EVERYTHING = np.ones(4, np.bool_)
_SOME = np.array([False, True, True, False])
_Q = np.array([-1.0, -4.0, -2.0, -0.5])
_EARNED = np.array([-1.0, -0.5, -2.0, -0.25, -3.0])
_VALUES = np.array([-6.0, -5.5, -5.0, -3.0, -2.5, 0.0])

LEARNING = (
    Exercise(
        "chapter5.1",
        "td_targets(rewards, next_q, terminated, valid, gamma)",
        compared(
            _td_cases(),
            td_targets,
            same_numbers,
            "r + γ·max Q̄(s′, a′)，最大值只在合法动作里取，终止之后没有未来",
            (
                (lambda r, q, done, valid, g: td_targets(r, q, done & False, valid, g), "终止以后没有未来：第二项为 0"),
                (lambda r, q, done, valid, g: td_targets(r, q, done, valid | True, g), "最大值只能在合法动作里取"),
                (lambda r, q, done, valid, g: td_targets(r, q, done, valid, 1.0), "没有用到折扣 γ"),
            ),
        ),
    ),
    Exercise("chapter5.2", "Replay(capacity)", _replay),
    Exercise("chapter5.3", "train()", _trained),
    Exercise(
        "chapter6.1",
        "epsilon_greedy(q_values, valid, epsilon)",
        compared(
            [(_Q, valid, epsilon) for valid in (_EVERYTHING, _SOME) for epsilon in (0.0, 0.1, 1.0)],
            epsilon_greedy,
            overlap,
            "以 1 − ε 选最好的合法动作，以 ε 在合法动作里均匀地选",
            (
                (
                    lambda q, valid, e: (
                        (1.0 - e) * (np.arange(4) == np.where(valid, q, -np.inf).argmax())
                        + e * (valid & (np.arange(4) != np.where(valid, q, -np.inf).argmax())) / (valid.sum() - 1)
                    ),
                    "随机探索时也可能恰好选中最好的动作：它的概率是 1 − ε + ε/n",
                ),
                (lambda q, valid, e: epsilon_greedy(q, _EVERYTHING, e), "不合法的动作概率必须为 0"),
            ),
        ),
    ),
    Exercise(
        "chapter6.2",
        "n_step_targets(rewards, values, n, gamma)",
        compared(
            [(_EARNED, _VALUES, n, gamma) for n in (1, 2, 3, 9) for gamma in (1.0, 0.9)],
            n_step_targets,
            same_numbers,
            "先加 n 步折扣奖励，再加 γⁿ·V(s_{t+n})；离结尾不足 n 步时到结尾为止",
            (
                (lambda r, v, n, g: n_step_targets(r, v, 1, g), "这是一步目标，没有用到 n"),
                (lambda r, v, n, g: n_step_targets(r, v, n, 1.0), "没有用到折扣 γ"),
                (lambda r, v, n, g: n_step_targets(r, 0.0 * v, n, g), "缺少自举的一项 γⁿ·V(s_{t+n})"),
            ),
        ),
    ),
    Exercise("chapter6.3", "explore(env, steps)", _explored),
)
