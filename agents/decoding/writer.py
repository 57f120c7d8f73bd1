"""`generate` and `stream`, shared by all agents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...envs import EnvConfig, Vocabulary, encode_prompt
from ...envs.arguments import whole_number
from ...envs.text import Tokenizer
from ..networks.prefixes import Prefixes
from .beams import beam_search
from .options import Decoding
from .readers import MakeReader, Reader
from .sampling import sample, uniform_numbers
from .transcript import Transcript


class Writer:
    """Text generation; a subclass supplies the reader and the temperature of its policy.

    Attributes:
        tokenizer: encodes and decodes text.
        env_config: the environment's arguments.
        generator: source of the seed if none is given.
    """

    tokenizer: Tokenizer
    env_config: EnvConfig
    generator: torch.Generator

    def reader(self, prefixes: Prefixes, env: EnvConfig | None = None, greedy: bool = False) -> Reader:
        """A reader that has read the prefixes.

        Args:
            prefixes: ids of each prefix, starting with `<bos>`.
            env: the environment's arguments; the agent's own if None.
            greedy: only the maximum of the values will be used.
        """
        raise NotImplementedError

    def policy_temperature(self, asked: float | None) -> float:
        """τ for decoding: `asked`, or the agent's own if None."""
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
        """Texts that continue a prompt, including the prompt; for tasks of pairs, the targets for given sources.

        Args:
            prompt: one prompt, or several, of any length.
            count: texts for each prompt; with a beam search the best ones, best first.
            temperature: τ of the policy; None for the agent's own, 0 for greedy.
            top_k: sample among the k best tokens only.
            top_p: sample among the smallest set of tokens with at least this probability.
            beams: width of a beam search for the most likely texts under the policy; 1 samples.
            length_penalty: beams are ranked by log-likelihood / (number of tokens)^length_penalty.
            stop: a stop string, or several; a text ends before the first one.
            max_new_tokens: longest continuation in tokens; None for the environment's.
            seed: text n is sampled with seed + n; None draws the seed from the agent's generator.

        Raises ValueError for a prompt without a known word and for settings that cannot work; the warning
        `UnknownWords` names words that are read as `<unk>`.
        """
        tau = self.policy_temperature(temperature)
        how = Decoding(tau, top_k, top_p, beams, length_penalty, stop, max_new_tokens)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        ids = [prompt_ids(text, self.tokenizer, self.env_config) for text in prompts]
        return self.generate_ids(ids, count, how, seed)

    def generate_ids(
        self, prompts: Prefixes, count: int = 1, how: Decoding | None = None, seed: int | None = None
    ) -> list[str]:
        """`generate` for prompts given as ids that start with `<bos>` and may contain `<unk>`."""
        how = how or Decoding(self.policy_temperature(None))

        def read(prefixes: Prefixes) -> Reader:
            return self.reader(prefixes, greedy=how.temperature == 0.0)

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
        """Yield pieces of one text during decoding; they concatenate to the result of `generate`.

        Arguments and errors are those of `generate`. Text that may still change, such as an incomplete character or the
        beginning of a stop string, is held back until it is final.
        """
        how = Decoding(self.policy_temperature(temperature), top_k, top_p, stop=stop, max_new_tokens=max_new_tokens)
        ids = prompt_ids(prompt, self.tokenizer, self.env_config)

        def read(prefixes: Prefixes) -> Reader:
            return self.reader(prefixes, greedy=how.temperature == 0.0)

        return stream_text(read, self.tokenizer, self.env_config, ids, how, self._seed(seed))

    def _seed(self, seed: int | None) -> int:
        if seed is not None:
            return whole_number("seed", seed, 0)
        return int(torch.randint(2**31, (1,), generator=self.generator, device=self.generator.device))


_ROWS = 256  # texts per batch


