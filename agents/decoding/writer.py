"""`generate` and `stream`, the same for every agent that reads prefixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...envs import EnvConfig
from ...envs.text import Tokenizer
from .options import Decoding
from .readers import Prefixes, Reader
from .writing import prompt_ids, stream_text, write_texts


class Writer:
    """What writes texts; a subclass says how prefixes are read and which temperature its policy has.

    Attributes:
        tokenizer: text to ids and back.
        env_config: the environment's arguments.
        generator: source of the seed where none is given.
    """

    tokenizer: Tokenizer
    env_config: EnvConfig
    generator: torch.Generator

    def reader(self, prefixes: Prefixes, greedy: bool = False) -> Reader:
        """What has read prefixes (ids with `<bos>`); `greedy` where only the best action will be asked for."""
        raise NotImplementedError

    def policy_temperature(self, asked: float | None) -> float:
        """τ to write at: `asked`, or the agent's own for None."""
        raise NotImplementedError

    def generate(
        self,
        prompt: str | Sequence[str] = "",
        count: int = 1,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        beams: int = 1,
        length_penalty: float = 0.0,
        stop: str | Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Texts that continue a prompt, prompt included; of a task of pairs the targets that are written for sources.

        Args:
            prompt: one prompt, or several, of any length.
            count: texts for each prompt; of a beam search the best ones, best first.
            temperature: of the policy; None for the agent's own, 0 for greedy.
            top_k: sample among so many best tokens only.
            top_p: sample among the fewest tokens that together have this probability.
            beams: width of a beam search for the most likely texts under the policy; 1 samples.
            length_penalty: a beam's log-likelihood is divided by its number of tokens to this power.
            stop: a text ends before the first of these strings that it writes; one string, or several.
            max_new_tokens: longest continuation in tokens; None for the environment's.
            seed: text number n is drawn with the seed `seed + n`; None takes one from the agent's own generator.

        Raises ValueError for a prompt with words outside the vocabulary and for settings that cannot work.
        """
        tau = self.policy_temperature(temperature)
        how = Decoding(tau, top_k, top_p, beams, length_penalty, stop, max_new_tokens)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        ids = [prompt_ids(text, self.tokenizer, self.env_config) for text in prompts]
        return self.generate_ids(ids, count, how, seed)

    def generate_ids(
        self, prompts: Prefixes, count: int = 1, how: Decoding | None = None, seed: int | None = None
    ) -> list[str]:
        """`generate` after prompts given as ids with `<bos>`, which may hold `<unk>`."""
        how = how or Decoding(self.policy_temperature(None))

        def read(prefixes: Prefixes) -> Reader:
            return self.reader(prefixes, how.temperature == 0.0)

        return write_texts(read, self.tokenizer, self.env_config, prompts, count, how, self._seed(seed))

    def stream(
        self,
        prompt: str = "",
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: str | Sequence[str] | None = None,
        max_new_tokens: int | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """Pieces of one text as they are written; with the same arguments they join to what `generate` returns.

        Arguments and errors as of `generate`. What may still change, such as half a character or the beginning of a
        stop string, is held back until it is settled.
        """
        how = Decoding(self.policy_temperature(temperature), top_k, top_p, stop=stop, max_new_tokens=max_new_tokens)
        ids = prompt_ids(prompt, self.tokenizer, self.env_config)

        def read(prefixes: Prefixes) -> Reader:
            return self.reader(prefixes, how.temperature == 0.0)

        return stream_text(read, self.tokenizer, self.env_config, ids, how, self._seed(seed))

    def _seed(self, seed: int | None) -> int:
        if seed is not None:
            return seed
        return int(torch.randint(2**31, (1,), generator=self.generator, device=self.generator.device))
