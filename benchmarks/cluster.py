"""A rate model of many devices that act, keep texts and learn: who waits for whom, and how old the weights are.

Every part has a rate; the slowest one sets the pace (`apart`), or the parts of one device take turns (`together`).
Nothing is random, queues are long enough, devices are equal, and all messages travel at the bandwidth of one link. So
the model is an upper bound of the pace. It says where a cluster stops paying, not how fast one will be.

    together   every device acts, keeps a part of the replay and learns; gradients are averaged (torchrun)
    apart      actors write texts with a copy of the weights, learners keep the replay and learn (Ray)
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

SIZES = (1, 8, 64, 1_024)
ENOUGH = 0.5  # share of a lone device's pace below which one more device does not pay
_MOST = 1 << 20  # devices up to which the knee is looked for


@dataclass(frozen=True)
class Rates:
    """What one device does in a second, and the link between two.

    Args:
        acting: tokens that it writes, the environment left out.
        environment: tokens that the environment rewards there.
        learning: transitions that it trains.
        bandwidth: of its link, bytes/s in each direction.
        latency: seconds of a message.
    """

    acting: float
    environment: float
    learning: float
    bandwidth: float
    latency: float

    @property
    def writing(self) -> float:
        """Tokens/s of acting and environment in turns."""
        return 1.0 / (1.0 / self.acting + 1.0 / self.environment)


@dataclass(frozen=True)
class Work:
    """What is trained, and how.

    Args:
        weight_bytes: of the weights that are sent to actors.
        gradient_bytes: of the gradients that are averaged.
        passes: bytes that a ring sends for each byte of them: 2 for averaging (reduce-scatter, all-gather), 3 for
            sharded weights (FSDP: all-gather twice, reduce-scatter).
        batch: transitions of an update on one device.
        replay_ratio: transitions trained for each token written.
        length: T, tokens of a text.
        token_bytes: of a stored token with its reward.
        texts: written side by side by one actor.
        refresh: updates between two copies of the weights.
        replay: tokens that the replay of one learner holds.
        total_batch: most transitions of an update over all devices that are still worth their time; None for any.
        fewest: devices whose memory the learner needs.
    """

    weight_bytes: float
    gradient_bytes: float
    batch: float
    passes: int = 2
    replay_ratio: float = 8.0
    length: int = 32
    token_bytes: float = 8.0
    texts: int = 64
    refresh: int = 1
    replay: float = 1e6
    total_batch: float | None = None
    fewest: int = 1

    def batch_of(self, learners: int) -> float:
        """Transitions of one learner's update."""
        return self.batch if self.total_batch is None else min(self.batch, self.total_batch / learners)


def ring_seconds(size: float, devices: int, passes: int, rates: Rates) -> float:
    """Time to average `size` bytes over devices in a ring (Patarasuk & Yuan 2009), seconds.

    Each pass sends (n - 1)/n of the bytes in n - 1 messages.
    """
    steps = passes * (devices - 1)
    return steps * (size / devices / rates.bandwidth + rates.latency)


def broadcast_seconds(size: float, receivers: int, rates: Rates) -> float:
    """Time to send the same bytes to all receivers in a pipelined tree, seconds."""
    return size / rates.bandwidth + math.ceil(math.log2(receivers + 1)) * rates.latency


def update_seconds(learners: int, work: Work, rates: Rates) -> tuple[float, float]:
    """Seconds of an update that are spent computing, and those spent averaging."""
    computing = work.batch_of(learners) / rates.learning
    return computing, ring_seconds(work.gradient_bytes, learners, work.passes, rates)


def together(devices: int, work: Work, rates: Rates) -> dict[str, Any]:
    """The pace where every device does everything in turns.

    Returns: tokens/s of all, the part that takes most of a device's time, and that part's share.
    """
    computing, averaging = update_seconds(devices, work, rates)
    updates = work.replay_ratio / work.batch_of(devices)  # of one device, for each token that it writes
    parts = {
        "acting": 1.0 / rates.acting,
        "environment": 1.0 / rates.environment,
        "learning": computing * updates,
        "network": averaging * updates,
    }
    seconds = sum(parts.values())
    limit = max(parts, key=lambda name: parts[name])
    return {"tokens/s": devices / seconds, "limit": limit, "share": parts[limit] / seconds}


def apart(devices: int, learners: int, work: Work, rates: Rates) -> dict[str, Any]:
    """The pace of actors and learners on devices of their own.

    Returns: tokens/s, the slowest part, and of the texts that arrive:
        lag: mean age of the weights that chose a token when its text reaches the replay, in updates; refreshed weights
            are used from the next token on.
        replay age: mean time that a token has been in the replay when it is trained, in updates.
    """
    actors = devices - learners
    computing, averaging = update_seconds(learners, work, rates)
    batch = learners * work.batch_of(learners)
    sending = broadcast_seconds(work.weight_bytes, actors, rates)
    parts = {
        "acting": actors * rates.writing,
        "learning" if computing >= averaging else "network": batch / (computing + averaging) / work.replay_ratio,
        "weights": batch * work.refresh / sending / work.replay_ratio,
        "texts": learners * rates.bandwidth / work.token_bytes,
    }
    limit = min(parts, key=lambda name: parts[name])
    pace = parts[limit]
    update = batch / (pace * work.replay_ratio)  # seconds from one to the next
    token = work.texts * actors / min(pace, parts["acting"])  # seconds between two tokens of a text
    waiting = token * (work.length - 1) / 2  # from a token, on average, to the end of its text
    return {
        "tokens/s": pace,
        "limit": limit,
        "lag": (waiting + sending) / update + work.refresh / 2,
        "replay age": work.replay * learners / 2 / pace / update,
    }


def best_split(devices: int, work: Work, rates: Rates) -> int:
    """The number of learners, of so many devices, with the highest pace; the fewest of equal ones, 0 for none."""

    def pace(learners: int) -> float:
        return float(apart(devices, learners, work, rates)["tokens/s"])

    return min(range(work.fewest, devices), key=lambda learners: (-pace(learners), learners), default=0)


def knee(work: Work, rates: Rates) -> int | None:
    """The most devices that together still reach half the pace of as many lone ones.

    Returns: their number; None where it lies beyond a million.
    """
    alone = together(1, work, rates)["tokens/s"]

    def pays(devices: int) -> bool:
        return bool(together(devices, work, rates)["tokens/s"] >= ENOUGH * devices * alone)

    low, high = 1, 2
    while pays(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if pays(middle) else (low, middle)
    return low


def rows_of(name: str, work: Work, rates: Rates) -> list[dict[str, Any]]:
    """Both layouts at all `SIZES`; together also with an update over all devices of `total_batch` transitions."""
    alone = together(1, work, rates)["tokens/s"]
    whole = dataclasses.replace(work, total_batch=None)
    rows: list[dict[str, Any]] = []

    def add(layout: str, devices: int, learners: int, found: dict[str, Any], knee: int | None = None) -> None:
        share = found["tokens/s"] / devices / alone
        named = {"network": name, "layout": layout, "devices": devices, "learners": learners, "knee": knee}
        rows.append({**named, "of lone devices": share, **found})

    for layout, chosen in {"together": whole, "together, one batch": work}.items():
        at = knee(chosen, rates)
        for devices in SIZES:
            if devices >= work.fewest:
                add(layout, devices, devices, together(devices, chosen, rates), at)
    for devices in SIZES:
        if learners := best_split(devices, whole, rates):
            add("apart", devices, learners, apart(devices, learners, whole, rates))
    return rows
