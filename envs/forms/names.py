"""Names of forms, and what they settle of an environment."""

from __future__ import annotations

from typing import Any

from ..arguments import nearest

# Arguments that a form fixes, as a task fixes some: "no character twice in a row" is no_repeat=1.
BUILT_IN: dict[str, dict[str, Any]] = {
    "jueju5": {
        "tokenizer": "char", "prompt_length": (12, 12), "max_new_tokens": 12, "ending": "fixed", "no_repeat": 1,
    },
    "couplet": {"tokenizer": "char", "ending": "eos", "min_new_tokens": 0},
    "lines": {"ending": "eos", "min_new_tokens": 0},
}  # fmt: skip


def plain_name(form: str) -> str:
    """The name of a form without its options: "lines" of "lines?length=5"."""
    return form.partition("?")[0]


def check_form_name(form: str) -> None:
    """Raise ValueError for an unknown name of a form."""
    name = plain_name(form)
    if name not in BUILT_IN and ":" not in name:
        raise ValueError(
            f"form {form!r} is unknown{nearest(name, BUILT_IN)}; use one of {', '.join(BUILT_IN)}, "
            "'module:Class' or '' for none"
        )
