"""Reading a back-off model from an ARPA file into a trie over a given vocabulary, and writing one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Ints
from ..text.limits import LIMITS, raised_by
from ..text.vocabulary import Vocabulary
from .arpa import ArpaFile, Ngrams, read_arpa, write_arpa
from .automaton import Automaton
from .kneser_ney import Trie

Model = TypeVar("Model", bound=Automaton)

SPECIAL = {
    "<s>": Vocabulary.BOS,
    "</s>": Vocabulary.EOS,
    "<unk>": Vocabulary.UNK,
    "<UNK>": Vocabulary.UNK,
    "<sep>": Vocabulary.SEP,
}
_TOLERANCE = 0.01  # largest deviation from 1 of the sum of a context's probabilities


def read_model(path: str | Path, vocabulary: Vocabulary, make: Callable[[Trie, int], Model]) -> Model:
    """The model of an ARPA file over `vocabulary`; see `NGramTarget.from_arpa`.

    Args:
        path: the file.
        vocabulary: V tokens.
        make: from a trie and its vocabulary size to a model whose states are the trie's nodes.
    """
    file, size = read_arpa(path), len(vocabulary)
    foreign = 0
    ids = np.empty(len(file.words), np.int64)
    for i, word in enumerate(file.words):
        if word in SPECIAL:
            ids[i] = SPECIAL[word]
        elif word in vocabulary:
            ids[i] = vocabulary.id(word)
        else:
            ids[i] = size + foreign
            foreign += 1
    if Vocabulary.EOS not in ids:
        raise ValueError(f"{file.path} has no </s> among its unigrams, so no text would end; add it")
    missing = np.setdiff1d(np.arange(Vocabulary.FIRST_WORD, size), ids)
    if len(missing) and Vocabulary.UNK not in ids:
        raise ValueError(
            f"{file.path} lacks {len(missing)} word(s) of the vocabulary, such as "
            f"{vocabulary.token(int(missing[0]))!r}, and has no <unk> whose probability they could share"
        )
    wide = size + foreign  # words outside the vocabulary have ids from V on until `_within`
    names = {int(i): word for i, word in zip(ids, file.words, strict=True)}
    trie, levels = make_trie([level._replace(words=ids[level.words]) for level in file.levels], wide, file, names)
    model = make(trie, wide)
    mass = _listed_mass(trie, model, wide, np.ones(wide, np.bool_))
    wrong = np.flatnonzero(np.abs(mass - 1.0) > _TOLERANCE)
    if len(wrong):
        raise ValueError(
            f"{file.path}: the probabilities after {_name(int(wrong[0]), levels, trie, names)!r} sum to "
            f"{mass[wrong[0]]:.4g}, not to 1"
        )
    if foreign or len(missing):
        levels = _within(trie, levels, model, size, wide, missing)
        trie, _ = make_trie(levels, size, file, names)
    return make(trie, size)


def make_trie(
    levels: list[Ngrams], vocab_size: int, file: ArpaFile, names: dict[int, str]
) -> tuple[Trie, list[Ngrams]]:
    """The trie of n-grams over ids below `vocab_size`, and the n-grams in the order of its nodes.

    Raises ValueError, with the line, for a repeated n-gram or one whose context is not listed.
    """
    if sum(len(level.words) + 1 for level in levels) * vocab_size >= 2**63:
        raise ValueError(f"{file.path} holds too many n-grams over {vocab_size} tokens for 64-bit keys")
    keys, link, level_ends, ordered = np.zeros(0, np.int64), [np.zeros(1, np.int64)], [0, 1], []
    for k, grams in enumerate(levels, 1):
        parent = _walk(keys, grams.words[:, :-1], vocab_size)
        lost = np.flatnonzero(parent < 0)
        if len(lost):
            gram = " ".join(names[int(w)] for w in grams.words[lost[0]])
            raise ValueError(
                f"{file.path}, line {grams.lines[lost[0]]}: the context of {gram!r} is not among the {k - 1}-grams"
            )
        own = parent * vocab_size + grams.words[:, -1]
        place = np.argsort(own, kind="stable")
        again = np.flatnonzero(np.diff(own[place]) == 0)
        if len(again):
            row = place[again[0] + 1]
            gram = " ".join(names[int(w)] for w in grams.words[row])
            raise ValueError(f"{file.path}, line {grams.lines[row]}: {gram!r} is listed twice")
        grams = grams.take(place)
        keys = np.concatenate([keys, own[place]])
        shorter = np.zeros(len(place), np.int64)
        for start in range(k - 1, 0, -1):  # the last match is the longest suffix
            end = _walk(keys, grams.words[:, start:], vocab_size)
            shorter = np.where(end >= 0, end, shorter)
        link.append(shorter)
        level_ends.append(level_ends[-1] + len(place))
        ordered.append(grams)
    zero = np.zeros(1)
    trie = Trie(
        keys=keys,
        log_prob=np.concatenate([zero, *(grams.log_prob for grams in ordered)]),
        log_backoff=np.concatenate([zero, *(grams.log_backoff for grams in ordered)]),
        link=np.concatenate(link),
        level=np.array(level_ends),
    )
    return trie, ordered


def _walk(keys: Ints, words: Ints, vocab_size: int) -> Ints:
    """(N, k) n-grams to their nodes, -1 for none."""
    node = np.zeros(len(words), np.int64)
    for column in words.T:
        wanted = node * vocab_size + column
        place = np.searchsorted(keys, wanted)
        found = (node >= 0) & (np.append(keys, -1)[place] == wanted)
        node = np.where(found, place + 1, -1)
    return node


def _listed_mass(trie: Trie, model: Automaton, vocab_size: int, counted: npt.NDArray[np.bool_]) -> Floats:
    """(S,) Σ p(w | context) over the `counted` (V,) bool words, from the listed n-grams only.

    Σ_w p(w | h) = Σ_listed p(w | h) + b(h)·(Σ_w p(w | h′) - Σ_listed p(w | h′)), h′ = h without its oldest word.
    """
    parent, word = np.divmod(trie.keys, vocab_size)
    kept = counted[word]
    parent, word, here = parent[kept], word[kept], trie.log_prob[1:][kept]
    states = int(trie.level[-2])
    lower = np.where(parent > 0, np.exp(model.state_log_prob(trie.link[parent], word)), 0.0)
    listed = np.bincount(parent, np.exp(here), states)
    lower = np.bincount(parent, lower, states)
    mass = listed.copy()
    for k in range(1, len(trie.level) - 2):
        nodes = slice(trie.level[k], trie.level[k + 1])
        rest = np.maximum(mass[trie.link[nodes]] - lower[nodes], 0.0)
        mass[nodes] = listed[nodes] + np.exp(trie.log_backoff[nodes]) * rest
    return mass


def _within(trie: Trie, levels: list[Ngrams], model: Automaton, size: int, wide: int, missing: Ints) -> list[Ngrams]:
    """The n-grams of the model over ids below `size`, with the foreign words from there on merged into `<unk>`."""
    foreign = np.arange(wide) >= size
    outside = _listed_mass(trie, model, wide, foreign)
    parent, word = np.divmod(trie.keys, wide)
    # A context that lists a foreign word or <unk> must list <unk>; in all others <unk> backs off as they do.
    listed = np.zeros(len(outside), np.bool_)
    listed[parent[foreign[word] | (word == Vocabulary.UNK)]] = True
    shares = len(missing) + 1
    result = []
    for k, grams in enumerate(levels, 1):
        inside = ~foreign[grams.words].any(1) & (grams.words[:, -1] != Vocabulary.UNK)
        contexts = np.arange(trie.level[k - 1], trie.level[k])
        before = levels[k - 2].words if k > 1 else np.zeros((1, 0), np.int64)
        chosen = listed[contexts] & ~foreign[before].any(1)
        contexts, before = contexts[chosen], before[chosen]
        unknown_words = np.append(before, np.full((len(before), 1), Vocabulary.UNK), axis=1)
        nodes = _walk(trie.keys, unknown_words, wide)
        own = np.exp(model.state_log_prob(contexts, np.full_like(contexts, Vocabulary.UNK))) / shares
        with np.errstate(divide="ignore"):
            log_own, log_all = np.log(own), np.log(own + outside[contexts])
        explicit = nodes >= 0
        unknown = _ngrams(unknown_words, log_all, np.where(explicit, trie.log_backoff[nodes], 0.0))
        count = np.count_nonzero(explicit)
        if len(missing) * count > LIMITS.arpa_added:
            raise ValueError(
                f"{len(missing)} words of the vocabulary are not in the ARPA file and need {len(missing) * count:,} "
                f"more n-grams, above the limit of {LIMITS.arpa_added:,}; use a vocabulary closer to the file's, "
                f"or {raised_by('arpa_added')}"
            )
        repeated = np.repeat(before[explicit], len(missing), axis=0)
        words = np.append(repeated, np.tile(missing, count)[:, None], axis=1)
        sharing = _ngrams(words, np.repeat(log_own[explicit], len(missing)), np.zeros(len(words)))
        parts = (grams.take(inside), unknown, sharing)
        result.append(
            _ngrams(
                np.concatenate([part.words for part in parts]),
                np.concatenate([part.log_prob for part in parts]),
                np.concatenate([part.log_backoff for part in parts]),
            )
        )
    return result


def _name(node: int, levels: list[Ngrams], trie: Trie, names: dict[int, str]) -> str:
    """The words of a node, for an error message."""
    k = int(np.searchsorted(trie.level, node, side="right")) - 1
    return " ".join(names[int(w)] for w in levels[k - 1].words[node - trie.level[k]]) if k else ""


def write_model(path: str | Path, vocabulary: Vocabulary, trie: Trie, unigrams: Floats) -> None:
    """Write a model as an ARPA file; see `NGramTarget.to_arpa`.

    Args:
        path: the file.
        vocabulary: V tokens.
        trie: the n-grams.
        unigrams: (V,) log-probability of every token in the empty context, nats.
    """
    write_arpa(path, _arpa_words(vocabulary), _levels(trie, unigrams))


def _arpa_words(vocabulary: Vocabulary) -> list[str]:
    """The names of the tokens in an ARPA file; ValueError if a word has the name of a special token."""
    special = ["<pad>", "<unk>", "<s>", "</s>", "<sep>"]
    for word in vocabulary.words:
        if word in SPECIAL:
            raise ValueError(f"the vocabulary has the word {word!r}, which is a special token in an ARPA file")
    return [*special, *vocabulary.words]


def _levels(trie: Trie, root: Floats) -> list[Ngrams]:
    """The n-grams for an ARPA file, with a unigram for every token of non-zero probability."""
    size, level = len(root), trie.level
    parent, word = np.divmod(trie.keys, size)
    unigrams = np.flatnonzero(np.isfinite(root) | np.isin(np.arange(size), word[parent == 0]))
    nodes = _walk(trie.keys, unigrams[:, None], size)
    result = [_ngrams(unigrams[:, None], root[unigrams], np.where(nodes >= 0, trie.log_backoff[nodes], 0.0))]
    words = word[parent == 0, None]
    for k in range(2, len(level) - 1):
        here = slice(level[k], level[k + 1])
        before = words[parent[level[k] - 1 : level[k + 1] - 1] - level[k - 1]]
        words = np.append(before, word[level[k] - 1 : level[k + 1] - 1, None], axis=1)
        result.append(_ngrams(words, trie.log_prob[here], trie.log_backoff[here]))
    return result


def _ngrams(words: Ints, log_prob: Floats, log_backoff: Floats) -> Ngrams:
    return Ngrams(words, log_prob, log_backoff, np.zeros(len(words), np.int64))
