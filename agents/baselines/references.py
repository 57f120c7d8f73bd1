"""References that know p*: the best constant, the same text for every prompt, beam search, and the optimal policy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, NotExact, Oracle, Vocabulary, World, env_config_from
from ...envs.arrays import Floats, Ints
from ...envs.bounds import beam_search
from ...envs.forms import form_in
from ...envs.read_texts import search_texts, why_not_read
from ...envs.sampled_trivial import read_constant
from ...envs.text import write_json
from ...envs.text.files import read_json
from ...envs.trivial import Starts, best_constant, single_text, start_distribution
from ..acting.choosing import checked_temperature
from ..decoding import Prefixes, Reader
from ..decoding.readers import ByToken, masks_after
from ..evaluation.scores import is_p_star, why_unknown
from ..networks.prefixes import windows_at, windows_of
from ..protocol import BaseAgent, Callback

_AT_ONCE = 1024  # states whose values are computed at once
Self = TypeVar("Self", bound="Positioned")


def check_paid_by_token(config: EnvConfig, what: str) -> None:
    """Raise ValueError for an environment whose rewards are not those of single tokens, which `what` needs."""
    if config.reward_every != 1 or config.sequence_reward or config.transition != "free":
        raise ValueError(f"{what} needs one for every token: reward_every 1, no sequence_reward and transition 'free'")


class Positioned(BaseAgent):
    """An agent whose values depend on where in the episode a state is, which an observation does not show.

    It counts the tokens it writes: its readers do, and `predict` by its `state`.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one.
        seed: of the sampling.
        device: not used.
        settings: the subclass's own, kept for `save`.
    """

    knows_target: ClassVar[bool] = True
    world: World

    def __init__(
        self, env: str | EnvConfig | Any = "TokenLM-v0", *, seed: int = 0, device: str = "auto", **settings: Any
    ) -> None:
        super().__init__(env_config_from(env), seed)
        self.settings, self.seed = settings, seed
        self.env_steps = 0
        self._rng = np.random.default_rng(seed)

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """(B, V) values, nats, of states.

        Args:
            first: (B, L) first observations of their episodes.
            windows: (B, L) observations.
            written: (B,) tokens written between them.
        """
        raise NotImplementedError

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Nothing is left to learn; calls the callback once."""
        if callback is not None:
            callback(self)
        return self

    def masked_values(self, first: Ints, windows: Ints, written: Ints, masks: npt.NDArray[np.bool_]) -> Floats:
        """(B, V) values, -inf where `masks` (B, V) is False; even where nothing of value is left."""
        values = np.where(masks, self.state_values(first, windows, written), -np.inf)
        lost = ~np.isfinite(values.max(1))
        values[lost] = np.where(masks[lost], 0.0, -np.inf)
        return values

    def predict(
        self,
        observation: npt.ArrayLike,
        state: Any = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = False,
        action_masks: npt.ArrayLike | None = None,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions (B,), and the state to give back at the next step: first observations and tokens written."""
        windows = np.atleast_2d(np.asarray(observation, np.int64))
        first, written = (windows, np.zeros(len(windows), np.int64)) if state is None else state
        if episode_start is not None:
            begun = np.asarray(episode_start, np.bool_)
            first, written = np.where(begun[:, None], windows, first), np.where(begun, 0, written)
        masks = self._given_masks(action_masks, len(windows))
        values, tau = self.masked_values(first, windows, written, masks), self.temperature
        if not deterministic and tau > 0.0:
            values = values / tau + self._rng.gumbel(size=values.shape)
        actions = values.argmax(1)
        return (actions[0] if np.ndim(observation) == 1 else actions), (first, written + 1)

    def log_probs(
        self, observation: npt.ArrayLike, action_masks: npt.ArrayLike | None = None
    ) -> npt.NDArray[np.float64]:
        """Log π(a | s) of observations taken for first ones, (B, V) in nats."""
        windows = np.atleast_2d(np.asarray(observation, np.int64))
        masks = self._given_masks(action_masks, len(windows))
        values = self.masked_values(windows, windows, np.zeros(len(windows), np.int64), masks)
        if self.temperature == 0.0:
            return np.where(np.arange(values.shape[1]) == values.argmax(1)[:, None], 0.0, -np.inf)
        scaled = values / self.temperature
        log_probs: Floats = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return log_probs

    def reader(self, prefixes: Prefixes, env: EnvConfig | None = None, greedy: bool = False) -> Reader:
        """See `Writer`."""
        return _PositionedReader(self, windows_of(prefixes, self.env_config.context_length))

    def values_at(
        self,
        tokens: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        columns: npt.NDArray[np.int64],
        env: EnvConfig | None = None,
        written: npt.NDArray[np.int64] | None = None,
        greedy: bool = False,
    ) -> Iterator[Tensor]:
        """See `BaseAgent`; without `written` every state is taken for a first one."""
        length = self.env_config.context_length
        count = np.zeros(len(rows), np.int64) if written is None else written
        for start in range(0, len(rows), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            now = windows_at(tokens, rows[part], columns[part], length)
            first = windows_at(tokens, rows[part], columns[part] - count[part], length)
            masks = self.masks_at(now, None if written is None else written[part])
            yield torch.from_numpy(self.masked_values(first, now, count[part], masks))

    def _given_masks(self, action_masks: npt.ArrayLike | None, count: int) -> npt.NDArray[np.bool_]:
        given = self.world.valid if action_masks is None else np.asarray(action_masks)
        return np.broadcast_to(given, (count, self.world.vocab_size)).astype(np.bool_)

    def masks_at(self, windows: Ints, written: Ints | None) -> npt.NDArray[np.bool_]:
        """(B, V) bool, the valid actions after windows (B, L) and `written` (B,) tokens; None where that is unknown."""
        return masks_after(self.world.valid, windows, written, self.env_config, form_in(self.world, self.env_config))

    def save(self, path: str | Path) -> None:
        """Write the settings into the folder `path`; all else follows from the environment."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "agent.json", {"class": type(self).__name__, "settings": self.settings})

    @classmethod
    def load(cls: type[Self], path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Self:
        """The agent that `save` wrote, in the environment `env`; ValueError for a damaged file."""
        place = Path(path) / "agent.json"
        saved = read_json(place)
        settings = saved.get("settings") if isinstance(saved, dict) else None
        if not isinstance(settings, dict):
            raise ValueError(f"{place} is damaged: it holds no settings of an agent; restore it from a copy")
        return cls(env, device=device, **settings)


class _PositionedReader(ByToken):
    """Texts of a `Positioned` agent, with the tokens that it has written in each."""

    def __init__(self, agent: Positioned, first: Ints) -> None:
        self._agent, self._first, self._windows = agent, first, first
        self._written = np.zeros(len(first), np.int64)

    def values(self, valid: Tensor | None = None) -> Tensor:
        """See `Reader`."""
        masks = self._agent.masks_at(self._windows, self._written) if valid is None else valid.cpu().numpy()
        return torch.from_numpy(self._agent.masked_values(self._first, self._windows, self._written, masks))

    def step(self, tokens: Tensor) -> None:
        """See `Reader`."""
        self._windows = np.concatenate([self._windows[:, 1:], tokens.cpu().numpy()[:, None]], axis=1)
        self._written = self._written + 1

    def select(self, rows: Tensor) -> None:
        """See `Reader`."""
        kept = rows.cpu().numpy()
        self._first, self._windows, self._written = self._first[kept], self._windows[kept], self._written[kept]


class Recited(Positioned):
    """An agent that writes a text known beforehand; a subclass says which."""

    def texts_after(self, first: Ints) -> Ints:
        """(B, L) first observations to (B, T) texts, `<pad>` after their ends."""
        raise NotImplementedError

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """0 for the next token of the text, -inf for others; after its end even."""
        texts = self.texts_after(first)
        tokens = texts[np.arange(len(texts)), np.minimum(written, texts.shape[1] - 1)]
        known = (tokens != Vocabulary.PAD) & (written < texts.shape[1])
        hit = np.arange(self.world.vocab_size) == tokens[:, None]
        return np.where(hit | ~known[:, None], 0.0, -np.inf)

    def _padded(self, texts: list[list[int]]) -> Ints:
        rows = np.full((len(texts), self.env_config.max_new_tokens), Vocabulary.PAD)
        for row, text in zip(rows, texts, strict=True):
            row[: len(text)] = text
        return rows


class _OneText(Recited):
    """Writes `_text` (T,) after every prompt."""

    _text: Ints

    def texts_after(self, first: Ints) -> Ints:
        """See `Recited`."""
        return np.tile(self._text, (len(first), 1))


class Constant(_OneText):
    """Writes the best single token, over and over or before `<eos>`, whichever earns more; see `trivial_returns`.

    Where p* has no states the most frequent words are tried, 1,024 texts after all prompts together.
    """

    def __init__(self, env: Any = "TokenLM-v0", *, seed: int = 0, device: str = "auto") -> None:
        super().__init__(env, seed=seed, device=device)
        oracle = _oracle(self)
        best = best_constant if oracle.why_not_followed is None else read_constant
        self._text = best(oracle, start_distribution(oracle, self.env_config.split))


class SameText(_OneText):
    """Writes the best single text for all prompts, found by beam search.

    Args:
        env: see `Positioned`.
        beams: width of the search.
        seed: not used.
        device: not used.
    """

    def __init__(self, env: Any = "TokenLM-v0", beams: int = 16, *, seed: int = 0, device: str = "auto") -> None:
        super().__init__(env, seed=seed, device=device, beams=beams)
        oracle = _oracle(self)
        starts = start_distribution(oracle, self.env_config.split)
        if oracle.why_not_followed is None:
            _, text = single_text(oracle, starts, beams)
        else:
            _, text = search_texts(self.world, self.env_config, starts.distinct(), beams)
        self._text = self._padded([text])[0]


class Beam(Recited):
    """Writes the text that a beam search under p* finds after the prompt.

    One beam is greedy, but counts what a form pays, and keeps the best text that has ended.

    Args:
        env: see `Positioned`.
        beams: width of the search.
        seed: not used.
        device: not used.
    """

    def __init__(self, env: Any = "TokenLM-v0", beams: int = 10, *, seed: int = 0, device: str = "auto") -> None:
        super().__init__(env, seed=seed, device=device, beams=beams)
        self._oracle = _oracle(self)
        self._found: dict[bytes, list[int]] = {}

    def texts_after(self, first: Ints) -> Ints:
        """See `Recited`."""
        keys = [row.tobytes() for row in first]
        new = {key: place for place, key in enumerate(keys) if key not in self._found}
        if new:
            rows = first[list(new.values())]
            self._found.update(zip(new, self._search(rows), strict=True))
        return self._padded([self._found[key] for key in keys])

    def _search(self, first: Ints) -> list[list[int]]:
        world, config, beams = self.world, self.env_config, self.settings["beams"]
        if self._oracle.why_not_followed is None:
            return beam_search(world, config, first, beams).tokens
        return [search_texts(world, config, Starts(row[None], np.ones(1)), beams)[1] for row in first]


class OptimalPolicy(Positioned):
    """The optimal policy at a temperature, from the oracle; where p* itself is optimal, p* whatever it is.

    Args:
        env: see `Positioned`.
        temperature: τ of the objective.
        seed: of the sampling.
        device: not used.
    """

    has_temperature = True

    def __init__(
        self, env: Any = "TokenLM-v0", temperature: float = 0.0, *, seed: int = 0, device: str = "auto"
    ) -> None:
        super().__init__(env, seed=seed, device=device, temperature=checked_temperature(temperature))
        self._oracle = Oracle.of(self.world, self.env_config)
        self._writes_p_star = False
        if (reason := self._oracle.why_not_followed or self._oracle.why_not) is not None:
            self._writes_p_star = is_p_star(self.env_config, temperature)
            if not self._writes_p_star:
                raise NotExact(why_unknown(self.world, self.env_config, temperature) or reason)
            if (blind := self._why_blind) is not None:
                raise NotExact(blind)

    @property
    def temperature(self) -> float:
        """τ."""
        return float(self.settings["temperature"])

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`."""
        return self.temperature if asked is None else asked

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """Q* of the environment as it is."""
        if self._writes_p_star:
            target, count = self.world.target, len(windows)
            rows: Floats = target.log_probs(target.track(windows), np.full(count, self.env_config.ending == "eos"))
            return self.env_config.log_prob_weight * rows
        return self._oracle.optimal_q(windows, written, temperature=self.temperature, horizon="episode")

    @property
    def _why_blind(self) -> str | None:
        """Why p* cannot be read from the observations, None if it can."""
        config = self.env_config
        if config.target == "reference":
            return why_not_read(config)
        if (longest := self.world.length_to_show(config)) is not None:
            return (
                f"p* of {config.target!r} depends on the whole text, of which an observation shows the last "
                f"{config.context_length} tokens; to write p* the oracle needs context_length {longest}"
            )
        return None


def _oracle(agent: Positioned) -> Oracle:
    """The oracle of an agent's environment; NotExact where the returns of given texts are unknown."""
    oracle = Oracle.of(agent.world, agent.env_config)
    if (reason := oracle.why_not_followed) is not None and why_not_read(agent.env_config) is not None:
        raise NotExact(reason)
    return oracle
