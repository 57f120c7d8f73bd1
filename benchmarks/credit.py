"""Bias and variance of advantages, as the reward moves from every token to the end of the text.

    python benchmarks/credit.py [--texts 1000] [--runs 8] [--pairs 512] [--json FILE]

The world is a chain with V = 50 and T = 12, where everything is known exactly. There are two questions.

What is an action worth under the policy that writes? The policy is p* itself, A(s, a) = Q(s, a) - V(s) under it. GRPO,
REINFORCE with a baseline, generalised advantage estimation (Schulman et al. 2016) and return decomposition (the reward
of each token is fitted by the sum, Arjona-Medina et al. 2019) estimate it from texts of p*. Each run has texts of its
own, with which it trains its critic, and one new end of the text after each pair of prefix and action.

What is an action worth at the optimum of temperature 1? There A*(s, a) = log p*(a | s), and our rules learn it from as
many texts of their own: A = log π.

Every run estimates the same pairs. Bias is the root mean square over pairs of the mean error over runs, less what the
mean of so few runs scatters; noise is the root mean variance over runs. Both are in units of the spread of the exact
advantages over the pairs: 1 says that nothing was known.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from record import print_table, write_result

SIZE, LENGTH, GROUP = 50, 12, 16
CHAIN: dict[str, Any] = {
    "target": "markov", "order": 2, "vocab_size": SIZE, "max_new_tokens": LENGTH, "context_length": LENGTH + 1,
    "ending": "fixed", "prompt_length": (0, 0),
}  # fmt: skip
EVERY = (1, 4, 0)
UPDATES, BATCH = 1_000, 64
RULES: dict[str, dict[str, Any]] = {
    "soft Q, one step": {},
    "soft Q, four steps": {"n_step": 4},
    "path consistency, whole texts": {"loss": "pcl", "n_step": LENGTH},
    "trajectory balance": {"loss": "trajectory_balance"},
    "soft Q, rewards redistributed": {"redistribute": True},
}
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Chain:
    """p* of the chain as a matrix, and the exact values of p* as a policy.

    Attributes:
        log_probs: (V, V) log p*(next | last), nats, -inf for tokens that are not valid.
        q, value: (T, V, V) and (T + 1, V), Q(s, a) and V(s) after t tokens, s the last one.
    """

    def __init__(self) -> None:
        from tokenlm.envs import EnvConfig, Vocabulary, World

        self.config = EnvConfig(**CHAIN)
        target = World.of(self.config).target
        after = np.stack([np.full(SIZE, Vocabulary.BOS), np.arange(SIZE)], axis=1)
        after[Vocabulary.BOS, 0] = Vocabulary.PAD
        self.log_probs: Floats = target.log_probs(target.track(after), False)
        self.first = Vocabulary.BOS
        chances = np.exp(self.log_probs)
        rewards = np.where(chances > 0, self.log_probs, 0.0)
        self.value, self.q = np.zeros((LENGTH + 1, SIZE)), np.zeros((LENGTH, SIZE, SIZE))
        for step in reversed(range(LENGTH)):
            self.q[step] = rewards + self.value[step + 1][None, :]
            self.value[step] = (chances * self.q[step]).sum(1)

    def texts(self, count: int, rng: np.random.Generator, begun: Ints | None = None) -> Ints:
        """(count, T + 1) texts of p*, `<bos>` first, that go on from `begun` (count, ·)."""
        texts = np.full((count, 1), self.first) if begun is None else begun
        while texts.shape[1] <= LENGTH:
            noise = rng.gumbel(size=(count, SIZE))
            texts = np.concatenate([texts, (self.log_probs[texts[:, -1]] + noise).argmax(1)[:, None]], axis=1)
        return texts

    def paid(self, texts: Ints, every: int) -> Floats:
        """(B, T) rewards of texts, paid every so many tokens, 0 for once at the end."""
        return paid(self.log_probs[texts[:, :-1], texts[:, 1:]], every)


def paid(rewards: Floats, every: int) -> Floats:
    """(B, T) rewards, each the sum of those since the last payment."""
    steps = np.arange(1, rewards.shape[1] + 1)
    pays = (steps == rewards.shape[1]) | (steps % (every or rewards.shape[1]) == 0)
    total = rewards.cumsum(1) * pays
    before = np.concatenate([np.zeros((len(rewards), 1)), np.maximum.accumulate(-total, axis=1)[:, :-1]], axis=1)
    return np.where(pays, total + before, 0.0)


class Reader(nn.Module):
    """An LSTM over the text with `outputs` numbers after every token but the last."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(SIZE, 32), nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) tokens to (B, L, outputs)."""
        return self.head(self.lstm(self.embedding(tokens))[0])


def fitted(texts: Ints, targets: Floats, by_token: bool, every: int = 1) -> Reader:
    """A network of values (B, T) of prefixes; `by_token`: of the rewards of tokens, by the sums that were paid."""
    network = Reader(SIZE if by_token else 1)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    tokens, wanted = torch.from_numpy(texts), torch.from_numpy(targets).float()
    part = torch.arange(LENGTH) // (every or LENGTH)
    for update in range(UPDATES):
        rows = torch.randint(len(texts), (BATCH,))
        found = network(tokens[rows, :-1])
        if by_token:
            found = found.gather(2, tokens[rows, 1:, None])[:, :, 0]
            sums = torch.zeros(2, BATCH, int(part[-1]) + 1)
            loss = (sums[0].index_add(1, part, found) - sums[1].index_add(1, part, wanted[rows])).square().mean()
        else:
            loss = (found[:, :, 0] - wanted[rows]).square().mean()
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1.0 - update / UPDATES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def to_go(rewards: Floats) -> Floats:
    """(B, T) sums of the rewards from each token on."""
    return rewards[:, ::-1].cumsum(1)[:, ::-1].copy()


