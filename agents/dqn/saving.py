"""Saving and loading: weights as safetensors, settings as JSON, the tokenizer beside them. No pickle."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import nn

from ...envs import Phrases, env_config_of
from ...envs.arguments import refuse_code, whole_number
from ...envs.text import Tokenizer, load_tokenizer, write_json
from ...envs.text.digests import check_digests, write_digests
from ...envs.text.files import read_json
from ..networks import QNetwork, saved_network
from ..networks.weights import FILE, read_weights, refuse_larger, write_weights
from .config import AgentConfig
from .format_1 import agent_settings

FORMAT = 2
_SHOWN = 160  # characters of an error
# What settings of wrong types and weights of wrong shapes raise, memory for a network that cannot be among them.
_DAMAGE = (LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


def save_agent(agent: Any, folder: Path) -> None:
    """Write weights, settings and tokenizer of `agent`, a `DQN`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder, agent.policy_network.state_dict())
    agent.tokenizer.save(folder / "tokenizer")
    agent.network.save_settings(folder)
    env = dataclasses.asdict(agent.env_config)
    if not isinstance(env["corpus"], str):
        env["corpus"] = None  # texts given in Python stay with whoever gave them
    settings = {
        "format": FORMAT,
        "class": type(agent).__name__,
        "vocabulary": agent.tokenizer.vocabulary.digest,
        "seed": agent.seed,
        "progress": agent.progress,
        "num_steps": agent.num_steps,
        "env_steps": agent.env_steps,
        "learning_seconds": agent.learning_seconds,
        "updates": agent.learner.updates,
        "transitions_trained": agent.learner.transitions_trained,
        "agent": dataclasses.asdict(agent.config),
        "env": env,
        "phrases": [list(phrase) for phrase in agent.phrases.ids] if agent.phrases else None,
    }
    write_json(folder / "agent.json", settings)
    saved = [folder / "agent.json", folder / FILE]
    saved += [path for name in ("tokenizer", "pretrained") for path in (folder / name).rglob("*") if path.is_file()]
    write_digests(folder, saved)


def load_agent(
    kind: Any, folder: Path, env: Any, device: str, trust: bool = False, network: nn.Module | None = None
) -> Any:
    """The agent saved in `folder`, in `env` where given; `kind` is `DQN` or a class derived from it. See `DQN.load`."""
    settings = _settings(folder, trust)
    try:
        return _loaded(kind, folder, settings, env, device, {} if network is None else {"network": network})
    except _DAMAGE as problem:
        raise ValueError(f"the agent in {folder} is damaged ({_told(problem)}); restore it from a copy") from None


def _told(problem: Exception) -> str:
    """An error in a line that is short enough to be read."""
    line = (str(problem).strip().splitlines() or [""])[-1].strip()
    return f"{type(problem).__name__}: {line[:_SHOWN]}{'…' if len(line) > _SHOWN else ''}"


def _loaded(kind: Any, folder: Path, settings: dict[str, Any], env: Any, device: str, own: dict[str, nn.Module]) -> Any:
    given = AgentConfig.long_form(settings["agent"])  # earlier versions had other parts
    config = AgentConfig(**{**given, "network": saved_network(given["network"])})
    refuse_larger(folder, config.network)
    tokenizer = load_tokenizer(folder / "tokenizer")
    if tokenizer.vocabulary.digest != settings["vocabulary"]:
        raise ValueError(
            f"{folder / 'tokenizer'} has another vocabulary than the agent was trained with; restore it from a copy"
        )
    phrases: dict[str, Any] = {**own}
    if settings.get("phrases"):
        ids = tuple(tuple(phrase) for phrase in settings["phrases"])
        phrases["phrases"] = Phrases(ids, len(tokenizer.vocabulary))
    if env is None:
        saved = settings["env"]
        env_config = env_config_of({**saved, "corpus": saved["corpus"] or ()})
        parts: dict[str, Any] = {"tokenizer": tokenizer, "env_config": env_config, "saved": folder, **phrases}
        agent = kind(None, config, seed=settings["seed"], device=device, **parts)
    else:
        agent = kind(env, config, seed=settings["seed"], device=device, saved=folder, **phrases)
        _refuse_other_vocabulary(folder, settings, agent.tokenizer)
    agent.network.load_state_dict(read_weights(folder, str(agent.device)))
    _take_counts(agent, settings)
    return agent


