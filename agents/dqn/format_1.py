"""Agent settings as they were saved in format 1: all in one list, each read by some rules or networks only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...envs.arguments import names_of
from ..networks import NETWORKS
from .optimizer import OptimizerConfig
from .rules import RULES

_PHRASES = {"phrases": "count", "phrase_length": "length", "decision_cost": "decision_cost"}
_GONE = ("compile",)


def is_format_1(settings: Any) -> bool:
    """Whether these settings of an agent are of format 1."""
    return isinstance(settings, Mapping) and "compile" in settings


def agent_settings(old: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of format 1 as `AgentConfig` takes them; what a rule or network did not read is left out."""
    if old.get("loss") not in RULES or (old.get("network") or {}).get("name") not in NETWORKS:
        raise ValueError("these settings of format 1 name a loss or network that does not exist")
    rule, optimizer = names_of(RULES[old["loss"]]), names_of(OptimizerConfig)
    network = NETWORKS[old["network"]["name"]]
    new: dict[str, Any] = {
        "network": {name: old["network"][name] for name in names_of(network) if name in old["network"]},
        "rule": {},
        "optimizer": {"name": old["optimizer"]},
        "phrases": {},
    }
    in_any_rule = {name for each in RULES.values() for name in names_of(each)}
    for name, value in old.items():
        if name in _PHRASES:
            new["phrases"][_PHRASES[name]] = value
        elif name in in_any_rule:
            # None stood for the rule's default, or for what None still means.
            if name in rule and (value is not None or name in ("huber_delta", "munchausen_clip")):
                new["rule"][name] = value
        elif name in optimizer:
            new["optimizer"][name] = value
        elif name not in (*new, *_GONE):
            new[name] = value
    for name in RULES[old["loss"]].ignores:
        new.pop(name, None)
    if new["optimizer"]["name"] in ("adam", "sparse_adam"):
        new["optimizer"].pop("weight_decay", None)  # which they did not read
    return new
