"""Random worlds and random actions: what holds of every environment, against the definitions in plain Python.

A world is drawn with all its settings. Its episodes run in the single, the vector and the device environment, from the
same seeds and under the same actions, beside an episode that is written down here from the manual alone.
"""

import copy
import dataclasses
import importlib.util
import itertools
import math
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tokenlm.envs import EnvConfig, TokenLMEnv, TokenLMVectorEnv, Vocabulary, World, metrics
from tokenlm.envs.targets import ScoringTarget
from tokenlm.envs.text import Cleaning

try:
    import torch

    from tokenlm.envs import TokenLMDeviceEnv
except ImportError:  # the environment needs no torch
    torch = None

PAD, UNK, BOS, EOS, SEP = range(5)
N = 2  # environments side by side
STEPS = 12
SCORES = {"exact_match": metrics.exact_match, "f1": metrics.token_f1, "accuracy": metrics.accuracy}


class Windowed(ScoringTarget):
    """Of a user's own: scores by what the window shows."""

    def scores(self, prefixes):
        distance = np.arange(prefixes.shape[1], 0, -1)
        return np.sin((prefixes / distance).sum(1)[:, None] * np.arange(1, self.vocab_size + 1)[None, :])


class Remembering(ScoringTarget):
    """Of a user's own: scores by the whole text, which it remembers."""

    def scores(self, prefixes):
        return np.stack([self.score([t for t in row if t != PAD]) for row in prefixes])

    def score(self, text):
        return np.cos((1 + sum(text) + len(text)) * np.arange(1, self.vocab_size + 1))

    def memory(self, num_rows, like):
        return Texts(self, num_rows, like)


class Texts:
    """The texts of `num_rows` episodes."""

    def __init__(self, target, num_rows, like):
        self.target, self.like, self.texts = target, like, [[BOS] for _ in range(num_rows)]

    @property
    def log_probs(self):
        scores = np.stack([self.target.score(text) for text in self.texts])
        rows = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        return rows if isinstance(self.like, np.ndarray) else torch.from_numpy(rows)

    def begin(self, rows, prefixes):
        for row, prefix in zip(rows.tolist(), prefixes.tolist(), strict=True):
            self.texts[row] = [t for t in prefix if t != PAD]

    def advance(self, tokens, active):
        for row, (token, goes_on) in enumerate(zip(tokens.tolist(), active.tolist(), strict=True)):
            self.texts[row] += [token] * goes_on


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


class Apart:
    """p* of a world and its valid actions, from their definitions, for one text at a time."""

    def __init__(self, config: EnvConfig, world: World, slow_kneser_ney) -> None:
        self.config, self.size = config, world.vocab_size
        self.documents = {split: [d.tolist() for d in documents_of(world, split)] for split in world.documents}
        self.words = set(range(Vocabulary.FIRST_WORD, self.size))
        if config.has_pairs:  # words of the training targets
            self.words &= {t for d in self.documents["train"] for t in d[d.index(SEP) + 1 :]}
        if config.target == "ngram":
            self.slow = slow_kneser_ney(self.documents["train"], self.size, config.order)
        elif config.target == "markov":
            self.chain = self._chain()

    def _chain(self) -> dict[tuple[int, ...], np.ndarray]:
        """Zipfian rows, in the order of the contexts, where <bos> stands for all special tokens."""
        config, words = self.config, self.size - Vocabulary.FIRST_WORD
        symbols = [BOS, *range(Vocabulary.FIRST_WORD, self.size)]
        contexts = list(itertools.product(symbols, repeat=config.order - 1))
        rng = np.random.default_rng(config.target_seed)
        exponents = rng.uniform(0.5, 2.5, (len(contexts), 1))
        ranks = rng.permuted(np.tile(np.arange(1, words + 1), (len(contexts), 1)), axis=1)
        ends = 0.0 if config.ending == "fixed" else 1.0 / config.max_new_tokens
        rows = {}
        for context, exponent, rank in zip(contexts, exponents, ranks, strict=True):
            row = np.zeros(self.size)
            row[Vocabulary.FIRST_WORD :] = (1.0 - ends) * rank**-exponent / (rank**-exponent).sum()
            row[EOS] = ends
            rows[context] = row
        return rows

    def valid(self, written: int, window: np.ndarray) -> np.ndarray:
        recent = set(window[len(window) - self.config.no_repeat :].tolist())
        mask = np.isin(np.arange(self.size), list(self.words - recent))
        mask[EOS] = self.config.ending == "eos" and written >= self.config.min_new_tokens
        return mask

    def row(self, text: list[int], window: np.ndarray, expected: int | None, mask: np.ndarray) -> np.ndarray:
        """(V,) p*(· | text), given that the action is valid.

        Args:
            text: all tokens since the first observation.
            window: the observation.
            expected: the document's next token.
            mask: the valid actions.
        """
        config = self.config
        context = tuple(text[len(text) - min(config.order - 1, len(text)) :])
        if config.target == "ngram":
            row = self.slow.row(context)
        elif config.target == "markov":
            words = tuple(t if t >= Vocabulary.FIRST_WORD else BOS for t in context)
            row = self.chain[(BOS,) * (config.order - 1 - len(words)) + words]
        elif config.target == "reference":
            row = np.full(self.size, config.epsilon / self.size)
            row[expected] += 1.0 - config.epsilon
        elif config.target.startswith("Windowed"):
            seen = [t / (len(window) - i) for i, t in enumerate(window.tolist())]
            row = softmax(np.array([math.sin(math.fsum(seen) * a) for a in range(1, self.size + 1)]))
        else:
            row = softmax(np.array([math.cos((1 + sum(text) + len(text)) * a) for a in range(1, self.size + 1)]))
        return np.where(mask, row, 0.0) / row[mask].sum()


