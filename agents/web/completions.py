"""Texts of an agent for requests in the form of OpenAI's completions."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...envs import Vocabulary
from ...envs.arguments import check_settings, number
from ..decoding import Decoding, Transcript, prompt_ids, sample, uniform_numbers
from ..decoding.writer import shows_prompt
from ..evaluation.playing import log_policy_of
from ..protocol import BaseAgent
from .completion_request import CompletionRequest

_MOST_STOPS = 16


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Args:
        tokens: longest continuation.
        texts: prompts times n.
        characters: of a prompt.
    """

    tokens: int = number(512, 1)
    texts: int = number(16, 1)
    characters: int = number(10_000, 1)

    def __post_init__(self) -> None:
        check_settings(self)


class Refused(ValueError):
    """A request that cannot be answered.

    Args:
        message: one sentence.
        parameter: the field that is wrong, None for the whole.
        status: of HTTP.
        code: OpenAI's word for it, None without.
    """

    def __init__(self, message: str, parameter: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.parameter, self.status, self.code = parameter, status, code


class Piece(NamedTuple):
    """A part of a text while it is written.

    Args:
        text: what no later token changes any more.
        token: the new token as text; None at the end of the text.
        log_prob: of the token under the policy, nats.
        top: the most likely tokens and their log-probabilities.
        finish: "stop" or "length" at the end, None before.
    """

    text: str
    token: str | None
    log_prob: float
    top: dict[str, float]
    finish: str | None


class Completer:
    """Answers requests with the texts of an agent.

    Args:
        agent: of any algorithm.
        name: of the model.
        limits: of a request.
    """

    def __init__(self, agent: BaseAgent, name: str, limits: Limits | None = None) -> None:
        self.agent, self.name, self.limits = agent, name, limits or Limits()
        self.created = int(time.time())
        self._one_at_a_time = threading.Lock()  # agents and their caches are not made for several threads

    def check_name(self, model: str) -> None:
        """Refused for another model than this one."""
        if model != self.name:
            message = f"the model {model!r} does not exist; this server has {self.name!r}"
            raise Refused(message, "model", 404, "model_not_found")

    def checked(self, request: CompletionRequest) -> tuple[list[list[int]], Decoding]:
        """Ids of the prompts, and the settings of decoding; Refused for what cannot be answered."""
        limits = self.limits
        if request.model is not None:
            self.check_name(request.model)
        neutral: dict[str, tuple[Any, ...]] = {
            "suffix": (None, ""), "frequency_penalty": (0.0,), "presence_penalty": (0.0,), "logit_bias": (None, {}),
            "best_of": (None, request.n),
        }  # fmt: skip
        for name, accepted in neutral.items():
            if (value := getattr(request, name)) not in accepted:
                raise Refused(f"{name} is not supported here; leave it out, not {value!r}", name)
        if request.echo and (request.logprobs is not None or not shows_prompt(self.agent.env_config)):
            raise Refused("echo is for continuations without logprobs; leave it out", "echo")
        prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
        if not prompts:
            raise Refused("prompt must be a text or a list of at least one", "prompt")
        if len(prompts) * request.n > limits.texts:
            raise Refused(f"prompts times n must be at most {limits.texts}, not {len(prompts) * request.n}", "n")
        longest = max(map(len, prompts))
        if longest > limits.characters:
            raise Refused(f"a prompt has at most {limits.characters:,} characters here, not {longest:,}", "prompt")
        if request.max_tokens is not None and request.max_tokens > limits.tokens:
            raise Refused(f"max_tokens must be at most {limits.tokens}, not {request.max_tokens}", "max_tokens")
        stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
        if len(stop) > _MOST_STOPS:
            raise Refused(f"there may be at most {_MOST_STOPS} stop strings, not {len(stop)}", "stop")
        try:
            tau = self.agent.policy_temperature(request.temperature)
        except ValueError as problem:
            raise Refused(str(problem), "temperature") from None
        if request.logprobs is not None and self._scale(tau) == 0.0:
            raise Refused("this policy is greedy and has no logprobs; give a temperature above 0", "logprobs")
        most = min(request.max_tokens or self.agent.env_config.max_new_tokens, limits.tokens)
        try:  # the other settings are checked
            how = Decoding(tau, request.top_k, request.top_p, stop=stop, max_new_tokens=most)
        except ValueError as problem:
            raise Refused(str(problem), "stop") from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # unknown words are read as <unk>
                return [prompt_ids(text, self.agent.tokenizer, self.agent.env_config) for text in prompts], how
        except ValueError as problem:
            raise Refused(str(problem)) from None

    def pieces(self, prompt: list[int], how: Decoding, seed: int, logprobs: int | None, echo: bool) -> Iterator[Piece]:
        """One text, piece by piece; together they are what `agent.generate` writes after the prompt.

        Args:
            prompt: its ids, from `checked`.
            how: settings of decoding.
            seed: of the sampling.
            logprobs: how many of the most likely tokens are told; None for no log-probabilities.
            echo: begin with the prompt.
        """
        agent, decode = self.agent, self.agent.tokenizer.decode
        shown = prompt if shows_prompt(agent.env_config) else []
        transcript = Transcript(agent.tokenizer, shown, how.stop_strings)
        begun = transcript.piece()
        if echo:
            yield Piece(begun, None, 0.0, {}, None)
        with self._one_at_a_time:
            reader = agent.reader([prompt], greedy=how.temperature == 0.0 and logprobs is None)
        uniform = uniform_numbers([seed], how.max_new_tokens or agent.env_config.max_new_tokens)
        texts = sample(reader, [transcript], how, uniform)
        before = decode(shown)
        while True:
            with self._one_at_a_time:
                values = next(texts, None)
            if values is None:
                break
            token, text = transcript.ids[-1], decode([*shown, *transcript.ids])
            name = text[len(before) :] if text.startswith(before) and text != before else self._name(token)
            before = text
            log_prob, top = 0.0, {}
            if logprobs is not None:
                log_policy = log_policy_of(values.cpu(), self._scale(how.temperature))[0]
                log_prob = float(log_policy[token])
                best = log_policy.sort(descending=True, stable=True).indices[:logprobs].tolist()
                for action in reversed(
                    [b for b in best if log_policy[b] > -torch.inf]
                ):  # of equal names the best stays
                    top[name if action == token else self._name(action)] = float(log_policy[action])
            yield Piece(transcript.piece(), name, log_prob, top, None)
        finish = "stop" if transcript.over else "length"
        transcript.close()
        yield Piece(transcript.piece(), None, 0.0, {}, finish)

    def _scale(self, temperature: float) -> float:
        """τ of the log-probabilities that are told: for greedy texts the agent's own."""
        return temperature or self.agent.temperature

    def _name(self, token: int) -> str:
        if token < Vocabulary.FIRST_WORD:
            return Vocabulary.SPECIAL_TOKENS[token]
        return self.agent.tokenizer.decode([token])
