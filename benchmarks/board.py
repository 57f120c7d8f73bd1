"""Rows of the board (docs/board.md): trains a policy in racing worlds, recomputes its figures and writes the row.

    python benchmarks/board.py [--only NAME …] [--worlds 0 1 2 3 4] [--output runs/board] [--results FOLDER]

Policies are trained with the algorithm's settings, one seed a world, one thread; a finished one is not trained again. A
row is what `tokenlm verify` finds in their folders, on 256 prompts of the test split. Of the references that are drawn
from a distribution the expected return on the same prompts is computed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from tokenlm.agents import AgentConfig, RunConfig
from tokenlm.agents.evaluation.playing import started
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.agents.runs.figures import make_agent
from tokenlm.agents.runs.folder import SUMMARY, RunFolder
from tokenlm.agents.runs.submission import FILE
from tokenlm.agents.runs.verifying import verify
from tokenlm.envs import Oracle, World, env_config_from
from tokenlm.envs.text import write_json
from tokenlm.parsing import parse_race

from board_table import FOLDER
from record import COMMIT, hardware, print_table, versions

EPISODES, SEED = 256, 0
WORLDS = [0, 1, 2, 3, 4]
MARKOV, FACTORED = "TokenLM-Markov-v0", "TokenLM-Factored-v0"


@dataclass(frozen=True)
class Entry:
    """A row to make.

    Args:
        title: what the board calls it.
        id: of the environment.
        algorithm: its name.
        steps: environment steps; 0 for a policy that has nothing to learn.
        settings: of the algorithm.
        temperature: τ of the objective.
        source: what it learned from, if it has nothing to learn.
    """

    title: str
    id: str
    algorithm: str
    steps: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    source: str = "p*"

    def run(self, world: int, output: Path) -> RunConfig:
        """The run that trains it in one world."""
        ours = self.algorithm == "dqn"
        return RunConfig(
            name=str(world),
            env=dataclasses.replace(env_config_from(self.id), target_seed=world),
            algorithm=self.algorithm,
            agent=AgentConfig.of(None, self.settings) if ours else AgentConfig(),
            algorithm_settings={} if ours else self.settings,
            total_steps=self.steps,
            evaluation_episodes=EPISODES,
            output=str(output),
            device="cpu",
            seed=SEED,
            threads=1,
        )


LEARNERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "table": ("table with optimism and planning", "table", {}),
    "bandit": ("table without planning", "bandit", {}),
    "reward-model": ("reward model with planning", "reward-model", {}),
    "grpo": ("GRPO, defaults", "grpo", {}),
    "maximum-likelihood": ("maximum likelihood, defaults", "maximum-likelihood", {}),
    "dqn": (
        "ours, soft Q, settings of configs/race-markov.yaml", "dqn",
        parse_race(["race-markov"]).entries["TokenLM soft DQN"].settings,
    ),
    "dqn-centred": (
        "ours, soft Q, four steps, centred", "dqn",
        {
            "temperature": {"start": 1.0, "end": 0.05, "share": 0.7}, "learning_rate": {"start": 4e-3, "end": 1e-4},
            "epsilon": {"start": 1.0, "end": 0.0, "share": 0.6}, "corpus_share": 0.0, "n_step": 4, "centred": True,
            "averaged": True, "network": {"name": "lstm", "embedding_size": 64, "hidden_size": 128, "skip": True},
        },
    ),
}  # fmt: skip
KNOWING: dict[str, tuple[str, str, dict[str, Any]]] = {
    "constant": ("the best single token, always", "constant", {}),
    "same-text": ("the same text for all prompts", "same-text", {}),
    "greedy": ("greedy under p*", "beam", {"beams": 1}),
    "beam-10": ("beam 10 under p*", "beam", {"beams": 10}),
    "oracle": ("optimum", "oracle", {}),
}
# Policies that draw their tokens: their expected returns are those of the scale.
DRAWN: dict[str, tuple[str, str]] = {
    "random": ("uniform random", "nothing"),
    "unigram": ("by word frequency, sampled", "corpus"),
    "p-star": ("p* sampled", "p*"),
}
_WORLDS = (("markov", MARKOV, 20_000), ("factored", FACTORED, 100_000))
ENTRIES = {
    **{
        f"{world}-{name}": Entry(title, env, algorithm, steps, settings)
        for world, env, steps in _WORLDS
        for name, (title, algorithm, settings) in LEARNERS.items()
    },
    **{
        f"{world}-{name}": Entry(title, env, algorithm, settings=settings)
        for world, env, _ in _WORLDS
        for name, (title, algorithm, settings) in KNOWING.items()
        if (world, name) != ("markov", "same-text")  # there is one prompt
    },
    **{
        f"{world}-{name}": Entry(title, env, name, source=source)
        for world, env, _ in _WORLDS
        for name, (title, source) in DRAWN.items()
    },
}


def train(config: RunConfig) -> None:
    """Make a run folder as `tokenlm train` does, without its evaluations."""
    place = RunFolder(config)
    with place.held():
        place.write_config()
        agent = make_agent(config)
        agent.train(config.total_steps)
        agent.save(place.path)
        write_json(place.path / SUMMARY, {"wall_seconds": agent.learning_seconds})


def drawn(entry: Entry, worlds: list[int]) -> dict[str, Any]:
    """The row of a policy that draws its tokens: the expectation on the prompts that the others play."""
    lines = []
    for target_seed in worlds:
        config = dataclasses.replace(env_config_from(entry.id), target_seed=target_seed, split="test")
        world = World.of(config)
        prompts = started(world, config, EPISODES, SEED).observe()
        scale = Scale.of(world, config, prompts, entry.temperature)
        if entry.algorithm == "p-star":
            oracle = Oracle.of(world, config)
            reached = float(oracle.expected_return("target", prompts, entry.temperature).mean())
        else:
            reached = scale.trivial[{"random": "random", "unigram": "unigram_sampled"}[entry.algorithm]]
        regret = scale.regret(reached)
        lines.append({
            "world": target_seed, "episodes": EPISODES, "seed": SEED, "regret": regret,
            "kl": 0.0 if entry.algorithm == "p-star" else None, "score": scale.score(regret), "env_steps": 0,
            "seconds": None,
        })  # fmt: skip
    of = {"id": entry.id, "temperature": entry.temperature, "source": entry.source, "policy": entry.algorithm}
    return {**of, "worlds": lines}


def recomputed(name: str, worlds: list[int], output: Path) -> dict[str, Any]:
    """The row of an entry, from policies that are trained where they are not there yet."""
    entry, folder = ENTRIES[name], output / name
    if entry.algorithm in DRAWN:
        return drawn(entry, worlds)
    if entry.steps:
        for world in worlds:
            if not (folder / str(world) / SUMMARY).exists():
                train(entry.run(world, folder))
    else:
        values = {"id": entry.id, "policy": entry.algorithm, "settings": entry.settings, "source": entry.source}
        write_json(folder / FILE, {**values, "worlds": worlds})  # JSON is YAML
    return verify(folder, temperature=entry.temperature, episodes=EPISODES, seed=SEED, device="cpu").row


def main() -> None:
    """Make the rows that are asked for, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=list(ENTRIES), choices=list(ENTRIES), metavar="NAME")
    parser.add_argument("--worlds", type=int, nargs="+", default=WORLDS)
    parser.add_argument("--output", type=Path, default=Path("runs/board"))
    parser.add_argument("--results", type=Path, default=FOLDER)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in chosen.only:
        row = recomputed(name, chosen.worlds, chosen.output)
        made = {
            "name": ENTRIES[name].title, "command": f"python benchmarks/board.py --only {name}",
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "commit": COMMIT,
            "hardware": hardware(), "versions": versions(),
        }  # fmt: skip
        write_json(chosen.results / f"{name}.json", json.loads(json.dumps({**made, **row})))
        print(name)
        print_table([{n: w[n] for n in ("world", "regret", "score", "env_steps", "seconds")} for w in row["worlds"]])


if __name__ == "__main__":
    main()
