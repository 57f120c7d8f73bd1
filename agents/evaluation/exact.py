"""A policy's distance from the optimum without sampling: every text of a small environment, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...envs import EnvConfig, Episodes, Oracle, Vocabulary, World
from ..dqn.agent import DQN
from ..networks.prefixes import windows_at
from ..protocol import Agent
from .policies import world_of

MAX_TEXTS = 300_000

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Texts:
    """Every text an episode from one prompt can end with, in lexical order of the ids.

    Args:
        prompt: (P,) ids with `<bos>`.
        tokens: (N, T) ids written, `<pad>` behind the end.
        lengths: (N,) tokens written.
        log_target: (N,) log p*(text), nats. With the ending "eos" a text cut off at `max_new_tokens` is one too.
    """

    prompt: Ints
    tokens: Ints
    lengths: Ints
    log_target: Floats


def every_text(world: World, config: EnvConfig, prompt: list[int] | None = None) -> Texts:
    """All texts after `prompt` (ids without `<bos>`); more than 300,000 raise ValueError."""
    ids = prompt or []
    words = np.append(world.words, Vocabulary.EOS)
    open_texts, ended = np.zeros((1, 0), np.int64), []
    for written in range(config.max_new_tokens):
        choices = words if config.ending == "eos" and written >= config.min_new_tokens else words[:-1]
        if len(open_texts) * len(choices) > MAX_TEXTS:
            raise ValueError(
                f"more than {MAX_TEXTS:,} texts are too many to enumerate; use a smaller vocabulary or fewer tokens"
            )
        longer = np.repeat(open_texts, len(choices), axis=0)
        longer = np.concatenate([longer, np.tile(choices, len(open_texts))[:, None]], axis=1)
        over = longer[:, -1] == Vocabulary.EOS
        ended.append(longer[over])
        open_texts = longer[~over]
    parts = [*ended, open_texts]
    lengths = np.concatenate([np.full(len(p), p.shape[1]) for p in parts])
    tokens = np.concatenate([np.pad(p, ((0, 0), (0, config.max_new_tokens - p.shape[1]))) for p in parts])
    return Texts(np.array([Vocabulary.BOS, *ids]), tokens, lengths, _earned(world, config, ids, tokens, lengths))


def _earned(world: World, config: EnvConfig, prompt: list[int], tokens: Ints, lengths: Ints) -> Floats:
    """(N,) log p* of each text, paid by the environment itself."""
    episodes = Episodes(world, config, len(tokens))
    episodes.start_from_prompts(np.arange(len(tokens)), [prompt] * len(tokens), None)
    total = np.zeros(len(tokens))
    for step in range(tokens.shape[1]):
        active = step < lengths
        total += np.where(active, episodes.step(tokens[:, step], active)[3], 0.0)
    return total


@torch.no_grad()
def log_policy(agent: Agent, texts: Texts, temperature: float, env: EnvConfig | None = None) -> Floats:
    """(N,) log π(text), greedy at temperature 0 (-inf for all texts but one).

    Above 0 it is a DQN's Boltzmann policy at that temperature, and that of any other agent as it is.
    """
    if not isinstance(agent, DQN):
        return _log_policy_of_windows(agent, texts, temperature == 0.0, *world_of(agent, env))
    network = agent.policy_network.eval()
    prompt = torch.from_numpy(np.tile(texts.prompt, (len(texts.tokens), 1)))
    tokens = torch.cat([prompt, torch.from_numpy(texts.tokens)], dim=1).to(agent.device)
    hidden = network(tokens)[:, len(texts.prompt) - 1 : -1]  # (N, T, D) before each written token
    total = torch.zeros(len(tokens), dtype=torch.float64)
    for step in range(texts.tokens.shape[1]):
        written = torch.full((len(tokens),), step, device=agent.device)
        valid = agent.rules.mask(written).expand(len(tokens), -1)
        values = network.policy_values(hidden[:, step], valid).double()
        if temperature > 0:
            log_pi = torch.log_softmax(values / temperature, -1)
        else:
            best = torch.nn.functional.one_hot(values.argmax(-1), values.shape[-1])
            log_pi = torch.where(best.bool(), 0.0, -torch.inf)
        chosen = log_pi.gather(1, tokens[:, len(texts.prompt) + step, None])[:, 0].cpu()
        total += torch.where(torch.from_numpy(step < texts.lengths), chosen, 0.0)
    return total.numpy()


def _log_policy_of_windows(agent: Agent, texts: Texts, greedy: bool, world: World, config: EnvConfig) -> Floats:
    """(N,) `log_policy` of an agent that is asked for windows; once for every prefix that texts share."""
    prompt = len(texts.prompt)
    tokens = np.concatenate([np.tile(texts.prompt, (len(texts.tokens), 1)), texts.tokens], axis=1)
    total = np.zeros(len(tokens))
    for step in range(texts.tokens.shape[1]):
        prefixes, which = np.unique(tokens[:, : prompt + step], axis=0, return_inverse=True)
        count = len(prefixes)
        ends = np.full(count, prompt + step - 1)
        windows = windows_at(prefixes, np.arange(count), ends, config.context_length)
        masks = np.tile(world.valid, (count, 1))
        masks[:, Vocabulary.EOS] &= step >= config.min_new_tokens
        if greedy:
            actions, _ = agent.predict(windows, deterministic=True, action_masks=masks)
            log_pi = np.where(np.arange(world.vocab_size) == np.asarray(actions)[:, None], 0.0, -np.inf)
        else:
            log_pi = np.asarray(agent.log_probs(windows, masks), np.float64)
        chosen = log_pi[which.reshape(-1), texts.tokens[:, step]]
        total += np.where(step < texts.lengths, chosen, 0.0)
    return total


@dataclass(frozen=True)
class ExactScore:
    """A policy against the optimum, by enumeration; nats, undiscounted.

    Args:
        kl_to_target: KL(π ‖ p*) over whole texts.
        kl_from_target: KL(p* ‖ π).
        soft_return: E[Σ r] + τ·entropy of π.
        soft_regret: optimal soft return minus that; τ·KL(π ‖ optimal policy), at τ = 1 the first figure.
        expected_return: E[Σ r].
        greedy_return: return of the greedy text.
        normalized_score: (greedy - random)/(optimal - random).
        total_variation: between π's and the optimal distribution over texts at its temperature.
    """

    kl_to_target: float
    kl_from_target: float
    soft_return: float
    soft_regret: float
    expected_return: float
    greedy_return: float
    normalized_score: float
    total_variation: float


def exact_score(
    agent: Agent, prompt: list[int] | None = None, temperature: float | None = None, env: EnvConfig | None = None
) -> ExactScore:
    """Everything about the agent's policy after one prompt, without sampling.

    `env` is needed for an agent that does not know its environment; one without a temperature is scored at τ = 1.
    Raises ValueError where there are too many texts to enumerate.
    """
    world, config = world_of(agent, env)
    if not config.pays_log_likelihood:
        raise ValueError(
            "exact scores are those of log-likelihood alone; use log_prob_weight 1 and no sequence_reward, not "
            f"{config.log_prob_weight} and {config.sequence_reward!r}"
        )
    tau = float(getattr(agent, "temperature", 1.0)) if temperature is None else temperature
    texts = every_text(world, config, prompt)
    policy, greedy = (log_policy(agent, texts, t, env) for t in (tau, 0.0))
    return score_distribution(world, config, texts, policy, greedy, tau)


def score_distribution(
    world: World, config: EnvConfig, texts: Texts, log_pi: Floats, log_greedy: Floats, temperature: float
) -> ExactScore:
    """`exact_score` of a distribution (N,) over texts and of its greedy text."""
    target, pi = texts.log_target, np.exp(log_pi)
    expected = float(pi @ target)
    possible = pi > 0
    entropy = float(-(pi[possible] @ log_pi[possible]))
    optimal_log = _optimal_distribution(target, temperature)
    best_soft = float(temperature * _log_sum_exp(target / temperature)) if temperature > 0 else float(target.max())
    window = np.array([([Vocabulary.PAD] * config.context_length + texts.prompt.tolist())[-config.context_length :]])
    oracle = Oracle(world, config)
    random, best = (float(r[0]) for r in (oracle.expected_return("random", window), oracle.optimal_return(window)))
    greedy = float(target[np.argmax(log_greedy)])
    with np.errstate(invalid="ignore"):
        from_target = np.where(np.exp(target) > 0, np.exp(target) * (target - log_pi), 0.0)
    return ExactScore(
        kl_to_target=float(pi[possible] @ (log_pi - target)[possible]),
        kl_from_target=float(from_target.sum()),
        soft_return=expected + temperature * entropy,
        soft_regret=best_soft - expected - temperature * entropy,
        expected_return=expected,
        greedy_return=greedy,
        normalized_score=(greedy - random) / (best - random),
        total_variation=float(0.5 * np.abs(pi - np.exp(optimal_log)).sum()),
    )


def _optimal_distribution(log_target: Floats, temperature: float) -> Floats:
    """(N,) log of p*^{1/τ} over texts, normalised; at τ = 0 all on the best."""
    if temperature == 0.0:
        return np.where(np.arange(len(log_target)) == log_target.argmax(), 0.0, -np.inf)
    scaled = log_target / temperature
    return scaled - _log_sum_exp(scaled)


def _log_sum_exp(values: Floats) -> float:
    top = float(values.max())
    return top + float(np.log(np.exp(values - top).sum()))
