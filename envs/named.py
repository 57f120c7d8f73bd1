"""What a user names as "module:attribute": algorithms, targets and scores of one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any


def load_named(name: str, argument: str) -> Any:
    """What "module:attribute" names; the module may lie in the folder that a command is called in.

    Args:
        name: "module:attribute".
        argument: whose value it is, for the message.

    Raises ValueError where there is no such module, or nothing of that name in it.
    """
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:  # a command does not look where it is called
        sys.path.append(str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and module.startswith(error.name):
            raise ValueError(f"{argument} {name!r}: there is no module {error.name!r} on the path") from None
        raise
    except AttributeError:
        raise ValueError(f"{argument} {name!r}: the module {module} has no {attribute!r}") from None
