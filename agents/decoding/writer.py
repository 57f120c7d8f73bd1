"""`generate` and `stream`, the same for every agent that reads prefixes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from ...envs import EnvConfig, Vocabulary, encode_prompt
from ...envs.text import Tokenizer
from ..networks.prefixes import Prefixes
from .beams import beam_search
from .options import Decoding
from .readers import MakeReader, Reader
from .sampling import sample, uniform_numbers
from .transcript import Transcript


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

    def reader(self, prefixes: Prefixes, env: EnvConfig | None = None, greedy: bool = False) -> Reader:
        """A reader that has read the prefixes.

        Args:
            prefixes: ids of each text so far, with `<bos>`.
            env: the environment's arguments; the agent's own if None.
            greedy: only the best action will be asked for.
        """
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
        """Pieces of one text as they are written; with the same arguments they join to what `generate` returns.

        Arguments and errors as of `generate`. What may still change, such as half a character or the beginning of a
        stop string, is held back until it is settled.
        """
        how = Decoding(self.policy_temperature(temperature), top_k, top_p, stop=stop, max_new_tokens=max_new_tokens)
        ids = prompt_ids(prompt, self.tokenizer, self.env_config)

        def read(prefixes: Prefixes) -> Reader:
            return self.reader(prefixes, greedy=how.temperature == 0.0)

        return stream_text(read, self.tokenizer, self.env_config, ids, how, self._seed(seed))

    def _seed(self, seed: int | None) -> int:
        if seed is not None:
            return seed
        return int(torch.randint(2**31, (1,), generator=self.generator, device=self.generator.device))


_ROWS = 256  # texts written side by side


def prompt_ids(text: str, tokenizer: Tokenizer, config: EnvConfig) -> list[int]:
    """Ids an episode begins with, `<bos>` included: the prompt, or of a pair the source and `<sep>`.

    Raises ValueError for a prompt that the environment would not take.
    """
    return [Vocabulary.BOS, *encode_prompt(text, tokenizer, config)]


def shows_prompt(config: EnvConfig) -> bool:
    """Whether a text is shown with its prompt: a continuation is, an answer, a translation or a label is not."""
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
    """`count` texts for each prompt, those of one prompt beside each other.

    Args:
        make_reader: reads prefixes.
        tokenizer: turns ids into text.
        config: the environment's arguments.
        prompts: ids, `<bos>` included, as of `prompt_ids`.
        count: texts for each prompt; of a beam search the best ones.
        how: how they are found.
        seed: text number n is drawn with the seed `seed + n`, as it would be alone.

    Raises ValueError where a beam search is asked for more texts than there are.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if how.beams > 1:
        if count > how.beams:
            raise ValueError(f"a search with {how.beams} beams ends with {how.beams} texts; {count} need more beams")
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
    """Pieces of one text as they are written, none empty; they join to what `write_texts` gives for the same seed."""
    transcript = _transcript(tokenizer, config, prompt, how)
    if piece := transcript.piece():  # a prompt can be shown before anything is read
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
        raise ValueError(f"there are only {fewest} texts to be found after a prompt, not {count}; ask for fewer")
    return [transcript(n, h.ids).text for n, hypotheses in enumerate(found) for h in hypotheses[:count]]


def _transcript(tokenizer: Tokenizer, config: EnvConfig, prompt: Sequence[int], how: Decoding) -> Transcript:
    return Transcript(tokenizer, prompt if shows_prompt(config) else (), how.stop_strings)


def _horizon(config: EnvConfig, how: Decoding) -> int:
    return how.max_new_tokens or config.max_new_tokens
