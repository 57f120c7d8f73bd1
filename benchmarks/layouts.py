"""The Transformer's layouts beside each other: quality after equal steps, and transitions a second.

    python benchmarks/layouts.py [--steps 8_000] [--seeds 3] [--processes 2] [--json FILE]

Two worlds: the configuration `transformer` (the built-in Chinese corpus, with corpus episodes), and the Markov chain of
`TokenLM-Markov-v0`, learned from rewards alone. One thread; speed is counted in seconds of the processor, so that other
processes matter little. "gpt, embedding 0.1" shows what is owed to the Llama's larger embedding at the start.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from measuring import in_pool
from record import print_table, write_result

WORLDS = ("transformer", "markov")
LAYOUTS = ("gpt", "gpt, embedding 0.1", "llama")
EPISODES = 256


def train(job: tuple[str, str, int, int]) -> dict[str, Any]:
    """Train one layout with one seed."""
    world, layout, seed, steps = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, play, score_text
    from tokenlm.envs import World
    from tokenlm.parsing import parse_run

    config = parse_run(["transformer"])
    if world == "markov":
        network = {"name": "transformer", "hidden_size": 64, "num_layers": 2}
        own = {"corpus_share": 0.0, "temperature": 1.0}
        settings = {"layout": layout.split(",")[0], **network}
        agent = DQN("TokenLM-Markov-v0", config.agent, seed=seed, device="cpu", network=settings, **own)
    else:
        agent = DQN(config.env, config.agent, seed=seed, device="cpu", network={"layout": layout.split(",")[0]})
    if layout == LAYOUTS[1]:
        with torch.no_grad():
            agent.network.embedding.weight.normal_(std=0.1)
        agent.learner.target_network.load_state_dict(agent.network.state_dict())
    began = time.process_time()
    agent.learn(steps, lambda _: True)
    seconds = time.process_time() - began
    played = play(agent, World.of(agent.env_config), agent.env_config, EPISODES, 0, 1.0)
    return {
        "world": world,
        "layout": layout,
        "seed": seed,
        "weights": sum(p.numel() for p in agent.network.parameters()),
        "perplexity": score_text(agent, "test", 400).perplexity if world == "transformer" else None,
        "KL(π ‖ p*), nats a text": float(played.kl.mean()),
        "transitions a second": agent.transitions_trained / seconds,
    }


def main() -> None:
    """Train all seeds and write down the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=8_000, help="environment steps, each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "layouts.json")
    chosen = parser.parse_args()
    jobs = [(w, layout, s, chosen.steps) for s in range(chosen.seeds) for w in WORLDS for layout in LAYOUTS]
    runs, others = in_pool(train, jobs, chosen.processes)
    rows = []
    for world, layout in ((w, layout) for w in WORLDS for layout in LAYOUTS):
        own = [run for run in runs if (run["world"], run["layout"]) == (world, layout)]
        row: dict[str, Any] = {"world": world, "layout": layout, "weights": own[0]["weights"]}
        for name in ("perplexity", "KL(π ‖ p*), nats a text", "transitions a second"):
            found = [run[name] for run in own if run[name] is not None]
            row[name] = statistics.median(found) if found else None
        kl = [run["KL(π ‖ p*), nats a text"] for run in own]
        rows.append({**row, "KL of all seeds": f"{min(kl):.2f} to {max(kl):.2f}"})
    settings = {"seed": 0, "steps": chosen.steps, "seeds": chosen.seeds, "others_cores": others}
    write_result(chosen.json, rows, **settings, runs=runs)
    print_table(rows)


if __name__ == "__main__":
    main()
