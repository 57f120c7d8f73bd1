"""Processes beside this one: they have its limits and end when it ends, however that is."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from typing import Any

from ...envs.text.limits import limited, limits_here


def beside(work: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """A new process, not yet started, that does `work`.

    Args:
        work: at the top level of a module.
        arguments: its arguments.
    """
    return multiprocessing.get_context("spawn").Process(target=_attached, args=(limits_here(), work, arguments))


def _attached(limits: Mapping[str, int], work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    limited(limits, work, *arguments)


def _end_with_parent() -> None:
    """A killed parent stops nobody, and its children would go on for hours."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
