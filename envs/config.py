"""`EnvConfig`: the arguments of a TokenLM environment."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import gymnasium as gym

from .arguments import check_types, nearest
from .forms.names import BUILT_IN as FORMS
from .forms.names import check_form_name, plain_name
from .sequence_rewards import SCORES
from .targets.registry import SAMPLES_DOCUMENTS, name_of
from .text import Cleaning, Vocabulary

Task = Literal["generation", "qa", "translation", "classification"]
Vocabularies = Literal["joint", "separate"]
Ending = Literal["eos", "fixed"]
Transition = Literal["free", "teacher"]
Split = Literal["train", "valid", "test"]
InvalidAction = Literal["raise", "random"]


class UnknownArgument(TypeError, ValueError):
    """An environment was made with an argument that it does not have.

    A TypeError with the words of Python's own, because libraries that try a keyword look for these.
    """


@dataclass(frozen=True)
class EnvConfig:
    """The arguments of a TokenLM environment.

    Args:
        corpus: "zh", "en" or "jueju" (built in; quatrains), a text file (one document per line), a .tsv file, a folder,
            "hf:NAME", or, in Python, an iterable of strings. Pair tasks take .tsv (source<TAB>target) and .jsonl files,
            folders of these, "hf:NAME?source=COLUMN&target=COLUMN" or an iterable of (source, target); "zh" and "en"
            are then pairs whose source is in that language. The targets "markov", "factored" and "teacher" ignore it
            and sample their own documents.
        tokenizer: "auto" (jieba for mostly Chinese text, word otherwise), "jieba", "char", "word", "nltk", "bpe",
            or the path of a Hugging Face tokenizer.json.
        user_dictionary: a file of extra words for jieba, one per line, each optionally followed by its frequency.
        max_vocab_size: largest vocabulary, special tokens included; None for no limit. Rarer words become <unk>.
        min_count: words with fewer occurrences in the training documents become <unk>.
        cleaning: switches of the text cleaning; Unicode NFC and white space are always normalised.
        task: how a document becomes (prompt, target). "generation": its first tokens and the rest. The pair tasks
            "qa", "translation" and "classification": the prompt is `source <sep>`. In "classification" the target is
            one label in one token, so max_new_tokens is 1, ending "fixed" and vocabularies "separate".
        vocabularies: of a pair task. "joint": one vocabulary for both sides; "separate": source words have ids of
            their own. Only words of the training targets are valid actions in either.
        reverse: swap source and target of every pair, for the other direction of a translation.
        split: documents that episodes start from: "train", "valid" or "test".
        prompt_length: shortest and longest prompt, in tokens, drawn uniformly at every reset. Pair tasks ignore it:
            their prompt is the source, cut to its first tokens if context_length is too small.
        context_length: tokens in an observation; of a longer prefix, the last ones.
        max_new_tokens: most tokens written in an episode. On the command line and in YAML also "auto": what holds 95 %
            of the training documents, see `fitted`.
        min_new_tokens: tokens written before <eos> becomes valid.
        no_repeat: tokens of the last so many places, the prompt's too, are not valid actions, and p* is conditioned on
            the others; 0 for no such rule. At temperature 0 the best text of many a target is one token over and over.
        form: which tokens are valid where in a text, and what keeping to it is paid: "jueju5" (lines three and four of
            a quatrain of five characters a line), "couplet" (the line that answers the prompt), "lines?length=5" (lines
            of so many tokens whose first letters spell the prompt), "module:Class" of your own (see `Form`), or "" for
            none. p* is conditioned on the tokens that it allows.
        form_bonus: nats that keeping to the form is paid, in units of the form's `bonus`.
        ending: "eos": <eos> terminates an episode and max_new_tokens truncates it; "fixed": <eos> is masked and the
            last token terminates.
        transition: "free": the action is appended; "teacher": the document's next token is appended whatever the
            action, which makes the problem a contextual bandit.
        reward_every: 1: a reward for every token; k: the sum at every k-th token; 0: the whole sum at the end. A
            delayed reward depends on where the prompt ended, which an observation does not show. With 0 or k > 1 give
            all prompts the same length, best (0, 0); otherwise the process is only partially observed.
        log_prob_weight: factor of the log-likelihood in the reward; 0 leaves it out. The optimal policy at temperature
            τ with weight w is that at τ/w with weight 1.
        sequence_reward: score of the finished text against the reference text, paid with the last token: "" for none,
            "bleu", "chrf", "exact_match", "f1", "accuracy", or "module:function" of your own, which takes
            (hypothesis, reference) and returns a number from 0 to 1. With a score, max_new_tokens terminates an episode
            instead of truncating it.
        sequence_weight: factor of that score.
        target: the distribution p* whose log-likelihood is the reward: "ngram" (interpolated modified
            Kneser-Ney), "markov" (a random Zipfian Markov chain), "factored" (hidden classes of words, see
            `FactoredTarget`), "teacher" (a Transformer with random weights, see `TeacherTarget`), "reference" (the
            smoothed reference text, compared token by token at the same position), "causal_lm" (a frozen neural
            language model), a name given to `register_target`, or "module:Class" of your own; in Python also a `Target`
            or a function from a tokenizer to one.
        order: order n of the "ngram" target; of the "markov" chain, context length + 1.
        arpa: an ARPA file (KenLM, SRILM) to read the "ngram" target from instead of fitting it; `order` is then
            ignored.
        epsilon: smoothing of the "reference" target.
        target_model: the model of "causal_lm": a local folder or hub name of a Hugging Face causal model, or a run
            folder. It needs its own tokenizer, which "auto" gives. It conditions on the first observation and all
            tokens written since, also beyond context_length.
        vocab_size: tokens of the targets "markov", "factored" and "teacher", the five special ones included.
        target_seed: seed of the targets "markov", "factored" and "teacher".
        invalid_action: "raise": a masked action raises ValueError; "random": it is replaced by a uniformly random
            valid one, for learners without action masks. The optimum is the same.
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
    no_repeat: int = 0
    form: str = ""
    form_bonus: float = 10.0
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
        """Raise ValueError for values that cannot work."""
        if isinstance(self.corpus, Path):
            object.__setattr__(self, "corpus", str(self.corpus))
        elif not isinstance(self.corpus, str) and isinstance(self.corpus, Iterable):
            # YAML has no tuples; its pairs are lists.
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
        self._settle()
        self._check_task()
        self._check_form()
        shortest, longest = self.prompt_length
        if not 0 <= shortest <= longest:
            raise ValueError(
                f"prompt_length must be (shortest, longest) with 0 <= shortest <= longest, not {self.prompt_length}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most:,}, not {getattr(self, name)}")
        if self.min_new_tokens >= self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens ({self.min_new_tokens}) must be below max_new_tokens ({self.max_new_tokens})"
            )
        if self.no_repeat > self.context_length:
            raise ValueError(
                f"no_repeat ({self.no_repeat}) must be at most context_length ({self.context_length}), so that an "
                "observation shows which tokens are not valid"
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
        """Whether the rewards sum to the log-likelihood of the text: weight 1, no sequence reward, no form's bonus."""
        return self.log_prob_weight == 1.0 and not self.sequence_reward and not self.pays_bonus

    @property
    def pays_bonus(self) -> bool:
        """Whether a form pays something beside log p*."""
        return bool(self.form) and self.form_bonus != 0.0

    def _check_task(self) -> None:
        """Raise ValueError for what the task cannot work with."""
        if self.has_pairs and self.target in SAMPLES_DOCUMENTS:
            raise ValueError(
                f"the target {self.target!r} has no pairs for the task {self.task!r}; use 'reference' or 'ngram'"
            )
        if self.has_pairs and self.context_length < _SHORTEST_PAIR:
            raise ValueError(
                f"context_length must be at least {_SHORTEST_PAIR} for the task {self.task!r} (<bos>, a token of the "
                f"source, <sep>), not {self.context_length}"
            )
        if self.reverse and self.task in ("generation", "classification"):
            raise ValueError(f"reverse works for the tasks 'translation' and 'qa', not for {self.task!r}")

    def _check_form(self) -> None:
        """Raise ValueError for an unknown form and for a bonus that cannot work."""
        if not self.form:
            return
        check_form_name(self.form)
        if not math.isfinite(self.form_bonus) or self.form_bonus < 0.0:
            raise ValueError(f"form_bonus must be a finite number of at least 0, not {self.form_bonus}")

    def _settle(self) -> None:
        """Set the fields that the task or the form fixes; ValueError for one that was set to something else."""
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name, (value, by) in self.fixed.items():
            if (given := getattr(self, name)) not in (value, defaults[name]):
                raise ValueError(f"{by} needs {name} {value!r}, not {given!r}")
            object.__setattr__(self, name, value)

    @property
    def fixed(self) -> dict[str, tuple[Any, str]]:
        """Arguments that the task or the form fixes: the value, and which of them does."""
        label, form = self.task == "classification", f"the form {self.form!r}"
        return {
            **{name: (value, f"the task {self.task!r}") for name, value in (_ONE_LABEL if label else {}).items()},
            **{name: (value, form) for name, value in FORMS.get(plain_name(self.form), {}).items()},
        }

    def check_given(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError where one of the `settings` that somebody asked for is another one that is fixed.

        A dataclass cannot tell a default from a value that was asked for.
        """
        for name, (value, by) in self.fixed.items():
            asked = settings.get(name, value)
            if asked != "auto" and (tuple(asked) if isinstance(asked, list) else asked) != value:
                raise ValueError(f"{by} needs {name} {value!r}, not {asked!r}")

    def _check_rewards(self) -> None:
        """Raise ValueError for rewards that are always 0 or do not depend on the actions."""
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
        if self.log_prob_weight == 0.0 and not name and not self.pays_bonus:
            raise ValueError("with log_prob_weight 0 and no sequence_reward every reward is 0; set one of them")
        if name and self.transition == "teacher":
            raise ValueError(
                f'with transition="teacher" the finished text is always the document, so sequence_reward {name!r} is '
                "the same for every policy; use transition='free' or no sequence_reward"
            )

    @classmethod
    def of(cls, config: EnvConfig | None, settings: dict[str, Any]) -> EnvConfig:
        """`config` with the fields in `settings` replaced.

        Raises UnknownArgument for an unknown field, ValueError for one that the task or the form fixes otherwise.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for name in settings:
            if name not in names:
                raise UnknownArgument(
                    f"got an unexpected keyword argument {name!r}: the environment has no argument {name!r}"
                    f"{nearest(name, names)}"
                )
        if isinstance(settings.get("cleaning"), dict):
            settings = {**settings, "cleaning": Cleaning(**settings["cleaning"])}
        made = dataclasses.replace(config or cls(), **settings)
        made.check_given(settings)
        return made


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
        raise ValueError(f"expected a TokenLM environment, not {env}; make it with gym.make('TokenLM-v0', …)")
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
    "no_repeat": 0,
    "reward_every": 0,
    "order": 1,
    "vocab_size": Vocabulary.FIRST_WORD + 1,
    "min_count": 1,
    "max_vocab_size": Vocabulary.FIRST_WORD + 1,
    "target_seed": 0,
}
_MOST = {"context_length": 1 << 20, "max_new_tokens": 1 << 20, "order": 100}  # a power of the order counts contexts
