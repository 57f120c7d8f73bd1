"""Environment steps per second: ours in NumPy and on a device, and Gymnasium's vector environments.

All run the same episodes with the same precomputed actions. "copy" is an upper bound for any environment: it only
copies the observations of a step into a new array. "gym.make" is one environment with Gymnasium's wrappers, stepped and
reset in a Python loop, as other libraries do it; Gymnasium's own CartPole stands beside it.

    python benchmarks/environment.py --json benchmarks/results/environment.json --png benchmarks/results/environment.png
    python benchmarks/environment.py --device cuda --num-envs 16384 262144 1048576
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from tqdm import tqdm

import tokenlm  # noqa: F401  registers the environments
from tokenlm.envs import EnvConfig, TokenLMDeviceEnv, TokenLMVectorEnv

from measuring import rates, spread
from record import print_table, write_result

WORLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "markov, V = 200": ("TokenLM-Markov-v0", {}),
    "n-gram, zh": ("TokenLM-v0", {"corpus": "zh"}),
}
NUM_ENVS = [1, 16, 64, 256, 1024, 4096, 16384]
SYNC, ASYNC, NUMPY, DEVICE, COPY = "SyncVectorEnv", "AsyncVectorEnv", "TokenLMVectorEnv", "TokenLMDeviceEnv", "copy"
SINGLE = "gym.make"
SINGLES: dict[str, tuple[str, dict[str, Any]]] = {  # what is made one at a time, beside the worlds
    "n-gram, zh, V = 200": ("TokenLM-v0", {"corpus": "zh", "max_vocab_size": 200}),
    "CartPole-v1 of Gymnasium": ("CartPole-v1", {}),
}
SINGLE_ACTIONS = 1024  # precomputed actions of one environment
LIMITS = {SYNC: 1024, ASYNC: 64}  # most environments
ACTIONS = 16  # precomputed batches of actions


def make(kind: str, world: str, num_envs: int, device: str) -> VectorEnv[Any, Any, Any]:
    """A vector environment of the given kind, with autoreset mode SAME_STEP."""
    name, settings = WORLDS[world]
    if kind in (SYNC, ASYNC):

        def single() -> gym.Env[Any, Any]:
            return gym.make(name, **settings)

        many = [single] * num_envs
        if kind == SYNC:
            return SyncVectorEnv(many, autoreset_mode=AutoresetMode.SAME_STEP)
        return AsyncVectorEnv(many, autoreset_mode=AutoresetMode.SAME_STEP)
    config = EnvConfig(**{**gym.spec(name).kwargs, **settings})
    if kind == NUMPY:
        return TokenLMVectorEnv(num_envs, config, autoreset_mode=AutoresetMode.SAME_STEP)
    return TokenLMDeviceEnv(num_envs, config, device=device)


def measure(kind: str, world: str, num_envs: int, device: str, seconds: float) -> dict[str, Any]:
    """Measure the steps per second of one kind."""
    env = make(NUMPY if kind == COPY else kind, world, num_envs, device)
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    actions: list[Any] = [env.action_space.sample() for _ in range(ACTIONS)]
    if kind == DEVICE:
        actions = [torch.from_numpy(a).to(env.device) for a in actions]

    def work() -> None:
        for action in actions:
            if kind == COPY:
                observation.copy()
            else:
                env.step(action)

    work()  # warm up, and move the episodes away from their first token
    found = rates(work, ACTIONS * num_envs, seconds, device if kind == DEVICE else "cpu")
    env.close()
    return {"world": world, "num_envs": num_envs, "environment": kind, **spread(found, "steps/s")}


def measure_single(world: str, seconds: float) -> dict[str, Any]:
    """Measure one environment of `gym.make`, resets included."""
    name, settings = {**WORLDS, **SINGLES}[world]
    env = gym.make(name, **settings)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(SINGLE_ACTIONS)]

    def work() -> None:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()

    work()
    found = rates(work, SINGLE_ACTIONS, seconds, "cpu")
    env.close()
    return {"world": world, "num_envs": 1, "environment": SINGLE, **spread(found, "steps/s")}


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the ratios to SyncVectorEnv and to the copy, for the same number of environments; None without them."""
    found = {(row["world"], row["num_envs"], row["environment"]): row["steps/s"] for row in rows}
    for row in rows:
        sync = found.get((row["world"], row["num_envs"], SYNC))
        row["of SyncVectorEnv"] = row["steps/s"] / sync if sync else None
        copied = found.get((row["world"], row["num_envs"], COPY))
        row["of the copy"] = row["steps/s"] / copied if copied else None
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot steps per second against the number of environments, one panel per world."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(WORLDS), figsize=(11, 4.2), sharey=True, layout="constrained")
    for panel, world in zip(panels, WORLDS, strict=True):
        for kind in (COPY, DEVICE, NUMPY, SYNC, ASYNC):
            own = [row for row in rows if row["world"] == world and row["environment"] == kind]
            style = "k:" if kind == COPY else "-o"
            panel.loglog([row["num_envs"] for row in own], [row["steps/s"] for row in own], style, label=kind)
        panel.set(title=world, xlabel="environments side by side", ylabel="environment steps / s")
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure all worlds, numbers of environments and kinds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--png", type=Path, help="where to draw them")
    parser.add_argument("--num-envs", type=int, nargs="+", default=NUM_ENVS)
    parser.add_argument("--device", default="cpu", help="of TokenLMDeviceEnv")
    parser.add_argument("--threads", type=int, help="of torch; its own choice if not given")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    cases = [
        (kind, world, num_envs)
        for world in WORLDS
        for num_envs in chosen.num_envs
        for kind in (SYNC, ASYNC, NUMPY, DEVICE, COPY)
        if num_envs <= LIMITS.get(kind, num_envs)
    ]
    singles = [measure_single(world, chosen.seconds) for world in (*WORLDS, *SINGLES)]
    many = [measure(*case, chosen.device, chosen.seconds) for case in tqdm(cases, unit="case")]
    rows = with_ratios([*singles, *many])
    print_table(rows)
    if chosen.json:
        write_result(
            chosen.json, rows, worlds=WORLDS, device=chosen.device, threads=torch.get_num_threads(), seed=0,
            seconds=chosen.seconds,
        )  # fmt: skip
    if chosen.png:
        plot(rows, chosen.png)


if __name__ == "__main__":
    main()
