"""Exact scores of a policy, by enumeration of all texts of a small environment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, Episodes, Vocabulary, World
from ...envs.forms import form_in, states_along
from ..protocol import Agent, complete
from .policies import world_of
from .scores import Scale

MAX_TEXTS = 300_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """All texts of an episode after one prompt, in lexical order of the ids.

    Args:
        prompt: (P,) ids, `<bos>` included.
        tokens: (N, T) new tokens, `<pad>` after the end.
        lengths: (N,) new tokens.
        log_target: (N,) log p*(text), nats. With the ending "eos" texts truncated at `max_new_tokens` are included.
    """

    prompt: Ints
    tokens: Ints
    lengths: Ints
    log_target: Floats


def every_text(world: World, config: EnvConfig, prompt: list[int] | None = None) -> Texts:
    """All texts after `prompt` (ids without `<bos>`); ValueError if there are more than 300,000."""
    ids = prompt or []
    words = np.append(world.words, Vocabulary.EOS)
    open_texts, ended = np.zeros((1, 0), np.int64), []
    for written in range(config.max_new_tokens):
        choices = words if config.ending == "eos" and written >= config.min_new_tokens else words[:-1]
        if len(open_texts) * len(choices) > MAX_TEXTS:
            raise ValueError(
                f"more than {MAX_TEXTS:,} texts are too many to enumerate; use a smaller vocabulary or max_new_tokens"
            )
        longer = np.repeat(open_texts, len(choices), axis=0)
        longer = np.concatenate([longer, np.tile(choices, len(open_texts))[:, None]], axis=1)
        longer = longer[~_repeats(longer, ids, config.no_repeat)]
        longer = longer[_keeps_form(longer, ids, world, config)]
        over = longer[:, -1] == Vocabulary.EOS
        ended.append(longer[over])
        open_texts = longer[~over]
    parts = [*ended, open_texts]
    lengths = np.concatenate([np.full(len(p), p.shape[1]) for p in parts])
    tokens = np.concatenate([np.pad(p, ((0, 0), (0, config.max_new_tokens - p.shape[1]))) for p in parts])
    return Texts(np.array([Vocabulary.BOS, *ids]), tokens, lengths, _earned(world, config, ids, tokens, lengths))


def _repeats(texts: Ints, prompt: list[int], places: int) -> npt.NDArray[np.bool_]:
    """(N,) bool, whether the last of the tokens (N, t) after the prompt is among the `places` before it."""
    before = np.concatenate([np.tile(np.array(prompt, np.int64), (len(texts), 1)), texts[:, :-1]], axis=1)
    last = before[:, max(0, before.shape[1] - places) :] if places else before[:, :0]
    found: npt.NDArray[np.bool_] = (last == texts[:, -1:]).any(1)
    return found


def _keeps_form(texts: Ints, prompt: list[int], world: World, config: EnvConfig) -> npt.NDArray[np.bool_]:
    """(N,) bool, whether the form allows the last of the tokens (N, t) after the prompt."""
    form = form_in(world, config)
    if form is None:
        return np.ones(len(texts), np.bool_)
    first = np.array([Vocabulary.PAD] * config.context_length + [Vocabulary.BOS, *prompt])[-config.context_length :]
    before = np.full(len(texts), texts.shape[1] - 1)
    states = states_along(form, np.tile(first, (len(texts), 1)), texts, before)
    allowed: npt.NDArray[np.bool_] = form.allowed(states, texts[:, -1:])[:, 0]
    return allowed


def _earned(world: World, config: EnvConfig, prompt: list[int], tokens: Ints, lengths: Ints) -> Floats:
    """(N,) log p* of each text, from the environment's own steps."""
    episodes = Episodes(world, config, len(tokens))
    episodes.start_from_prompts(np.arange(len(tokens)), [prompt] * len(tokens), None)
    total = np.zeros(len(tokens))
    for step in range(tokens.shape[1]):
        active = step < lengths
        total += np.where(active, episodes.step(tokens[:, step], active)[3], 0.0)
    return total


@torch.no_grad()
def log_policy(agent: Agent, texts: Texts, temperature: float, env: EnvConfig | None = None) -> Floats:
    """(N,) log π(text), nats; at temperature 0 -inf for all texts but the greedy one."""
    agent = complete(agent, env)
    _, config = world_of(agent, env)
    tau, prompt = agent.policy_temperature(temperature), len(texts.prompt)
    tokens = np.concatenate([np.tile(texts.prompt, (len(texts.tokens), 1)), texts.tokens], axis=1)
    rows, steps = np.nonzero(np.arange(texts.tokens.shape[1]) < texts.lengths[:, None])
    chosen, log_pi = torch.from_numpy(texts.tokens[rows, steps]), np.zeros(len(rows))
    done = 0
    for values in agent.values_at(tokens, rows, prompt - 1 + steps, config, written=steps, greedy=tau == 0.0):
        part = slice(done, done + len(values))
        actions = chosen[part, None].to(values.device)
        if tau > 0.0:
            found = torch.log_softmax(values.double() / tau, -1).gather(1, actions)[:, 0]
        else:
            found = torch.where(values.argmax(-1) == actions[:, 0], 0.0, -torch.inf)
        log_pi[part] = found.cpu().numpy()
        done += len(values)
    total = np.zeros(len(tokens))
    np.add.at(total, rows, log_pi)
    return total


