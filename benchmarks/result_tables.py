"""Tables of the committed results, for README.md and docs/; `tables.py` puts them there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from measuring import DISTURBED

HERE = Path(__file__).parent


def load(name: str) -> dict[str, Any]:
    """A committed result."""
    result: dict[str, Any] = json.loads((HERE / "results" / name).read_text(encoding="utf-8"))
    if "command" in result:  # the shell's way to write an apostrophe inside apostrophes cannot be read
        result["command"] = result["command"].replace("'\"'\"'", '"')
    return result


BEST_OF_QUICKSTART = " A best text, after `{prompt}`: `{text}`, {nats} nats."


def quickstart_table() -> str:
    """The final results of the quickstart run."""
    result = load("quickstart/result.json")
    summary, hardware = result["rows"][0], result["hardware"]
    likelihood, seconds = _baseline(result)
    constant = summary.get("constant_return")
    if constant is None:
        returns = _found(load("worlds.json"), id="TokenLM-v0")["returns"]
        constant = max(value for policy, value in returns.items() if "single token" in policy)
    lines = [
        "| | agent | p\\* | maximum likelihood | constant policy | best text |",
        "|---|---|---|---|---|---|",
        f"| held-out perplexity | {summary['perplexity']:.2f} | {summary['target_perplexity']:.2f} "
        f"| {likelihood:.2f} | | |",
        f"| seconds of learning | {summary['wall_seconds']:.0f} | | {seconds:.0f} | | |",
        f"| return of an episode, sampled (nats) | {summary['sampled_return']:.2f} | {summary['target_return']:.2f} "
        "| | | |",
        f"| return of an episode, greedy (nats) | {summary['greedy_return']:.2f} "
        f"| | | {constant:.2f} | {summary['optimal_return']:.2f} |",
        f"| regret at temperature 1 (nats) | {summary['regret']:.2f} | 0 | | | |",
        f"| score at temperature 1 | {summary['normalized_score']:.2f} | 1 | | | |",
        f"| score, greedy | {summary['greedy_score']:.2f} | | | | 1 |",
    ]
    share = summary["perplexity"] / summary["target_perplexity"]
    return "\n".join(lines) + (
        f"\n\nPerplexity {share:.2f} × that of p\\*, KL(π ‖ p\\*) {summary['kl_to_target']:.2f} nats a text, after "
        f"{summary['env_steps']:,} environment steps on {hardware['cores']} cores of {hardware['processor']} "
        f"(`{result['command']}`, seed {result['settings']['seed']}). The best constant text is only "
        f"{summary['optimal_return'] - constant:.1f} nats short of the best text, for short texts have few factors: "
        "look at perplexity and KL first. A score of 0 is that of the best trivial policy, whose regret at temperature "
        f"1 is {summary['trivial_regret']:.2f} nats." + best_text("TokenLM-v0", BEST_OF_QUICKSTART)
    )


def _baseline(result: dict[str, Any]) -> tuple[float, float]:
    """Perplexity and seconds of maximum likelihood in the quickstart."""
    summary = result["rows"][0]
    if baseline := summary.get("baseline"):
        return baseline["perplexity"], baseline["wall_seconds"]
    return summary["baseline_perplexity"], result["settings"]["baseline"][-1]["wall_seconds"]


def rules_table() -> str:
    """Each rule, its description, and its distance from the fixed point."""
    result = load("rules.json")
    names = [name for name in result["rows"][0] if name != "rule"]
    lines = ["| rule | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in result["rows"]:
        cells = ["-" if row[n] is None else f"{row[n]:.0e}" for n in names]
        lines.append(f"| {row['rule']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n(`{result['command']}`; a dash where the rule is not defined.)"


def markov_table() -> str:
    """The results of `markov.py`: one table for each class, and the ablations."""
    result = load("markov.json")
    names = ["seeds", "score, median", "lowest", "seconds", "env steps", "distinct tokens"]
    groups = {
        "With the corpus (half of every batch are texts sampled from p\\*):": [],
        "From rewards alone:": [],
        "From rewards alone, dense, with one thing changed:": [],
    }  # fmt: skip
    with_corpus, alone, changed = groups.values()
    for row in result["rows"]:
        group = changed if row["changed"] != "-" else with_corpus if "with the corpus" in row["class"] else alone
        label = row["changed"] if group is changed else row["class"].split(",")[0]
        cells = [f"{row[n]:.3f}" if isinstance(row[n], float) and n != "seconds" else f"{row[n]:,.0f}" for n in names]
        group.append(f"| {label} | " + " | ".join(cells) + " |")
    head = "| reward | " + " | ".join(names) + " |\n" + "|---" * (len(names) + 1) + "|"
    tables = "\n\n".join("\n".join([title, "", head, *lines]) for title, lines in groups.items() if lines)
    text = (
        "Score of the greedy text, exact: 0 is the best trivial policy, 1 the optimum; a collapse would show as one "
        "distinct token of 16. Seconds are those of learning"
    )
    return tables + source(result, text)


def language_modelling_table() -> str:
    """Perplexities of all rules after equal time."""
    result = load("language_modelling.json")
    lines = ["| rule | test perplexity | × maximum likelihood | transitions |", "|---|---|---|---|"]
    for row in result["rows"]:
        lines.append(
            f"| {row['rule']} | {row['test_perplexity']:.1f} | {row['ratio_to_maximum_likelihood']:.2f} "
            f"| {row['transitions_trained']:,} |"
        )
    itself, seconds = result["rows"][0]["target_perplexity"], result["settings"]["seconds"]
    return "\n".join(lines) + source(result, f"p\\* itself: {itself:.1f}. {seconds:.0f} s of learning each")


def environment_table() -> str:
    """Environment steps per second, compared with Gymnasium's vector environments and the copy."""
    result = load("environment.json")
    worlds = list(dict.fromkeys(row["world"] for row in result["rows"]))
    sizes = [n for n in dict.fromkeys(row["num_envs"] for row in result["rows"]) if n in (1, 64, 1024, 16384)]
    lines = [
        "| world | environment | " + " | ".join(f"{n:,} at once" for n in sizes) + " |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for world in worlds:
        for name in dict.fromkeys(row["environment"] for row in result["rows"]):
            cells = []
            for size in sizes:
                row = _find(result, world=world, environment=name, num_envs=size)
                ratio = row and row["of SyncVectorEnv"]
                cells.append(
                    "-" if row is None else _thousands(row["steps/s"]) + (f" ({_ratio(ratio)} ×)" if ratio else "")
                )
            if any(cell != "-" for cell in cells):
                lines.append(f"| {world} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + source(result, "Steps a second; × of SyncVectorEnv at the same size; `copy` is the limit")


def learner_table() -> str:
    """Transitions per second, LSTM, T = 32, compared with stable-baselines3 with its default batch."""
    result = load("learner.json")
    rows = [row for row in result["rows"] if row["network"] == "lstm" and row["T"] == 32]
    sizes = list(dict.fromkeys(row["V"] for row in rows))
    lines = ["| learner | batch | " + " | ".join(f"V = {v:,}" for v in sizes) + f" | MiB at V = {sizes[-1]:,} |",
             "|---" * (len(sizes) + 3) + "|"]  # fmt: skip
    for name, large in dict.fromkeys((row["learner"], row["batch"] > 32) for row in rows):
        group = {row["V"]: row for row in rows if (row["learner"], row["batch"] > 32) == (name, large)}
        batches = sorted({row["batch"] for row in group.values()})
        cells = []
        for size in sizes:
            row = group.get(size)
            rate, ratio = (row["transitions/s"], row["× SB3, batch 32"]) if row else (None, None)
            cells.append("-" if not rate else _thousands(rate) + (f" ({_ratio(ratio)} ×)" if ratio else ""))
        memory = group[sizes[-1]]["update MiB"] if sizes[-1] in group else None
        label = f"{batches[0]:,}" if len(batches) == 1 else f"{batches[0]:,} to {batches[-1]:,}"
        lines.append(f"| {name} | {label} | " + " | ".join(cells) + (f" | {memory:,.0f} |" if memory else " | - |"))
    text = (
        "Transitions a second (× stable-baselines3 with its own batch of 32), LSTM 128→256, T = 32; "
        "last: memory of an update"
    )
    return "\n".join(lines) + source(result, text)


def end_to_end_table() -> str:
    """Environment steps per second of training."""
    result = load("end_to_end.json")
    sizes = list(dict.fromkeys(row["asked V"] for row in result["rows"]))
    lines = [
        "| acting and learning | " + " | ".join(f"V = {v:,}" for v in sizes) + " |",
        "|---" * (len(sizes) + 1) + "|",
    ]
    for name in dict.fromkeys(row["learner"] for row in result["rows"]):
        cells = []
        for size in sizes:
            row = _find(result, learner=name, **{"asked V": size})
            known = row and row["env steps/s"]
            cells.append(
                f"{row['env steps/s']:,.0f} ({_ratio(row['× SB3, 1 environment'])} ×)" if row and known else "-"
            )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    ratio = result["settings"]["replay_ratio"]
    return "\n".join(lines) + source(result, f"Environment steps a second at {ratio:g} transitions trained for each")


def scaling_table() -> str:
    """Fraction of the roofline that an update reaches, against the vocabulary size."""
    result = load("scaling.json")
    rows = [row for row in result["rows"] if (row["T"], row["batch"]) == (32, 32)]
    sizes = sorted({row["V"] for row in rows})
    lines = ["| network | update | " + " | ".join(f"V = {v:,}" for v in sizes) + " |", "|---" * (len(sizes) + 2) + "|"]
    for network, update in dict.fromkeys((row["network"], row["update"]) for row in rows):
        found = [next(r for r in rows if (r["network"], r["update"], r["V"]) == (network, update, v)) for v in sizes]
        cells = [f"{_thousands(r['transitions/s'])} ({100 * r['of the roofline']:.0f} %)" for r in found]
        lines.append(f"| {network} | {update} | " + " | ".join(cells) + " |")
    ceiling, copy = result["settings"]["ceilings"]["float32"] / 1e9, result["settings"]["ceilings"]["copy"] / 1e9
    text = f"Transitions a second (of the roofline: {ceiling:,.0f} GFLOP/s of a product, {copy:,.0f} GB/s of a copy)"
    return "\n".join(lines) + source(result, text)


def acting_table() -> str:
    """Tokens per second against the length of the prefix."""
    result = load("acting.json")
    rows = [row for row in result["rows"] if "prefix" in row]
    prefixes = list(dict.fromkeys(row["prefix"] for row in rows))
    lines = ["| network | texts at once | " + " | ".join(f"after {p:,}" for p in prefixes) + " |",
             "|---" * (len(prefixes) + 2) + "|"]  # fmt: skip
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows):
        found = [_find(result, network=network, batch=batch, prefix=p) or {} for p in prefixes]
        cells = [f"{_thousands(r['tokens/s, incremental'])} ({_ratio(r['ratio'])} ×)" for r in found]
        lines.append(f"| {network} | {batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + source(result, "Tokens a second (× reading the prefix again for each)")


_BESIDE = {"perplexity": ("distinct_2",), "chrf": ("bleu",)}  # metrics shown together with another


def pair_defaults_table() -> str:
    """What the shipped configurations for pairs reach, beside variants of them, one row for each data."""
    result = load("pair_defaults.json")
    lines = [
        "| data, configuration | figure | as shipped | variants | maximum likelihood alone |",
        "|---|---|---|---|---|",
    ]
    for data in dict.fromkeys(row["data"] for row in result["rows"]):
        rows = {row["variant"]: row for row in result["rows"] if row["data"] == data}
        shipped, alone = rows.pop("as shipped"), rows.pop("maximum likelihood alone")
        others = ", ".join(f"{name} {row['test']:.3g}" for name, row in rows.items())
        lines.append(
            f"| {data}, `{shipped['configuration']}` | {shipped['figure']} | {shipped['test']:.3g} | {others} "
            f"| {alone['test']:.3g} |"
        )
    settings = result["settings"]
    how = f"Test pairs, at most 1,000, means over {len(settings['seed'])} seeds"
    return "\n".join(lines) + source(result, f"{how} after {settings['seconds']:.0f} s of learning each")


def credit_table() -> str:
    """Bias and noise of advantages by how often the reward comes; those of rules at the optimum stand below."""
    result = load("credit.json")
    timings = {1: "every token", 4: "every four tokens", 0: "at the end"}
    lines = [f"| paid | {' | '.join(timings.values())} |", "|---" * (len(timings) + 1) + "|"]
    for name in dict.fromkeys(row["estimator"] for row in result["rows"]):
        rows = [_found(result, estimator=name, reward_every=every) for every in timings]
        cells = [f"{row['bias']:.2f}, {row['noise']:.2f}" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    settings = result["settings"]
    how = f"Bias, noise. {len(settings['seed'])} runs of {settings['texts']:,} texts each, {settings['pairs']} pairs"
    return "\n".join(lines) + source(result, f"{how} of prefix and action")


def tasks_table() -> str:
    """Results of all tasks on real data, compared with maximum likelihood on the same network."""
    result = load("tasks.json")
    learners = list(dict.fromkeys(row["learner"] for row in result["rows"]))
    lines = ["| data | figure | " + " | ".join(learners) + " |", "|---" * (len(learners) + 2) + "|"]
    for dataset, figure in dict.fromkeys((row["dataset"], row["figure"]) for row in result["rows"]):
        rows = [_find(result, dataset=dataset, learner=name) for name in learners]
        first = next(row for row in rows if row)
        for shown in (figure, *_BESIDE.get(figure, ())):
            if not all(row[shown] for row in rows if row):  # BLEU is 0 for texts shorter than four words
                continue
            cells = ["-" if row is None else _with_spread(row, shown) for row in rows]
            what = f"{dataset}, {first['seconds']:g} s, {first['seeds']} seeds"
            lines.append(f"| {what} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + source(result, "Test sets, means over seeds ± their standard deviation")


def _with_spread(row: dict[str, Any], shown: str) -> str:
    spread = f" ± {row['sd']:.2g}" if shown == row["figure"] and row["sd"] is not None else ""
    return f"{row[shown]:#.3g}".rstrip(".") + spread


def long_text_table() -> str:
    """Memory and rate of an update against the length of the text."""
    result = load("long_text.json")
    lengths = list(dict.fromkeys(row["T"] for row in result["rows"]))
    lines = ["| network | " + " | ".join(f"T = {t:,}" for t in lengths) + " |", "|---" * (len(lengths) + 1) + "|"]
    for network in dict.fromkeys(row["network"] for row in result["rows"]):
        found = [_find(result, network=network, T=t) or {} for t in lengths]
        cells = [
            f"{r['peak MiB']:,.0f} ({_thousands(r['transitions/s'])})" if r.get("peak MiB") else "-" for r in found
        ]
        lines.append(f"| {network} | " + " | ".join(cells) + " |")
    batch = result["rows"][0]["batch"]
    return "\n".join(lines) + source(result, f"MiB of an update on {batch} texts (transitions a second)")


def quickstart_texts() -> str:
    """Texts before and after the quickstart's training."""
    return f"```text\n{(HERE / 'results/quickstart/samples.txt').read_text(encoding='utf-8').strip()}\n```"


def why_lines() -> str:
    """Where a DQN is worth it and where not, in five lines with their figures."""
    tasks, rules, quickstart = load("tasks.json"), load("language_modelling.json"), load("quickstart/result.json")
    ours, (likelihood, _) = quickstart["rows"][0], _baseline(quickstart)
    words = "tatoeba-zh-en, 3 words"
    level = [_of_learners(tasks, name, "accuracy") for name in ("thucnews", "hotel")]
    score = _of_learners(tasks, words, "chrf", td="maximum likelihood, then the score")
    equal, both = load("equal_time.json"), ("maximum likelihood", "TD")
    stopped, verse, lyrics = (
        [_found(equal, corpus=name, learner=each)["test"] for each in both] for name in ("zh", "jueju", "songci")
    )
    seconds = f"{equal['settings']['seconds']:.0f} s"
    verse.append(_found(equal, corpus="jueju", learner="TD")["p*"])
    late = next(row for row in rules["rows"] if row["rule"] == "TD, reward at the end")

    def short(name: str) -> str:
        return f"{sum(world['regret'] for world in _board(name)['worlds']) / len(_board(name)['worlds']):.1f}"

    race = load("race-markov.json")
    markov = race["settings"]

    def raced(entry: str) -> str:
        return f"{_found(race, entry=entry)['steps']['regret'][0]:.1f}"

    paid = _found(tasks, dataset=words)
    return "\n".join(
        [
            f"- **Level with maximum likelihood** on short targets, after the same time: headlines "
            f"{level[0][1]:.3f} accuracy against {level[0][0]:.3f}, hotel reviews {level[1][1]:.3f} against "
            f"{level[1][0]:.3f} (364 test texts: noise).",
            f"- **Level, too, where a score of the whole text is the goal**: translations of three words have "
            f"{score[1]:.1f} chrF against {score[0]:.1f} after {paid['seconds']:.0f} s, with {paid['seeds']} seeds, "
            "from the weights of maximum likelihood. It was ahead only where far more was learned.",
            "- **Planning from rewards alone**, which likelihood cannot do, with a learned model of the rewards rather "
            "than with a DQN. In worlds whose structure no table covers it ends "
            f"{short('factored-reward-model')} nats short of the best text after "
            f"{_board('factored-reward-model')['total_steps']:,} steps, the best single text for all prompts "
            f"{short('factored-same-text')}, a table of token pairs {short('factored-table')}, GRPO "
            f"{short('factored-grpo')}, our DQN {short('factored-dqn-centred')}. On a Markov chain, which a table "
            f"covers, the learned model ends {raced('reward model with planning')} nats short after "
            f"{markov['total_steps']:,} steps, the table {raced('table with optimism')}, not told apart, our DQN "
            f"{raced('TokenLM soft DQN')}. (Five worlds each: means, on chains interquartile.)",
            "- **On long texts the reward must come often**: paid for every character, lyrics have perplexity "
            f"{lyrics[1]:.0f} against {lyrics[0]:.0f} of maximum likelihood after {seconds}; paid at the "
            f"end only, {late['ratio_to_maximum_likelihood']:.1f} times that of maximum likelihood after "
            f"{rules['settings']['seconds']:.0f} s.",
            "- **It learns p\\*, not the text.** That guards against overfitting: the quickstart has perplexity "
            f"{ours['perplexity']:.2f} after {ours['wall_seconds']:.0f} s, maximum likelihood {likelihood:.2f}, p\\* "
            f"itself {ours['target_perplexity']:.2f}. Stopped at its best validation perplexity, maximum likelihood "
            f"has {stopped[0]:.2f} and TD {stopped[1]:.2f} after {seconds} of that corpus. "
            f"It is also the limit: quatrains {verse[1]:.0f} against {verse[0]:.0f} (p\\* has {verse[2]:.0f}). If all "
            "you want is a language model, use likelihood.",
        ]
    )


def _of_learners(
    result: dict[str, Any], dataset: str, figure: str, td: str = "TD on log-likelihood"
) -> tuple[float, float]:
    """A figure of maximum likelihood and of `td`."""
    likelihood, ours = (_found(result, dataset=dataset, learner=name)[figure] for name in ("maximum likelihood", td))
    return likelihood, ours


def _board(name: str) -> dict[str, Any]:
    """A row of the board."""
    return load(f"board/{name}.json")


def equal_time_table() -> str:
    """TD and maximum likelihood in equal time on several corpora."""
    result = load("equal_time.json")
    names = list(dict.fromkeys(name for row in result["rows"] for name in row))
    lines = ["| " + " | ".join(_escaped(n) for n in names) + " |", "|---" * len(names) + "|"]
    lines += ["| " + " | ".join(str(row.get(n, "-")) for n in names) + " |" for row in result["rows"]]
    seeds = len(result["settings"]["seed"])
    text = (
        f"Validation perplexity while learning, then that of test documents; means over {seeds} seeds, one thread a run"
    )
    return "\n".join(lines) + source(result, text)


def _escaped(name: str) -> str:
    return name.replace("*", "\\*")


def faults_table() -> str:
    """Faults tried on a small run, and how many it survived."""
    result = load("faults.json")
    kinds = {
        "a call to the file system fails (chmod, fsync, mkdir, open, rename, truncate, unlink, write)": " fails",
        "the process is killed before or in the middle of such a call": " killed",
        "the process is killed at a random moment": "killed at a random moment",
        "a file is damaged, then `train`, `evaluate` or `generate`": "damaged file",
    }
    lines = ["| fault | tried | survived |", "|---|---|---|"]
    counted = dict.fromkeys(kinds, (0, 0))
    for row in result["rows"]:
        kind = next((k for k, part in reversed(kinds.items()) if part in row["fault"]), None)
        if kind is not None:
            counted[kind] = (counted[kind][0] + row["tried"], counted[kind][1] + row["survived"])
    lines += [f"| {kind} | {tried:,} | {survived:,} |" for kind, (tried, survived) in counted.items()]
    every = result["rows"][-1]
    lines.append(f"| all | {every['tried']:,} | {every['survived']:,} |")
    return "\n".join(lines) + f"\n\n(`{result['command']}`)"


def side_by_side_table() -> str:
    """Trainings side by side, by how idle threads wait."""
    result = load("side_by_side.json")
    told = f"Transitions a second of each training. Load of the machine before: {result['settings']['load_before']:.2f}"
    return f"{_all_rows(result)}\n\n{told}. (`{result['command']}`)"


def fuzz_table() -> str:
    """Inputs tried on every parser of files, and crashes."""
    result = load("fuzz.json")
    lines = ["| parser | seconds | inputs | crashes |", "|---|---|---|---|"]
    names = ("seconds", "inputs", "crashes")
    lines += [f"| {row['parser']} | " + " | ".join(f"{row[n]:,}" for n in names) + " |" for row in result["rows"]]
    total = (sum(row[name] for row in result["rows"]) for name in names)
    lines.append("| all | " + " | ".join(f"{value:,}" for value in total) + " |")
    return "\n".join(lines) + f"\n\n(`{result['command']}`)"


def kneser_ney_table() -> str:
    """The n-gram target on WikiText-2."""
    result = load("kneser_ney.json")
    names = [name for name in result["rows"][0] if name != "order"]
    lines = ["| order | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in result["rows"]:
        cells = [f"{row[n]:,.0f}" if row[n] > 1_000 else f"{row[n]:.3g}" for n in names]
        lines.append(f"| {row['order']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + source(result, f"WikiText-2, {result['settings']['vocabulary']:,} words")


_SHOWN_IN_ALL = re.compile(r"table|beam")  # policies that the table of all ids leaves out


def worlds_table(name: str = "") -> str:
    """Returns of reference policies in every environment with an id, or in one, there with scores and texts."""
    result = load("worlds.json")
    rows = [row for row in result["rows"] if not name or row["id"] == name]
    if not rows:
        raise FileNotFoundError(f"{name} was not measured")
    policies = list(dict.fromkeys(policy for row in rows for policy in row["returns"]))
    if name:
        [row], known = rows, rows[0].get("scores") or {}
        scores = {policy: score for policy, score in known.items() if score is not None}
        why = " No score is shown: the best trivial policy is the optimum here." if known and not scores else ""
        head = ["policy", "return of an episode, nats", *(["score"] if scores else [])]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for policy in policies:
            cells = [policy, _nats(row["returns"][policy]), *([_nats(scores[policy])] if scores else [])]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + f"\n\n{row['note']}{why} (`{result['command']}`){_beside_best(row)}"
    policies = [policy for policy in policies if not _SHOWN_IN_ALL.search(policy)]
    lines = ["| id | " + " | ".join(policies) + " |", "|---" * (len(policies) + 1) + "|"]
    for row in rows:
        lines.append(f"| `{row['id']}` | " + " | ".join(_nats(row["returns"].get(p)) for p in policies) + " |")
    return "\n".join(lines) + f"\n\nReturns of an episode, nats (`{result['command']}`)."


def _beside_best(row: dict[str, Any]) -> str:
    """What the best text looks like, beside the greedy one."""
    if not (texts := row.get("texts")):
        return ""
    after = f"After `{texts['prompt']}` the" if texts["prompt"] else "The"
    best, greedy = texts["best"], texts["greedy"]
    return (
        f"\n\n{after} best text is `{best['text']}` ({_nats(best['return'])} nats), the likeliest next token again and "
        f"again gives `{greedy['text']}` ({_nats(greedy['return'])} nats)."
    )


def best_text(name: str, words: str) -> str:
    """A sentence with the best text after a prompt in the environment `name`, to stand below a table of scores.

    Args:
        name: an id.
        words: with {prompt}, {text} and {nats}.
    """
    row = _find(load("worlds.json"), id=name)
    if not row or not (texts := row.get("texts")):
        return ""
    best = texts["best"]
    return words.format(prompt=texts["prompt"] or "<bos>", text=best["text"], nats=_nats(best["return"]))


_TRIVIAL = {
    "random": "uniform random",
    "constant": "the best single token, always",
    "unigram_sampled": "by word frequency, sampled",
    "unigram_greedy": "by word frequency, greedy",
}


def teacher_table() -> str:
    """Regret and score of policies at temperature 1 under each teacher."""
    result = load("teacher.json")
    seeds = list(dict.fromkeys(row["seed"] for row in result["rows"]))
    lines = [
        "| policy | " + " | ".join(f"regret, seed {seed}" for seed in seeds) + " | score, mean | seconds |",
        "|---" * (len(seeds) + 3) + "|",
    ]
    for policy in dict.fromkeys(row["policy"] for row in result["rows"]):
        rows = [_find(result, seed=seed, policy=policy) for seed in seeds]
        found = [row for row in rows if row]
        cells = ["-" if row is None else f"{max(row['regret'], 0.0):.1f} ± {_half(row):.1f}" for row in rows]
        score = sum(row["score"] for row in found) / len(found)
        seconds = f"{sum(row['seconds'] for row in found) / len(found):.0f}" if found[0]["transitions"] else ""
        name = _escaped(_TRIVIAL.get(policy, policy))
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {score:.2f} | {seconds} |")
    steps, episodes = result["settings"]["steps"], result["settings"]["episodes"]
    return "\n".join(lines) + source(
        result,
        f"Soft regret at temperature 1, KL(π ‖ p\\*), nats a text, ± half of its 95 % interval over {episodes} texts. "
        f"{steps:,} environment steps each; seconds are processor time of one thread",
    )


def _half(row: dict[str, Any]) -> float:
    low, high = row["regret_ci"]
    return float(high - low) / 2


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:,.2f}"  # no -0.00


_FORM_WORLDS = {"built in": "the built-in corpus", "Tang": "the Tang (五言绝句 of chinese-poetry, MIT)"}
_FORM_SHOWN = 2  # prompts
_SAME_TEXT = "the same text for all prompts"


def _soft_cell(value: Any) -> str:
    return f"{value[0]:.2f} ± {value[1]:.2f}" if isinstance(value, list) else f"{value:.2f}"


_FACTORED = {
    **_TRIVIAL,
    "optimum": "optimum",
    "beam_10": "beam 10 under p\\*",
    "greedy": "greedy under p\\*",
    "p_star": "p\\* sampled",
    "same_text": "the same text for all prompts",
}


def factored_table(file: str = "factored.json") -> str:
    """What references and learners reach in `TokenLM-Factored-v0` or its sparse twin, over racing worlds."""
    result = load(file)
    lines = [
        "| policy | return, nats | score | score, constants at 0 | worlds | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for policy in dict.fromkeys(row["policy"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["policy"] == policy]
        cells = [_mean_and_range([row[name] for row in rows], digits) for name, digits in _FACTORED_FIGURES.items()]
        seconds = [row["seconds"] for row in rows if row["seconds"] is not None]
        spent = f"{sum(seconds) / len(seconds):.0f}" if seconds else ""
        lines.append(f"| {_FACTORED.get(policy, policy)} | {' | '.join(cells)} | {len(rows)} | {spent} |")
    words = [row["distinct_tokens"] for row in result["rows"] if row.get("distinct_tokens") is not None]
    text = (
        "Means over worlds, in brackets lowest and highest. Learners: one seed a world, defaults, "
        f"{result['settings']['steps']:,} environment steps{_of_documents(result)}; greedy texts on "
        f"{result['settings']['episodes']} prompts "
        "of the test split, seconds of the processor. The score is 0 for the best trivial policy, "
        f"the same text for all prompts. Best texts have {sum(words) / len(words):.1f} distinct tokens of 16"
    )
    return "\n".join(lines) + source(result, text)


def _of_documents(result: dict[str, Any]) -> str:
    """How much of the corpus those learners have that learn from it."""
    trained = {name: f"{result['settings'].get(name) or 0:,}" for name in ("likelihood_tokens", "pretrained")}
    likelihood = f"{trained['likelihood_tokens']} tokens of the documents for maximum likelihood"
    both = any(row["policy"].endswith("corpus") for row in result["rows"])
    return f", or {likelihood}" + (f", {trained['pretrained']} of them first for corpus" if both else "")


def factored_soft_table() -> str:
    """What references and entries reach in `TokenLM-Factored-v0` at τ = ½, from the race at that temperature."""
    result = load("race-factored-soft.json")
    settings = result["settings"]
    lines = ["| policy | score | soft regret, nats |", "|---|---|---|"]
    for name, row in settings["references"].items():
        if row.get("score") is not None:
            lines.append(f"| {_escaped(name)} | {_nats(row['score'])} | {row['regret']:.1f} |")
    for row in result["rows"]:
        score, regret = (row[settings["legs"][0]].get(figure) or [None] for figure in ("score", "regret"))
        if score[0] is not None and regret[0] is not None:
            spread = f" ({score[1]:.2f} to {score[2]:.2f})" if len(score) > 2 else ""
            lines.append(f"| {_escaped(row['entry'])} | {score[0]:.2f}{spread} | {regret[0]:.1f} |")
    worlds, steps = len(settings["worlds"]), settings["total_steps"]
    text = (
        f"At τ = ½, where no single text is optimal: E[return] + ½·entropy. Means over {worlds} racing worlds, of "
        f"entries interquartile with their 95 % interval, after {steps:,} environment steps"
    )
    return "\n".join(lines) + source(result, text)


def factored_same_text() -> str:
    """How far one text for all prompts comes in the ten racing worlds, with constants at 0."""
    result = load("factored_ten.json")
    rows = {row["world"]: row["constants"] for row in result["rows"] if row["policy"] == "same_text"}
    above, mean = [str(world) for world, score in rows.items() if score > 0.5], sum(rows.values()) / len(rows)
    half = f"above one half in the worlds {', '.join(above)}" if above else "nowhere above one half"
    return (
        "The second score, with the best constant or unigram policy at 0, shows how far one text for all prompts "
        f"comes: {mean:.2f} ({min(rows.values()):.2f} to {max(rows.values()):.2f}) over the {len(rows)} racing worlds, "
        f"{half} (`{result['command']}`)."
    )


def outside_table() -> str:
    """Scores of the scripts in agents/examples/outside."""
    result = load("outside.json")
    ids = list(dict.fromkeys(row["id"] for row in result["rows"]))
    lines = ["| script | version | " + " | ".join(f"`{name}`" for name in ids) + " |", "|---" * (len(ids) + 2) + "|"]
    for library in dict.fromkeys(row["library"] for row in result["rows"]):
        rows = [_find(result, library=library, id=name) for name in ids]
        version = next(row["version"] for row in rows if row)
        cells = [_nats(row and row["score"]) for row in rows]
        lines.append(f"| `{library}_dqn.py` | {version} | {' | '.join(cells)} |")
    steps = result["rows"][0]["steps"]
    text = f"Normalised score of the greedy text after {steps:,} steps, one run in world 0; settings hardly tuned"
    return "\n".join(lines) + source(result, text)


_FACTORED_FIGURES = {"return": 1, "score": 2, "constants": 2}


def _mean_and_range(values: list[float], digits: int) -> str:
    spread = f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""
    return f"{sum(values) / len(values):.{digits}f}{spread}"


def form_table() -> str:
    """What policies write under the form `jueju5` after the same two lines, in every world."""
    result = load("form.json")
    lines: list[str] = []
    for row in result["rows"]:
        given, half = [text[:12] for text in row["given"][:_FORM_SHOWN]], row["soft"][0]
        count = row["policies"][0]["prompts"]
        trivial, best = (_found({"rows": row["policies"]}, policy=name)["return"] for name in (_SAME_TEXT, "optimum"))
        lines += [
            f"After the first two lines of {count} held-out quatrains of {_FORM_WORLDS[row['world']]}, "
            f"{row['tokens']:,} tokens:",
            "",
            "| policy | return | score | rhymes | soft regret at τ = ½ | " + " | ".join(given) + " |",
            "|---" * (5 + len(given)) + "|",
        ]
        for policy in row["policies"]:
            regret = "" if policy["soft_regret"] is None else f"{policy['soft_regret']:.2f}"
            name, single = policy["policy"].replace("*", "\\*"), policy.get("return of seeds", [policy["return"]])
            reached = _mean_and_range(single, 2)
            score = _mean_and_range([(value - trivial) / (best - trivial) for value in single], 2)
            cells = [name, reached, score, f"{policy['rhymes']:.2f}", regret, *policy["texts"][:_FORM_SHOWN]]
            lines.append(f"| {' | '.join(cells)} |")
        drawn = ["best there is at τ = ½, drawn", "", "", "", "0", *half["best there is"][:_FORM_SHOWN]]
        lines += [f"| {' | '.join(drawn)} |", ""]
        lines += ["| soft return, nats | " + " | ".join(f"τ = {soft['temperature']:g}" for soft in row["soft"]) + " |"]
        lines.append("|---" * (1 + len(row["soft"])) + "|")
        for name in (name for name in row["soft"][0] if name not in ("temperature", "best there is")):
            lines.append(f"| {_escaped(name)} | " + " | ".join(_soft_cell(soft[name]) for soft in row["soft"]) + " |")
        lines.append("")
    steps, pretrained = (result["settings"][name] for name in ("steps", "pretrained"))
    most = max(len(policy.get("return of seeds", ())) for row in result["rows"] for policy in row["policies"])
    several = f"Means of {most} runs, the lowest and highest in brackets; one run where there are none"
    runs = "One run each" if most == 1 else several
    note = (
        "Returns in nats a text, exact; the score is 0 for the same text for all prompts, the best trivial policy, and "
        "1 for the optimum. Sharpened policies are sampled, ± their standard error. "
        f"Learners write their greedy text. They have {steps:,} steps, or none and {pretrained:,} tokens of the "
        f"corpus, read again and again. {runs}."
    )
    return "\n".join([*lines, f"{note} (`{result['command']}`)"])


def tuning_table() -> str:
    """What one setting changes, the others being the quickstart's."""
    result = load("tuning.json")
    table = _all_rows(result) + source(result, result["settings"].get("caption", "Held-out perplexity"))
    drawn = (HERE / "results" / "tuning.png").exists()
    return table + ("\n\n![Curves](../../benchmarks/results/tuning.png)" if drawn else "")


_IN_CHINESE = {
    "world": "环境",
    "layout": "结构",
    "weights": "权重个数",
    "perplexity": "困惑度",
    "KL(π ‖ p*), nats a text": "KL(π ‖ p*)，nat",
    "transitions a second": "每秒转移数",
    "KL of all seeds": "各种子的 KL",
    "gpt, embedding 0.1": "gpt，词向量标准差 0.1",
}


def layouts_table(chinese: bool = False) -> str:
    """The Transformer's layouts beside each other."""
    result = load("layouts.json")
    steps, seeds = result["settings"]["steps"], result["settings"]["seeds"]
    if chinese:
        told = f"各 {steps:,} 个环境步，{seeds} 个种子的中位数；速度按处理器时间算，单线程"
        return _all_rows(result, _IN_CHINESE) + f"\n\n{told}。（`{result['command']}`）"
    told = f"Medians of {seeds} seeds after {steps:,} environment steps; speed in seconds of the processor, one thread"
    return _all_rows(result) + source(result, told)


def _all_rows(result: dict[str, Any], words: dict[str, str] | None = None) -> str:
    """A result's rows as they are, in other words where there are some."""
    names, words = list(result["rows"][0]), words or {}
    lines = ["| " + " | ".join(words.get(name, name) for name in names) + " |", "|---" * len(names) + "|"]
    for row in result["rows"]:
        cells = [_cell(row[name]) for name in names]
        lines.append("| " + " | ".join(words.get(cell, cell) for cell in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _find(result: dict[str, Any], **wanted: Any) -> dict[str, Any] | None:
    return next((row for row in result["rows"] if all(row.get(k) == v for k, v in wanted.items())), None)


def _found(result: dict[str, Any], **wanted: Any) -> dict[str, Any]:
    row = _find(result, **wanted)
    if row is None:
        raise FileNotFoundError(f"{wanted} was not measured")
    return row


def _ratio(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _thousands(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= 10 * size or (unit == "M" and value >= size):
            return f"{value / size:.3g} {unit}"
    return f"{value:,.0f}"


def source(result: dict[str, Any], text: str) -> str:
    """The caption of a table: its content, hardware, what else ran, and command."""
    hardware, settings = result["hardware"], result["settings"]
    where = hardware["gpu"] or f"{hardware['cores']} cores of {hardware['processor']}"
    threads, processes = settings.get("threads"), settings.get("processes")
    used = f", {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    used += f" a run, {processes} runs side by side" if threads and (processes or 1) > 1 else ""
    command = re.sub(r" --(json|png|output) \S+", "", result["command"])
    note = f"; {note}" if (note := settings.get("note")) else ""
    return f"\n\n{text}. On {where}{used}{_others(result)}{note} (`{command}`)."


def _others(result: dict[str, Any]) -> str:
    """What other programs used meanwhile, where that was measured."""
    rows = [row.get("others_cores") for row in result["rows"]]
    others = result["settings"].get("others_cores", None if None in rows else max(rows, default=None))
    if others is None:
        return ""
    return f", other programs used {others:g} cores" if others > DISTURBED else ", nothing else running"


RESULTS: dict[str, Callable[[], str]] = {
    "quickstart": quickstart_table,
    "quickstart_texts": quickstart_texts,
    "why": why_lines,
    "equal_time": equal_time_table,
    "faults": faults_table,
    "side_by_side": side_by_side_table,
    "fuzz": fuzz_table,
    "kneser_ney": kneser_ney_table,
    "worlds": worlds_table,
    "factored": factored_table,
    "factored_sparse": partial(factored_table, "factored_sparse.json"),
    "factored_soft": factored_soft_table,
    "outside": outside_table,
    "factored_same_text": factored_same_text,
    "form": form_table,
    "teacher": teacher_table,
    "tuning": tuning_table,
    "layouts": layouts_table,
    "layouts_zh": partial(layouts_table, chinese=True),
    "rules": rules_table,
    "markov": markov_table,
    "language_modelling": language_modelling_table,
    "learner": learner_table,
    "end_to_end": end_to_end_table,
    "environment": environment_table,
    "scaling": scaling_table,
    "acting": acting_table,
    "tasks": tasks_table,
    "pair_defaults": pair_defaults_table,
    "credit": credit_table,
    "long_text": long_text_table,
}
