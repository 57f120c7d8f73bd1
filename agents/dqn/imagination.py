"""Imagined texts: written without the environment, and paid by a learned model of the rewards."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from ...envs import EnvConfig, TokenLMDeviceEnv, World
from ...envs.targets import ConditionedTarget
from ..acting.valid_actions import ValidActions
from ..networks import QNetwork
from ..networks.reward_fit import RewardFit, log_probs_of
from ..networks.reward_network import RewardNetwork
from ..replay.episodes import EpisodeBatch, EpisodeReplay
from ..replay.sampling import BatchSampler
from .collector import Collector
from .config import RewardConfig

_COUNTS = ("owed", "due", "seen")


class Imagination:
    """A learned model of the rewards, and the texts that it pays.

    The network writes texts by its own policy after prompts of the corpus, as in the environment but without it. They
    are paid when they are drawn, so by the newest model: log p̂ of every token, even where the environment pays late.

    Args:
        config: settings of the model.
        env: the environment's arguments. ValueError for rewards that are no sums of log-probabilities of tokens.
        world: tokenizer, documents and valid actions.
        network: writes, and learns from what is written.
        real: the agent's own episodes in the environment, which the model learns from.
        valid_actions: of the environment.
        generator: source of randomness for actions.
        num_envs: episodes written side by side in the environment.
        batch_size: imagined episodes in a batch of the learner.
        seed: of the model's weights, its batches, and the prompts.
    """

    def __init__(
        self,
        config: RewardConfig,
        env: EnvConfig,
        world: World,
        network: QNetwork,
        real: EpisodeReplay,
        valid_actions: ValidActions,
        generator: torch.Generator,
        num_envs: int,
        batch_size: int,
        seed: int,
    ) -> None:
        if env.sequence_reward or env.form or env.transition != "free" or valid_actions.phrases is not None:
            raise ValueError(
                "imagined texts are paid by log-probabilities of tokens; set imagine to 0, or leave out "
                "sequence_reward, form, phrases and the transition 'teacher'"
            )
        self.config, self.env, self.real, self.valid_actions = config, env, real, valid_actions
        self.device = network.head.weight.device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = RewardNetwork(
                world.vocab_size, config.prompt + config.context, env.max_new_tokens, config.classes, config.width,
                config.rank,
            ).to(self.device)  # fmt: skip
        self.fitted = RewardFit(model, config.rate, config.decay)
        self.generator = torch.Generator().manual_seed(seed)
        self.num_envs, imagined = num_envs, config.imagine * num_envs
        capacity = max(imagined, config.capacity // env.max_new_tokens)
        self.replay = EpisodeReplay(
            capacity, real.prompt_size, env.max_new_tokens, world.vocab_size, device=real.device
        )
        self.sampler = BatchSampler(self.replay, None, batch_size, 0.0, self.generator)
        place = "cpu" if self.device.type == "mps" else self.device
        unpaid = TokenLMDeviceEnv(imagined, env, device=place, world=unpaid_world(world))
        self.collector = Collector(unpaid, network, self.replay, valid_actions, generator, seed)
        self._seen = real.added
        self._owed = 0.0  # transitions to learn from
        self._due = 0.0  # batches of imagined texts

    def act(self, temperature: float, epsilon: float, progress: float) -> None:
        """Learn from one more step in every environment, and write one token in every imagined text."""
        self._owed += self.config.ratio * self.num_envs
        if not len(self.real):
            return
        if self.real.added > self._seen:
            self._judge()
        while self._owed > 0:
            self._owed -= self.fit(progress)
        if self.is_trusted:
            self.collector.step(temperature, epsilon)

    @property
    def is_trusted(self) -> bool:
        """Whether imagined texts are learned from: a policy finds whatever a poor model overrates."""
        return self.fitted.explained >= self.config.trust

    @torch.no_grad()
    def _judge(self) -> None:
        """Compare predictions with the newest episodes, before they are learned from."""
        count = min(self.real.added - self._seen, self.config.batch_size, len(self.real))
        batch = self.real.rows((self.real.added - 1 - torch.arange(count)) % self.real.capacity)
        self.fitted.judge(*self._sums(self._log_probs(self.fitted.averaged, batch), batch))
        self._seen = self.real.added

    def fit(self, progress: float) -> int:
        """One step of AdamW on random episodes, a quarter of them among the newest; the transitions learned from."""
        size = self.config.batch_size
        rows = torch.randint(len(self.real), (size,), generator=self.generator)
        newest = torch.randint(min(size, len(self.real)), (size // 4,), generator=self.generator)
        rows[: size // 4] = (self.real.added - 1 - newest) % self.real.capacity
        batch = self.real.rows(rows)
        self.fitted.step(*self._sums(self._log_probs(self.fitted.model, batch), batch), progress)
        return int(batch.num_actions or 1)

    def sample(self) -> EpisodeBatch | None:
        """A batch of imagined episodes where it is their turn, paid by the model; None where it is not."""
        share = self.config.imagine / (1.0 + self.config.imagine)
        if not len(self.replay) or not self.is_trusted:
            return None
        self._due += share
        if self._due < 1.0:
            return None
        self._due -= 1.0
        batch = self.sampler.sample()
        return batch if batch is None else self.pay(batch)

    def paid(self, batch: EpisodeBatch) -> EpisodeBatch:
        """A batch of the environment's episodes, paid by the model where the environment pays late."""
        return batch if self.env.reward_every == 1 else self.pay(batch)

    @torch.no_grad()
    def pay(self, batch: EpisodeBatch) -> EpisodeBatch:
        """`batch` with the model's rewards."""
        rewards = torch.zeros_like(batch.rewards)
        rewards[batch.is_action] = self._log_probs(self.fitted.averaged, batch)
        batch.rewards = rewards
        return batch

    def _log_probs(self, network: nn.Module, batch: EpisodeBatch) -> Tensor:
        """(N,) modelled rewards of a batch's actions, nats."""
        index = batch.action_index
        width = batch.tokens.shape[1]
        row, column = index // (width - 1), index % (width - 1)
        written = batch.written.flatten()[index]
        tokens = batch.tokens
        prompt, context = self.config.prompt, self.config.context
        first = _before(tokens, row, column - written, prompt)
        last = _before(tokens, row, column, context)
        places = row * width + column
        valid = self.valid_actions.mask(written, self.valid_actions.allowed_at(tokens, places, written))
        taken = batch.actions.flatten()[index]
        return self.env.log_prob_weight * log_probs_of(network, torch.cat([first, last], 1), written, valid, taken)

    def _sums(self, predicted: Tensor, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """(M,) sums of predictions and rewards over the tokens that are paid together."""
        earned = batch.rewards[batch.is_action]
        if self.env.reward_every == 1:
            return predicted, earned
        index = batch.action_index
        row, written = index // batch.is_action.shape[1], batch.written.flatten()[index]
        every = self.env.reward_every or self.env.max_new_tokens
        groups = -(-self.env.max_new_tokens // every)
        group = row * groups + written // every
        paid = torch.zeros(len(batch.is_action) * groups, device=predicted.device)
        there = torch.zeros_like(paid).index_add(0, group, torch.ones_like(predicted)) > 0
        return paid.index_add(0, group, predicted)[there], paid.index_add(0, group, earned)[there]

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes."""
        return {
            **self.fitted.state_dict(),
            "sampler": self.sampler.state_dict(),
            "replay": self.replay.state_dict(),
            "collector": self.collector.state_dict(),
            **{name: getattr(self, f"_{name}") for name in _COUNTS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self.fitted.load_state_dict(state)
        for name in ("sampler", "replay", "collector"):
            getattr(self, name).load_state_dict(state[name])
        for name in _COUNTS:
            setattr(self, f"_{name}", state[name])


def _before(tokens: Tensor, row: Tensor, column: Tensor, count: int) -> Tensor:
    """(N, count) tokens[row, column - count + 1 … column], `<pad>` before the first."""
    places = column[:, None] + torch.arange(1 - count, 1, device=tokens.device)
    return torch.where(places >= 0, tokens[row[:, None], places.clamp(min=0)], 0)


class _Uniform:
    """Every token is as likely as any other: what is imagined must not ask for p*."""

    context_size: int | None = 0

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def log_prob(self, prefixes: Any, tokens: Any, expected: Any = None) -> Any:
        """(B,) -log V."""
        return torch.full((len(prefixes),), -math.log(self.vocab_size), dtype=torch.float64, device=prefixes.device)

    def log_probs(self, prefixes: Any, expected: Any = None) -> Any:
        """(B, V) the same of every token."""
        return self.log_prob(prefixes, None)[:, None].expand(-1, self.vocab_size)

    def mass(self, tokens: Any, expected: Any = None) -> Any:
        """The probability of the `tokens` (V,) bool together."""
        return tokens.double().mean()


def unpaid_world(world: World) -> World:
    """The world's prompts and dynamics, all valid tokens as likely as any other."""
    unpaid = copy.copy(world)
    unpaid.target = ConditionedTarget(_Uniform(world.vocab_size), world.valid)
    return unpaid
