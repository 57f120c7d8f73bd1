"""Learning rules by name: those built in, registered ones, and classes as "module:Class"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...envs import nearest
from ...envs.arguments import changed, load_named, make_settings
from .rule import Rule
from .rules import RULES

BUILT_IN = tuple(RULES)


def register_rule(name: str, rule: type[Rule]) -> None:
    """Let `loss=name` mean a rule of one's own, in this process; again with the same name replaces it.

    Args:
        name: a name without a colon that is not built in.
        rule: a frozen dataclass derived from `Rule`.

    Raises ValueError for such a name and for a class that is no rule.
    """
    if not name or ":" in name or name in BUILT_IN:
        raise ValueError(f"a rule cannot be registered as {name!r}; choose a name that is not built in, without ':'")
    RULES[name] = _checked(rule, name)


def rule_class(name: Any) -> type[Rule]:
    """The class of the rule `name`, one of RULES or "module:Class"; ValueError for any other."""
    if not isinstance(name, str):
        raise ValueError(f"loss must be the name of a rule or 'module:Class', not {name!r}")
    if name in RULES:
        return RULES[name]
    if ":" not in name:
        raise ValueError(
            f"loss {name!r} is unknown{nearest(name, RULES)}; use one of {', '.join(RULES)}, or "
            '"module:Class" for a rule of your own'
        )
    return _checked(load_named(name, "loss"), name)


def make_rule(name: str, settings: Mapping[str, Any] | Rule) -> Rule:
    """The rule `name` with its settings; those of another rule are taken over where they were changed.

    Raises ValueError for a setting that the rule does not have, naming the rules that have it.
    """
    kind = rule_class(name)
    if type(settings) is kind:
        return settings
    if not isinstance(settings, (Rule, Mapping)):
        raise ValueError(f"rule must be settings by name, not {settings!r}")
    values = changed(settings) if isinstance(settings, Rule) else settings
    return make_settings(kind, values, f"loss {name!r}", RULES)


def _checked(rule: Any, name: str) -> type[Rule]:
    if not (isinstance(rule, type) and issubclass(rule, Rule)):
        raise ValueError(f"loss {name!r} is {rule!r}, not a class derived from tokenlm.agents.Rule")
    if "__dataclass_fields__" not in vars(rule):
        raise ValueError(
            f"loss {name!r}: decorate {rule.__name__} with @dataclass(frozen=True), or its settings are lost"
        )
    return rule
