"""Language modelling by TD: held-out perplexity of all learning rules against wall-clock time.

    python benchmarks/language_modelling.py --data-dir FOLDER [--seconds 900] [--processes 2] [--json FILE]

FOLDER/songci contains train, valid and test texts. Tokens are characters, the target is their order-3 model, γ = 1. All
rules have the same network, batch and time, one thread each, two runs in parallel. Test perplexity is that of the
weights with the best validation perplexity, because maximum likelihood overfits within the time.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from measuring import in_pool
from record import print_table, rows_before, write_result

# A delayed reward covers the tokens after the prompt, but a state does not show where the prompt ended; so no prompts.
WHOLE_TEXTS = {"prompt_length": (0, 0), "max_new_tokens": 128, "context_length": 129}
RULES: dict[str, dict[str, Any]] = {
    "TD, reward every token": {"loss": "soft_q"},
    "maximum likelihood": {"loss": "cross_entropy"},
    "TD, reward at the end": {"loss": "soft_q", "reward_every": 0},
    "TD, reward at the end, redistributed": {"loss": "soft_q", "reward_every": 0, "redistribute": True},
    "TD, reward at the end, paths of 128": {
        "loss": "pcl",
        "n_step": 128,
        "network": {"value_scale": 50.0},
        "reward_every": 0,
        **WHOLE_TEXTS,
    },
    "IQ-learn": {"loss": "iq_learn"},
    "Q-SFT": {"loss": "q_sft"},
}
CHECKS = 18
CORPUS_SHARE = 0.8


def train(job: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Train one rule; returns its learning curve and test perplexity."""
    name, chosen = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, Schedule, score_text
    from tokenlm.envs import EnvConfig

    settings = {**RULES[name]}
    own = {name: settings.pop(name) for name in ("reward_every", *WHOLE_TEXTS) if name in settings}
    env = EnvConfig(corpus=str(chosen["data_dir"] / "songci"), tokenizer="char", order=3, **own)
    if settings["loss"] in ("soft_q", "pcl"):
        settings["corpus_share"] = CORPUS_SHARE
    agent = DQN(env, temperature=1.0, learning_rate=Schedule(4e-3, 1e-4), seed=chosen["seed"], **settings)
    curve: list[dict[str, Any]] = []
    best: dict[str, Any] = {"perplexity": float("inf")}

    def check(agent: DQN) -> bool:
        if agent.progress * CHECKS >= len(curve) + 1 or agent.progress >= 1.0:
            perplexity = score_text(agent, "valid", 300).perplexity or float("inf")
            value = agent.last_metrics.get("mean_value")
            curve.append({
                "seconds": round(agent.learning_seconds, 1),
                "perplexity": perplexity,
                "mean_value": None if value is None or settings["loss"] == "q_sft" else float(value),
                "transitions": agent.learner.transitions_trained,
            })  # fmt: skip
            if perplexity < best["perplexity"]:
                best.update(perplexity=perplexity, weights=copy.deepcopy(agent.policy_network.state_dict()))
            print(f"{name}: {curve[-1]}", flush=True)
        return True

    agent.learn(1 << 62, check, max_seconds=chosen["seconds"])
    agent.policy_network.load_state_dict(best["weights"])
    score = score_text(agent, "test")
    return {
        "rule": name,
        "test_perplexity": score.perplexity,
        "target_perplexity": score.target_perplexity,
        "valid_perplexity": best["perplexity"],
        "last_valid_perplexity": curve[-1]["perplexity"],
        "transitions_trained": agent.learner.transitions_trained,
        "curve": curve,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot perplexity and mean value over wall-clock time."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in rows:
        seconds = [p["seconds"] for p in row["curve"]]
        (line,) = left.plot(seconds, [p["perplexity"] for p in row["curve"]], label=row["rule"])
        values = [p["mean_value"] for p in row["curve"]]
        if values[-1] is not None:
            right.plot(seconds, values, color=line.get_color(), label=row["rule"])
    left.axhline(rows[0]["target_perplexity"], color="0.5", linestyle="--", linewidth=1, label="p* itself (test)")
    left.set(xlabel="seconds of training", ylabel="perplexity", yscale="log", title="Validation perplexity, songci")
    left.yaxis.set_major_formatter(ScalarFormatter())
    left.yaxis.set_minor_formatter(ScalarFormatter())
    right.axhline(0.0, color="0.5", linestyle="--", linewidth=1, label="bound of V under log-likelihood rewards")
    right.set(xlabel="seconds of training", ylabel="mean V of a batch (nats)", title="State values")
    right.set_yscale("symlog", linthresh=1.0)
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Train all rules, print the table, write the results and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900.0, help="of learning, for each rule")
    parser.add_argument("--processes", type=int, default=2, help="rules trained side by side, one thread each")
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=list(RULES), metavar="RULE")
    parser.add_argument("--seed", type=int, default=0)
    default = Path(__file__).parent / "results" / "language_modelling.json"
    parser.add_argument("--json", type=Path, default=default)
    chosen = parser.parse_args()
    jobs = [(name, vars(chosen)) for name in chosen.rules]
    rows, others = in_pool(train, jobs, chosen.processes)
    if chosen.json.exists():  # keep the rows of rules that were not trained in this run
        known = {r["rule"]: r for r in rows_before(chosen.json)}
        known.update({r["rule"]: r for r in rows})
        rows = [known[name] for name in RULES if name in known]
    likelihood = next((r["test_perplexity"] for r in rows if r["rule"] == "maximum likelihood"), None)
    for row in rows:
        row["ratio_to_maximum_likelihood"] = likelihood and row["test_perplexity"] / likelihood
    settings = {"seconds": chosen.seconds, "threads": 1, "processes": chosen.processes, "seed": chosen.seed,
                "corpus_share": CORPUS_SHARE, "others_cores": others}  # fmt: skip
    write_result(chosen.json, rows, **settings)
    plot(rows, chosen.json.with_suffix(".png"))
    print_table([{k: v for k, v in row.items() if k != "curve"} for row in rows])


if __name__ == "__main__":
    main()
