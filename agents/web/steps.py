"""The facts of every step of a text: what the agent, p* and the exact optimum say of the next token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...envs import EnvConfig, Episodes, NotExact, Oracle, Split, Vocabulary
from ...envs.world import checked_prompt, encode_target
from ..decoding import Decoding, Reader, Transcript, filter_values, sample, uniform_numbers
from ..dqn.losses import soft_value
from ..evaluation.playing import log_policy_of
from ..evaluation.policies import ReferencePolicy, world_of
from ..evaluation.scores import why_unknown
from ..protocol import BaseAgent
from ..runs.algorithms import make

Floats = npt.NDArray[np.float64]
BEST = 10  # next tokens that are shown


class Candidate(NamedTuple):
    """A next token in a state.

    Args:
        token: its id.
        value: Q(s, a) as the agent has it, nats: of a dueling network up to a constant of the state, log π of an agent
            without values.
        advantage: A(s, a) = `value` - its soft maximum at τ, nats; τ log π before top-k.
        log_policy: log π(a|s) at τ and top-k, nats.
        log_target: log p*(a|s), nats; None where it is unknown.
        optimal_value: Q*(s, a) of the environment as it is at τ, nats; None where it is unknown.
        optimal_advantage: A*(s, a) = Q* - V*, nats; None where it is unknown.
    """

    token: int
    value: float
    advantage: float
    log_policy: float
    log_target: float | None
    optimal_value: float | None
    optimal_advantage: float | None


class Step(NamedTuple):
    """A token that was written.

    Args:
        written: the token.
        best: the ten most likely tokens of the policy in the state before it, best first.
    """

    written: Candidate
    best: list[Candidate]


class Prompt(NamedTuple):
    """How an episode begins.

    Args:
        ids: `<bos>` and the prompt, in tasks of pairs with `<sep>` at the end.
        reference: ids of the text that p* wants after it, where p* is that of a reference and the corpus has one.
    """

    ids: list[int]
    reference: list[int] | None


class Steps:
    """Writes and follows texts, with the facts of each step.

    Args:
        agent: of any algorithm, with its environment.
        env: the environment's arguments; the agent's own if None.

    Attributes:
        agent: the same.
        config: the environment's arguments.
    """

    def __init__(self, agent: BaseAgent, env: EnvConfig | None = None) -> None:
        self.agent = agent
        self.world, self.config = world_of(agent, env)
        # p* of what is written: neither the document nor a score of the whole text takes part.
        self._written = dataclasses.replace(
            self.config, transition="free", sequence_reward="", log_prob_weight=self.config.log_prob_weight or 1.0
        )
        self._oracle = Oracle.of(self.world, self.config)

    def decoding(self, temperature: float | None = None, top_k: int | None = None) -> Decoding:
        """Settings of decoding; ValueError for those that the agent does not have."""
        return Decoding(self.agent.policy_temperature(temperature), top_k)

    def prompt(self, text: str) -> Prompt:
        """Ids of a prompt given as text; ValueError where an episode cannot begin with it."""
        ids = [Vocabulary.BOS, *checked_prompt(text, self.world, self.config)]
        place = self._places.get(self.config.cleaning(text)) if self.config.target == "reference" else None
        if place is None:
            return Prompt(ids, None)
        documents, number = self.world.documents[place[0]], place[1]
        return Prompt(ids, documents[number][documents.longest_prompt[number] :].tolist())

    def known_target(self, source: str) -> str | None:
        """The target that the corpus has for the source of a pair; None where it has none."""
        place = self._places.get(self.config.cleaning(source))
        return None if place is None else self.world.pairs[place[0]][place[1]][1]

    @cached_property
    def _places(self) -> dict[str, tuple[Split, int]]:
        """Split and number of the first pair with a source."""
        pairs = [(split, n, source) for split, own in self.world.pairs.items() for n, (source, _) in enumerate(own)]
        return {source: (split, n) for split, n, source in reversed(pairs)}

    def tokens(self, text: str) -> list[int]:
        """Ids of a text after the prompt, with `<eos>` where texts end so; ValueError for words that are unknown."""
        ids = encode_target(text, self.world.tokenizer, self.config)
        most = self.config.max_new_tokens
        if len(ids) > most:
            raise ValueError(f"the text has {len(ids)} tokens, but at most {most} are written here")
        return [*ids, Vocabulary.EOS] if self.config.ending == "eos" and len(ids) < most else ids

    def why_no_target(self, prompt: Prompt) -> str | None:
        """Why p* is unknown after a prompt; None where it is known."""
        if self.config.target != "reference" or prompt.reference is not None:
            return None
        return "p* is that of a text of the corpus, and the corpus has none for this prompt"

    def why_no_optimum(self, temperature: float) -> str | None:
        """Why the exact optimum is unknown at a temperature; None where it is known."""
        return why_unknown(self.world, self.config, temperature)

    def optimum(self, temperature: float) -> tuple[Steps, float]:
        """The texts of the optimal policy at a temperature, and τ to write them at; NotExact where it is unknown."""
        if (reason := self.why_no_optimum(temperature)) is not None:
            raise NotExact(reason)
        if self._oracle.is_exact:
            return Steps(make("oracle", self.config, 0, temperature=temperature)), temperature
        return TargetSteps(self.agent, self.config), 1.0

    @torch.no_grad()
    def write(self, prompt: Prompt, how: Decoding, seed: int, begun: Sequence[int] = ()) -> Iterator[Step]:
        """Write on after the prompt and the tokens `begun`; without these the text is that of `agent.stream`."""
        reader, running = self._begin(prompt, begun, how)
        transcript = Transcript(self.world.tokenizer)
        for token in begun:
            transcript.add(token)
        uniform = uniform_numbers([seed], self.config.max_new_tokens)[:, len(begun) :]
        if transcript.over:
            return
        for values in sample(reader, [transcript], how, uniform):
            token = transcript.ids[-1]
            yield self._step(values[0], how, running, token)
            _advance(running, token)

    @torch.no_grad()
    def along(self, prompt: Prompt, tokens: Sequence[int], how: Decoding) -> list[Step]:
        """The steps of a given text; ValueError for a token that is not valid where it stands."""
        reader, running = self._begin(prompt, (), how)
        steps = []
        for place, token in enumerate(tokens):
            values = reader.values()[0]
            if values[token] == -torch.inf:
                name, before = self.world.vocabulary.token(token), self.world.tokenizer.decode(list(tokens[:place]))
                raise ValueError(f"the token {name!r} cannot be written after {before!r} here")
            steps.append(self._step(values, how, running, token))
            if place + 1 < len(tokens):
                reader.step(torch.tensor([token]))
                _advance(running, token)
        return steps

    @torch.no_grad()
    def best(self, prompt: Prompt, begun: Sequence[int], how: Decoding) -> list[Candidate]:
        """The ten most likely tokens of the policy after the prompt and the tokens `begun`, best first."""
        reader, running = self._begin(prompt, begun, how)
        return self._step(reader.values()[0], how, running, None).best

    def _begin(self, prompt: Prompt, begun: Sequence[int], how: Decoding) -> tuple[Reader, Episodes | None]:
        """The agent's reader and the episode after prompt and tokens; no episode where p* is unknown."""
        reader = self.agent.reader([prompt.ids], self.config, greedy=how.temperature == 0.0)
        running = None
        if self.why_no_target(prompt) is None:
            running = Episodes(self.world, self._written, 1)
            targets = None if prompt.reference is None else [prompt.reference]
            running.start_from_prompts(np.zeros(1, np.int64), [prompt.ids[1:]], targets)
        for token in begun:
            reader.step(torch.tensor([token]))
            _advance(running, token)
        return reader, running

    def _step(self, values: Tensor, how: Decoding, running: Episodes | None, token: int | None) -> Step:
        """What is known of a state with the values (V,), and of the token written there."""
        tau, values = how.temperature, values.double().cpu()
        kept = filter_values(values, how.top_k, how.top_p, tau) if tau > 0.0 else values
        log_policy = log_policy_of(kept[None], tau)[0]
        log_target = None if running is None else running.target_log_probs()[0]
        optimal = None if running is None or log_target is None else self._optimal_values(running, log_target, tau)
        advantage = values - soft_value(values, tau)
        best_value = None if optimal is None else float(soft_value(torch.from_numpy(optimal), tau))

        def facts(action: int) -> Candidate:
            return Candidate(
                action,
                float(values[action]),
                float(advantage[action]),
                float(log_policy[action]),
                None if log_target is None else float(log_target[action]),
                None if optimal is None else float(optimal[action]),
                None if optimal is None or best_value is None else float(optimal[action]) - best_value,
            )

        order = values.sort(descending=True, stable=True).indices[:BEST].tolist()
        best = [facts(action) for action in order if values[action] > -torch.inf]
        return Step(best[0] if token is None else facts(token), best)

    def _optimal_values(self, running: Episodes, log_target: Floats, temperature: float) -> Floats | None:
        """(V,) Q* in the present state, nats, -inf for tokens that are not valid; None where it is unknown."""
        if self.why_no_optimum(temperature) is not None:
            return None
        if not self._oracle.is_exact:  # the optimal policy is p* itself and V* = 0
            return self.config.log_prob_weight * log_target + float(running.unpaid[0])
        try:
            found: Floats = self._oracle.optimal_q(
                running.observe(), running.written, temperature=temperature, unpaid=running.unpaid, horizon="episode"
            )[0]
        except NotExact:  # the states after this prompt are too many
            return None
        return found


class TargetSteps(Steps):
    """Writes the texts of p* itself, at τ = 1."""

    def _begin(self, prompt: Prompt, begun: Sequence[int], how: Decoding) -> tuple[Reader, Episodes | None]:
        _, running = super()._begin(prompt, begun, how)
        if running is None:
            raise ValueError(self.why_no_target(prompt))
        return ReferencePolicy(running, target=True), running


def _advance(running: Episodes | None, token: int) -> None:
    if running is not None:
        running.step(np.array([token]), None)
