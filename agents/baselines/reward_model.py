"""A learner of ours that fits a model of the reward and plans with it, since how texts grow is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...envs import EnvConfig, TokenLMVectorEnv
from ...envs.arrays import Floats, Ints
from ...envs.forms import form_in, states_after
from ..acting.choosing import checked_temperature
from ..devices import resolve_device
from ..networks.reward_network import RewardNetwork
from ..networks.weights import read_weights, write_weights
from ..protocol import Callback
from .last_tokens import MAX_ENTRIES, LastTokens, Mask, entries_of_a_text
from .planning import BeamSearch, Planner
from .references import Positioned
from .remembered import Remembered

_AVERAGING = 0.95  # of the weights that plan, over updates
_MEMORY = 0.9  # of the running errors on new texts, from round to round
_LEAST = {
    "num_envs": 1, "updates": 1, "batch_size": 1, "exploration": 0.0, "wander": 0.0, "classes": 1, "hidden_size": 1,
    "rank": 1, "beams": 0,
}  # fmt: skip
_BEAMS = 16
_LEAST_MASS = 1e-12  # that known rewards leave
_STEPS, _READ, _TOKENS, _REWARDS = "env_steps", "remembered.read", "remembered.tokens", "remembered.rewards"
_ERRORS = "errors"
_NEVER = -1e9  # score of a token that is not valid, finite so that gradients are
Self = TypeVar("Self", bound="RewardModel")


class RewardModel(Positioned):
    """Learns the rewards of next tokens, by a network and by heart, and plans with them.

    The dynamics need not be learned: a token is appended, and what a form allows and pays is a rule of the game. A
    network of the reward is fitted to the rewards of all tokens written so far by a Huber loss. They are
    log-probabilities, so it is normalised over the valid tokens, and what one token earns bounds the others. Where
    rewards are paid late, sums are fitted to sums. A reward that was earned after the same prompt and last tokens
    before is known by heart; the network shares out what the known ones leave. Texts are planned by dynamic programming
    over the last token, or by a beam search for the best one.

    While it learns, planned texts have noise that grows from text to text in a batch. The model is optimistic where the
    network explains little: a token never tried may have all the probability that the known ones leave. The larger the
    share of the variance of new rewards that the network predicts, the more it is believed.

    Args:
        env: a registered id, an `EnvConfig`, or an environment made from one; its rewards are those of
            tokens or their sums.
        temperature: τ of the objective.
        prompt: newest tokens of the prompt that the model reads.
        context: last tokens of the text that it reads beside; at most 1 for dynamic programming.
        num_envs: episodes written between two rounds of updates.
        updates: updates of a round.
        batch_size: transitions of an update, about.
        learning_rate: of AdamW at the beginning; it falls to a twentieth with the progress of training.
        weight_decay: of AdamW.
        exploration: share of the training in which some episodes are random: all at its beginning, none at its end.
        wander: largest noise of the others at the beginning, in nats: a factor of Gumbel noise.
        classes: see `RewardNetwork`.
        hidden_size: see `RewardNetwork`.
        rank: see `RewardNetwork`.
        beams: width of the search when it acts, a quarter of it when it learns; 0 for dynamic programming, which
            temperatures above 0 need. None: 0 where that can be done, else 16.
        seed: of all random numbers.
        device: see `resolve_device`.

    Raises ValueError for rewards that are no sums of those of tokens.
    """

    knows_target: ClassVar[bool] = False
    has_temperature = True

    def __init__(
        self,
        env: str | EnvConfig | Any = "TokenLM-v0",
        temperature: float = 0.0,
        prompt: int = 2,
        context: int = 1,
        num_envs: int = 16,
        updates: int = 8,
        batch_size: int = 1024,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.3,
        exploration: float = 0.0,
        wander: float = 1.0,
        classes: int = 8,
        hidden_size: int = 256,
        rank: int = 16,
        beams: int | None = None,
        *,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        settings = {
            "temperature": checked_temperature(temperature), "prompt": prompt, "context": context,
            "num_envs": num_envs, "updates": updates, "batch_size": batch_size, "learning_rate": learning_rate,
            "weight_decay": weight_decay, "exploration": exploration, "wander": wander, "classes": classes,
            "hidden_size": hidden_size, "rank": rank, "beams": beams,
        }  # fmt: skip
        super().__init__(env, seed=seed, device=device, **settings)
        config = self.env_config
        self.form = form_in(self.world, config)
        if beams is None:
            can = context <= 1 and config.no_repeat <= 1 and entries_of_a_text(self.world, config) <= MAX_ENTRIES
            self.settings["beams"] = beams = 0 if can or temperature else _BEAMS
        self._check()
        self.device = resolve_device(device)
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
        self._rewards: Floats = np.zeros((0, config.max_new_tokens))  # of p*; nan after the end of a text
        self._hashes = np.random.default_rng(0).integers(-(2**62), 2**62, self.world.vocab_size)
        self._remembered = Remembered()
        self._planner: Planner = BeamSearch(self, beams) if beams else LastTokens(self)
        self._error = self._spread = 0.0  # running means over new texts, nats²
        self.loss = float("nan")

    def _check(self) -> None:
        config, settings = self.env_config, self.settings
        if config.sequence_reward or config.transition != "free":
            raise ValueError(
                "a model of rewards needs those of tokens, or their sums: no sequence_reward and transition 'free'"
            )
        for name, least in _LEAST.items():
            if settings[name] < least:
                raise ValueError(f"{name} must be at least {least}, not {settings[name]}")
        for name in ("prompt", "context"):
            if not 0 <= settings[name] <= config.context_length:
                raise ValueError(
                    f"{name} must lie between 0 and context_length ({config.context_length}), not {settings[name]}"
                )
        if settings["beams"]:
            if settings["temperature"]:
                raise ValueError(
                    f"a beam search finds the best text, so temperature must be 0 with beams, not "
                    f"{settings['temperature']}; set beams to 0 for dynamic programming"
                )
            return
        for name, value in (("context", settings["context"]), ("no_repeat", config.no_repeat)):
            if value > 1:
                raise ValueError(
                    f"dynamic programming looks at the last token only, so {name} must be at most 1, not {value}; or "
                    "use temperature 0 and beams of at least 1"
                )
        if (entries := entries_of_a_text(self.world, config)) > MAX_ENTRIES:
            raise ValueError(
                f"dynamic programming over {entries:,} entries (token, last token and step) is too much, at most "
                f"{MAX_ENTRIES:,}; use temperature 0 and beams of at least 1"
            )

    @property
    def temperature(self) -> float:
        """τ of the objective."""
        return float(self.settings["temperature"])

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`; where it searches with beams, 0 only."""
        if asked and isinstance(self._planner, BeamSearch):
            raise ValueError(f"this reward model plans for the best text, at temperature 0, not {asked}")
        return self.temperature if asked is None else asked

    @property
    def explained(self) -> float:
        """Share of the variance of rewards that the network predicted in texts that were new to it, 0 to 1."""
        return min(1.0, max(0.0, 1.0 - self._error / self._spread)) if self._spread else 0.0

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Write planned episodes and fit the model to what they earn; see `Agent`."""
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
            self._planner.forget()
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
        first, count, horizon = windows, len(windows), self.env_config.max_new_tokens
        plan = self._planner.episodes(first, noise, 1.0 - self.explained, self._rng)
        texts, rewards = np.zeros((count, horizon), np.int64), np.full((count, horizon), np.nan)
        running = np.ones(count, np.bool_)
        for step in range(horizon):
            # Episodes that have ended began anew, and take any valid action.
            texts[running, step] = plan.actions(windows, step)[running]
            actions = np.where(running, texts[:, step], env.action_masks().argmax(1))
            windows, earned, terminated, truncated, _ = env.step(actions)
            rewards[running, step] = earned[running]
            self.env_steps += int(running.sum())
            running &= ~(terminated | truncated)
            if not running.any():
                break
        self._judge(np.concatenate([first, texts], axis=1), rewards)

    @torch.no_grad()
    def _judge(self, texts: Ints, rewards: Floats) -> None:
        """Compare the network with new texts, then keep them."""
        row, step = np.nonzero(~np.isnan(rewards))
        first, windows, taken = self._states(texts, row, step)
        rewards[row, step] -= self._bonus(windows, step, taken[:, None])[:, 0]
        read, earned, masks = self._read(first, windows), rewards[row, step], self.masks_at(windows, step)
        paid = self._paid_together(torch.from_numpy(earned), row, step)
        modelled = self._modelled(self._averaged, read, masks, step, taken).double().cpu()
        error = float((self._paid_together(modelled, row, step) - paid).square().mean())
        keep = _MEMORY if len(self._texts) else 0.0
        self._error = keep * self._error + (1.0 - keep) * error
        self._spread = keep * self._spread + (1.0 - keep) * float(paid.var(correction=0))
        if self.env_config.reward_every == 1:
            self._remembered.add(self._key(read, masks), taken, earned)
        self._texts = np.concatenate([self._texts, texts])
        self._rewards = np.concatenate([self._rewards, rewards])

    def _paid_together(self, values: Tensor, row: Ints, step: Ints) -> Tensor:
        """(M,) means of values (N,) of tokens over those that are paid together; `row` and `step` (N,) say where."""
        every = self.env_config.reward_every or self.env_config.max_new_tokens
        if every == 1:
            return values
        where = row * self.env_config.max_new_tokens + step // every
        _, group, count = np.unique(where, return_inverse=True, return_counts=True)
        sums = torch.zeros(len(count), dtype=values.dtype, device=values.device)
        sums = sums.index_add(0, torch.from_numpy(group.reshape(-1)).to(values.device), values)
        return sums / torch.from_numpy(count).to(sums)

    def _states(self, texts: Ints, row: Ints, step: Ints) -> tuple[Ints, Ints, Ints]:
        """(N, L) first observations and (N, L) windows of the states of texts (B, L + T), and the tokens taken (N,)."""
        length = self.env_config.context_length
        windows = np.lib.stride_tricks.sliding_window_view(texts, length, axis=1)[row, step]
        return texts[row, :length], windows, texts[row, length + step]

    def prompt_of(self, first: Ints) -> Ints:
        """(B, P) newest tokens of the prompt in first observations (B, L)."""
        return first[:, first.shape[1] - self.settings["prompt"] :]

    def _read(self, first: Ints, windows: Ints) -> Ints:
        """(B, P) tokens that the model reads, of first observations and windows (B, L)."""
        last = windows[:, windows.shape[1] - self.settings["context"] :]
        return np.concatenate([self.prompt_of(first), last], axis=1)

    def form_states(self, windows: Ints, written: Ints) -> Ints:
        """(B, S) states of the form after windows (B, L) and `written` (B,) tokens; S is 0 without a form."""
        if self.form is None:
            return np.zeros((len(windows), 0), np.int64)
        return np.asarray(states_after(self.form, windows, written))

    def _bonus(self, windows: Ints, written: Ints, tokens: Ints) -> Floats:
        """(B, N) nats that the form pays for tokens (B, N) or (1, N) in states."""
        if self.form is None:
            return np.zeros((len(windows), tokens.shape[1]))
        bonus = self.form.bonus(self.form_states(windows, written), tokens)
        return self.env_config.form_bonus * np.asarray(bonus, np.float64)

    def _update(self) -> None:
        """One step of AdamW on the tokens of random episodes, a quarter of them the newest."""
        size = max(1, self.settings["batch_size"] // self.env_config.max_new_tokens)
        newest = min(len(self._texts), self.settings["num_envs"])
        rows = self._rng.integers(0, len(self._texts), size)
        rows[: size // 4] = len(self._texts) - 1 - self._rng.integers(0, newest, size // 4)
        row, step = np.nonzero(~np.isnan(self._rewards[rows]))
        first, windows, tokens = self._states(self._texts[rows], row, step)
        masks = self.masks_at(windows, step)
        modelled = self._modelled(self.network, self._read(first, windows), masks, step, tokens)
        earned = torch.from_numpy(self._rewards[rows[row], step]).float().to(self.device)
        loss = nn.functional.smooth_l1_loss(
            self._paid_together(modelled, row, step), self._paid_together(earned, row, step)
        )
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._averaged.update_parameters(self.network)
        self.loss = float(loss.detach())

    def _modelled(self, network: nn.Module, read: Ints, masks: Mask, written: Ints, tokens: Ints) -> Tensor:
        """(B,) rewards of `tokens` (B,) as a network has them."""
        log_probs = torch.log_softmax(self._scores(network, read, masks, written), -1)
        taken = torch.from_numpy(tokens).to(self.device)
        return self.env_config.log_prob_weight * log_probs.gather(1, taken[:, None])[:, 0]

    def _scores(self, network: nn.Module, read: Ints, masks: Mask, written: Ints) -> Tensor:
        """(B, V) logits of p* after reading (B, P) tokens, very low where `masks` (B, V) is False."""
        scores: Tensor = network(torch.from_numpy(read).to(self.device), torch.from_numpy(written).to(self.device))
        return scores.masked_fill(~torch.from_numpy(masks).to(self.device), _NEVER)

    def _key(self, read: Ints, masks: Mask) -> Ints:
        """(B, P + 1) what rewards are remembered by: p* is conditioned on the valid tokens, so they count."""
        return np.concatenate([read, (masks @ self._hashes)[:, None]], axis=1)

    @torch.no_grad()
    def rewards(self, first: Ints, windows: Ints, written: Ints, optimism: float = 0.0) -> Tensor:
        """Modelled rewards: known ones by heart, and of the others the network's, scaled to what the known ones leave.

        The network's are drawn to equal shares as far as it explains little of new rewards. What a form pays is added.

        Args:
            first: (B, L) first observations of their episodes.
            windows: (B, L) observations.
            written: (B,) tokens written between them.
            optimism: 1 for all the probability that the known ones leave, for each token; 0 for its share; between them
                geometrically.

        Returns: (B, V) nats, -inf for tokens that are not valid.
        """
        rewards = self._priced(self._read(first, windows), self.masks_at(windows, written), written, optimism)
        if self.form is not None:
            bonus = self._bonus(windows, written, np.arange(self.world.vocab_size)[None, :])
            rewards += torch.from_numpy(bonus).to(rewards)
        return rewards

    def rewards_after(self, prompts: Ints, allowed: Mask, last: Ints, step: int, optimism: float) -> Tensor:
        """(B, W, V) modelled log-probabilities after all pairs of prompts and last tokens; see `MarkovModel`."""
        count, shape = len(last), (len(prompts) * len(last), self.world.vocab_size)
        read = np.repeat(prompts, count, axis=0)
        if self.settings["context"]:
            read = np.concatenate([read, np.tile(last, len(prompts))[:, None]], axis=1)
        masks = np.repeat(allowed, count, axis=0)
        if self.env_config.no_repeat:
            masks[np.arange(len(masks)), np.tile(last, len(prompts))] = False
        priced = self._priced(read, masks, np.full(shape[0], step, np.int64), optimism)
        return priced.view(len(prompts), count, shape[1])

    @torch.no_grad()
    def _priced(self, read: Ints, masks: Mask, written: Ints, optimism: float) -> Tensor:
        """(B, V) modelled log-probabilities, -inf where `masks` (B, V) is False, after reading (B, P) tokens."""
        weight = self.env_config.log_prob_weight
        unknown = torch.from_numpy(masks).to(self.device)
        scores = self.explained * self._scores(self._averaged, read, masks, written)
        rows, tokens, earned = (
            torch.from_numpy(found).to(self.device) for found in self._remembered.find(self._key(read, masks))
        )
        unknown[rows, tokens] = False
        result = weight * (1.0 - optimism) * torch.log_softmax(scores.masked_fill_(~unknown, -torch.inf), -1)
        if optimism and self.temperature:
            # A share of one token's worth of soft value at τ, so that optimism does not grow with their number.
            result -= optimism * self.temperature * torch.log(unknown.sum(-1, keepdim=True).clamp(min=1))
        if len(rows):
            mass = torch.zeros(len(scores), dtype=earned.dtype, device=self.device)
            mass = mass.index_add(0, rows, torch.exp(earned / weight))
            result += weight * torch.log((1.0 - mass).clamp(min=_LEAST_MASS)).float()[:, None]
        result.masked_fill_(~unknown, -torch.inf)
        result[rows, tokens] = earned.float()
        return result

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """Planned values; with a beam search 0 for the next token of its text and -inf for others."""
        return self._planner.values(first, windows, written)

    def figures(self) -> dict[str, Any]:
        """The last loss, and the share of the variance of new rewards that the network predicted."""
        return {"loss": self.loss if np.isfinite(self.loss) else None, "explained": self.explained}

    def save(self, path: str | Path) -> None:
        """Write settings, the averaged weights and what is known by heart into the folder `path`."""
        super().save(path)
        read, tokens, rewards = self._remembered.arrays(self.settings["prompt"] + self.settings["context"] + 1)
        tensors = {
            _STEPS: torch.tensor(self.env_steps), _READ: torch.tensor(read),
            _TOKENS: torch.tensor(tokens, dtype=torch.int32), _REWARDS: torch.tensor(rewards),
            _ERRORS: torch.tensor([self._error, self._spread], dtype=torch.float64),
        }  # fmt: skip
        write_weights(Path(path), {**self._averaged.module.state_dict(), **tensors})

    @classmethod
    def load(cls: type[Self], path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Self:
        """The agent that `save` wrote, in the environment `env`; ValueError for one of another size."""
        agent = super().load(path, env, device, trust)
        weights = read_weights(Path(path), str(agent.device))
        agent.env_steps = int(weights.pop(_STEPS))
        agent._error, agent._spread = weights.pop(_ERRORS).tolist()
        read, tokens, rewards = (weights.pop(name).cpu().numpy() for name in (_READ, _TOKENS, _REWARDS))
        own = {name: tuple(value.shape) for name, value in agent.network.state_dict().items()}
        for name, value in weights.items():
            if tuple(value.shape) != own.get(name):
                raise ValueError(f"{name} in {path} has the shape {tuple(value.shape)}, not {own.get(name)} as here")
        agent.network.load_state_dict(weights)
        agent._averaged.module.load_state_dict(weights)
        agent._remembered.add(read, tokens.astype(np.int64), rewards)
        return agent
