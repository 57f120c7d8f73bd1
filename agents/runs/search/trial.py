"""One trial of `tokenlm tune`: settings from the study, a training on every tuning world, a value for the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...protocol import NotFinite
from ..config import RunConfig
from ..figures import make_agent, objective_of, validation_figures
from ..selection import judged_by, merit
from .config import TuneConfig, applied
from .study import JUDGED_BY, REASON, ask, load_optuna


def run_trial(study: Any, config: TuneConfig, worker: int = 0) -> None:
    """Ask the study for a trial, train it, and tell what came out.

    The value is the mean over the tuning worlds of the best evaluation's `merit`. A training that is not finite counts
    as one that was pruned; settings that do not go together fail with a reason.

    Args:
        study: see `new_study`.
        config: of the search.
        worker: number of the process, whose draws differ from those of the others.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    trial, chosen = ask(study, config.space, config.trials, (config.run.seed, worker))

    def look(step: int, reached: float) -> None:
        trial.report(reached, step)
        if config.prune and trial.should_prune():
            raise optuna.TrialPruned

    try:
        parts = [applied(part, chosen) for part in config.parts]
        # Only the first world prunes: values of different worlds are not comparable.
        found = [train_part(part, look if number == 0 else None) for number, part in enumerate(parts)]
    except (optuna.TrialPruned, NotFinite):
        study.tell(trial, state=states.PRUNED)
        return
    except (ValueError, TypeError, RuntimeError, MemoryError) as problem:
        trial.set_user_attr(REASON, " ".join(f"{type(problem).__name__}: {problem}".split())[:200])
        study.tell(trial, state=states.FAIL)
        return
    value = sum(reached for reached, _ in found) / len(found)
    trial.set_user_attr(JUDGED_BY, found[0][1])
    if value == -float("inf"):  # the figure is unknown, as a perplexity that is infinite
        study.tell(trial, state=states.PRUNED)
    else:
        study.tell(trial, value)


def train_part(config: RunConfig, look: Callable[[int, float], None] | None) -> tuple[float, tuple[str, bool]]:
    """Train a configuration, without a folder and without a look at the test documents.

    Args:
        config: what to train and how long.
        look: called after each evaluation but the last with its number and `merit`; may raise to end the training.

    Returns: `merit` of the best evaluation, and the figure that it is; see `judged_by`.
    """
    agent = make_agent(config)
    objective, count = objective_of(config, agent), max(1, config.evaluations)
    best, done = -float("inf"), 0

    def evaluate(number: int) -> None:
        nonlocal best, done
        done = number
        with agent.evaluating():
            row = validation_figures(agent, config)
        reached = merit(row, config.env, objective)[0]
        best = max(best, reached)
        if look is not None and number < count and reached > -float("inf"):
            look(number, reached)

    def after_step(_: Any) -> bool:
        number = int(agent.progress * count + 1e-6)
        if number > done:
            evaluate(number)
        return True

    agent.train(config.total_steps, after_step, max_seconds=config.max_seconds)
    if done < count:
        evaluate(count)
    return best, judged_by(config.env, objective)
