"""An estimate of the rewards of next tokens: by a network, and by heart where they were earned before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...envs.arrays import Floats, Ints
from ..networks.reward_fit import RewardFit, log_probs_of
from ..networks.reward_network import RewardNetwork
from .remembered import Remembered

Mask = npt.NDArray[np.bool_]
_SHARES = 41  # of belief in the network that are tried
_LEAST_MASS = 1e-12  # that known rewards leave
_READ, _TOKENS, _REWARDS, _ERRORS = "remembered.read", "remembered.tokens", "remembered.rewards", "errors"


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
        self._fitted = RewardFit(self.network, learning_rate, weight_decay)
        self._weight, self._temperature, self._remembers = weight, temperature, remembers
        self._hashes = _hashes_of_bytes(np.random.default_rng(0).integers(-(2**62), 2**62, network.vocab_size))
        self.remembered = Remembered()

    @property
    def explained(self) -> float:
        """Share of the variance of rewards that the network predicted where they were new to it, 0 to 1."""
        return min(1.0, max(0.0, self._fitted.explained))

    @torch.no_grad()
    def judge(self, new: Earned) -> None:
        """Compare the network with rewards that it has not seen, then know them by heart.

        Those known by heart count only where no others are left: the network was fitted to them, so they say nothing of
        tokens never tried.
        """
        modelled = self._modelled(self._fitted.averaged, new).double().cpu()
        rewards, share = torch.from_numpy(new.rewards), 1.0
        if self._remembers:
            key = self.key(new.read, new.masks)
            unseen = torch.from_numpy(~self.remembered.knows(key, new.tokens))
            if unseen.sum() > 1:
                modelled, rewards, share = modelled[unseen], rewards[unseen], float(unseen.double().mean())
            self.remembered.add(key, new.tokens, new.rewards)
        else:
            modelled, rewards = _means(modelled, new.paid), _means(rewards, new.paid)
        self._fitted.judge(modelled, rewards, share)

    def remember(self, new: Earned) -> None:
        """Know by heart what tokens earned, if they were paid one by one."""
        if self._remembers:
            self.remembered.add(self.key(new.read, new.masks), new.tokens, new.rewards)

    def imitate(self, batch: Earned, progress: float) -> Tensor:
        """One update of maximum likelihood on tokens of documents, as `fit`; returns the loss, nats a token."""
        return self._fitted.descend(-self._modelled(self.network, batch).mean() / self._weight, progress)

    def fit(self, batch: Earned, progress: float) -> Tensor:
        """One update on what was paid together, when `progress` of the training is over; returns the loss."""
        rewards = torch.from_numpy(batch.rewards).float().to(self.device)
        modelled = _means(self._modelled(self.network, batch), batch.paid)
        return self._fitted.step(modelled, _means(rewards, batch.paid), progress)

    @torch.no_grad()
    def calibrate(self, held_out: Earned) -> None:
        """Believe the network as far as makes tokens of documents that it has not seen the likeliest.

        Source: Guo et al. 2017, temperature scaling.
        """
        tokens, valid = (torch.from_numpy(part).to(self.device) for part in (held_out.tokens, held_out.masks))
        scores = self._fitted.averaged(*self._placed(held_out.read, held_out.written))
        shares = torch.linspace(0.0, 1.0, _SHARES)
        likelihoods = [
            torch.log_softmax((share * scores).masked_fill(~valid, -torch.inf), -1).gather(1, tokens[:, None]).mean()
            for share in shares.to(self.device)
        ]
        self._fitted.believe(float(shares[int(torch.stack(likelihoods).argmax())]))

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
        found = self.remembered.find(self.key(read, masks))
        rows, tokens, earned = (torch.from_numpy(part).to(self.device) for part in found)
        if len(rows):
            unknown = unknown.clone()
            unknown[rows, tokens] = False
        others = ~unknown  # known, or not valid
        share = self._weight * (1.0 - optimism)
        # Of every state: the scale of the shares, what optimism takes, what the known ones leave.
        if self.explained:
            result = self._fitted.averaged(*self._placed(read, written)).mul_(self.explained)
            base = -share * torch.logsumexp(result.masked_fill_(others, -torch.inf), -1)
            result.mul_(share)
        else:  # equal shares
            result = torch.zeros(masks.shape, device=self.device)
            base = -share * torch.log(_count(unknown))
        if optimism and self._temperature:
            # A share of one token's worth of soft value at τ, so that optimism does not grow with their number.
            base -= optimism * self._temperature * torch.log(_count(unknown).clamp(min=1))
        if len(rows):
            mass = torch.zeros(len(result), dtype=earned.dtype, device=self.device)
            mass = mass.index_add(0, rows, torch.exp(earned / self._weight))
            base += self._weight * torch.log((1.0 - mass).clamp(min=_LEAST_MASS)).float()
        result.add_(base[:, None]).masked_fill_(others, -torch.inf)
        result[rows, tokens] = earned.float()
        return result

    def key(self, read: Ints, masks: Mask) -> Ints:
        """(B, P + 1) what rewards are remembered by: p* is conditioned on the valid tokens, so they count."""
        packed = np.packbits(masks, axis=1)
        hashes = self._hashes[np.arange(packed.shape[1]), packed].sum(1)
        return np.concatenate([read, hashes[:, None]], axis=1)

    def tensors(self) -> dict[str, Tensor]:
        """All that plans: the averaged weights, and what is known by heart."""
        read, tokens, rewards = self.remembered.arrays(self.network.places + 1)
        return {
            **self._fitted.averaged.state_dict(), _READ: torch.tensor(read), _REWARDS: torch.tensor(rewards),
            _TOKENS: torch.tensor(tokens),
            _ERRORS: torch.tensor([self._fitted.error, self._fitted.spread], dtype=torch.float64),
        }  # fmt: skip

    def load_tensors(self, tensors: Mapping[str, Tensor], where: object) -> None:
        """Take what `tensors` gave; ValueError for another size, with the place `where` they were found."""
        weights = dict(tensors)
        self._fitted.error, self._fitted.spread = weights.pop(_ERRORS).tolist()
        self.remembered.add(*(weights.pop(name).cpu().numpy() for name in (_READ, _TOKENS, _REWARDS)))
        own = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        for name, value in weights.items():
            if tuple(value.shape) != own.get(name):
                raise ValueError(f"{name} in {where} has the shape {tuple(value.shape)}, not {own.get(name)} as here")
        self.network.load_state_dict(weights)
        self._fitted.averaged.load_state_dict(weights)

    def _modelled(self, network: nn.Module, of: Earned) -> Tensor:
        """(N,) rewards of tokens as a network has them."""
        tokens, valid = (torch.from_numpy(part).to(self.device) for part in (of.tokens, of.masks))
        return self._weight * log_probs_of(network, *self._placed(of.read, of.written), valid, tokens)

    def _placed(self, read: Ints, written: Ints) -> tuple[Tensor, Tensor]:
        """What a network reads, on its device."""
        return torch.from_numpy(read).to(self.device), torch.from_numpy(written).to(self.device)


def _hashes_of_bytes(hashes: Ints) -> Ints:
    """(⌈V/8⌉, 256) sums of hashes (V,) over the bits set in each byte of a packed mask."""
    padded = np.zeros(-(-len(hashes) // 8) * 8, np.int64)
    padded[: len(hashes)] = hashes
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.int64)
    return np.ascontiguousarray((bits @ padded.reshape(-1, 8).T).T)


def _count(mask: Tensor) -> Tensor:
    """(B,) float32, how many of a mask (B, V) are True; a sum of booleans is far slower."""
    return mask.view(torch.uint8).float().sum(-1)


def _means(values: Tensor, paid: Ints) -> Tensor:
    """(M,) means of values (N,) over those that were paid together."""
    if len(paid) == int(paid.max()) + 1:  # each alone
        return values
    group = torch.from_numpy(paid).to(values.device)
    sums = torch.zeros(int(paid.max()) + 1, dtype=values.dtype, device=values.device)
    return sums.index_add(0, group, values) / torch.bincount(group)