@torch.no_grad()
def values(network: Reader, texts: Ints) -> Floats:
    """(B, T + 1) values of the prefixes of texts, 0 at their end."""
    found = network(torch.from_numpy(texts[:, :-1]))[:, :, 0].double().numpy()
    return np.pad(found, ((0, 0), (0, 1)))


def generalised(rewards: Floats, value: Floats, decay: float) -> Floats:
    """(B, T) generalised advantage estimates at γ = 1."""
    errors, running = rewards + value[:, 1:] - value[:, :-1], np.zeros(len(rewards))
    result = np.empty_like(errors)
    for step in reversed(range(errors.shape[1])):
        running = errors[:, step] + decay * running
        result[:, step] = running
    return result


def estimates(job: tuple[int, int, int, Ints, Ints]) -> dict[str, Floats]:
    """One run: every estimator's advantages (K,) of the pairs, given as texts (K, T + 1) and places (K,)."""
    seed, every, count, pairs, places = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, chain = np.random.default_rng(1_000 + seed), Chain()
    learned = chain.texts(count, rng)
    ended = pairs.copy()
    for place in range(LENGTH - 1):  # a new end after the action
        rows = np.flatnonzero(places == place)
        ended[rows] = chain.texts(len(rows), rng, pairs[rows, : place + 2])
    rewards, taken = chain.paid(ended, every), np.arange(len(places))
    critic = fitted(learned, to_go(chain.paid(learned, every)), by_token=False)
    value = values(critic, ended)
    others = chain.paid(chain.texts(len(pairs) * (GROUP - 1), rng), every).sum(1).reshape(len(pairs), -1)
    returns = rewards.sum(1)
    model = fitted(learned, chain.paid(learned, every), by_token=True, every=every)

    def modelled(texts: Ints) -> Floats:
        with torch.no_grad():
            found = model(torch.from_numpy(texts[:, :-1])).gather(2, torch.from_numpy(texts[:, 1:, None]))
        return found[:, :, 0].double().numpy()

    after = fitted(learned, to_go(modelled(learned)), by_token=False)
    return {
        "GRPO, groups of 16": returns - np.concatenate([others, returns[:, None]], axis=1).mean(1),
        "REINFORCE with a baseline": (to_go(rewards) - value[:, :-1])[taken, places],
        "GAE, λ = 0.95": generalised(rewards, value, 0.95)[taken, places],
        "GAE, λ = 0": generalised(rewards, value, 0.0)[taken, places],
        "return decomposition": generalised(modelled(ended), values(after, ended), 0.0)[taken, places],
    }


def learned_by(job: tuple[str, int, int, int, Ints, Ints]) -> Floats:
    """One run of one of our rules: log π (K,) of the pairs."""
    rule, seed, every, count, pairs, places = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN
    from tokenlm.envs import EnvConfig

    network = {"name": "lstm", "embedding_size": 32, "hidden_size": 64}
    agent = DQN(
        EnvConfig(**CHAIN, reward_every=every), corpus_share=0.0, temperature=1.0, network=network, num_envs=32,
        seed=seed, **RULES[rule],
    )  # fmt: skip
    agent.learn(count * LENGTH)
    windows = np.zeros((len(pairs), LENGTH + 1), np.int64)
    for place in range(LENGTH):
        rows = np.flatnonzero(places == place)
        windows[rows, LENGTH - place :] = pairs[rows, : place + 1]
    found: Floats = agent.log_probs(windows)[np.arange(len(pairs)), pairs[np.arange(len(pairs)), places + 1]]
    return found


def account(name: str, every: int, runs: list[Floats], exact: Floats) -> dict[str, Any]:
    """Bias and noise of an estimator, relative to the spread of the exact advantages."""
    errors = np.stack(runs) - exact
    noise = errors.var(0, ddof=1).mean()
    bias = max(0.0, float((errors.mean(0) ** 2).mean() - noise / len(runs)))
    spread = exact.std()
    row = {"estimator": name, "reward_every": every, "bias": bias**0.5 / spread, "noise": noise**0.5 / spread}
    return {**row, "correlation": float(np.mean([np.corrcoef(run, exact)[0, 1] for run in runs]))}


def main() -> None:
    """Estimate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=1_000, help="that every run learns from")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "credit.json")
    chosen = parser.parse_args()
    chain, rng = Chain(), np.random.default_rng(0)
    pairs, places = chain.texts(chosen.pairs, rng), rng.integers(LENGTH, size=chosen.pairs)
    state, action = pairs[np.arange(len(pairs)), places], pairs[np.arange(len(pairs)), places + 1]
    under_policy = chain.q[places, state, action] - chain.value[places, state]
    rows = []
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        shared = (chosen.texts, pairs, places)
        for every in EVERY:
            found = pool.map(estimates, [(seed, every, *shared) for seed in range(chosen.runs)], chunksize=1)
            for name in found[0]:
                rows.append(account(name, every, [run[name] for run in found], under_policy))
            jobs = [(rule, seed, every, *shared) for rule in RULES for seed in range(chosen.runs)]
            logs = pool.map(learned_by, jobs, chunksize=1)
            for number, rule in enumerate(RULES):
                own = logs[number * chosen.runs : (number + 1) * chosen.runs]
                rows.append(account(rule, every, own, chain.log_probs[state, action]))
            print_table(rows[-len(RULES) - len(found[0]) :])
    write_result(chosen.json, rows, seed=list(range(chosen.runs)), texts=chosen.texts, pairs=chosen.pairs)


if __name__ == "__main__":
    main()
