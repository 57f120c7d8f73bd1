"""An estimate of the rewards of next tokens: by a network, and by heart where they were earned before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ...envs.arrays import Floats, Ints
from ..networks.reward_network import RewardNetwork
from .remembered import Remembered

Mask = npt.NDArray[np.bool_]
_AVERAGING = 0.95  # of the weights that plan, over updates
_MEMORY = 0.9  # of the running errors on new texts, from round to round
_LEAST_MASS = 1e-12  # that known rewards leave
_READ, _TOKENS, _REWARDS, _ERRORS = "remembered.read", "remembered.tokens", "remembered.rewards", "errors"
_NEVER = -1e9  # score of a token that is not valid, finite so that gradients are


@dataclass(frozen=True)
class Earned:
    """What N tokens earned.

    Attributes:
        read: (N, P) tokens that the estimate reads before them.
        masks: (N, V) valid actions.
        written: (N,) tokens of the text before them.
        tokens: (N,) the tokens.
        rewards: (N,) nats.
        paid: (N,) numbers of the payments that they were part of, 0 to the number of payments.
    """

    read: Ints
    masks: Mask
    written: Ints
    tokens: Ints
    rewards: Floats
    paid: Ints


class RewardEstimate:
    """Rewards are log-probabilities: the network's are normalised over valid tokens, and known ones bound the others.

    Args:
        network: scores of next tokens.
        weight: of the log-probability in a reward.
        temperature: τ of the objective.
        learning_rate: of AdamW at the beginning.
        weight_decay: of AdamW.
        remembers: whether rewards are those of single tokens, so that they can be known by heart.
        device: of the network.
    """

    def __init__(
        self,
        network: RewardNetwork,
        weight: float,
        temperature: float,
        learning_rate: float,
        weight_decay: float,
        remembers: bool,
        device: torch.device,
    ) -> None:
        self.network, self.device = network.to(device), device
        self.averaged = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(_AVERAGING))
        self._optimizer = torch.optim.AdamW(self.network.parameters(), learning_rate, weight_decay=weight_decay)
        self._weight, self._temperature, self._remembers = weight, temperature, remembers
        self._hashes = np.random.default_rng(0).integers(-(2**62), 2**62, network.vocab_size)
        self.remembered = Remembered()
        self._error = self._spread = 0.0  # running means over new texts, nats²

    @property
    def explained(self) -> float:
        """Share of the variance of rewards that the network predicted in texts that were new to it, 0 to 1."""
        return min(1.0, max(0.0, 1.0 - self._error / self._spread)) if self._spread else 0.0

    @torch.no_grad()
    def judge(self, new: Earned) -> None:
        """Compare the network with texts that it has not seen, then know them by heart."""
        paid = _means(torch.from_numpy(new.rewards), new.paid)
        error = float((_means(self._modelled(self.averaged, new).double().cpu(), new.paid) - paid).square().mean())
        keep = _MEMORY if self._spread else 0.0
        self._error = keep * self._error + (1.0 - keep) * error
        self._spread = keep * self._spread + (1.0 - keep) * float(paid.var(correction=0))
        if self._remembers:
            self.remembered.add(self.key(new.read, new.masks), new.tokens, new.rewards)

    def fit(self, batch: Earned, learning_rate: float) -> float:
        """One step of AdamW on the Huber loss of what was paid together; returns the loss."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        rewards = torch.from_numpy(batch.rewards).float().to(self.device)
        modelled = _means(self._modelled(self.network, batch), batch.paid)
        loss = nn.functional.smooth_l1_loss(modelled, _means(rewards, batch.paid))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self.averaged.update_parameters(self.network)
        return float(loss.detach())

    @torch.no_grad()
    def rewards(self, read: Ints, masks: Mask, written: Ints, optimism: float = 0.0) -> Tensor:
        """Known rewards, and of the other tokens the network's, scaled to the probability that the known ones leave.

        The network's are drawn to equal shares as far as it explains little of new rewards.

        Args:
            read: (B, P) tokens that the estimate reads.
            masks: (B, V) valid actions.
            written: (B,) tokens of the text before.
            optimism: 1 for all the probability that the known ones leave, for each token; 0 for its share; between them
                geometrically.

        Returns: (B, V) nats, -inf for tokens that are not valid.
        """
        unknown = torch.from_numpy(masks).to(self.device)
        scores = self.explained * self._scores(self.averaged, read, masks, written)
        found = self.remembered.find(self.key(read, masks))
        rows, tokens, earned = (torch.from_numpy(part).to(self.device) for part in found)
        unknown[rows, tokens] = False
        shares = torch.log_softmax(scores.masked_fill_(~unknown, -torch.inf), -1)
        result = self._weight * (1.0 - optimism) * shares
        if optimism and self._temperature:
            # A share of one token's worth of soft value at τ, so that optimism does not grow with their number.
            result -= optimism * self._temperature * torch.log(unknown.sum(-1, keepdim=True).clamp(min=1))
        if len(rows):
            mass = torch.zeros(len(scores), dtype=earned.dtype, device=self.device)
            mass = mass.index_add(0, rows, torch.exp(earned / self._weight))
            result += self._weight * torch.log((1.0 - mass).clamp(min=_LEAST_MASS)).float()[:, None]
        result.masked_fill_(~unknown, -torch.inf)
        result[rows, tokens] = earned.float()
        return result

    def key(self, read: Ints, masks: Mask) -> Ints:
        """(B, P + 1) what rewards are remembered by: p* is conditioned on the valid tokens, so they count."""
        return np.concatenate([read, (masks @ self._hashes)[:, None]], axis=1)

    def tensors(self) -> dict[str, Tensor]:
        """All that plans: the averaged weights, and what is known by heart."""
        read, tokens, rewards = self.remembered.arrays(self.network.places + 1)
        return {
            **self.averaged.module.state_dict(), _READ: torch.tensor(read), _REWARDS: torch.tensor(rewards),
            _TOKENS: torch.tensor(tokens), _ERRORS: torch.tensor([self._error, self._spread], dtype=torch.float64),
        }  # fmt: skip

    def load_tensors(self, tensors: Mapping[str, Tensor], where: object) -> None:
        """Take what `tensors` gave; ValueError for another size, with the place `where` they were found."""
        weights = dict(tensors)
        self._error, self._spread = weights.pop(_ERRORS).tolist()
        self.remembered.add(*(weights.pop(name).cpu().numpy() for name in (_READ, _TOKENS, _REWARDS)))
        own = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        for name, value in weights.items():
            if tuple(value.shape) != own.get(name):
                raise ValueError(f"{name} in {where} has the shape {tuple(value.shape)}, not {own.get(name)} as here")
        self.network.load_state_dict(weights)
        self.averaged.module.load_state_dict(weights)

    def _modelled(self, network: nn.Module, of: Earned) -> Tensor:
        """(N,) rewards of tokens as a network has them."""
        log_probs = torch.log_softmax(self._scores(network, of.read, of.masks, of.written), -1)
        return self._weight * log_probs.gather(1, torch.from_numpy(of.tokens).to(self.device)[:, None])[:, 0]

    def _scores(self, network: nn.Module, read: Ints, masks: Mask, written: Ints) -> Tensor:
        """(B, V) logits of p*, very low where `masks` (B, V) is False."""
        scores: Tensor = network(torch.from_numpy(read).to(self.device), torch.from_numpy(written).to(self.device))
        return scores.masked_fill(~torch.from_numpy(masks).to(self.device), _NEVER)


def _means(values: Tensor, paid: Ints) -> Tensor:
    """(M,) means of values (N,) over those that were paid together."""
    if len(paid) == int(paid.max()) + 1:  # each alone
        return values
    group = torch.from_numpy(paid).to(values.device)
    sums = torch.zeros(int(paid.max()) + 1, dtype=values.dtype, device=values.device)
    return sums.index_add(0, group, values) / torch.bincount(group)