def prompt_ids(text: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids of the first observation of an episode: `<bos>` and the prompt, for tasks of pairs with `<sep>` at the end.

    Raises ValueError for a prompt that the environment does not accept.
    """
    return [Vocabulary.BOS, *encode_prompt(text, tokenizer, config)]


def shows_prompt(config: EnvConfig) -> bool:
    """Whether texts include their prompt: continuations do; answers, translations and labels do not."""
    return config.task == "generation"


def write_texts(
    make_reader: MakeReader,
    tokenizer: Tokenizer,
    config: EnvConfig,
    prompts: Sequence[Sequence[int]],
    count: int,
    how: Decoding,
    seed: int,
) -> list[str]:
    """`count` texts for each prompt, grouped by prompt.

    Args:
        make_reader: makes the reader of a batch of prefixes.
        tokenizer: decodes ids.
        config: the environment's arguments.
        prompts: ids that start with `<bos>`, as from `prompt_ids`.
        count: texts for each prompt; with a beam search the best ones.
        how: settings of decoding.
        seed: text n is sampled with seed + n, independently of the others.

    Raises ValueError if a beam search finds fewer than `count` texts.
    """
    whole_number("count", count, 1)
    if how.beams > 1:
        if count > how.beams:
            raise ValueError(f"a search with {how.beams} beams finds {how.beams} texts, not {count}; use more beams")
        at_once = max(1, _ROWS // how.beams)
        parts = [prompts[first : first + at_once] for first in range(0, len(prompts), at_once)]
        return [text for part in parts for text in _searched(make_reader, tokenizer, config, part, count, how)]
    rows = [prompt for prompt in prompts for _ in range(count)]
    texts: list[str] = []
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        transcripts = [_transcript(tokenizer, config, prompt, how) for prompt in part]
        numbers = uniform_numbers(range(seed + first, seed + first + len(part)), _horizon(config, how))
        for _ in sample(make_reader(part), transcripts, how, numbers):
            pass
        texts += [transcript.text for transcript in transcripts]
    return texts


def stream_text(
    make_reader: MakeReader,
    tokenizer: Tokenizer,
    config: EnvConfig,
    prompt: Sequence[int],
    how: Decoding,
    seed: int,
) -> Iterator[str]:
    """Yield non-empty pieces of one text; they concatenate to the result of `write_texts` with the same seed."""
    transcript = _transcript(tokenizer, config, prompt, how)
    if piece := transcript.piece():  # the prompt, before the network runs
        yield piece
    for _ in sample(make_reader([prompt]), [transcript], how, uniform_numbers([seed], _horizon(config, how))):
        if piece := transcript.piece():
            yield piece
    transcript.close()
    if piece := transcript.piece():
        yield piece


def _searched(
    make_reader: MakeReader,
    tokenizer: Tokenizer,
    config: EnvConfig,
    prompts: Sequence[Sequence[int]],
    count: int,
    how: Decoding,
) -> list[str]:
    def transcript(prompt: int, ids: Sequence[int]) -> Transcript:
        written = _transcript(tokenizer, config, prompts[prompt], how)
        for token in ids:
            written.add(token)
        return written

    is_over = (lambda prompt, ids: transcript(prompt, ids).over) if how.stop_strings else None
    found = beam_search(make_reader(prompts), len(prompts), _horizon(config, how), how, is_over)
    fewest = min((len(hypotheses) for hypotheses in found), default=count)
    if fewest < count:
        raise ValueError(f"after one of the prompts only {fewest} texts are possible, not {count}; use a smaller count")
    return [transcript(n, h.ids).text for n, hypotheses in enumerate(found) for h in hypotheses[:count]]


def _transcript(tokenizer: Tokenizer, config: EnvConfig, prompt: Sequence[int], how: Decoding) -> Transcript:
    return Transcript(tokenizer, prompt if shows_prompt(config) else (), how.stop_strings)


def _horizon(config: EnvConfig, how: Decoding) -> int:
    return how.max_new_tokens or config.max_new_tokens