def documents_of(world: World, split: str) -> Iterator[np.ndarray]:
    documents = world.documents[split]
    return (documents[i] for i in range(len(documents)))


class Episode:
    """One episode from the manual: what it has earned, when it pays, when it is over."""

    def __init__(self, apart: Apart, observation: np.ndarray, env: TokenLMEnv) -> None:
        self.apart, self.config, self.env = apart, apart.config, env
        self.window, self.written, self.unpaid, self.hypothesis = observation, 0, 0.0, []
        self.text = [t for t in observation.tolist() if t != PAD]
        self.rest = self._rest()

    def _rest(self) -> list[int]:
        """What follows the prompt in the document, which is one of the split's, begun at an allowed length."""
        count = int(self.env._episodes.prompt_lengths[0])
        begun = [
            d[count:]
            for d in self.apart.documents[self.config.split]
            if ([BOS, *d[:count]])[-len(self.window) :] == self.text and self._allowed(d, count)
        ]
        assert begun
        if self.env._episodes.reference is None:
            return begun[0]
        told = self.env._episodes.reference[0].tolist()
        matching = [rest for rest in begun if (rest + [EOS] * len(told))[: len(told)] == told]
        assert matching
        return matching[0]

    def _allowed(self, document: list[int], count: int) -> bool:
        if self.config.has_pairs:
            return count == document.index(SEP) + 1 <= self.config.context_length - 1
        shortest, longest = (min(length, len(document) - 1) for length in self.config.prompt_length)
        return shortest <= count <= longest

    @property
    def expected(self) -> int:
        return self.rest[self.written] if self.written < len(self.rest) else EOS

    @property
    def mask(self) -> np.ndarray:
        return self.apart.valid(self.written, self.window)

    @property
    def row(self) -> np.ndarray:
        return self.apart.row(self.text, self.window, self.expected, self.mask)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, float]:
        config = self.config
        log_prob = math.log(self.row[action])
        token = action if config.transition == "free" else self.expected
        self.text, self.window = [*self.text, token], np.append(self.window[1:], token)
        self.hypothesis.append(token)
        self.written += 1
        self.unpaid += config.log_prob_weight * log_prob
        full, ends = self.written == config.max_new_tokens, token == EOS
        terminated = full if config.ending == "fixed" else ends or (full and bool(config.sequence_reward))
        truncated = full and not terminated
        pays = terminated or truncated or (config.reward_every > 0 and self.written % config.reward_every == 0)
        reward, self.unpaid = (self.unpaid, 0.0) if pays else (0.0, self.unpaid)
        if terminated and config.sequence_reward:
            decode = self.env.world.tokenizer.decode
            reward += config.sequence_weight * SCORES[config.sequence_reward](
                decode(self.hypothesis), decode(self.rest)
            )
        return self.window, reward, terminated, truncated, log_prob


LATIN = st.lists(st.sampled_from(["the", "cat", "sees", "a", "dog", "A", "Dog", "!"]), min_size=1, max_size=6).map(
    " ".join
)
CHINESE = st.text("今天气很好我们去看花开，。", min_size=1, max_size=8)
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
TEXT = st.one_of(LATIN, CHINESE, UNICODE)
FILLING = ("one two", "two one", "one one three", "今天好 花", "花")  # so that there are three different documents
TOKENIZERS = ["auto", "jieba", "char", "word"]
TOKENIZERS += ["nltk"] * (importlib.util.find_spec("nltk") is not None)
TOKENIZERS += ["bpe"] * (importlib.util.find_spec("tokenizers") is not None)


