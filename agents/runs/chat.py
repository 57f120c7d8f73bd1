"""A conversation with a trained agent: a question and an answer, or a text continued, line by line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from ...envs.arguments import nearest
from ..decoding import Decoding
from ..protocol import BaseAgent

_HELP = """  a line        {what}
  /τ 0.5        temperature of the policy (also /t); 0 is greedy, /τ alone its own
  /k 10         sample among the 10 best tokens only; /k alone among all
  /seed 3       the next text is that of seed 3, the one after it that of seed 4
  /help         this list
  /quit         the end (also Ctrl-D)"""
_NAMES = {"τ": "temperature", "t": "temperature", "k": "top_k", "seed": "seed"}
_WORDS = (*_NAMES, "help", "quit")


class Chat:
    """Answers lines.

    Args:
        agent: of any algorithm.
        say: prints a piece of text.
        settings: of decoding, as for `Writer.stream`: temperature, top_k.
        seed: of the first text.
    """

    def __init__(
        self, agent: BaseAgent, say: Callable[[str], None], settings: dict[str, Any] | None = None, seed: int = 0
    ) -> None:
        self.agent = agent
        self.say = say
        self.settings: dict[str, Any] = {"temperature": None, "top_k": None, **(settings or {})}
        self.seed = seed

    @property
    def greeting(self) -> str:
        """What to type."""
        what = "a source" if self.agent.env_config.has_pairs else "the beginning of a text, or nothing"
        return f"type {what}; /help lists the settings, /quit ends"

    def answer(self, line: str) -> bool:
        """Answer a line, mistakes with one sentence; False where it ends the conversation."""
        word = line.strip()
        try:
            if word.startswith("/"):
                return self._set(word[1:])
            for piece in self._pieces(word):
                self.say(piece)
            self.say("\n")
        except (ValueError, ArithmeticError, MemoryError) as problem:
            self.say(f"  {problem}\n")
        return True

    def _pieces(self, prompt: str) -> Iterator[str]:
        if self.agent.env_config.has_pairs and not prompt:
            raise ValueError(self.greeting)
        with warnings.catch_warnings(record=True) as found:  # unknown words of the prompt
            warnings.simplefilter("always")
            pieces = self.agent.stream(prompt, **self.settings, seed=self.seed)
        for warning in found:
            self.say(f"  {warning.message}\n")
        self.seed += 1
        yield from pieces

    def _set(self, word: str) -> bool:
        name, _, value = word.replace("=", " ").partition(" ")
        value = value.strip()
        if name == "quit":
            return False
        if name == "help":
            pairs = self.agent.env_config.has_pairs
            what = "a question, answered" if pairs else "the beginning of a text, continued"
            self.say(_HELP.format(what=what) + "\n")
        elif name not in _NAMES:
            raise ValueError(f"there is no /{name}{nearest(name, _WORDS) or '; /help lists what there is'}")
        elif name == "seed":
            self.seed = _number(int, name, value)
        else:
            self._take(_NAMES[name], _number(_KIND[name], name, value) if value else None)
        return True

    def _take(self, name: str, value: Any) -> None:
        """Change a setting, if decoding takes it."""
        settings = self.settings | {name: value}
        Decoding(self.agent.policy_temperature(settings["temperature"]), settings["top_k"])
        self.settings = settings


_KIND: dict[str, type] = {"τ": float, "t": float, "k": int}


def _number(kind: type, name: str, value: str) -> Any:
    try:
        return kind(value.replace("_", ""))
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"/{name} takes {what}, not {value!r}") from None
