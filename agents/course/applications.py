"""Exercises of chapters 7 and 8: tasks and their figures, other algorithms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, World
from ..evaluation.confusion import Confusion
from ..evaluation.tasks import decode_pairs
from .exercise import Exercise, Mark, compared, same_numbers, token_f1
from .language import softmax
from .learning import closeness
from .worlds import chain, soft_value

Floats = npt.NDArray[np.float64]

CLASSIFICATION = EnvConfig(task="classification", target="reference", context_length=64)
OWN_STEPS = 2_000  # environment steps of chapter8.3


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> float:
    """Mean F1 of the labels."""
    return Confusion.of(predicted, truth).macro_f1


def reinforce_gradient(logits: Floats, action: int, advantage: float) -> Floats:
    """(V,) gradient of -A log π(a) in the logits."""
    chosen = np.arange(len(logits)) == action
    return np.asarray(advantage * (softmax(logits, 1.0) - chosen), np.float64)


def soft_regret(log_pi: Floats, log_target: Floats, temperature: float) -> float:
    """V*_τ - (E[R] + τ H(π)) of a policy over N texts: (N,) log π and (N,) returns log p*, nats."""
    pi = np.exp(log_pi)
    reached = float(pi @ log_target - temperature * (pi @ np.where(pi > 0, log_pi, 0.0)))
    return soft_value(log_target, temperature) - reached


def _accuracy(solution: Callable[..., Any]) -> Mark:
    world = World.of(CLASSIFICATION)
    found = decode_pairs(solution(CLASSIFICATION), world, CLASSIFICATION, "test")
    labels = [label for _, label in world.pairs["test"]]
    right = float(np.mean([a == b for a, b in zip(found, labels, strict=True)]))
    common = Counter(label for _, label in world.pairs["train"]).most_common(1)[0][0]
    constant = labels.count(common) / len(labels)
    score = max(0.0, (right - constant) / (1.0 - constant))
    return Mark(score, f"测试集准确率 {right:.2f}，总猜同一个标签有 {constant:.2f}；多训练一会儿，或提高学习率")


def _own_algorithm(solution: Callable[..., Any]) -> Mark:
    found = []
    for seed in (11, 12):
        config = chain(seed, words=3, length=4, order=3)
        agent = solution(config, seed=seed)
        agent.learn(OWN_STEPS)
        found.append(closeness(agent, config))
    score = float(np.mean(found))
    return Mark(score, "" if score == 1.0 else "log_probs 给出的策略还不是 p*：奖励就是 log p*(a|s)，把它学下来")


def _distributions() -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(8)
    cases = []
    for temperature in (1.0, 0.5, 0.0):
        own, target = (np.log(softmax(rng.normal(0.0, 2.0, 9), 1.0)) for _ in range(2))
        cases.append((own, target, temperature))
    return cases


_PAIRS: tuple[tuple[list[str], list[str]], ...] = (
    (["今天", "天气", "很", "好"], ["今天", "很", "好"]),
    (["好", "好", "好"], ["好"]),
    (["不", "知道"], ["很", "好"]),
    ([], []),
    (["的"], []),
)
_LABELS = (
    (["体育", "天气", "美食", "体育"], ["体育", "美食", "美食", "天气"]),
    (["a", "a", "a", "b"], ["a", "a", "a", "a"]),
    (["x", "y"], ["x", "y"]),
)
_LOGITS = np.array([0.5, -1.0, 2.0])

APPLICATIONS = (
    Exercise(
        "chapter7.1",
        "token_f1(answer, reference)",
        compared(
            _PAIRS,
            token_f1,
            same_numbers,
            "2·共有词数/(两边词数之和)；两边都空为 1",
            ((lambda a, b: token_f1(sorted(set(a)), sorted(set(b))), "重复的词要按次数算，不能先去重"),),
        ),
    ),
    Exercise(
        "chapter7.2",
        "macro_f1(truth, predicted)",
        compared(
            _LABELS,
            macro_f1,
            same_numbers,
            "每个标签各算 F1，再平均；没有预测对过的标签算 0",
            ((lambda t, p: float(np.mean([a == b for a, b in zip(t, p, strict=True)])), "这是准确率，不是宏平均 F1"),),
        ),
    ),
    Exercise("chapter7.3", "train_classifier(env_config)", _accuracy, pass_mark=0.6),
    Exercise(
        "chapter8.1",
        "reinforce_gradient(logits, action, advantage)",
        compared(
            [(_LOGITS, action, advantage) for action in (0, 2) for advantage in (1.0, -0.5, 0.0)],
            reinforce_gradient,
            same_numbers,
            "−A·log π(a) 对 logits 的梯度是 A·(π − onehot(a))",
            (
                (lambda x, a, adv: -reinforce_gradient(x, a, adv), "符号反了：损失是 −A·log π(a)"),
                (lambda x, a, adv: reinforce_gradient(x, a, 1.0), "没有用到优势 A"),
            ),
        ),
    ),
    Exercise(
        "chapter8.2",
        "soft_regret(log_pi, log_target, temperature)",
        compared(
            _distributions(),
            soft_regret,
            same_numbers,
            "τ·log Σ exp(log p*/τ) − (E[log p*] + τ·熵)",
            (
                (
                    lambda lp, lt, tau: soft_value(lt, tau) - float(np.exp(lp) @ lt),
                    "漏了熵：软回报是 E[R] + τ·H(π)",
                ),
                (lambda lp, lt, tau: soft_regret(lp, lt, 1.0), "没有用到 τ"),
            ),
        ),
    ),
    Exercise("chapter8.3", "Mine(env_config, seed)", _own_algorithm),
)