@dataclass(frozen=True)
class ExactScore:
    """Exact scores of a policy, in nats, undiscounted.

    Args:
        kl_to_target: KL(π ‖ p*) over whole texts.
        kl_from_target: KL(p* ‖ π).
        soft_return: E[Σ r] + τ·entropy of π.
        soft_regret: optimal soft return - `soft_return` = τ·KL(π ‖ optimal policy); equals `kl_to_target` at τ = 1. At
            τ = 0 the optimal return - `expected_return`.
        expected_return: E[Σ r].
        greedy_return: return of the greedy text.
        greedy_regret: return of the best text - `greedy_return`.
        greedy_score: of the greedy text, see `scores.normalized_score`; None where a trivial policy is optimal.
        total_variation: between π and the optimal distribution over texts at the same temperature.
    """

    kl_to_target: float
    kl_from_target: float
    soft_return: float
    soft_regret: float
    expected_return: float
    greedy_return: float
    greedy_regret: float
    greedy_score: float | None
    total_variation: float


def exact_score(
    agent: Agent,
    prompt: list[int] | None = None,
    temperature: float | None = None,
    env: EnvConfig | None = None,
    objective: float | None = None,
) -> ExactScore:
    """Exact scores of the agent's policy after one prompt.

    Args:
        agent: of any algorithm.
        prompt: ids without `<bos>`.
        temperature: τ that it acts at; None for its own, 1 for an agent that has none.
        env: the environment's arguments, required for an agent that does not know them.
        objective: τ of the soft return and of the optimal distribution; None for the same.

    Raises ValueError if there are too many texts to enumerate.
    """
    agent = complete(agent, env)
    world, config = world_of(agent, env)
    if not config.pays_log_likelihood:
        raise ValueError(
            "exact scores need the log-likelihood as the only reward, so log_prob_weight 1 and no sequence_reward, not "
            f"{config.log_prob_weight} and {config.sequence_reward!r}"
        )
    tau = agent.temperature if temperature is None else temperature
    texts = every_text(world, config, prompt)
    policy, greedy = (log_policy(agent, texts, t, env) for t in (tau, 0.0))
    return score_distribution(world, config, texts, policy, greedy, tau if objective is None else objective)


def score_distribution(
    world: World, config: EnvConfig, texts: Texts, log_pi: Floats, log_greedy: Floats, temperature: float
) -> ExactScore:
    """`exact_score` of a distribution over `texts`: log_pi (N,), and log_greedy (N,) for its greedy text."""
    target, pi = texts.log_target, np.exp(log_pi)
    expected = float(pi @ target)
    possible = pi > 0
    entropy = float(-(pi[possible] @ log_pi[possible]))
    optimal_log = _optimal_distribution(target, temperature)
    best_soft = float(temperature * _log_sum_exp(target / temperature)) if temperature > 0 else float(target.max())
    window = np.array([([Vocabulary.PAD] * config.context_length + texts.prompt.tolist())[-config.context_length :]])
    greedy, best = float(target[np.argmax(log_greedy)]), float(target.max())
    with np.errstate(invalid="ignore"):
        from_target = np.where(np.exp(target) > 0, np.exp(target) * (target - log_pi), 0.0)
    return ExactScore(
        kl_to_target=float(pi[possible] @ (log_pi - target)[possible]),
        kl_from_target=float(from_target.sum()),
        soft_return=expected + temperature * entropy,
        soft_regret=best_soft - expected - temperature * entropy,
        expected_return=expected,
        greedy_return=greedy,
        greedy_regret=best - greedy,
        greedy_score=Scale.of(world, config, window).score(best - greedy),
        total_variation=float(0.5 * np.abs(pi - np.exp(optimal_log)).sum()),
    )


def _optimal_distribution(log_target: Floats, temperature: float) -> Floats:
    """(N,) log of the normalised p*^{1/τ} over texts; at τ = 0 the best text has all the mass."""
    if temperature == 0.0:
        return np.where(np.arange(len(log_target)) == log_target.argmax(), 0.0, -np.inf)
    scaled = log_target / temperature
    return scaled - _log_sum_exp(scaled)


def _log_sum_exp(values: Floats) -> float:
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum()))
