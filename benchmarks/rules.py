"""Distance of all learning rules from their exact fixed points on `TokenLM-Tiny-v0`, with tabular networks.

    python benchmarks/rules.py [--rules NAME …] [--updates 2000] [--processes 2] [--json FILE]

Every update is on all 81 texts. Reports the largest |learned - exact| over all prefixes and actions, in nats. The exact
value is Q*, except for rules with a different fixed point by design (cross_entropy, q_sft, iq_learn, cql, ilql, pqn)
and for those of whole texts, of which log π is compared; see `benchmarks/fixed_points.py`. Rows of rules that are not
run again stay in the file.
"""

from __future__ import annotations

import argparse
import multiprocessing
from pathlib import Path
from typing import Any

import torch

from record import print_table, rows_before, write_result

ENVIRONMENT = "TokenLM-Tiny-v0"
STEADY = {"rate": (0.3, 3e-5), "target_update_rate": 0.5}
RULES: dict[str, dict[str, Any]] = {
    "dqn": {"loss": "dqn"},
    "dqn, dueling": {"loss": "dqn", "dueling": True},
    "dqn, 3 steps": {"loss": "dqn", "n_step": 3},
    "double": {"loss": "double"},
    "soft_q": {"loss": "soft_q"},
    "soft_q, single head": {"loss": "soft_q", "dueling": False},
    "soft_q, 3 steps": {"loss": "soft_q", "n_step": 3},
    "pcl": {"loss": "pcl"},
    "pcl, 3 steps": {"loss": "pcl", "n_step": 3},
    "munchausen": {"loss": "munchausen"},
    "hl_gauss": {"loss": "hl_gauss", "atoms": 41, "value_range": (-40.0, 0.0)},
    "c51": {"loss": "c51", "atoms": 41, "value_range": (-40.0, 0.0)},
    "quantile": {"loss": "quantile", "atoms": 41},
    "cross_entropy": {"loss": "cross_entropy"},
    "q_sft": {"loss": "q_sft"},
    "iq_learn": {"loss": "iq_learn"},
    "cql": {"loss": "cql"},
    "ilql": {"loss": "ilql", "rate": (0.1, 1e-4), "target_update_rate": 0.2},
    "pqn": {"loss": "pqn"},
    "trajectory_balance": {"loss": "trajectory_balance"},
    "trajectory_balance, variance": {"loss": "trajectory_balance", "learned_normaliser": False},
    "tbrm": {"loss": "tbrm"},
    "reval": {"loss": "reval"},
}
NEED_TEMPERATURE = ("munchausen", "cql", "trajectory_balance", "tbrm", "reval")
TEMPERATURES = (0.0, 0.5, 1.0)


def final_error(job: tuple[str, int, float, int]) -> float | None:
    """Distance from the fixed point after training; None if the rule is not defined at this temperature."""
    name, every, temperature, updates = job
    torch.set_num_threads(1)
    import gymnasium as gym

    import tokenlm  # noqa: F401
    from tokenlm.agents import DQN, Schedule
    from tokenlm.agents.dqn.rule_names import rule_class

    from fixed_points import AllTexts, distance, fixed_point, learned, solve

    settings = {**STEADY, **RULES[name]}
    for ignored in rule_class(settings["loss"]).ignores:
        settings.pop(ignored, None)
    rate = Schedule(*settings.pop("rate"), shape="exponential")
    if temperature == 0.0 and settings["loss"] in NEED_TEMPERATURE:
        return None
    texts = AllTexts(gym.make(ENVIRONMENT, reward_every=every).unwrapped.config)
    agent = DQN(
        texts.env_config, network="tabular", temperature=temperature, learning_rate=rate, max_grad_norm=None, **settings
    )
    reference = learned(agent, texts) if getattr(agent.config.rule, "reference", "none") == "start" else None
    solve(agent, texts, updates)
    error = distance(learned(agent, texts), fixed_point(agent.config, texts, temperature, reference))
    print(f"{name}, reward_every={every}, τ={temperature:g}: {error:.2g}", flush=True)
    return error


def main() -> None:
    """Train all rules in all settings."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES), metavar="NAME")
    parser.add_argument("--updates", type=int, default=2_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "rules.json")
    chosen = parser.parse_args()
    settings = [(every, tau) for every in (1, 0) for tau in TEMPERATURES]
    jobs = [(name, every, tau, chosen.updates) for name in chosen.rules for every, tau in settings]
    with multiprocessing.get_context("spawn").Pool(chosen.processes) as pool:
        errors = dict(zip(jobs, pool.map(final_error, jobs, chunksize=1), strict=True))
    rows = [
        {
            "rule": name,
            **{
                f"{'dense' if every else 'sparse'}, τ={tau:g}": errors[name, every, tau, chosen.updates]
                for every, tau in settings
            },
        }
        for name in chosen.rules
    ]
    if chosen.json.exists():
        known = {row["rule"]: row for row in rows_before(chosen.json)}
        known.update({row["rule"]: row for row in rows})
        rows = [known[name] for name in RULES if name in known]
    write_result(chosen.json, rows, environment=ENVIRONMENT, updates=chosen.updates, figure="max |Q - Q*|, nats")
    print_table([{name: _shown(value) for name, value in row.items()} for row in rows])


def _shown(value: Any) -> Any:
    return "-" if value is None else f"{value:.1e}" if isinstance(value, float) else value


if __name__ == "__main__":
    main()