def restore(agent: Any, folder: Path) -> None:
    """Give `agent`, a `DQN`, the weights and counts saved in `folder`; its settings stay its own.

    Raises ValueError for damaged files, another vocabulary or another network.
    """
    check_digests(folder, ["agent.json", FILE])
    settings = _settings(folder, trust=True)  # names of code in it are not used
    try:
        _refuse_other_vocabulary(folder, settings, agent.tokenizer)
        agent.network.load_state_dict(read_weights(folder, str(agent.device)))
        _take_counts(agent, settings)
    except _DAMAGE as problem:
        raise ValueError(f"the agent in {folder} has another network, or is damaged ({_told(problem)})") from None


def _take_counts(agent: Any, settings: dict[str, Any]) -> None:
    """Make the target network equal to the network just loaded, and go on counting from the saved numbers."""
    for name in ("num_steps", "env_steps", "updates", "transitions_trained"):
        whole_number(name, settings[name], 0)
    if not 0.0 <= settings["progress"] <= 1.0 or not 0.0 <= settings["learning_seconds"] < math.inf:
        raise ArithmeticError("progress must lie between 0 and 1, and learning_seconds must be finite")
    agent.learner.take_network()
    agent.progress, agent.learning_seconds = float(settings["progress"]), float(settings["learning_seconds"])
    agent.num_steps, agent.env_steps_before = int(settings["num_steps"]), int(settings["env_steps"])
    agent.learner.updates = int(settings["updates"])
    agent.learner.transitions_trained = int(settings["transitions_trained"])
    agent._progress_before = agent.progress


def take_weights(network: QNetwork, folder: Path, tokenizer: Tokenizer) -> None:
    """Give `network` the weights of the agent saved in `folder`, all but those of the state values.

    Raises ValueError for another vocabulary or another network.
    """
    _refuse_other_vocabulary(folder, _settings(folder, trust=False), tokenizer)
    own = network.state_dict()
    kept = {name: tensor for name, tensor in own.items() if name.startswith("value_head.")}
    weights = read_weights(folder, "cpu") | kept
    differing = sorted(
        name
        for name in own.keys() | weights.keys()
        if name not in own or name not in weights or own[name].shape != weights[name].shape
    )
    if differing:
        raise ValueError(
            f"the network of the agent in {folder} differs in {', '.join(differing)}; give this agent the same "
            "settings of the network, and a loss with the same heads"
        )
    network.load_state_dict(weights)


def _settings(folder: Path, trust: bool) -> dict[str, Any]:
    """agent.json, once the files of the folder are found whole and, without `trust`, to name no code."""
    if not (folder / "agent.json").exists():
        raise FileNotFoundError(f"{folder} holds no saved agent (no agent.json); give the folder that save() wrote")
    settings: dict[str, Any] = read_json(folder / "agent.json")
    if not isinstance(settings, dict) or not isinstance(settings.get("agent"), dict):
        raise ValueError(f"{folder / 'agent.json'} is damaged: it holds no agent; restore it from a copy")
    if not trust:
        if settings.get("format") != 1:  # which had no digests
            check_digests(folder, ["agent.json", FILE])
        env = settings["env"] if isinstance(settings.get("env"), dict) else {}
        named = {"agent.loss": settings["agent"].get("loss")}
        of_env = {f"env.{name}": env.get(name) for name in ("target", "sequence_reward", "form")}
        refuse_code({**named, **of_env}, str(folder))
    if settings.get("format") == 1:
        settings = {**settings, "agent": agent_settings(settings["agent"]), "format": FORMAT}
    if settings.get("format") != FORMAT:
        raise ValueError(
            f"{folder} was saved in format {settings.get('format')}; this version reads formats 1 and {FORMAT}"
        )
    if not isinstance(settings.get("vocabulary"), str):
        raise ValueError(f"{folder / 'agent.json'} is damaged: it names no vocabulary; restore it from a copy")
    return settings


def _refuse_other_vocabulary(folder: Path, settings: dict[str, Any], tokenizer: Tokenizer) -> None:
    if tokenizer.vocabulary.digest != settings["vocabulary"]:
        trained = len(load_tokenizer(folder / "tokenizer").vocabulary)
        raise ValueError(
            f"the agent in {folder} was trained with a vocabulary of {trained} tokens that differs from the "
            f"environment's ({len(tokenizer.vocabulary)} tokens); use the corpus and tokenizer it was trained with"
        )