@st.composite
def configurations(draw) -> EnvConfig:
    """All settings that need no files."""
    task = draw(st.sampled_from(["generation", "generation", "qa", "translation", "classification"]))
    pairs = task != "generation"
    targets = ["ngram", "ngram", "reference", Windowed, Remembering] + ["markov"] * (not pairs)
    target = draw(st.sampled_from(targets))
    text = draw(st.sampled_from([LATIN, CHINESE, UNICODE, TEXT]))
    if pairs:
        label = st.sampled_from(["good", "bad", "好"])
        corpus = draw(st.lists(st.tuples(text, label if task == "classification" else text), max_size=6))
        corpus += [(source, "good" if task == "classification" else source[::-1]) for source in FILLING]
    else:
        corpus = draw(st.lists(text, max_size=8)) + list(FILLING)
    order = draw(st.integers(1, 4 if target != "markov" else 3))
    values = {
        "corpus": tuple(corpus),
        "task": task,
        "target": target,
        "tokenizer": draw(st.sampled_from(TOKENIZERS)),
        "order": order,
        "context_length": draw(st.integers(max(order - 1, 3 if pairs else 1), 8)),
        "split": draw(st.sampled_from(["train", "valid", "test"])),
        "reward_every": draw(st.integers(0, 3)),
        "epsilon": draw(st.sampled_from([0.01, 0.1, 0.7])),
        "invalid_action": draw(st.sampled_from(["raise", "random"])),
        "mask_in_info": draw(st.booleans()),
        "transition": draw(st.sampled_from(["free", "free", "teacher"])),
        "vocab_size": draw(st.integers(6, 9)),
        "target_seed": draw(st.integers(0, 3)),
        "cleaning": Cleaning(lower_case=draw(st.booleans()), remove_punctuation=draw(st.booleans())),
    }
    values["no_repeat"] = draw(st.sampled_from([0, 0, 1, min(2, values["context_length"])]))
    if values["tokenizer"] != "bpe":
        values["min_count"] = draw(st.sampled_from([1, 1, 2]))
        values["max_vocab_size"] = draw(st.sampled_from([None, None, 9]))
    if task != "classification":
        values["ending"] = draw(st.sampled_from(["eos", "fixed"]))
        values["max_new_tokens"] = draw(st.integers(2, 6))
        values["min_new_tokens"] = draw(st.integers(0, values["max_new_tokens"] - 1))
        values["vocabularies"] = draw(st.sampled_from(["joint", "separate"]))
        shortest = draw(st.integers(0, 3))
        values["prompt_length"] = (shortest, draw(st.integers(shortest, 5)))
    if task in ("qa", "translation"):
        values["reverse"] = draw(st.booleans())
    if values["transition"] == "free" and draw(st.booleans()):
        values["sequence_reward"] = draw(st.sampled_from(sorted(SCORES)))
        values["sequence_weight"] = draw(st.sampled_from([-1.0, 0.5, 10.0]))
    weights = [1.0, 1.0, 0.3] + [0.0] * ("sequence_reward" in values)
    return EnvConfig(**values, log_prob_weight=draw(st.sampled_from(weights)))


