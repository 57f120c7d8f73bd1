"""The arguments of a TokenLM environment, in one typed place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym

from .arguments import check_types, nearest
from .sequence_rewards import SCORES
from .targets.registry import name_of
from .text import Cleaning, Vocabulary

Task = Literal["generation", "qa", "translation", "classification"]
Vocabularies = Literal["joint", "separate"]
Ending = Literal["eos", "fixed"]
Transition = Literal["free", "teacher"]
Split = Literal["train", "valid", "test"]
InvalidAction = Literal["raise", "random"]


@dataclass(frozen=True)
class EnvConfig:
    """What a TokenLM environment is made of.

    Args:
        corpus: "zh" or "en" (built in), a text file (one document a line), a .tsv file, a folder, "hf:NAME", or,
            in Python, any iterable of strings. The tasks of pairs take .tsv (source<TAB>target) and .jsonl files,
            folders of these, "hf:NAME?source=COLUMN&target=COLUMN" or an iterable of (source, target); "zh" and "en"
            are then pairs whose source is in that language. Not used by the target "markov", which samples its own.
        tokenizer: "auto" (jieba for mostly Chinese text, word otherwise), "jieba", "char", "word", "nltk", "bpe",
            or the path of a Hugging Face tokenizer.json.
        user_dictionary: a file of own words for jieba, one a line, a frequency behind it if wanted.
        max_vocab_size: largest vocabulary, special tokens included; None for no limit. Rarer words become <unk>.
        min_count: words seen less often than this in the training documents become <unk>.
        cleaning: switches for the text cleaning (Unicode NFC and white space always).
        task: how a document becomes (prompt, target). "generation": its first tokens and the rest; "qa", "translation"
            and "classification" (one label, in one token: max_new_tokens is 1, the ending "fixed", the vocabularies
            "separate"): of a pair (source, target) the prompt is `source <sep>`.
        vocabularies: of a task of pairs. "joint": one for both sides; "separate": the source's words are tokens of
            their own. Only words of the training targets can be written in either.
        reverse: swap source and target of every pair: a translation's other direction.
        split: the documents that episodes start from: "train", "valid" or "test".
        prompt_length: shortest and longest prompt, in tokens, drawn uniformly at every reset. Not used by the tasks of
            pairs, whose prompt is the whole source, or as much of its beginning as context_length holds.
        context_length: tokens in an observation; longer prefixes slide out on the left.
        max_new_tokens: tokens an episode may write before it ends.
        min_new_tokens: tokens that must be written before <eos> becomes valid.
        ending: "eos": writing <eos> terminates and max_new_tokens truncates; "fixed": <eos> is masked and the
            last token terminates.
        transition: "free": the action is appended; "teacher": the document's own next token is appended whatever
            was chosen, which makes the problem a contextual bandit.
        reward_every: 1: reward with every token; k: the sum at every k-th token; 0: the whole sum at the end. A late
            reward pays for what was written, and an observation does not show where the prompt ended: with 0 and
            k > 1 give all prompts one length, best (0, 0), or values depend on what cannot be seen.
        log_prob_weight: what multiplies the log-likelihood in the reward; 0 leaves it out. The optimum at temperature τ
            with weight w is that of τ/w with weight 1.
        sequence_reward: score of the finished text against the document's own, paid with the last token: "" for none,
            "bleu", "chrf", "exact_match", "f1", "accuracy", or "module:function" of your own, which takes
            (hypothesis, reference) and returns 0 to 1. With one, reaching max_new_tokens terminates: the text is scored
            as it stands.
        sequence_weight: what multiplies that score.
        target: the distribution p* whose log-likelihood is the reward: "ngram" (interpolated modified
            Kneser-Ney), "markov" (a random Zipfian Markov chain), "reference" (the smoothed target text: with the
            transition "free" that of the token at the same place), "causal_lm" (a frozen neural language model), a
            name given to `register_target`, "module:Class" for one of your own; in Python also a `Target` or what
            makes one of a tokenizer.
        order: order n of the "ngram" target, or context length + 1 of the "markov" chain.
        arpa: an ARPA file (KenLM, SRILM) that the "ngram" target is read from in place of being fitted; its order
            holds.
        epsilon: smoothing of the "reference" target.
        target_model: the model of "causal_lm": a local folder or hub name of a Hugging Face causal model, or a run
            folder. The tokenizer "auto" is then the model's own, and no other will do. It reads the window an episode
            began with and all that was written since, beyond context_length too.
        vocab_size: number of tokens of the "markov" target, the five special ones included.
        target_seed: seed of the "markov" target.
        invalid_action: "raise": a masked action is an error; "random": it is carried out as a uniformly random
            valid one (for learners that know no masks; the optimum stays the same).
        mask_in_info: put the action mask into info["action_mask"] at every step.
    """

    corpus: str | tuple[str, ...] | tuple[tuple[str, str], ...] = "zh"
    tokenizer: str = "auto"
    user_dictionary: str | None = None
    max_vocab_size: int | None = None
    min_count: int = 1
    cleaning: Cleaning = field(default_factory=Cleaning)
    task: Task = "generation"
    vocabularies: Vocabularies = "joint"
    reverse: bool = False
    split: Split = "train"
    prompt_length: tuple[int, int] = (0, 4)
    context_length: int = 64
    max_new_tokens: int = 32
    min_new_tokens: int = 0
    ending: Ending = "eos"
    transition: Transition = "free"
    reward_every: int = 1
    log_prob_weight: float = 1.0
    sequence_reward: str = ""
    sequence_weight: float = 1.0
    target: str = "ngram"
    order: int = 3
    arpa: str | None = None
    epsilon: float = 0.1
    target_model: str | None = None
    vocab_size: int = 200
    target_seed: int = 0
    invalid_action: InvalidAction = "raise"
    mask_in_info: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot work, each with one sentence."""
        if isinstance(self.corpus, Path):
            object.__setattr__(self, "corpus", str(self.corpus))
        elif not isinstance(self.corpus, str) and isinstance(self.corpus, Iterable):
            # YAML has no tuples: its pairs are lists
            items: Iterable[object] = self.corpus
            object.__setattr__(self, "corpus", tuple(tuple(d) if isinstance(d, list) else d for d in items))
        if isinstance(self.prompt_length, list):  # YAML has no tuples
            object.__setattr__(self, "prompt_length", tuple(self.prompt_length))
        for name in ("arpa", "target_model"):
            if isinstance(value := getattr(self, name), Path):
                object.__setattr__(self, name, str(value))
        object.__setattr__(self, "target", name_of(self.target))
        check_types(self)
        for name, kind in (("arpa", "ngram"), ("target_model", "causal_lm")):
            if getattr(self, name) is not None and self.target != kind:
                raise ValueError(f"{name} belongs to the target {kind!r}, not to {self.target!r}")
        if self.target == "causal_lm" and self.target_model is None:
            raise ValueError("the target 'causal_lm' needs target_model, a folder or hub name of a language model")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                close = nearest(value, choices)
                raise ValueError(f"{name} {value!r} is unknown{close}; use one of {', '.join(choices)}")
        self._settle_task()
        shortest, longest = self.prompt_length
        if not 0 <= shortest <= longest:
            raise ValueError(
                f"prompt_length must be (shortest, longest) with 0 <= shortest <= longest, not {self.prompt_length}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens ({self.min_new_tokens}) must be below max_new_tokens ({self.max_new_tokens})"
            )
        if not 0.0 < self.epsilon < 1.0:
            raise ValueError(f"epsilon must lie strictly between 0 and 1, not {self.epsilon}")
        self._check_rewards()

    @property
    def has_pairs(self) -> bool:
        """Whether the documents are pairs (source, target)."""
        return self.task != "generation"

    @property
    def pays_log_likelihood(self) -> bool:
        """Whether the rewards sum up to the log-likelihood of the text and to nothing else."""
        return self.log_prob_weight == 1.0 and not self.sequence_reward

    def _settle_task(self) -> None:
        """Give classification the form that one label has, and refuse what its task cannot make sense of."""
        if self.task == "classification":
            defaults = {f.name: f.default for f in dataclasses.fields(self)}
            for name, value in _ONE_LABEL.items():
                if getattr(self, name) not in (value, defaults[name]):
                    given = getattr(self, name)
                    raise ValueError(f"a classification has {name} {value!r}, not {given!r}: one token, the label")
                object.__setattr__(self, name, value)
        if self.has_pairs and self.target == "markov":
            raise ValueError(f"the target 'markov' has no pairs for the task {self.task!r}; use 'reference' or 'ngram'")
        if self.has_pairs and self.context_length < _SHORTEST_PAIR:
            raise ValueError(
                f"context_length must be at least {_SHORTEST_PAIR} for the task {self.task!r} (<bos>, a token of the "
                f"source, <sep>), not {self.context_length}"
            )
        if self.reverse and self.task in ("generation", "classification"):
            raise ValueError(
                f"reverse swaps the sides of a translation or of qa; the task {self.task!r} has none to swap"
            )

    def _check_rewards(self) -> None:
        """Refuse rewards that are none, or that depend on nothing the agent does."""
        name = self.sequence_reward
        if name and name not in SCORES and ":" not in name:
            raise ValueError(
                f"sequence_reward {name!r} is unknown{nearest(name, SCORES)}; use one of {', '.join(SCORES)}, "
                "'module:function' or '' for none"
            )
        if not 0.0 <= self.log_prob_weight < math.inf or not math.isfinite(self.sequence_weight):
            raise ValueError(
                "log_prob_weight must be a finite number of at least 0 and sequence_weight a finite one, "
                f"not {self.log_prob_weight} and {self.sequence_weight}"
            )
        if self.log_prob_weight == 0.0 and not name:
            raise ValueError("with log_prob_weight 0 and no sequence_reward nothing is paid; name a sequence_reward")
        if name and self.transition == "teacher":
            raise ValueError(
                'with transition="teacher" the document is appended whatever is chosen, so no sequence_reward can tell '
                f"one policy from another; use transition='free' or leave out {name!r}"
            )

    @classmethod
    def of(cls, config: EnvConfig | None, settings: dict[str, Any]) -> EnvConfig:
        """`config` with `settings` over it; an unknown setting raises ValueError naming the nearest field."""
        names = [f.name for f in dataclasses.fields(cls)]
        for name in settings:
            if name not in names:
                raise ValueError(f"the environment has no argument {name!r}{nearest(name, names)}")
        if isinstance(settings.get("cleaning"), dict):
            settings = {**settings, "cleaning": Cleaning(**settings["cleaning"])}
        return dataclasses.replace(config or cls(), **settings)


