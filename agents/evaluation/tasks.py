"""The metrics of each task, for texts of an agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...envs import EnvConfig, Split, Vocabulary, World
from ...envs.metrics import corpus_bleu, corpus_chrf, exact_match, token_f1
from ..decoding import Decoding
from ..protocol import Agent, complete
from .confusion import Confusion
from .diversity import distinct, repetition, self_bleu
from .policies import write_ids

_ORDERS = (1, 2, 3)  # n of distinct-n


def task_figures(
    agent: Agent,
    world: World,
    config: EnvConfig,
    split: Split,
    limit: int | None,
    seed: int,
    written: Sequence[Sequence[int]] = (),
) -> dict[str, Any]:
    """The metrics of `config.task`.

    Args:
        agent: of any algorithm.
        world: of the environment.
        config: the environment's arguments.
        split: its pairs are decoded greedily and compared with their targets.
        limit: decode only this many pairs, the first ones; None for all.
        seed: of the sampling.
        written: ids of texts that the agent sampled, for the task "generation".

    Returns: for "generation" the keys of `diversity`; for "qa" exact_match and token_f1, means over pairs, 0 to 1; for
    "translation" corpus bleu and chrf, 0 to 100; for "classification" accuracy and macro_f1, 0 to 1, and confusion
    (labels, and counts with one row per true label). pairs_decoded is the number of pairs.
    """
    if config.task == "generation":
        return diversity(written)
    hypotheses = decode_pairs(agent, world, config, split, limit, seed)
    references = [target for _, target in world.pairs[split][: len(hypotheses)]]
    return {"pairs_decoded": len(hypotheses), **_FIGURES[config.task](hypotheses, references)}


def diversity(written: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """distinct_1, distinct_2, distinct_3, self_bleu and repetition (seq-rep-4) of texts (ids); None if undefined."""
    return {
        **{f"distinct_{n}": distinct(written, n) for n in _ORDERS},
        "self_bleu": self_bleu(written),
        "repetition": repetition(written),
    }


def decode_pairs(
    agent: Agent, world: World, config: EnvConfig, split: Split, limit: int | None = None, seed: int = 0
) -> list[str]:
    """Greedy target texts for the sources of `split` (the first `limit`), in the order of the pairs.

    As in documents, sources are truncated to the context, with `<unk>` for words outside the vocabulary.
    """
    documents = world.documents[split]
    count = min(limit or len(documents), len(documents))
    prompts = [[Vocabulary.BOS, *documents[i][: documents.longest_prompt[i]].tolist()] for i in range(count)]
    # Batches of similar length waste less computation on padding and finished rows.
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    found = write_ids(complete(agent, config), world, config, [prompts[i] for i in order], Decoding(0.0), seed)
    texts = [""] * count
    for place, text in zip(order, found, strict=True):
        texts[place] = text
    return texts


def _answers(hypotheses: list[str], references: list[str]) -> dict[str, Any]:
    return {
        "exact_match": _mean(exact_match, hypotheses, references),
        "token_f1": _mean(token_f1, hypotheses, references),
    }


def _translations(hypotheses: list[str], references: list[str]) -> dict[str, Any]:
    return {"bleu": corpus_bleu(hypotheses, references), "chrf": corpus_chrf(hypotheses, references)}


def _labels(hypotheses: list[str], references: list[str]) -> dict[str, Any]:
    confusion = Confusion.of([text.strip() for text in hypotheses], [text.strip() for text in references])
    return {
        "accuracy": confusion.accuracy,
        "macro_f1": confusion.macro_f1,
        "confusion": {"labels": confusion.labels, "counts": confusion.counts.tolist()},
    }


def _mean(score: Callable[[str, str], float], hypotheses: list[str], references: list[str]) -> float:
    return float(np.mean([score(h, r) for h, r in zip(hypotheses, references, strict=True)]))


_FIGURES: dict[str, Callable[[list[str], list[str]], dict[str, Any]]] = {
    "qa": _answers,
    "translation": _translations,
    "classification": _labels,
}
