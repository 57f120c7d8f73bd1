"""Target `ngram`: a back-off n-gram model as a finite automaton."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from ..arrays import namespace, search
from ..text.vocabulary import Vocabulary
from .automaton import Automaton
from .back_off import read_model, write_model
from .kneser_ney import NEVER_PREDICTED, Trie, fit
from .tables import Tables


class NGramTarget(Automaton):
    """p* of an n-gram model; make it with `NGramTarget.fit` or `NGramTarget.from_arpa`.

    The automaton's states are the stored n-grams shorter than the order; the state of a prefix is its longest suffix
    among them. A query is a binary search in one sorted array. On a miss it adds the back-off weight and follows the
    link to the shorter context, at most `order` times.

    Args:
        trie: the n-grams.
        vocab_size: V, special tokens included.
        unseen: (V,) log-probability, nats, of tokens that are not unigrams of the trie, before the back-off weight of
            the empty context; None for uniform over all tokens except `<pad>`, `<bos>` and `<sep>`.

    Attributes:
        order: n.
        num_states: number of states; state 0 is the empty context, longer contexts have higher numbers.
        level: as in `Trie`.
        tables: the trie's arrays.
    """

    takes_numbers = True

    def __init__(self, trie: Trie, vocab_size: int, unseen: npt.NDArray[np.float64] | None = None) -> None:
        self.vocab_size = vocab_size
        self.order = len(trie.level) - 2
        self.num_states = int(trie.level[self.order])
        self.level = trie.level
        if unseen is None:
            unseen = np.full(vocab_size, -np.log(vocab_size - len(NEVER_PREDICTED)))
            unseen[list(NEVER_PREDICTED)] = -np.inf
        begin = np.searchsorted(trie.keys, np.arange(self.num_states + 1) * vocab_size)
        self.tables = Tables(
            keys=np.append(trie.keys, np.iinfo(np.int64).max),
            log_prob=trie.log_prob,
            log_backoff=trie.log_backoff,
            link=trie.link,
            uniform=unseen,
            first_child=begin,
        )

    @classmethod
    def fit(
        cls, documents: Iterable[Sequence[int] | npt.NDArray[np.int64]], vocab_size: int, order: int = 3
    ) -> NGramTarget:
        """Fit on documents of token ids (without `<bos>` and `<eos>`, which are added).

        Raises ValueError for an order below 1, no documents, ids outside the vocabulary, `<pad>` in a document, or
        a corpus and vocabulary too large for 64-bit keys.
        """
        texts = [np.asarray(d, np.int64) for d in documents]
        if order < 1:
            raise ValueError(f"the order of an n-gram model must be at least 1, not {order}")
        if not texts:
            raise ValueError("an n-gram model needs at least one document to fit")
        longest = max(texts, key=len)
        if len(longest):
            low, high = min(int(t.min()) for t in texts if len(t)), max(int(t.max()) for t in texts if len(t))
            if low < 0 or high >= vocab_size:
                raise ValueError(
                    f"token ids must lie between 0 and {vocab_size - 1}, but the documents hold {low} to {high}"
                )
            if low == Vocabulary.PAD:  # else the padding of a prefix would count as context
                raise ValueError(
                    f"documents to fit hold words, but one has <pad> (id {Vocabulary.PAD}) in it; strip the padding"
                )
        total = sum(len(t) + 2 for t in texts) * order
        if total * vocab_size >= 2**63:
            raise ValueError(
                f"{total} n-grams over {vocab_size} tokens need keys of more than 64 bits; use a lower order"
            )
        return cls(fit(texts, vocab_size, order), vocab_size)

    @classmethod
    def from_arpa(cls, path: str | Path, vocabulary: Vocabulary) -> NGramTarget:
        """The model of an ARPA file, as KenLM and SRILM write them, over `vocabulary`.

        `<s>`, `</s>`, `<unk>` become `<bos>`, `<eos>`, `<unk>`. Words of the file outside the vocabulary become
        `<unk>`, to whose probability theirs are added; n-grams with one of them in the context are left out. Words of
        the vocabulary that the file lacks share the probability of the file's `<unk>` equally with `<unk>`. So the
        model stays a distribution, and words that both have keep their probabilities.

        Raises FileNotFoundError for a missing file; ValueError for a malformed file (with the line), probabilities that
        do not sum to 1, no `</s>`, or missing words without `<unk>`.
        """
        return read_model(path, vocabulary, _without_unseen)

    def to_arpa(self, path: str | Path, vocabulary: Vocabulary) -> None:
        """Write the model as an ARPA file (UTF-8, 12 digits) for `from_arpa`, KenLM or SRILM.

        Raises ValueError for a vocabulary of another size, or for a word with white space or spelled like `<s>` or
        `</s>`.
        """
        if len(vocabulary) != self.vocab_size:
            raise ValueError(f"the model is over {self.vocab_size} tokens, but the vocabulary has {len(vocabulary)}")
        keys, log_prob, log_backoff, link = (self.tables[name] for name in ("keys", "log_prob", "log_backoff", "link"))
        trie = Trie(keys[:-1], log_prob, log_backoff, link, self.level)
        write_model(path, vocabulary, trie, self.state_log_probs(np.zeros(1, np.int64))[0])

    def next_state(self, states: Any, tokens: Any) -> Any:
        """(B,) states after (B,) tokens."""
        return self.advance(states, tokens)[1]

    def state_log_prob(self, states: Any, tokens: Any) -> Any:
        """(B,) log p*(token | state), nats."""
        return self.advance(states, tokens)[0]

    def advance(self, states: Any, tokens: Any) -> tuple[Any, Any]:
        """(B,) log p*(token | state), nats, and the (B,) states after the tokens."""
        xp = namespace(states)
        keys, link, log_prob, log_backoff, uniform = (
            self.tables.like(states, name) for name in ("keys", "link", "log_prob", "log_backoff", "uniform")
        )
        # A row is open until its token is found; then `reached` is its node. Node 0 has no shorter context.
        node, reached, open_ = states, xp.zeros_like(states), states >= 0
        total = xp.zeros_like(states, dtype=xp.float64)
        for _ in range(self.order):
            wanted = node * self.vocab_size + tokens
            place = search(keys, wanted)  # the last key is above all queries
            found = keys[place] == wanted
            reached = xp.where(open_ & found, place + 1, reached)
            open_ = open_ & xp.logical_not(found)
            if open_ is False:  # never an array
                break
            total = total + xp.where(open_, log_backoff[node], 0.0)
            open_ = open_ & (node != 0)
            node = link[node]
        total = total + xp.where(reached > 0, log_prob[reached], uniform[tokens])
        # An n-gram of length n is not a state, but its link is.
        return total, xp.where(reached < self.num_states, reached, link[reached])

    def state_log_probs(self, states: Any) -> Any:
        """(B, V) log p*(· | state), nats; longer contexts overwrite the rows of shorter ones."""
        xp = namespace(states)
        contexts, log_backoff, log_prob, keys = (
            self._contexts(states),
            *(self.tables.like(states, name) for name in ("log_backoff", "log_prob", "keys")),
        )
        rows = xp.tile(self.tables.like(states, "uniform"), (states.shape[0], 1))
        shorter = None
        for node in contexts:
            longer = xp.ones_like(node, dtype=xp.bool) if shorter is None else node != shorter
            rows = rows + xp.where(longer, log_backoff[node], 0.0)[:, None]
            row, child = self._children(node, longer)
            rows[row, keys[child - 1] % self.vocab_size] = log_prob[child]
            shorter = node
        return rows

    def next_states(self, states: Any) -> Any:
        """(B, V) int64, the state after each token."""
        xp = namespace(states)
        keys = self.tables.like(states, "keys")
        rows = xp.zeros((states.shape[0], self.vocab_size), dtype=xp.int64, device=device(states))
        shorter = None
        for node in self._contexts(states):
            longer = xp.ones_like(node, dtype=xp.bool) if shorter is None else node != shorter
            row, child = self._children(node, longer)
            kept = child < self.num_states
            rows[row[kept], keys[child[kept] - 1] % self.vocab_size] = child[kept]
            shorter = node
        return rows

    def last_tokens(self, states: Any) -> Any:
        """(S,) int64, the last token of each state, -1 for state 0.

        The state after a token is 0 if no document has this token (at order 1, always), whatever came before.
        """
        xp = namespace(states)
        keys = self.tables.like(states, "keys")
        return xp.where(states > 0, keys[xp.where(states > 0, states - 1, 0)] % self.vocab_size, -1)

    def _contexts(self, states: Any) -> list[Any]:
        """For every length from 0 to n - 1, the suffix of each state of that length, or the state if it is shorter."""
        link = self.tables.like(states, "link")
        chain = [states]
        for _ in range(self.order - 1):
            chain.append(link[chain[-1]])
        return chain[::-1]

    def _children(self, nodes: Any, wanted: Any) -> tuple[Any, Any]:
        """Row and node of all children of the `wanted` (B,) bool nodes, in one array each."""
        xp = namespace(nodes)
        first = self.tables.like(nodes, "first_child")
        begin = first[nodes]
        count = xp.where(wanted, first[nodes + 1] - begin, 0)
        row = xp.repeat(xp.arange(nodes.shape[0], device=device(nodes)), count)
        before = xp.cumulative_sum(count) - count
        return row, begin[row] + xp.arange(row.shape[0], device=device(nodes)) - before[row] + 1


def _without_unseen(trie: Trie, vocab_size: int) -> NGramTarget:
    """A model in which tokens without a unigram have probability 0, as ARPA files define it."""
    return NGramTarget(trie, vocab_size, np.full(vocab_size, -np.inf))