def env_config_from(env: str | EnvConfig | gym.Env | gym.vector.VectorEnv) -> EnvConfig:
    """The `EnvConfig` of a registered id, of an environment that was made, or of itself.

    Raises ValueError for an environment of another kind.
    """
    if isinstance(env, EnvConfig):
        return env
    if isinstance(env, str):
        env = gym.make(env)
    config = getattr(env.unwrapped, "config", None)
    if not isinstance(config, EnvConfig):
        raise ValueError(
            f"the agents learn on TokenLM environments, not on {env}; make it with gym.make('TokenLM-v0', …)"
        )
    return config


def env_config_of(values: dict[str, Any]) -> EnvConfig:
    """The `EnvConfig` whose `dataclasses.asdict` is `values`."""
    return EnvConfig(**{**values, "cleaning": Cleaning(**values["cleaning"])})


_CHOICES: dict[str, tuple[str, ...]] = {
    "task": get_args(Task),
    "vocabularies": get_args(Vocabularies),
    "split": get_args(Split),
    "ending": get_args(Ending),
    "transition": get_args(Transition),
    "invalid_action": get_args(InvalidAction),
}
_ONE_LABEL = {"max_new_tokens": 1, "ending": "fixed", "vocabularies": "separate"}
_SHORTEST_PAIR = 3
_LEAST = {
    "context_length": 1,
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "reward_every": 0,
    "order": 1,
    "vocab_size": Vocabulary.FIRST_WORD + 1,
    "min_count": 1,
    "max_vocab_size": Vocabulary.FIRST_WORD + 1,
}
