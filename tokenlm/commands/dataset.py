"""`tokenlm dataset`: episodes of a run or a corpus as a Minari data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenlm.commands.command import Command, add_loading, make_parser, options_of
from tokenlm.parsing import parse_run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def _parser() -> ArgumentParser:
    parser = make_parser("dataset", COMMAND.summary)
    parser.add_argument("source", type=str, help="folder of a run, a corpus, or a configuration whose corpus is meant")
    parser.add_argument("name", type=str, help="of the data set, as in tokenlm/zh-v0")
    parser.add_argument("--episodes", type=int, default=1_000, help="texts that a run writes")
    parser.add_argument(
        "--temperature", type=float | None, default=None, help="that it writes at; its own if not given"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and the texts")
    add_loading(parser)
    return parser


def _run(words: list[str]) -> None:
    chosen = _parser().parse_args(words)
    from tokenlm.agents.replay.corpus import corpus_replay
    from tokenlm.agents.runs.output import say
    from tokenlm.agents.runs.share.dataset import write_dataset, written_episodes
    from tokenlm.agents.runs.training import load_run
    from tokenlm.envs import World
    from tokenlm.envs.arguments import whole_number

    whole_number("episodes", chosen.episodes, 1)
    whole_number("seed", chosen.seed, 0)
    if (Path(chosen.source) / "config.yaml").is_file():
        agent, config = load_run(chosen.source, chosen.device, trust=chosen.trust)
        tau = agent.policy_temperature(chosen.temperature)
        replay = written_episodes(agent, config.env, chosen.episodes, chosen.seed, tau)
        algorithm, description = config.algorithm, f"texts of the run {config.name} at temperature {tau:g}"
    else:
        config = parse_run([chosen.source])
        replay = corpus_replay(World.of(config.env), config.env, chosen.seed)
        algorithm, description = "documents", "training documents of a corpus, with the rewards of writing them"
    made = write_dataset(chosen.name, replay, config.env, algorithm, description)
    place = made.storage.data_path.parent
    say(f"{made.total_episodes:,} episodes, {made.total_steps:,} steps: {chosen.name} in {place}")


COMMAND = Command(
    usage="dataset RUN|CORPUS NAME",
    summary="its episodes as a Minari data set",
    run=_run,
    names=lambda: options_of(_parser()),
    needs_less="give fewer --episodes",
)
