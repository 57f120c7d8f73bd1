"""The four tasks on real data: value learning and maximum likelihood, with equal networks and wall-clock time.

    python benchmarks/tasks.py --data-dir FOLDER [--seconds 120] [--seeds 2] [--datasets thucnews hotel …] [--json FILE]

FOLDER contains thucnews, hotel, tatoeba-en-zh, chat-zh and songci, each with train, valid and test files. All learners
have the same network and time, one thread each, two runs in parallel. Test results are those of the weights with the
best validation metric, because maximum likelihood overfits within the time. Results are means over seeds, and `sd` is
the standard deviation of the validation metric over seeds. Rows that are not run again stay in the file.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from measuring import in_pool
from record import print_table, rows_before, write_result

CHECKS = 12
VALIDATED = 2_000  # pairs per validation; files may be sorted, so that the first few would not be representative
VALIDATED_DOCUMENTS = 400
CLASSES: dict[str, Any] = {"task": "classification", "target": "reference", "tokenizer": "char"}
LABELLED: dict[str, Any] = {"figure": "accuracy", "agent": {"batch_size": 128}}
# The rows of a head over thousands of words need a higher learning rate, for all learners.
WORDED: dict[str, Any] = {"head_rate": 10.0}
DATASETS: dict[str, dict[str, Any]] = {
    "thucnews": {"env": {**CLASSES, "context_length": 40}, **LABELLED},
    "hotel": {"env": {**CLASSES, "context_length": 128}, **LABELLED},
    "tatoeba-en-zh": {
        "env": {
            "task": "translation", "target": "reference", "vocabularies": "separate", "min_count": 2,
            "context_length": 64, "max_new_tokens": 32,
        },
        "figure": "chrf", "network": {"name": "seq2seq_lstm"}, "agent": WORDED,
    },
    "tatoeba-zh-en, 3 words": {
        "env": {
            "task": "translation", "target": "reference", "vocabularies": "separate", "min_count": 2,
            "context_length": 64, "max_new_tokens": 3, "reverse": True,
        },
        "folder": "tatoeba-en-zh", "figure": "chrf", "network": {"name": "seq2seq_lstm"},
        "agent": WORDED | {"batch_size": 128},  # with minutes of training better for maximum likelihood, too
    },
    "chat-zh": {
        "env": {"task": "qa", "target": "reference", "tokenizer": "char", "context_length": 64, "max_new_tokens": 48},
        "figure": "token_f1", "network": {"name": "seq2seq_lstm"}, "agent": {},
    },
    "songci": {"env": {"tokenizer": "char", "order": 3}, "figure": "perplexity", "agent": WORDED},
}  # fmt: skip
SCORED = {"translation": "chrf", "qa": "f1"}  # score of a finished text; for labels it adds nothing to the likelihood
FIGURES = ("accuracy", "macro_f1", "bleu", "chrf", "exact_match", "token_f1", "perplexity", "distinct_2")
NETWORK = {"embedding_size": 128, "hidden_size": 256, "dropout": 0.3}
# With a small δ the loss is nearly |TD error|: an error of 10 nats at a wrong word does not weigh a hundred times as
# much as one of 1 nat, and a word of probability ½ still has full weight, as in maximum likelihood.
TD = {"loss": "soft_q", "corpus_share": 1.0, "huber_delta": 0.2}
# The stages of a learner share its time. `paid` is the reward of a perfect score of the finished text, in nats.
LEARNERS: dict[str, list[dict[str, Any]]] = {
    "maximum likelihood": [{"loss": "cross_entropy"}],
    "TD on log-likelihood": [TD],
    # One episode in fifty is the agent's own. With more of them, or a reward above about 2 nats, the policy soon
    # converges to a generic text that scores a little for every source.
    "TD, score paid": [TD | {"corpus_share": 0.98, "replay_ratio": 32.0, "paid": 2.0}],
    # Path consistency learning, initialised with the maximum-likelihood weights, on its own episodes only. The reward
    # is the score plus the log-likelihood under those weights, so the optimal policy is ∝ their policy · exp(score).
    # Without more dropout it overfits to the training references within a minute. Maximum likelihood gets worse with
    # more dropout, from the start or in the second stage.
    "maximum likelihood, then the score": [
        {"loss": "cross_entropy", "share": 0.7},
        {
            "share": 0.3, "paid": 30.0, "loss": "pcl", "n_step": 32, "corpus_share": 0.0, "epsilon": 0.0,
            "temperature": 1.0, "huber_delta": 3.0, "batch_size": 128, "num_envs": 128, "replay_ratio": 2.0,
            "replay_capacity": 200_000, "learning_rate": (5e-4, 1e-4), "head_rate": 3.0,
            "network": {"initial_value": 8.0, "value_scale": 10.0, "dropout": 0.5},
        },
    ],
}  # fmt: skip


def train(job: tuple[str, str, int, dict[str, Any]]) -> dict[str, Any]:
    """Train one learner on one data set with one seed; returns its validation curve and test results."""
    dataset, learner, seed, chosen = job
    torch.set_num_threads(1)
    from tokenlm.agents import DQN, evaluate
    from tokenlm.agents.evaluation.evaluate import score_text
    from tokenlm.agents.evaluation.tasks import task_figures
    from tokenlm.envs import EnvConfig, World

    given, stages = DATASETS[dataset], LEARNERS[learner]
    figure, own = given["figure"], dict(given["env"], corpus=str(chosen["data_dir"] / given.get("folder", dataset)))
    env = EnvConfig(**own)
    curve: list[dict[str, float]] = []
    best: dict[str, Any] = {"height": -float("inf")}

    def measured(agent: DQN, split: Any, limit: int | None) -> float:
        if figure == "perplexity":
            return score_text(agent, split, limit).perplexity or float("inf")
        return float(task_figures(agent, World.of(env), env, split, limit, 0)[figure])

    def check(agent: DQN) -> bool:
        done = before + share * agent.progress
        if done * CHECKS >= len(curve) + 1 or agent.progress >= 1.0:
            value = measured(agent, "valid", VALIDATED_DOCUMENTS if figure == "perplexity" else VALIDATED)
            curve.append({"seconds": round(done * chosen["seconds"], 1), figure: value})
            height = -value if figure == "perplexity" else value
            if height > best["height"]:
                best.update(height=height, weights=copy.deepcopy(agent.policy_network.state_dict()))
            print(f"{dataset}, {learner}, seed {seed}: {curve[-1]}", flush=True)
        return True

    trained, before = 0, 0.0
    with tempfile.TemporaryDirectory() as kept:
        for number, stage in enumerate(stages):
            settings = {"learning_rate": (4e-3, 1e-4), **given["agent"], **stage}
            share, paid = settings.pop("share", 1.0), settings.pop("paid", 0.0)
            world = own | ({"sequence_reward": SCORED[own["task"]], "sequence_weight": paid} if paid else {})
            if number:
                world |= {"target": "causal_lm", "target_model": kept}
                settings["start_from"] = kept
            agent = DQN(
                EnvConfig(**world), averaged=True, seed=seed,
                network={**NETWORK, **given.get("network", {}), **settings.pop("network", {})}, **settings,
            )  # fmt: skip
            agent.learn(1 << 62, check, max_seconds=share * chosen["seconds"])
            agent.policy_network.load_state_dict(best["weights"])
            before += share
            if number + 1 < len(stages):
                agent.save(kept)
            trained += agent.learner.transitions_trained
    found = evaluate(agent, env=env, split="test", episodes=256)
    return {
        "dataset": dataset, "learner": learner, "figure": figure,
        **{name: found.get(name) for name in FIGURES}, "transitions_trained": trained, "curve": curve,
    }  # fmt: skip


def over_seeds(runs: list[dict[str, Any]], seconds: float, others: float) -> dict[str, Any]:
    """The row of one learner on one data set, from its runs with all seeds."""

    def mean(name: str) -> float | None:
        values = [run[name] for run in runs if run[name] is not None]
        return statistics.fmean(values) if values else None

    reached = [run[run["figure"]] for run in runs]
    return {
        **{name: runs[0][name] for name in ("dataset", "learner", "figure")},
        **{name: mean(name) for name in FIGURES},
        "sd": statistics.stdev(reached) if len(reached) > 1 else None, "reached": reached,
        "seconds": seconds, "seeds": len(runs), "others_cores": others,
        "transitions_trained": mean("transitions_trained"), "curves": [run["curve"] for run in runs],
    }  # fmt: skip


def main() -> None:
    """Train all learners, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0, help="of learning, for each run")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=list(DATASETS), metavar="NAME")
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=list(LEARNERS), metavar="LEARNER")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each row; their seeds are 0, 1, …")
    parser.add_argument("--processes", type=int, default=2, help="runs trained side by side, one thread each")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "tasks.json")
    chosen = parser.parse_args()
    rows_wanted = [
        (dataset, learner)
        for dataset in chosen.datasets
        for learner in chosen.learners
        if DATASETS[dataset]["env"].get("task") in SCORED or not any("paid" in stage for stage in LEARNERS[learner])
    ]
    # Learners of one data set and seed run close together, because the speed of the machine varies over time.
    jobs = [
        (*wanted, seed, vars(chosen))
        for dataset in chosen.datasets
        for seed in range(chosen.seeds)
        for wanted in rows_wanted
        if wanted[0] == dataset
    ]
    found, others = in_pool(train, jobs, chosen.processes)
    runs = list(zip(jobs, found, strict=True))
    rows = [
        over_seeds([run for job, run in runs if job[:2] == wanted], chosen.seconds, others) for wanted in rows_wanted
    ]
    if chosen.json.exists():
        known = {(r["dataset"], r["learner"]): r for r in rows_before(chosen.json)}
        known.update({(r["dataset"], r["learner"]): r for r in rows})
        rows = [known[key] for key in ((d, n) for d in DATASETS for n in LEARNERS) if key in known]
    settings = {name: value for name, value in vars(chosen).items() if name not in ("json", "data_dir")}
    write_result(chosen.json, rows, threads=1, **settings)
    hidden = ("curves", "reached", "others_cores")
    print_table([{k: "-" if v is None else v for k, v in row.items() if k not in hidden} for row in rows])


if __name__ == "__main__":
    main()
