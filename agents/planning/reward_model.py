"""A learner of ours that fits a model of the reward and plans with it, since how texts grow is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...envs import EnvConfig, TokenLMVectorEnv
from ...envs.arguments import whole_number
from ...envs.arrays import Floats, Ints
from ...envs.forms import form_in, states_after
from ...envs.text.files import finite
from ..acting.choosing import checked_temperature
from ..baselines.references import Positioned
from ..devices import resolve_device
from ..networks.reward_network import RewardNetwork
from ..networks.weights import read_weights, write_weights
from ..protocol import Callback
from .beam_search import BeamSearch
from .estimate import Earned, Mask, RewardEstimate
from .last_tokens import MAX_ENTRIES, LastTokens, entries_of_a_text
from .paid_texts import PaidTexts, paid_documents
from .planner import Planner

_LEAST = {
    "num_envs": 1, "replay_ratio": 0.0, "batch_size": 1, "exploration": 0.0, "wander": 0.0, "classes": 1,
    "hidden_size": 1, "rank": 1, "beams": 0,
}  # fmt: skip
_BEAMS = 16
_ENTRIES = 1 << 24  # (token, V) masks of documents in memory at once
_STEPS = "env_steps"
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
        replay_ratio: transitions trained for each environment step.
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
        replay_ratio: float = 64.0,
        batch_size: int = 256,
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
            "num_envs": num_envs, "replay_ratio": replay_ratio, "batch_size": batch_size,
            "learning_rate": learning_rate, "weight_decay": weight_decay, "exploration": exploration, "wander": wander,
            "classes": classes, "hidden_size": hidden_size, "rank": rank, "beams": beams,
        }  # fmt: skip
        super().__init__(env, seed=seed, device=device, **settings)
        config = self.env_config
        self.form = form_in(self.world, config)
        if beams is None:
            self.settings["beams"] = beams = _BEAMS if self._why_no_values() and not temperature else 0
        self._check()
        self._check_planner()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RewardNetwork(
                self.world.vocab_size, prompt + context, config.max_new_tokens, classes, hidden_size, rank
            )
        self.estimate = RewardEstimate(
            network, config.log_prob_weight, temperature, learning_rate, weight_decay, config.reward_every == 1,
            resolve_device(device),
        )  # fmt: skip
        self._environment: TokenLMVectorEnv | None = None
        self._paid = PaidTexts(config)  # without what a form pays
        self._newest = self._paid.payments
        self._owed = 0.0  # transitions to learn from
        self._planner: Planner = BeamSearch(self, beams) if beams else LastTokens(self)
        self._loss: Tensor | None = None

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

    def _check_planner(self) -> None:
        if not self.settings["beams"]:
            if (reason := self._why_no_values()) is not None:
                raise ValueError(f"{reason}; use temperature 0 and beams of at least 1")
        elif tau := self.settings["temperature"]:
            raise ValueError(
                f"a beam search finds the best text, so temperature must be 0 with beams, not {tau}; set beams to 0 "
                "for dynamic programming"
            )

    def _why_no_values(self) -> str | None:
        """Why dynamic programming cannot be done here; None where it can."""
        for name, value in (("context", self.settings["context"]), ("no_repeat", self.env_config.no_repeat)):
            if value > 1:
                return f"dynamic programming looks at the last token only, so {name} must be at most 1, not {value}"
        if (entries := entries_of_a_text(self.world, self.env_config)) > MAX_ENTRIES:
            return (
                f"dynamic programming over {entries:,} entries (token, last token and step) is too much, at most "
                f"{MAX_ENTRIES:,}"
            )
        return None

    @property
    def temperature(self) -> float:
        """τ of the objective."""
        return float(self.settings["temperature"])

    def policy_temperature(self, asked: float | None) -> float:
        """See `Writer`; where it searches with beams, 0 only."""
        if asked and self.settings["beams"]:
            raise ValueError(f"this reward model plans for the best text, at temperature 0, not {asked}")
        return self.temperature if asked is None else asked

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """Write planned episodes and fit the model to what they earn; see `Agent`."""
        count, first = self.settings["num_envs"], self.env_steps
        if self._environment is None:
            self._environment = TokenLMVectorEnv(count, self.env_config, autoreset_mode="SameStep")
            self._environment.reset(seed=self.seed)
        while self.env_steps < first + total_steps:
            done = max(self.progress, (self.env_steps - first) / total_steps)
            before = self.env_steps
            self._write(self._environment, self._noise(done))
            self._owed += self.settings["replay_ratio"] * (self.env_steps - before)
            while self._owed > 0.0:
                batch = self._batch()
                self._loss = self.estimate.fit(batch, done)
                self._owed -= len(batch.tokens)
            self._planner.forget()
            if callback is not None and callback(self) is False:
                break
        return self

    def pretrain(self: Self, transitions: int) -> Self:
        """Begin with documents of the corpus, which do not count as environment steps.

        They are texts of p*, or what p* was fitted to, so the network is fitted to them by maximum likelihood, all but
        a tenth, which shows how far it is to be believed. Then it is known what they are paid, as if they had been
        written.

        Args:
            transitions: tokens to train on; shorter documents are read again.

        Raises ValueError where fewer than two documents can be written as episodes.
        """
        most = max(self._together, _ENTRIES // self.world.vocab_size // self.env_config.max_new_tokens)  # payments
        whole_number("pretrain", transitions, 1)
        texts, rewards = paid_documents(self.world, self.env_config, self._rng, transitions)
        if len(texts) < 2:
            raise ValueError(
                f"pretrain needs at least 2 documents that can be written as episodes, but there are {len(texts)}; use "
                "a larger corpus, or leave pretrain out"
            )
        held_out = max(1, len(texts) // 10)
        new = self._add_documents(texts[:held_out], rewards[:held_out])[:most]
        self._newest = self._add_documents(texts[held_out:], rewards[held_out:])
        done = 0
        while done < transitions:
            batch = self._earned(self._newest[self._rng.integers(0, len(self._newest), self._together)])
            self._loss = self.estimate.imitate(batch, done / transitions)
            done += len(batch.tokens)
        self.estimate.calibrate(self._earned(new))
        for first in range(0, len(self._paid.payments), most):
            self.estimate.remember(self._earned(self._paid.payments[first : first + most]))
        self._planner.forget()
        return self

    def _add_documents(self, texts: Ints, rewards: Floats) -> Ints:
        """Add documents to what was paid, without what a form paid for them; returns their payments."""
        payments = self._paid.add(texts, rewards)
        if self.form is not None:
            row, step, _ = self._paid.tokens_of(payments)
            _, windows, taken = self._paid.states(row, step)
            self._paid.rewards[row, step] -= self._bonus(windows, step, taken[:, None])[:, 0]
        return payments

    def _noise(self, done: float) -> Floats:
        """(num_envs,) factors of the noise on the rewards when `done` of the training is over; infinite for random."""
        count = self.settings["num_envs"]
        explored = done / self.settings["exploration"] if self.settings["exploration"] else 1.0
        planned = min(count, int(count * explored)) if len(self._paid.texts) else 0
        noise = np.linspace(0.0, self.settings["wander"] * (1.0 - done), count)
        return np.where(np.arange(count) < planned, noise, np.inf)

    def _write(self, env: TokenLMVectorEnv, noise: Floats) -> None:
        """One episode in every environment, planned with `noise` (num_envs,), kept with its rewards."""
        windows, _ = env.reset()
        first, count, horizon = windows, len(windows), self.env_config.max_new_tokens
        plan = self._planner.episodes(first, noise, 1.0 - self.estimate.explained, self._rng)
        texts, rewards = np.zeros((count, horizon), np.int64), np.full((count, horizon), np.nan)
        running = np.ones(count, np.bool_)
        for step in range(horizon):
            # Episodes that have ended began anew, and take any valid action.
            texts[running, step] = plan.actions(windows, step)[running]
            actions = np.where(running, texts[:, step], env.action_masks().argmax(1))
            paid = self._bonus(windows, np.full(count, step), actions[:, None])[:, 0]
            windows, earned, terminated, truncated, _ = env.step(actions)
            rewards[running, step] = (earned - paid)[running]
            self.env_steps += int(running.sum())
            running &= ~(terminated | truncated)
            if not running.any():
                break
        self._newest = self._paid.add(np.concatenate([first, texts], axis=1), rewards)
        self.estimate.judge(self._earned(self._newest))

    @property
    def _together(self) -> int:
        """Payments of an update."""
        config = self.env_config
        return max(1, int(self.settings["batch_size"]) // (config.reward_every or config.max_new_tokens))

    def _batch(self) -> Earned:
        """Random payments, a quarter of them of the newest texts."""
        size, payments = self._together, self._paid.payments
        chosen = payments[self._rng.integers(0, len(payments), size)]
        chosen[: size // 4] = self._newest[self._rng.integers(0, len(self._newest), size // 4)]
        return self._earned(chosen)

    def _earned(self, payments: Ints) -> Earned:
        """What the tokens of (M, 2) payments earned; see `PaidTexts`."""
        row, step, paid = self._paid.tokens_of(payments)
        first, windows, taken = self._paid.states(row, step)
        masks = self.masks_at(windows, step)
        return Earned(self._read(first, windows), masks, step, taken, self._paid.rewards[row, step], paid)

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

    def rewards(self, first: Ints, windows: Ints, written: Ints, optimism: float = 0.0) -> Tensor:
        """(B, V) rewards in states, nats, with what a form pays; see `Model` and `RewardEstimate.rewards`."""
        masks = self.masks_at(windows, written)
        rewards = self.estimate.rewards(self._read(first, windows), masks, written, optimism)
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
        rewards = self.estimate.rewards(read, masks, np.full(shape[0], step, np.int64), optimism)
        return rewards.view(len(prompts), count, shape[1])

    def state_values(self, first: Ints, windows: Ints, written: Ints) -> Floats:
        """Planned values; with a beam search 0 for the next token of its text and -inf for others."""
        return self._planner.values(first, windows, written)

    def figures(self) -> dict[str, Any]:
        """The last loss, and the share of the variance of new rewards that the network predicted."""
        return {"loss": None if self._loss is None else finite(float(self._loss)), "explained": self.estimate.explained}

    def save(self, path: str | Path) -> None:
        """Write settings, the averaged weights and what is known by heart into the folder `path`."""
        super().save(path)
        write_weights(Path(path), {**self.estimate.tensors(), _STEPS: torch.tensor(self.env_steps)})

    @classmethod
    def load(cls: type[Self], path: str | Path, env: Any, device: str = "auto", trust: bool = False) -> Self:
        """The agent that `save` wrote, in the environment `env`; ValueError for one of another size."""
        agent = super().load(path, env, device, trust)
        tensors = read_weights(Path(path), str(agent.estimate.device))
        agent.env_steps = int(tensors.pop(_STEPS))
        agent.estimate.load_tensors(tensors, path)
        return agent
