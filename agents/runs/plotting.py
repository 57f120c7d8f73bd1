"""How all pictures of runs look: axes, colours, strokes."""

from __future__ import annotations

from typing import Any

STYLE: Any = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25}
# Okabe & Ito 2008, "Color universal design"; yellow last, which is faint on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_STROKES = ("-", "-.", (0, (6, 1.5)), ":")


def line_of(number: int) -> dict[str, Any]:
    """Colour and stroke of a line: told apart by readers of any eyesight, and in black and white."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": _STROKES[number % len(_STROKES)]}
