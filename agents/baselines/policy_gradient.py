"""REINFORCE and GRPO, policy gradients as used for language models, with our networks and environments."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...envs import EnvConfig, Episodes, Vocabulary
from ..acting.choosing import choose_actions
from ..acting.valid_actions import ValidActions
from ..networks import QNetwork, make_q_network
from ..networks.prefixes import right_padded
from ..replay.demonstrations import Demonstrations
from ..replay.episodes import EpisodeBatch, EpisodeReplay
from .adapter import Adapter, Callback, Self


class _PolicyGradient(Adapter):
    """Alternates between one whole episode in every environment and updates on these episodes.

    Settings, in addition to those of a subclass:
        learning_rate: of Adam.
        gamma: discount.
        entropy_bonus: weight of the policy's entropy, nats.
        max_grad_norm: gradients are clipped to this norm.
        epochs: updates per batch of episodes.
    """

    masked = True
    default_num_envs = 64
    defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 3e-3,
        "gamma": 1.0,
        "entropy_bonus": 0.0,
        "max_grad_norm": 1.0,
        "epochs": 1,
    }
    group_size = 1

    def _make(self, env: EnvConfig) -> None:
        self._refuse_unknown(self.defaults)
        size = self.world.vocab_size
        self.network = make_q_network(self.network_config, env, size).to(self.device)
        self.valid_actions = ValidActions.of(env, size, self.device, self.tokenizer)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings["learning_rate"])
        self.env_steps = 0
        self._round = 0
        self._episodes = Episodes(self.world, env, self.num_envs, like=torch.zeros(0))

    def learn(self: Self, total_steps: int, callback: Callback | None = None) -> Self:
        """See `Adapter`."""
        self._learn(total_steps, callback)  # type: ignore[attr-defined]
        return self

    def _learn(self, total_steps: int, callback: Callback | None) -> None:
        first = self.env_steps
        while self.env_steps - first < total_steps:
            batch = self._write(callback)
            if batch is None:
                return
            self.network.train()
            targets = self._targets(batch)
            for _ in range(self.settings["epochs"]):
                self.optimizer.zero_grad()
                self._loss(batch, targets).backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), self.settings["max_grad_norm"])
                self.optimizer.step()

    @torch.no_grad()
    def _write(self, callback: Callback | None) -> EpisodeBatch | None:
        """One episode in every environment; None if the callback stops training."""
        running, network, count = self._episodes, self.network, self.num_envs
        network.eval()
        # Equal seeds give equal prompts, so the episodes of a group differ only in their actions.
        base = self.seed + self._round * count
        running.seed_all([base + row // self.group_size for row in range(count)])
        self._round += 1
        rows = torch.arange(count)
        running.start(rows)
        prompts, lengths = right_padded(running.observe())
        horizon = self.env_config.max_new_tokens
        hidden, state = network.encode(prompts.to(self.device), lengths.to(self.device))
        active = torch.ones(count, dtype=torch.bool)
        terminated = torch.zeros(count, dtype=torch.bool)
        tokens = torch.nn.functional.pad(prompts, (0, horizon), value=Vocabulary.PAD)
        actions = torch.zeros((count, horizon), dtype=torch.int64)
        rewards, log_probs = torch.zeros((count, horizon)), torch.zeros((count, horizon))
        for step in range(horizon):
            values = network.policy_values(hidden, running.action_masks().to(self.device))
            chosen, log_pi = choose_actions(values, 1.0, generator=self.generator)
            chosen = chosen.cpu()
            reward, ended, cut, _ = running.step(chosen, active)
            self.env_steps += int(active.sum())
            appended = running.observe()[:, -1]
            tokens[rows, lengths + step] = torch.where(active, appended, Vocabulary.PAD)
            actions[:, step], rewards[:, step], log_probs[:, step] = chosen, reward.float(), log_pi.cpu().float()
            terminated |= ended
            active = active & ~(ended | cut)
            if callback is not None and callback(self) is False:
                return None
            if not active.any():
                break
            hidden, state = network.step(appended.to(self.device), state)
        replay = EpisodeReplay(
            count, prompts.shape[1], horizon, self.world.vocab_size, keeps_actions=True, keeps_log_probs=True,
            device=self.device,
        )  # fmt: skip
        replay.add(tokens, actions, rewards, lengths, running.written, terminated, log_probs=log_probs)
        return replay.rows(rows)

    def _log_policy(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L) log π of the actions and (B, L) entropies of the policy, in nats, and (B, L, D) hidden vectors."""
        hidden = self.network(batch.tokens)[:, :-1]
        read = hidden[batch.is_action]
        row, column = batch.is_action.nonzero(as_tuple=True)
        written = batch.written[batch.is_action]
        allowed = self.valid_actions.allowed_at(batch.tokens, row * batch.tokens.shape[1] + column, written)
        values = self.network.q_values(read, self.valid_actions.mask(written, allowed))
        every = torch.log_softmax(values, -1)
        taken = every.gather(1, batch.actions[batch.is_action][:, None]).squeeze(1)
        entropy = -(every.exp() * every.masked_fill(every == -torch.inf, 0.0)).sum(-1)
        empty = torch.zeros_like(batch.rewards)
        return empty.masked_scatter(batch.is_action, taken), empty.masked_scatter(batch.is_action, entropy), hidden

    def _targets(self, batch: EpisodeBatch) -> Tensor:
        """(B, L) advantages or returns; computed once per batch of episodes."""
        raise NotImplementedError

    def _loss(self, batch: EpisodeBatch, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def _pretrain(self, corpus: Demonstrations) -> None:
        self.network.train()
        self._clone(corpus, self.optimizer)

    def _module(self) -> nn.Module:
        return self.network

    def network_policy(self) -> tuple[QNetwork, float]:
        """See `BaseAgent`."""
        return self.network, 1.0

    def _scores(self, windows: Tensor) -> Tensor:
        hidden, _ = self.network.encode(*right_padded(windows))
        return self.network.q_values(hidden)

    def _restore(self, saved: dict[str, Any]) -> None:
        self.env_steps = saved["env_steps"]


class REINFORCE(_PolicyGradient):
    """REINFORCE (Williams 1992) with a learned baseline b(s): ∇J = E[Σ_t (G_t - b(s_t)) ∇ log π(a_t | s_t)].

    Settings, in addition to those of all policy gradients here:
        value_weight: weight of the squared error of the baseline.
        normalize_advantage: divide G - b by its standard deviation over the batch.
    """

    defaults: ClassVar[dict[str, Any]] = {
        **_PolicyGradient.defaults,
        "value_weight": 0.05,
        "normalize_advantage": True,
    }

    def _targets(self, batch: EpisodeBatch) -> Tensor:
        return rewards_to_go(batch.rewards, self.settings["gamma"])

    def _loss(self, batch: EpisodeBatch, targets: Tensor) -> Tensor:
        log_pi, entropy, hidden = self._log_policy(batch)
        at, settings = batch.is_action, self.settings
        baseline = self.network.state_values(hidden)
        advantage = (targets - baseline.detach())[at]
        if settings["normalize_advantage"]:
            advantage = advantage / (advantage.std() + 1e-8)
        error = (baseline - targets)[at].square().mean()
        gain = (advantage * log_pi[at]).mean() + settings["entropy_bonus"] * entropy[at].mean()
        return settings["value_weight"] * error - gain


class GRPO(_PolicyGradient):
    """Group-relative policy optimisation: the baseline is the mean return of a group of episodes with equal prompts.

    The advantage A_i = (R_i - mean R)/std R over the group is the same for all tokens of a text; the loss is PPO's
    clipped surrogate. Source: Shao et al. 2024, "DeepSeekMath", eq. 3, without the KL term, because there is no
    reference policy.

    Settings, in addition to those of all policy gradients here:
        group_size: episodes per prompt; must divide `num_envs`.
        clip: the ratio of new to old policy is clipped to 1 ± clip.
    """

    defaults: ClassVar[dict[str, Any]] = {**_PolicyGradient.defaults, "epochs": 2, "group_size": 16, "clip": 0.2}

    def _make(self, env: EnvConfig) -> None:
        self.group_size = int(self.settings["group_size"])
        if self.group_size < 2 or self.num_envs % self.group_size:
            raise ValueError(
                f"group_size must be at least 2 and divide num_envs ({self.num_envs}), not {self.group_size}"
            )
        super()._make(env)

    def _targets(self, batch: EpisodeBatch) -> Tensor:
        returns = rewards_to_go(batch.rewards, self.settings["gamma"])
        at_start = (batch.is_action & (batch.written == 0)).to(returns.dtype)
        groups = (returns * at_start).sum(1).view(-1, self.group_size)
        advantage = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-8)
        return advantage.view(-1, 1).expand_as(returns)

    def _loss(self, batch: EpisodeBatch, targets: Tensor) -> Tensor:
        log_pi, entropy, _ = self._log_policy(batch)
        at, before = batch.is_action, batch.log_probs
        if before is None:
            raise ValueError("GRPO needs the log-probabilities of the actions under the behaviour policy")
        ratio = (log_pi - before).exp()
        clip = self.settings["clip"]
        surrogate = torch.minimum(ratio * targets, ratio.clamp(1 - clip, 1 + clip) * targets)
        of_text = (surrogate * at).sum(1) / at.sum(1)  # all texts have the same weight, whatever their length
        return -of_text.mean() - self.settings["entropy_bonus"] * entropy[at].mean()


def rewards_to_go(rewards: Tensor, gamma: float) -> Tensor:
    """G_t = Σ_{k >= t} γ^{k - t} r_k for rewards (B, L), which are 0 where there is no action."""
    result = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        running = rewards[:, t] + gamma * running
        result[:, t] = running
    return result
