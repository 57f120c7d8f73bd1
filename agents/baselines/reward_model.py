"""A reference that learns a model of the reward and plans with it, since how texts grow is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...envs import EnvConfig, TokenLMVectorEnv, Vocabulary
from ...envs.arrays import Floats, Ints
from ..devices import resolve_device
from ..networks.reward_network import RewardNetwork
from ..networks.weights import read_weights, write_weights
from ..protocol import Callback
from .references import Positioned, check_paid_by_token

_AVERAGING = 0.95  # of the weights that plan, over updates
_LEAST = {
    "num_envs": 1, "updates": 1, "batch_size": 1, "exploration": 0.0, "wander": 0.0, "classes": 1, "hidden_size": 1,
    "rank": 1, "beams": 1,
}  # fmt: skip
_ENTRIES = 1 << 23  # (hypothesis, token) pairs scored at once
_STEPS = "env_steps"
_NEVER = -1e9  # score of a token that is not valid, finite so that gradients are
Self = TypeVar("Self", bound="RewardModel")


class RewardModel(Positioned):
    """Learns a network of the reward of the next token and writes the best text that a beam search under it finds.

    The dynamics need not be learned: a token is appended. The network is fitted to the rewards of all tokens written so
    far by a Huber loss. They are log-probabilities, so it is normalised over the valid tokens, and what one token earns
    bounds the others. At first it learns from random texts, then more and more from planned ones, since a search under
    a poor model finds little but its errors. These have noise that grows from text to text in a batch and falls with
    time. At temperature 0 only, since it plans for the best text.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one; with a reward for every token.
        prompt: newest tokens of the prompt that the network reads.
        context: last tokens of the text that it reads beside.
        num_envs: episodes written between two rounds of updates.
        updates: updates of a round.
        batch_size: transitions of an update, about.
        learning_rate: of AdamW at the beginning; it falls to a twentieth with the progress of training.
        weight_decay: of AdamW.
        exploration: share of the training in which some episodes are random: all at its beginning, none at its end.
        wander: largest noise of the others at the beginning, in nats: a factor of Gumbel noise on every reward.
        classes: see `RewardNetwork`.
        hidden_size: see `RewardNetwork`.
        rank: see `RewardNetwork`.
        beams: width of the search when it acts; a quarter of it when it learns.
        seed: of all random numbers.
        device: see `resolve_device`.

    Raises ValueError for rewards that do not belong to single tokens.
    """

    knows_target: ClassVar[bool] = False

    def __init__(
        self,
        env: str | EnvConfig | Any = "TokenLM-v0",
        prompt: int = 2,
        context: int = 2,
        num_envs: int = 64,
        updates: int = 32,
        batch_size: int = 1024,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.3,
        exploration: float = 0.5,
        wander: float = 1.0,
        classes: int = 8,
        hidden_size: int = 256,
        rank: int = 16,
        beams: int = 16,
        *,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        settings = {
            "prompt": prompt, "context": context, "num_envs": num_envs, "updates": updates, "batch_size": batch_size,
            "learning_rate": learning_rate, "weight_decay": weight_decay, "exploration": exploration, "wander": wander,
            "classes": classes, "hidden_size": hidden_size, "rank": rank, "beams": beams,
        }  # fmt: skip
        super().__init__(env, seed=seed, device=device, **settings)
        self._check()
        self.device = resolve_device(device)
        config = self.env_config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RewardNetwork(
                self.world.vocab_size, prompt + context, config.max_new_tokens, classes, hidden_size, rank
            )
        self.network = network.to(self.device)
        self._averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING))
        self._optimizer = torch.optim.AdamW(self.network.parameters(), learning_rate, weight_decay=weight_decay)
        self._environment: TokenLMVectorEnv | None = None
        self._texts: Ints = np.zeros((0, config.context_length + config.max_new_tokens), np.int64)
        self._rewards: Floats = np.zeros((0, config.max_new_tokens))  # nan after the end of a text
        self._plans: dict[bytes, Ints] = {}
        self.loss = float("nan")

    def _check(self) -> None:
        config, settings = self.env_config, self.settings
        check_paid_by_token(config, "a model of rewards")
        if config.form:
            raise ValueError(f"a model of rewards knows no form, and this is {config.form!r}")
        for name, least in _LEAST.items():
            if settings[name] < least:
                raise ValueError(f"{name} must be at least {least}, not {settings[name]}")
        for name in ("prompt", "context"):
            if not 0 <= settings[name] <= config.context_length:
                raise ValueError(
                    f"{name} must lie between 0 and context_length ({config.context_length}), not {settings[name]}"
                )

    @property
    def temperature(self) -> float:
        """0: it plans for the best text."""
        return 0.0

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`; 0 only."""
        if asked not in (None, 0.0):
            raise ValueError(f"a reward model plans for the best text, at temperature 0, not {asked}")
        return 0.0

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Write planned episodes and fit the network to what they earn; see `Agent`."""
        count, first = self.settings["num_envs"], self.env_steps
        if self._environment is None:
            self._environment = TokenLMVectorEnv(count, self.env_config, autoreset_mode="SameStep")
            self._environment.reset(seed=self.seed)
        while self.env_steps < first + total_steps:
            done = max(self.progress, (self.env_steps - first) / total_steps)
            self._write(self._environment, self._noise(done))
            for group in self._optimizer.param_groups:
                group["lr"] = self.settings["learning_rate"] * (1.0 - 0.95 * done)
            for _ in range(self.settings["updates"]):
                self._update()
            self._plans.clear()
            if callback is not None and callback(self) is False:
                break
        return self

    def _noise(self, done: float) -> Floats:
        """(num_envs,) factors of the noise on the rewards when `done` of the training is over; infinite for random."""
        count = self.settings["num_envs"]
        explored = done / self.settings["exploration"] if self.settings["exploration"] else 1.0
        planned = min(count, int(count * explored)) if len(self._texts) else 0
        noise = np.linspace(0.0, self.settings["wander"] * (1.0 - done), count)
        return np.where(np.arange(count) < planned, noise, np.inf)

    def _write(self, env: TokenLMVectorEnv, noise: Floats) -> None:
        """One episode in every environment, planned with `noise` (num_envs,), kept with its rewards."""
        windows, _ = env.reset()
        count, horizon = len(windows), self.env_config.max_new_tokens
        texts = self.plan(windows, windows, 0, max(1, self.settings["beams"] // 4), noise)
        rewards = np.full((count, horizon), np.nan)
        running = np.ones(count, np.bool_)
        for step in range(horizon):
            # Episodes that have ended began anew, and take any valid action.
            actions = np.where(running, texts[:, step], env.action_masks().argmax(1))
            _, earned, terminated, truncated, _ = env.step(actions)
            rewards[running, step] = earned[running]
            self.env_steps += int(running.sum())
            running &= ~(terminated | truncated)
            if not running.any():
                break
        self._texts = np.concatenate([self._texts, np.concatenate([windows, texts], axis=1)])
        self._rewards = np.concatenate([self._rewards, rewards])

    def _update(self) -> None:
        """One step of AdamW on the tokens of random episodes, a quarter of them the newest."""
        length, horizon = self.env_config.context_length, self.env_config.max_new_tokens
        size = max(1, self.settings["batch_size"] // horizon)
        newest = min(len(self._texts), self.settings["num_envs"])
        rows = self._rng.integers(0, len(self._texts), size)
        rows[: size // 4] = len(self._texts) - 1 - self._rng.integers(0, newest, size // 4)
        row, step = np.nonzero(~np.isnan(self._rewards[rows]))
        texts = self._texts[rows]
        windows = np.lib.stride_tricks.sliding_window_view(texts, length, axis=1)[row, step]
        log_probs = self._log_probs(self.network, texts[row, :length], windows, step)
        taken = torch.from_numpy(texts[row, length + step]).to(self.device)
        earned = torch.from_numpy(self._rewards[rows[row], step]).float().to(self.device)
        modelled = self.env_config.log_prob_weight * log_probs.gather(1, taken[:, None])[:, 0]
        loss = nn.functional.smooth_l1_loss(modelled, earned)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._averaged.update_parameters(self.network)
        self.loss = float(loss.detach())

    def _log_probs(self, network: nn.Module, first: Ints, windows: Ints, written: Ints) -> Tensor:
        """(B, V) modelled log p* in states, very low for tokens that are not valid; arguments as `state_values`."""
        prompt, context = self.settings["prompt"], self.settings["context"]
        length = windows.shape[1]
        tokens = np.concatenate([first[:, length - prompt :], windows[:, length - context :]], axis=1)
        scores = network(torch.from_numpy(tokens).to(self.device), torch.from_numpy(written).to(self.device))
        masks = torch.from_numpy(self.masks_at(windows, written)).to(self.device)
        return torch.log_softmax(torch.where(masks, scores, _NEVER), -1)

    @torch.no_grad()
    def plan(self, first: Ints, windows: Ints, written: int, width: int, noise: Floats | None = None) -> Ints:
        """The best texts that a beam search under the model finds.

        Args:
            first: (B, L) first observations of the episodes.
            windows: (B, L) observations now.
            written: tokens written between them.
            width: hypotheses kept after every token.
            noise: (B,) factors of Gumbel noise on the rewards, infinite for random texts; None for none.

        Returns: (B, T - written) ids, `<pad>` after the ends.
        """
        count, length = windows.shape
        size, horizon = self.world.vocab_size, self.env_config.max_new_tokens
        totals, ended = np.zeros((count, 1)), np.zeros((count, 1), np.bool_)
        at_once = max(1, _ENTRIES // (width * size))
        if count > at_once:
            pieces = [slice(start, start + at_once) for start in range(0, count, at_once)]
            parts = [
                self.plan(first[p], windows[p], written, width, None if noise is None else noise[p]) for p in pieces
            ]
            return np.concatenate(parts)
        texts = windows[:, None]  # (B, K, L + tokens)
        for step in range(written, horizon):
            kept = texts.shape[1]
            now = texts[:, :, -length:].reshape(-1, length)
            log_probs = self._log_probs(
                self._averaged, np.repeat(first, kept, axis=0), now, np.full(len(now), step, np.int64)
            )
            gains = log_probs.cpu().numpy().astype(np.float64).reshape(count, kept, size)
            if noise is not None:
                gains = _perturbed(gains, noise, self._rng)
            if ended.any():  # a text that has ended stays as it is
                gains[ended] = -np.inf
                gains[ended, Vocabulary.PAD] = 0.0
            candidates = (totals[:, :, None] + gains).reshape(count, -1)
            best = _largest(candidates, min(width, candidates.shape[1]))
            parent, token = np.divmod(best, size)
            totals = np.take_along_axis(candidates, best, axis=1)
            texts = np.concatenate([np.take_along_axis(texts, parent[:, :, None], axis=1), token[:, :, None]], axis=2)
            ended = np.take_along_axis(ended, parent, axis=1) | (token == Vocabulary.EOS)
            if ended.all():
                break
        found = texts[:, 0, length:]
        return np.pad(found, ((0, 0), (0, horizon - written - found.shape[1])), constant_values=Vocabulary.PAD)

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """0 for the next token of the plan, -inf for others; planned anew where another text was begun."""
        width, length = self.settings["beams"], windows.shape[1]
        keys = [row.tobytes() for row in first]
        new = {key: place for place, key in enumerate(keys) if key not in self._plans}
        if new:
            some = first[list(new.values())]
            self._plans.update(zip(new, self.plan(some, some, 0, width), strict=True))
        plans = np.stack([self._plans[key] for key in keys])
        steps = np.minimum(written, plans.shape[1] - 1)
        tokens = plans[np.arange(len(plans)), steps]
        for count in np.unique(steps):
            rows = np.flatnonzero(steps == count)
            wrote = windows[rows, length - min(count, length) :]
            strayed = rows[(wrote != plans[rows, max(0, count - length) : count]).any(1)]
            if len(strayed):
                tokens[strayed] = self.plan(first[strayed], windows[strayed], int(count), width)[:, 0]
        return np.where(np.arange(self.world.vocab_size) == tokens[:, None], 0.0, -np.inf)

    def figures(self) -> dict[str, Any]:
        """The last loss."""
        return {"loss": self.loss if np.isfinite(self.loss) else None}

    def save(self, path: str | Path) -> None:
        """Write settings and the averaged weights into the folder `path`."""
        super().save(path)
        write_weights(Path(path), {**self._averaged.module.state_dict(), _STEPS: torch.tensor(self.env_steps)})

    @classmethod
    def load(cls: type[Self], path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Self:
        """The agent that `save` wrote, in the environment `env`; ValueError for one of another size."""
        agent = super().load(path, env, device, trust)
        weights = read_weights(Path(path), str(agent.device))
        agent.env_steps = int(weights.pop(_STEPS))
        own = {name: tuple(value.shape) for name, value in agent.network.state_dict().items()}
        for name, value in weights.items():
            if tuple(value.shape) != own.get(name):
                raise ValueError(f"{name} in {path} has the shape {tuple(value.shape)}, not {own.get(name)} as here")
        agent.network.load_state_dict(weights)
        agent._averaged.module.load_state_dict(weights)
        return agent


def _perturbed(gains: Floats, noise: Floats, rng: np.random.Generator) -> Floats:
    """(B, K, V) rewards with Gumbel noise times (B,) factors; where infinite, noise alone on what is valid."""
    gumbel = rng.gumbel(size=gains.shape)
    blind = np.isinf(noise)[:, None, None]
    return np.where(blind & (gains > _NEVER / 2), gumbel, gains + np.where(blind, 0.0, noise[:, None, None]) * gumbel)


def _largest(values: Floats, count: int) -> Ints:
    """(B, count) places of the largest of (B, N) values, largest first."""
    part = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)
