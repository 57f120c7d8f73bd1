"""Statistics of the runs of a race: means with intervals, and paired comparisons."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

FEWEST = 4  # runs that have an interquartile mean; of fewer the single ones are shown
CERTAIN = 0.01  # p-value below which an entry is said to be ahead


def interquartile_mean(worlds: Sequence[Sequence[float | None]]) -> list[float] | None:
    """Interquartile mean over all runs and its 95 % interval by a stratified bootstrap, [mean, low, high].

    Runs are drawn anew within each world. Where a world has one run only, all runs are drawn as if of one world, and
    the interval is about worlds of this kind.

    Args:
        worlds: for each world the values of its runs; None where unknown.

    Returns: None without values. Of fewer than four runs the mean, the smallest and the largest value.
    Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".
    """
    stats = _scipy()
    known = [np.array([v for v in values if v is not None], np.float64) for values in worlds]
    known = [values for values in known if len(values)]
    if not known:
        return None
    pooled = np.concatenate(known)
    if len(pooled) < FEWEST:
        return [float(pooled.mean()), float(pooled.min()), float(pooled.max())]
    samples = known if all(len(values) > 1 for values in known) else [pooled]

    def middle(*parts: Any, axis: int = -1) -> Any:
        return stats.trim_mean(np.concatenate(parts, axis=axis), 0.25, axis=axis)

    mean = float(middle(*samples))
    if np.ptp(pooled) == 0.0:
        return [mean, mean, mean]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns about intervals from few seeds
        found = stats.bootstrap(
            samples, middle, method="percentile", n_resamples=2_000, rng=np.random.default_rng(0)
        ).confidence_interval
    return [mean, float(found.low), float(found.high)]


def paired(
    first: Sequence[Sequence[float | None]], second: Sequence[Sequence[float | None]]
) -> dict[str, float | int | None]:
    """Paired comparison of two entries on the same worlds.

    A pair is a world, with the means over its seeds; where there is only one world, a seed. SciPy's two-sided paired
    t-test, which needs three pairs.

    Args:
        first: for each world the values of its runs in the order of seeds, larger is better; None where unknown.
        second: the same of the other entry.

    Returns: "difference" (mean of first - second; None without pairs), "p" (None with fewer than three pairs), "pairs".
    """
    stats = _scipy()
    rows = [
        [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
        for ours, theirs in zip(first, second, strict=True)
    ]
    pairs = rows[0] if len(rows) == 1 else [tuple(np.mean(row, axis=0)) for row in rows if row]
    differences = np.array([a - b for a, b in pairs])
    if len(differences) < 3:
        mean = float(differences.mean()) if len(differences) else None
        return {"difference": mean, "p": None, "pairs": len(differences)}
    if not differences.any():
        return {"difference": 0.0, "p": 1.0, "pairs": len(differences)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of equal differences, where p is 0
        p = float(stats.ttest_rel(*np.transpose(pairs)).pvalue)
    return {"difference": float(differences.mean()), "p": p, "pairs": len(differences)}


def is_ahead(comparison: dict[str, Any]) -> bool:
    """Whether the first of a paired comparison may be said to be ahead."""
    return comparison["p"] is not None and comparison["p"] < CERTAIN and comparison["difference"] > 0.0


def _scipy() -> Any:
    try:
        from scipy import stats
    except ModuleNotFoundError:
        raise ImportError('the report of a race needs the library scipy; pip install "tokenlm[compare]"') from None
    return stats
