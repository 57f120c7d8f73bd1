"""What an agent looked like while it learned: a table of floats, and its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, float | None]
_ROWS = 200  # kept of one call of `learn`


class History(list[Row]):
    """Rows of figures, about 200 for each call of `learn`; `pandas.DataFrame(agent.history)` is the table.

    Columns: num_steps (environment steps since the agent was made), learning_seconds, transitions_trained,
    training_return (mean of the last 200 texts written while exploring, nats; None before the first one ends),
    temperature, epsilon, learning_rate, and what the rule reports of its last update: loss, and where it has them
    td_error (mean absolute), mean_value, grad_norm (nats).
    """

    def __init__(self) -> None:
        super().__init__()
        self._due = 0.0

    def begin(self) -> None:
        """A new call of `learn`: its first step makes a row."""
        self._due = 0.0

    def add(self, agent: Any, part: float) -> None:
        """Add a row if one is due: after every 200th of the call and at its end; `part` of the call is done, 0 to 1."""
        if part < self._due:
            return
        self._due = min(1.0, part + 1.0 / _ROWS)
        figures = agent.figures_of_learning()
        self.append({name: None if value is None else float(value) for name, value in figures.items()})

    def column(self, name: str) -> list[float | None]:
        """One column, None where a row does not have it."""
        return [row.get(name) for row in self]

    def plot(self) -> Figure:
        """Return of the texts written while learning, and the loss, over environment steps; a matplotlib Figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        steps: Any = self.column("num_steps")
        panels: list[Any] = list(figure.subplots(1, 2))
        for panel, name, title in (
            (panels[0], "training_return", "return while exploring (nats)"),
            (panels[1], "loss", "loss"),
        ):
            values: Any = [float("nan") if value is None else value for value in self.column(name)]
            panel.plot(steps, values)
            panel.set(xlabel="environment steps", title=title)
            panel.grid(alpha=0.25)
        return figure
