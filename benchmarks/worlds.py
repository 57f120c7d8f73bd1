"""What every environment with an id pays: returns and scores of reference policies, their texts, and a picture of them.

    python benchmarks/worlds.py [--json FILE] [--pictures FOLDER] [--only ID]

Returns are exact where the optimum is, over 256 prompts, else means of 256 sampled episodes. The score is 0 for the
best trivial policy and 1 for the optimum. Two learners stand beside, greedy: maximum likelihood, and where
every token is paid and there is no form a table of token pairs after 20,000 steps. The pictures are SVG: text stays
text, in the reader's own font.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import gymnasium as gym
import numpy as np

from tokenlm.agents.evaluation import play, trivial_returns
from tokenlm.agents.evaluation.playing import Play
from tokenlm.agents.evaluation.scores import Scale
from tokenlm.agents.runs.algorithms import make
from tokenlm.envs import EnvConfig, NotExact, World
from tokenlm.envs.bounds import beam_search
from tokenlm.envs.rendering import colour, pieces
from tokenlm.envs.starts import shown_prompt
from tokenlm.envs.text import write_text_atomically

from code_tables import page_of, registered
from record import print_table, write_result

HERE = Path(__file__).parent
EPISODES = 256
STEPS = 20_000  # of the learners
TABLE = "a table of token pairs, with optimism and planning"
LIKELIHOOD = "maximum likelihood"
GREEDY = "greedy under p\\*"
BEAM = "beam 10 under p\\*"
_TITLES = {
    "random": "uniform random",
    "constant": "the best single token, always",
    "constant_eos": "the best single token, then `<eos>`",
    "unigram_sampled": "by word frequency, sampled",
    "unigram_greedy": "by word frequency, greedy",
    "same_text": "the best one text for all prompts",
}
POLICIES = ("random", "p* sampled", "best")


def returns(name: str) -> dict[str, Any]:
    """Returns, nats, and scores of the reference policies in the environment `name`, and texts after a prompt."""
    env: Any = gym.make(name).unwrapped
    config: EnvConfig = env.config
    world, found, exact = World.of(config), {}, env.oracle.is_exact
    prefixes = np.stack([env.reset(seed=seed)[0] for seed in range(EPISODES)])

    def played(policy: Any, temperature: float = 0.0) -> Play:
        return play(policy, world, config, EPISODES, 0, temperature)

    scale = Scale.of(world, config, prefixes) if exact else None
    try:
        trivial = scale.trivial if scale else trivial_returns(name)
        found |= {_TITLES[policy]: value for policy, value in trivial.items()}
    except NotExact:
        found["uniform random"] = float(played("random").returns.mean())
    if scale and config.reward_every == 1 and not config.form:
        found[TABLE] = float(played(make("table", config, 0).learn(STEPS)).returns.mean())
    likelihood = make("maximum-likelihood", config, 0, device="cpu").learn(STEPS)
    found[LIKELIHOOD] = float(played(likelihood).returns.mean())
    learned = _learned(found, likelihood.transitions_trained)
    sampled = env.oracle.expected_return("target", prefixes) if exact else played("target", 1.0).returns
    found["p\\* sampled"] = float(sampled.mean())
    greedy = played("target")
    found[GREEDY] = float(greedy.returns.mean())
    if scale is None:
        note = f"{_over(config)}Sampled policies over 256 texts: with this target the optimum at temperature 0 has no "
        note += f"exact programme. {learned}"
        return {"id": name, "returns": found, "scores": {}, "texts": None, "note": note}
    found[BEAM] = config.log_prob_weight * float(beam_search(world, config, prefixes, 10).log_probs.mean())
    optimal = env.oracle.optimal_return(prefixes)
    found["optimum"] = float(optimal.mean())
    texts = {
        "prompt": world.tokenizer.decode(shown_prompt(prefixes[0])),
        "best": {"text": env.oracle.best_texts(prefixes[:1])[0].text, "return": float(optimal[0])},
        "greedy": {"text": greedy.texts[0], "return": float(greedy.returns[0])},
    }
    scores = {policy: scale.score(scale.regret(value)) for policy, value in found.items()}
    note = f"Exact. {_over(config)}The score is 0 for the best trivial policy, 1 for the optimum. {learned}"
    return {"id": name, "returns": found, "scores": scores, "texts": texts, "note": note}


def _over(config: EnvConfig) -> str:
    return f"Over {EPISODES} training prompts. " if config.task != "generation" or config.prompt_length[1] else ""


def _learned(found: dict[str, float], trained: int) -> str:
    table = f"The table learned from {STEPS:,} environment steps." if TABLE in found else ""
    return (
        f"Maximum likelihood, with its defaults, trained on some {trained:,} tokens of the documents. {table}".strip()
    )


def _write(env: Any, policy: str, seed: int) -> tuple[list[int], list[int], np.ndarray]:
    """An episode: ids of the prompt, ids written, and their log-likelihoods."""
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    prompt, written, gained, over = [int(i) for i in observation if i], [], [], False
    while not over:
        log_probs = env.target_log_probs()
        if policy == "best" and env.oracle.is_exact:
            action = int(env.optimal_q(temperature=0.0).argmax())
        elif policy == "best":
            action = int(log_probs.argmax())
        else:
            p = env.action_masks().astype(float) if policy == "random" else np.exp(log_probs)
            action = int(rng.choice(len(p), p=p / p.sum()))
        _, _, terminated, truncated, info = env.step(action)
        written.append(action)
        gained.append(info["log_prob"])
        over = terminated or truncated
    return prompt, written, np.array(gained)


def picture(name: str, seed: int = 1) -> str:
    """An SVG image of a text of each policy, every token coloured by its log-likelihood."""
    env: Any = gym.make(name).unwrapped
    lines, y = [], 0
    for policy in POLICIES:
        prompt, written, gained = _write(env, policy, seed)
        y += 26
        lines.append(f'<text x="8" y="{y}" fill="#666">{policy}, {gained.sum():.1f} nats</text>')
        x, y = 8, y + 26
        texts = pieces(env.world.tokenizer, [*prompt, *written])
        colours = ["#dddddd"] * len(prompt) + [_hex(colour(g)) for g in gained]
        for text, fill in zip(texts, colours, strict=True):
            if not text.strip():
                continue
            width = sum(17 if ord(c) > 0x2E7F else 9 for c in text)
            if x + width > 712:
                x, y = 8, y + 24
            lines.append(
                f'<rect x="{x - 2}" y="{y - 16}" width="{width + 2}" height="21" rx="3" fill="{fill}" opacity="0.5"/>'
            )
            lines.append(f'<text x="{x}" y="{y}" fill="#111">{escape(text.strip())}</text>')
            x += width + 5
    size = f'width="720" height="{y + 14}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="16">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *lines, "</svg>"]) + "\n"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def main() -> None:
    """Measure and draw every registered environment."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, default=HERE / "results" / "worlds.json")
    parser.add_argument("--pictures", type=Path, default=HERE.parent / "docs" / "environments" / "pictures")
    parser.add_argument("--only", choices=registered(), help="measure this id and keep the others' rows")
    chosen = parser.parse_args()
    names = [chosen.only] if chosen.only else registered()
    before = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"] if chosen.only else []
    del sys.argv[1:]  # the file is what a run of all would write
    known = {row["id"]: row for row in before} | {name: returns(name) for name in names}
    rows = [known[name] for name in registered() if name in known]
    chosen.pictures.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_text_atomically(chosen.pictures / f"{page_of(name)}.svg", picture(name))
    write_result(chosen.json, rows, episodes=EPISODES)
    for row in rows:
        print_table([{"id": row["id"], **row["returns"]}])


if __name__ == "__main__":
    main()