def check(config: EnvConfig, seed: int, slow_kneser_ney, copied) -> None:
    """Play a few steps everywhere; ValueError where the world cannot be made."""
    singles = [TokenLMEnv(config) for _ in range(N)]
    envs: list = [TokenLMVectorEnv(N, config, autoreset_mode="SameStep")]
    if torch is not None:
        envs.append(TokenLMDeviceEnv(N, config, device="cpu"))
        envs[-1]._runs_ahead = bool(seed % 2)  # as on a GPU
    world, rng = singles[0].world, np.random.default_rng(seed)
    apart = Apart(config, world, slow_kneser_ney)
    observations = [env.reset(seed=seed)[0] for env in envs]
    episodes = [Episode(apart, env.reset(seed=seed + i)[0], env) for i, env in enumerate(singles)]
    half = int(rng.integers(STEPS))
    for step in range(STEPS):
        if step == half:  # copies take over
            singles, envs = [copied(env) for env in singles], [copied(env) for env in envs]
            for episode, env in zip(episodes, singles, strict=True):
                episode.env = env
        masks = np.array([episode.mask for episode in episodes])
        assert masks.any(1).all()
        rows = np.array([episode.row for episode in episodes])
        for env, seen in zip(envs, observations, strict=True):
            assert np.array_equal(np.asarray(seen), [episode.window for episode in episodes])
            assert np.array_equal(np.asarray(env.action_masks()), masks)
            assert env.observation_space.contains(np.asarray(seen))
            np.testing.assert_allclose(np.exp(np.asarray(env.target_log_probs())), rows, rtol=1e-9, atol=1e-13)
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        wanted = actions
        if config.invalid_action == "random" and rng.random() < 0.3:
            wanted = rng.integers(world.vocab_size, size=N)
        results = [env.step(int(action)) for env, action in zip(singles, wanted, strict=True)]
        for i, (episode, result) in enumerate(zip(episodes, results, strict=True)):
            action = wanted[i] if masks[i, wanted[i]] else replacement(episode, result)
            window, reward, *ends, log_prob = episode.step(int(action))
            assert singles[i].observation_space.contains(result[0])
            assert np.array_equal(result[0], window)
            assert math.isfinite(result[1])
            assert result[1] == pytest.approx(reward, rel=1e-9, abs=1e-9)
            assert result[4]["log_prob"] == pytest.approx(log_prob, rel=1e-9, abs=1e-9)
            assert [result[2], result[3]] == ends
        observations = compare(envs, wanted, results)
        for i, result in enumerate(results):
            if result[2] or result[3]:
                episodes[i] = Episode(apart, singles[i].reset()[0], singles[i])


def replacement(episode: Episode, result: tuple) -> int:
    """The valid action that was taken in place of a masked one: the token appended, or one of that probability."""
    if episode.config.transition == "free":
        return int(result[0][-1])
    return int(np.nanargmin(np.abs(np.log(np.where(episode.mask, episode.row, np.nan)) - result[4]["log_prob"])))


def compare(envs: list, actions: np.ndarray, results: list[tuple]) -> list[np.ndarray]:
    """Step `envs` and compare with the single ones; their observations."""
    observations = []
    for env in envs:
        own = actions if isinstance(env, TokenLMVectorEnv) else torch.from_numpy(actions)
        seen, rewards, terminated, truncated, infos = env.step(own)
        for i, (last, reward, *ends, info) in enumerate(results):
            assert [bool(terminated[i]), bool(truncated[i])] == ends
            assert float(rewards[i]) == pytest.approx(reward, rel=1e-12, abs=1e-12)
            assert float(infos["log_prob"][i]) == pytest.approx(info["log_prob"], rel=1e-12, abs=1e-12)
            assert np.array_equal(np.asarray(infos["final_obs"][i] if any(ends) else seen[i]), last)
        if env.config.mask_in_info:
            assert np.array_equal(np.asarray(infos["action_mask"]), np.asarray(env.action_masks()))
        observations.append(seen)
    return observations


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}
NO_WORLD = (
    "are empty after cleaning and tokenising",
    "no word of a training target is in the vocabulary",
    "no word occurs at least 2 time(s) in the corpus",
    "needs more words than that",
)


def worlds(config: EnvConfig, seed: int, copied: str, path: Path | None, slow_kneser_ney) -> None:
    """`check`, with the model of n-grams written to an ARPA file at `path` and read from there if it is given."""
    try:
        world = TokenLMEnv(config).world
    except ValueError as problem:
        if not any(reason in str(problem) for reason in NO_WORLD):
            raise
        event("no world")
        return
    if path and config.target == "ngram" and not any(c.isspace() for word in world.vocabulary.words for c in word):
        world.target.target.to_arpa(path, world.vocabulary)
        config = dataclasses.replace(config, arpa=str(path))
    event(f"{config.task}, {'arpa' if config.arpa else config.target.partition('#')[0]}")
    check(config, seed, slow_kneser_ney, COPIES[copied])


@pytest.fixture(scope="module")
def arpa(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("arpa") / "model.arpa"


DRAWN = (configurations(), st.integers(0, 2**40), st.sampled_from(sorted(COPIES)), st.booleans())
SLOW_TO_DRAW = (HealthCheck.too_slow, HealthCheck.data_too_large)


@settings(max_examples=60, suppress_health_check=SLOW_TO_DRAW)
@given(*DRAWN)
def test_what_holds_of_every_environment(slow_kneser_ney, arpa, config, seed, copied, is_read):
    worlds(config, seed, copied, arpa if is_read else None, slow_kneser_ney)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=SLOW_TO_DRAW)
@given(*DRAWN)
def test_what_holds_of_many_environments(slow_kneser_ney, arpa, config, seed, copied, is_read):
    worlds(config, seed, copied, arpa if is_read else None, slow_kneser_ney)
