"""From prompts to texts: what `generate` and `stream` of every agent do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...envs import EnvConfig, Vocabulary, encode_prompt
from ...envs.text import Tokenizer
from .beams import beam_search
from .options import Decoding
from .readers import MakeReader
from .sampling import sample, uniform_numbers
from .transcript import Transcript

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
