"""What is written under the form `jueju5` after the same two lines, beside the best there is.

    python benchmarks/form.py [--steps 100000] [--seeds 0] [--learners NAME …] [--data-dir FOLDER] [--json FILE]

Prompts are the first two lines of the test quatrains. First the built-in corpus with learners, one thread each: the
reward model that plans (`tokenlm train verse`), the same from the corpus without a step in the environment, a table of
what was paid after the last character with the same planning and optimism (a reward model that never learns), our DQN
(`tokenlm train form`), GRPO from a start cloned on the corpus, and maximum likelihood, the last three with the same
network; all write their greedy text. With `--data-dir`, then the Tang quatrains in its folder `jueju` without learners.
Returns are exact, nats a text, the bonus for a rhyme included; the soft regret is measured on 64 sampled texts of every
seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokenlm.agents import DQN, MaximumLikelihood, play
from tokenlm.agents.baselines.policy_gradient import GRPO
from tokenlm.agents.baselines.references import Beam
from tokenlm.agents.protocol import BaseAgent
from tokenlm.agents.runs.algorithms import make
from tokenlm.envs import EnvConfig, Episodes, Oracle, Vocabulary, World
from tokenlm.envs.forms import form_in, states_along
from tokenlm.envs.trivial import single_text, starts_of
from tokenlm.parsing import parse_run

from record import print_table, rows_before, write_result

HERE = Path(__file__).parent
PROMPT = TEXT = 12  # tokens
SHOWN = 6  # texts kept of every policy
SAMPLES = 64
SHARPENED, _BLOCK = 16, 8  # texts after each prompt of the sharpened policies, and at once
WIDTH = 200  # of the search for the same text
TABLE = "a table of the last character, with optimism and planning"
PLANNED = "reward model with planning, the corpus and what it is paid, no steps"
PLANNED_LATE = "reward model with planning, the corpus alone, no steps"
PRETRAINED = 300_000  # tokens of the corpus that these two learn from, again and again
CLONED = 30_000  # transitions of the corpus that GRPO begins with, as ours does
Ints = np.ndarray[Any, np.dtype[np.int64]]


class Prompts:
    """The first two lines of all test quatrains whose characters are known, and what may be written after them."""

    def __init__(self, config: EnvConfig) -> None:
        self.config, self.world = dataclasses.replace(config, split="test"), World.of(config)
        documents = self.world.documents["test"]
        whole = [documents[i] for i in range(len(documents))]
        self.documents = [ids for ids in whole if len(ids) == PROMPT + TEXT and Vocabulary.UNK not in ids]
        self.oracle = Oracle.of(self.world, self.config)

    def started(self) -> Episodes:
        """An episode after every prompt."""
        episodes = Episodes(self.world, self.config, len(self.documents))
        prompts = [ids[:PROMPT].tolist() for ids in self.documents]
        episodes.start_from_prompts(np.arange(len(prompts)), prompts, None)
        return episodes

    def written(self, values: Callable[[Episodes], Any]) -> Ints:
        """(N, T) the texts of the greedy policy of values (N, V)."""
        episodes = self.started()
        for _ in range(TEXT):
            episodes.step(np.where(episodes.action_masks(), values(episodes), -np.inf).argmax(1))
        return episodes.history[:, -TEXT - 1 : -1].copy()

    def measured(self, policy: str, texts: Ints, regret: float | None = None) -> dict[str, Any]:
        """A row: mean return of texts (N, T), how many rhyme, and the first of them."""
        episodes, form = self.started(), form_in(self.world, self.config)
        assert form is not None
        total, rhymes = np.zeros(len(texts)), np.zeros(len(texts))
        states = form.start(episodes.observe())
        for tokens in texts.T:
            rhymes += form.bonus(states, tokens[:, None])[:, 0]
            states = form.next(states, tokens)
            total += episodes.step(tokens)[0]
        decode = self.world.tokenizer.decode
        return {
            "policy": policy,
            "return": float(total.mean()),
            "rhymes": float(rhymes.mean()),
            "soft_regret": regret,
            "prompts": len(texts),
            "texts": [decode(ids) for ids in texts[:SHOWN].tolist()],
        }


def references(prompts: Prompts) -> list[dict[str, Any]]:
    """Rows of the policies that know p*."""
    oracle, config = prompts.oracle, prompts.config
    without = Oracle.of(prompts.world, dataclasses.replace(config, form_bonus=0.0))
    form = form_in(prompts.world, config)
    assert form is not None
    every = np.arange(prompts.world.vocab_size)[None, :]

    def best(oracle: Oracle) -> Ints:
        return prompts.written(lambda e: oracle.optimal_q(e.observe(), e.written, temperature=0.0))

    def with_bonus(episodes: Episodes) -> Any:
        after = episodes.history[:, config.context_length :]
        states = states_along(form, episodes.first_observation(), after, episodes.written)
        return episodes.target_log_probs() + config.form_bonus * form.bonus(states, every)

    first = prompts.started().observe()
    beam = Beam(config).texts_after(first)
    same = np.tile(single_text(oracle, starts_of(oracle, first), WIDTH)[1], (len(first), 1))
    return [
        prompts.measured("optimum", best(oracle)),
        prompts.measured("beam 10", beam),
        prompts.measured("greedy under p*, the last character chosen with the bonus", prompts.written(with_bonus)),
        prompts.measured("the same text for all prompts", same),
        prompts.measured("best text without thought of rhyme", best(without)),
        prompts.measured("greedy under p*", prompts.written(lambda e: e.target_log_probs())),
    ]


def sharpened(prompts: Prompts, tau: float, with_bonus: bool) -> tuple[float, float]:
    """Soft return of p*^(1/τ) normalised token by token, and its standard error, nats.

    Of sampled texts, in which every step counts with its mean over the actions. `with_bonus`: the last character is
    drawn in proportion to exp((log p* + bonus)/τ); no other is paid one.
    """
    config, world, form = prompts.config, prompts.world, form_in(prompts.world, prompts.config)
    assert form is not None
    every, rng, found = np.arange(world.vocab_size)[None, :], np.random.default_rng(0), []
    given = [ids[:PROMPT].tolist() for ids in prompts.documents for _ in range(_BLOCK)]
    for _ in range(SHARPENED // _BLOCK):
        episodes, total = Episodes(world, config, len(given)), np.zeros(len(given))
        episodes.start_from_prompts(np.arange(len(given)), given, None)
        states = form.start(episodes.observe())
        for _ in range(TEXT):
            log_p, bonus = episodes.target_log_probs(), config.form_bonus * form.bonus(states, every)
            scaled = (log_p + (bonus if with_bonus else 0.0)) / tau
            top = scaled.max(1, keepdims=True)
            pi = np.exp(scaled - top)
            normal = pi.sum(1, keepdims=True)
            log_pi = scaled - top - np.log(normal)
            pi /= normal
            possible = pi > 0.0
            total += (pi * np.where(possible, log_p + bonus - tau * np.where(possible, log_pi, 0.0), 0.0)).sum(1)
            tokens = (pi.cumsum(1) <= rng.random((len(pi), 1))).sum(1)
            tokens = np.where(pi[np.arange(len(pi)), np.minimum(tokens, pi.shape[1] - 1)] > 0.0, tokens, pi.argmax(1))
            states = form.next(states, tokens)
            episodes.step(tokens)
        found.append(total)
    values = np.concatenate(found)
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


def soft(prompts: Prompts) -> list[dict[str, Any]]:
    """Rows of soft returns at τ = ½ and 1: the optimum, p* sampled, and p* sharpened; see `sharpened`."""
    first, oracle = prompts.started().observe(), prompts.oracle
    return [
        {
            "temperature": tau,
            "optimum": float(oracle.optimal_value(first, temperature=tau, horizon="episode").mean()),
            "p* sampled": float(oracle.expected_return("target", first, tau).mean()),
            "p* sharpened token by token": sharpened(prompts, tau, False),
            "the same, the last character chosen with the bonus": sharpened(prompts, tau, True),
            "best there is": [t.text[PROMPT:] for t in _drawn(prompts, tau)],
        }
        for tau in (0.5, 1.0)
    ]


def _drawn(prompts: Prompts, tau: float) -> list[Any]:
    decode = prompts.world.tokenizer.decode
    firsts = [decode(ids[:PROMPT].tolist()) for ids in prompts.documents[:SHOWN]]
    return [prompts.oracle.sample_power(text, tau, seed=n)[0] for n, text in enumerate(firsts)]


def makers(steps: int) -> dict[str, Callable[[int], BaseAgent]]:
    """What learns from a seed: each has the same number of environment steps, or of transitions of the corpus."""
    run, verse = parse_run(["form"]), parse_run(["verse"])
    network = run.agent.network

    def planner(seed: int, env: EnvConfig = verse.env, **changed: Any) -> BaseAgent:
        return make(verse.algorithm, env, seed, device="cpu", **verse.algorithm_settings, **changed)

    def ours(seed: int) -> BaseAgent:
        return DQN(run.env, run.agent, seed=seed, device="cpu").learn(steps)

    def grpo(seed: int) -> BaseAgent:
        agent = GRPO(run.env, seed=seed, device="cpu", network=network, num_envs=64, learning_rate=1e-3)
        return agent.pretrain(CLONED).learn(steps)

    def likelihood(seed: int) -> BaseAgent:
        settings = {"learning_rate": {"start": 4e-3, "end": 2e-4}, "batch_size": 64, "replay_ratio": 2}
        return MaximumLikelihood(run.env, seed=seed, device="cpu", network=network, **settings).learn(steps)

    return {
        "reward model with planning": lambda seed: planner(seed).learn(steps),
        PLANNED: lambda seed: planner(seed, pretrain=PRETRAINED),
        PLANNED_LATE: lambda seed: planner(seed, dataclasses.replace(verse.env, reward_every=0), pretrain=PRETRAINED),
        TABLE: lambda seed: planner(seed, replay_ratio=0.0).learn(steps),
        "ours, DQN": ours,
        "GRPO": grpo,
        "maximum likelihood": likelihood,
    }


def learned(prompts: Prompts, name: str, make_from: Callable[[int], BaseAgent], seeds: list[int]) -> dict[str, Any]:
    """The row of a learner: means over seeds, the returns and regrets of each, the texts of the first."""
    tokenizer = prompts.world.tokenizer
    texts = [tokenizer.decode(ids[:PROMPT].tolist()) for ids in prompts.documents]
    rows, seconds = [], 0.0
    for seed in seeds:
        began = time.process_time()
        agent = make_from(seed)
        seconds += time.process_time() - began
        found = agent.generate(texts, temperature=0.0, seed=0)
        ids = np.array([tokenizer.encode(text[PROMPT:]) for text in found])
        tau = 0.5 if agent.has_temperature else 1.0
        regret = float(play(agent, prompts.world, prompts.config, SAMPLES, 0, tau, 0.5).regret.mean())
        rows.append(prompts.measured(name, ids, regret))
        print_table([{k: v for k, v in rows[-1].items() if k != "texts"}])
    means = {k: float(np.mean([row[k] for row in rows])) for k in ("return", "rhymes", "soft_regret")}
    single = {f"{k} of seeds": [row[k] for row in rows] for k in ("return", "soft_regret")}
    return {**rows[0], **means, **single, "processor_seconds": round(seconds / len(seeds), 1)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learners", nargs="*", metavar="NAME", help="the rows of others are kept; all if left out")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--json", type=Path, default=HERE / "results" / "form.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    learners = makers(chosen.steps)
    chosen.learners = list(learners) if chosen.learners is None else chosen.learners
    if unknown := set(chosen.learners) - set(learners):
        parser.error(f"there is no learner {sorted(unknown)[0]!r}; there are {', '.join(learners)}")
    built_in = EnvConfig(corpus="jueju", form="jueju5", order=2, context_length=25)
    worlds = {"built in": built_in}
    if chosen.data_dir is not None:
        worlds["Tang"] = dataclasses.replace(built_in, corpus=str(chosen.data_dir / "jueju"))
    rows: list[dict[str, Any]] = []
    for name, config in worlds.items():
        prompts = Prompts(config)
        policies = references(prompts)
        print_table([{k: row[k] for k in ("policy", "return", "rhymes")} for row in policies])
        if name == "built in":
            known = {row["policy"]: row for world in rows_before(chosen.json)[:1] for row in world["policies"]}
            for learner, of in learners.items():
                if learner in chosen.learners:
                    policies.append(learned(prompts, learner, of, chosen.seeds))
                elif learner in known:
                    policies.append(known[learner])
        decode = prompts.world.tokenizer.decode
        given = [decode(ids.tolist()) for ids in prompts.documents[:SHOWN]]
        rows.append({"world": name, "tokens": prompts.world.vocab_size, "given": given, "policies": policies,
                     "soft": soft(prompts)})  # fmt: skip
    write_result(
        chosen.json, rows, steps=chosen.steps, cloned=CLONED, pretrained=PRETRAINED, samples=SAMPLES, seeds=chosen.seeds
    )


if __name__ == "__main__":
    main()
