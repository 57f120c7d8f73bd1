"""References that learn a table from rewards: planning with optimism, and a bandit that does not plan."""

from __future__ import annotations

import math
import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from ...envs import EnvConfig, TokenLMVectorEnv, Vocabulary
from ...envs.arrays import Floats, Ints
from ...envs.text import write_atomically
from ...envs.text.opening import check_regular
from ..acting.choosing import checked_temperature
from ..protocol import Callback
from .references import Positioned, check_paid_by_token

MAX_ENTRIES = 60_000_000  # (context, token) pairs, 8 bytes each in two tables
_LEAST_MASS = 1e-12
_WANDER = 1.0  # nats
_FILE = "table.npz"
_MOST_ELSE = 1 << 20  # bytes of what is not a table: headers, steps
_TYPES = {"sums": np.float64, "counts": np.int64, "starts": np.int64, "env_steps": np.int64}
Self = TypeVar("Self", bound="Table")


class Table(Positioned):
    """Remembers what each token earned after the last few, and plans with them by dynamic programming.

    A token that was never tried after its context has at most the probability that the tried ones leave; it is planned
    with as if it had all of that. So the plan's value is above the optimum until every token on its path is known, and
    then it is the optimum, if the context is as long as that of p*: `gap` is 0.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one; with a reward for every token.
        context: number of last tokens that tell contexts apart.
        temperature: τ of the objective.
        num_envs: episodes between two plans.
        seed: of all random numbers.
        device: not used.

    Raises ValueError for rewards that do not belong to single tokens, and for tables that would be too large.
    """

    knows_target: ClassVar[bool] = False
    plans: ClassVar[bool] = True
    has_temperature = True

    def __init__(
        self,
        env: str | EnvConfig | Any = "TokenLM-v0",
        context: int = 1,
        temperature: float = 0.0,
        num_envs: int = 16,
        *,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        super().__init__(env, seed=seed, device=device, context=context, temperature=temperature, num_envs=num_envs)
        config, words = self.env_config, self.world.words
        if config.form:
            raise ValueError(
                f"a table of rewards after the last tokens cannot tell which tokens the form {config.form!r} allows "
                "where, nor what it pays at the end; the algorithm reward-model with replay_ratio 0 is a table that "
                "reads the form"
            )
        check_paid_by_token(config, "a table of rewards")
        checked_temperature(temperature)
        if context < 0 or num_envs < 1:
            raise ValueError(f"context must be at least 0 and num_envs at least 1, not {context} and {num_envs}")
        self._symbols = len(words) + 1  # one stands for all tokens that are not written
        self._contexts = self._symbols**context
        self._kinds = 2 if config.ending == "eos" and config.min_new_tokens else 1
        if self._kinds * self._contexts * self._symbols > MAX_ENTRIES:
            raise ValueError(
                f"a table of {self._contexts:,} contexts of {context} token(s) and {len(words):,} words is too large; "
                f"at most {MAX_ENTRIES:,} pairs are allowed"
            )
        self._symbol = np.zeros(self.world.vocab_size, np.int64)
        self._symbol[words] = np.arange(1, self._symbols)
        self._actions = np.append(words, Vocabulary.EOS)
        self._column = np.zeros(self.world.vocab_size, np.int64)
        self._column[self._actions] = np.arange(self._symbols)
        shape = (self._kinds, self._contexts, self._symbols)
        self.sums, self.counts = np.zeros(shape), np.zeros(shape, np.int64)
        after = np.append(np.arange(1, self._symbols), 0)
        self._next = (np.arange(self._contexts)[:, None] * self._symbols + after) % self._contexts
        self._starts: set[int] = set()
        self._environment: TokenLMVectorEnv | None = None
        self._fair: list[Floats] | None = None

    @property
    def temperature(self) -> float:
        """τ."""
        return float(self.settings["temperature"])

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`."""
        return self.temperature if asked is None else asked

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Write episodes by the optimistic plan and remember what they earn; see `Agent`."""
        count, horizon = self.settings["num_envs"], self.env_config.max_new_tokens
        if self._environment is None:
            self._environment = TokenLMVectorEnv(count, self.env_config, autoreset_mode="SameStep")
            self._environment.reset(seed=self.seed)
        env, until = self._environment, self.env_steps + total_steps
        wander = np.linspace(0.0, _WANDER, count)[:, None]
        while self.env_steps < until:
            rewards_now = self._rewards(optimistic=True)
            plan = self._plan(rewards_now)
            windows, _ = env.reset()
            running, contexts = np.ones(count, np.bool_), self._context_of(windows)
            self._starts.update(contexts.tolist())
            for step in range(horizon):
                kind = self._kind(step)
                values = rewards_now[kind, contexts] + plan[step + 1][self._next[contexts]]
                values[:, -1] = rewards_now[kind, contexts, -1]
                values = np.where(env.action_masks()[:, self._actions], values, -np.inf)
                noise = self._rng.gumbel(size=values.shape)
                if not self.temperature:  # all episodes but the first wander, else they would all try the same
                    noise = np.where(wander > 0.0, wander * noise, 1e-9 * noise)
                chosen = (values + (self.temperature or 1.0) * noise).argmax(1)
                _, earned, terminated, truncated, _ = env.step(self._actions[chosen])
                pairs = ((kind * self._contexts + contexts) * self._symbols + chosen)[running]
                np.add.at(self.sums.reshape(-1), pairs, earned[running])
                np.add.at(self.counts.reshape(-1), pairs, 1)
                self.env_steps += int(running.sum())
                running &= ~(terminated | truncated)
                contexts = self._next[contexts, chosen]
                if not running.any():
                    break
            self._fair = None
            if callback is not None and callback(self) is False:
                break
        return self

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """Planned values; tokens never tried share evenly what the tried ones leave."""
        rewards = self._rewards(optimistic=False)
        if self._fair is None:
            self._fair = self._plan(rewards)
        contexts = self._context_of(windows)
        steps = np.minimum(written, self.env_config.max_new_tokens - 1)
        kinds = np.array([self._kind(int(step)) for step in steps], np.int64)
        later = np.stack(self._fair)[steps + 1]
        values = rewards[kinds, contexts] + np.take_along_axis(later, self._next[contexts], axis=1)
        values[:, -1] = rewards[kinds, contexts, -1]
        every = np.full((len(windows), self.world.vocab_size), -np.inf)
        every[:, self._actions] = values
        return every

    @property
    def gap(self) -> float:
        """Optimistic minus known value of the start contexts seen, nats a text.

        0 certifies the optimum at τ = 0 if p* reads no more than the table does.
        """
        starts = sorted(self._starts)
        known = np.where(self.counts > 0, self._rewards(optimistic=True), -np.inf)
        upper, lower = (self._plan(r)[0][starts] for r in (self._rewards(optimistic=True), known))
        return float((upper - lower).mean()) if starts else math.inf

    def figures(self) -> dict[str, Any]:
        """The gap to the certified optimum; None while it is infinite, or nothing can be certified.

        That needs a plan, and a p* that reads no more than the table does.
        """
        size = self.world.target.context_size
        told = size is not None and size <= self.settings["context"]
        gap = self.gap if self.plans and told and self.temperature == 0.0 else math.inf
        return {"certified_gap": gap if math.isfinite(gap) else None}

    def save(self, path: str | Path) -> None:
        """Write settings and tables into the folder `path`."""
        super().save(path)
        starts = np.array(sorted(self._starts), np.int64)

        def write(file: Path) -> None:
            with file.open("wb") as opened:
                np.savez_compressed(
                    opened, sums=self.sums, counts=self.counts, starts=starts, env_steps=np.array(self.env_steps)
                )

        write_atomically(Path(path) / _FILE, write)

    @classmethod
    def load(cls: type[Self], path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Self:
        """The agent that `save` wrote, in the environment `env`; ValueError for one of another size."""
        agent = super().load(path, env, device, trust)
        place = Path(path) / _FILE
        saved = read_arrays(place, 3 * agent.sums.nbytes + _MOST_ELSE)
        for name in ("sums", "counts"):
            if saved[name].shape != agent.sums.shape:
                raise ValueError(
                    f"the table in {path} has the shape {saved[name].shape}, not {agent.sums.shape} as here"
                )
        agent.sums, agent.counts = saved["sums"], saved["counts"]
        starts, steps = saved["starts"], saved["env_steps"]
        if steps.shape or starts.ndim != 1 or (starts.size and not 0 <= starts.min() <= starts.max() < agent._contexts):
            raise ValueError(f"{place} is damaged: its starts are not contexts; restore it from a copy")
        agent._starts, agent.env_steps = set(starts.tolist()), int(steps)
        return agent

    def _rewards(self, optimistic: bool) -> Floats:
        """(K, C, A) rewards: known ones, and for tokens never tried what the known ones leave, whole or shared."""
        weight = self.env_config.log_prob_weight
        tried = self.counts > 0
        mean = self.sums / np.maximum(self.counts, 1)
        left = np.maximum(1.0 - np.where(tried, np.exp(mean / weight), 0.0).sum(-1), _LEAST_MASS)
        untried = np.maximum((~tried).sum(-1), 1)
        # Shares of one arc's worth of soft value at τ, so that optimism does not grow with their number.
        spread = self.temperature * np.log(untried) if optimistic else weight * np.log(untried)
        unknown = weight * np.log(left) - spread
        result: Floats = np.where(tried, mean, unknown[..., None])
        if self.env_config.ending == "fixed":
            result[..., -1] = -np.inf
        elif self._kinds == 2:
            result[0, :, -1] = -np.inf
        return result

    def _plan(self, rewards: Floats) -> list[Floats]:
        """(C,) values after 0, 1, … written tokens."""
        horizon, tau = self.env_config.max_new_tokens, self.temperature
        values = [np.zeros(self._contexts)]
        for step in reversed(range(horizon)):
            if not self.plans:
                values.insert(0, values[0])
                continue
            q_values = rewards[self._kind(step)] + values[0][self._next]
            q_values[:, -1] = rewards[self._kind(step), :, -1]
            top = q_values.max(1)
            if tau:
                base = np.where(np.isfinite(top), top, 0.0)
                top = base + tau * np.log(np.exp((q_values - base[:, None]) / tau).sum(1))
            values.insert(0, top)
        return values

    def _kind(self, step: int) -> int:
        """1 where `<eos>` becomes valid after the first tokens and is valid now; p* is another before."""
        return int(self._kinds == 2 and step >= self.env_config.min_new_tokens)

    def _context_of(self, windows: Ints) -> Ints:
        contexts = np.zeros(len(windows), np.int64)
        for place in range(self.settings["context"], 0, -1):
            contexts = contexts * self._symbols + self._symbol[windows[:, -place]]
        return contexts


class Bandit(Table):
    """A `Table` that does not plan: it writes the token that earns most after the last ones, never tried ones first.

    Arguments are those of `Table`.
    """

    plans: ClassVar[bool] = False


def read_arrays(path: Path, most_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays that `Table.save` wrote; ValueError for another file, and for one with more than `most_bytes` in it.

    A file of a few kilobytes may unpack to gigabytes.
    """
    check_regular(path, "table", "weights_bytes")
    try:
        with zipfile.ZipFile(path) as parts:
            size = sum(part.file_size for part in parts.infolist())
        if size > most_bytes:
            raise ValueError(f"it holds {size:,} bytes, at most {most_bytes:,} belong there")
        with warnings.catch_warnings(), np.load(path, allow_pickle=False) as saved:
            warnings.simplefilter("error")  # no array of ours has a header that NumPy warns of
            arrays = {name: saved[name] for name in _TYPES}
        for name, dtype in _TYPES.items():
            if arrays[name].dtype != dtype:
                raise ValueError(f"{name} has entries of type {arrays[name].dtype}")
    except OSError:
        raise
    except Exception as problem:  # whatever a file that zipfile or NumPy cannot read raises
        raise ValueError(f"{path} is damaged ({problem}); restore it from a copy") from None
    return arrays
