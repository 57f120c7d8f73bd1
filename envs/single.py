"""`TokenLMEnv`: a single TokenLM environment."""

from __future__ import annotations

import secrets
import sys
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import Error, ResetNeeded

from .arguments import nearest
from .config import EnvConfig
from .episodes import Episodes
from .one_row import OneRow
from .oracle import Oracle
from .picture import Painter
from .registration import with_length
from .rendering import render_ansi
from .spaces import token_spaces
from .text import Vocabulary
from .world import World, checked_prompt, encode_target

Observation = npt.NDArray[np.int64]
RESET_OPTIONS = ("prompt", "target")


class NotRunning(ResetNeeded, ValueError):
    """`step` was called while no episode is running."""


class BadSeed(Error, ValueError):
    """A seed that is not a whole number of at least 0."""


class TokenLMEnv(gym.Env[Observation, np.int64]):
    """Text generation as a Markov decision process whose optimum is known exactly.

    ## Description
    A document of a corpus is split into a prompt and a target text. In the pair tasks "qa", "translation" and
    "classification" a document is a pair, and the prompt is `source <sep>`. The agent writes one token per action after
    the prompt. The reward is its log-likelihood under a target distribution p*, by default a Kneser-Ney trigram model
    fitted on the training documents. With r = log p*(a | s) and discount 1 the optimal policy at temperature 1 is p*
    itself (V* = 0, Q* = log p*), and at temperature 0 it writes the most likely text.

    ## Action Space
    `Discrete(V)`: the id of the next token. Ids 0 to 4 are `<pad> <unk> <bos> <eos> <sep>`; only `<eos>` among them can
    be valid. In a pair task only words of the training targets are valid. `action_masks()` returns the valid actions as
    a (V,) bool array, and so does `info["action_mask"]` with `mask_in_info=True`. `action_space.sample()` draws valid
    tokens only. With `no_repeat=n` the last n tokens of the prefix are not valid, and a `form` says which tokens are
    valid where; give `sample` the mask then.

    ## Observation Space
    `Box(0, V - 1, (context_length,), int64)`: the last `context_length` tokens of the prefix, newest last,
    left-padded with `<pad>` = 0. The prefix begins with `<bos>`, then the prompt.

    ## Rewards
    log p*(a | s) in nats, with p* conditioned on the valid actions, so that it sums to 1 over them in every state.
    `reward_every=k` pays the sum at every k-th token and `reward_every=0` with the last token; the remainder is paid at
    the end of the episode. At discount 1 the optimal policy is the same for all k. An observation does not show where
    the prompt ended, so with delayed rewards all prompts should have the same length, best 0 (in a pair task `<sep>`
    shows it). `log_prob_weight` multiplies the log-likelihood. `sequence_reward` adds `sequence_weight` times a score
    of the finished text against the reference text ("bleu", "chrf", "exact_match", "f1", "accuracy" or
    "module:function"), paid with the last token. A `form` pays `form_bonus` for what it asks beyond what it allows,
    such as a rhyme.

    ## Starting State
    A document is drawn uniformly from `split`. Its first k tokens are the prompt, with k drawn uniformly from
    `prompt_length`; the prompt of a pair is the source. `reset(options={"prompt": "今天"})` starts from a prompt of
    your own; add `"target": "…"` if reward or transition depend on the target text. Other options are refused.

    ## Episode End
    `ending="eos"`: `<eos>` terminates, and `max_new_tokens` truncates, so an agent must bootstrap there.
    `ending="fixed"`: `<eos>` is masked and token number `max_new_tokens` terminates. With a sequence reward,
    `max_new_tokens` terminates in either case.

    ## Arguments
    Those of `EnvConfig`, as keywords: `corpus, tokenizer, user_dictionary, max_vocab_size, min_count, cleaning, task,
    vocabularies, reverse, split, prompt_length, context_length, max_new_tokens, min_new_tokens, no_repeat, form,
    form_bonus, ending, transition, reward_every, log_prob_weight, sequence_reward, sequence_weight, target, order,
    arpa, epsilon, target_model, vocab_size, target_seed, invalid_action, mask_in_info`; and `render_mode`: "ansi"
    (`render()` returns the text so far, each token coloured by its log-likelihood), "rgb_array" (the same as an image,
    for `RecordVideo`) or "human" (prints the text at every step).

    `target` is the distribution p*: "ngram", fitted on the training documents or read from the ARPA file `arpa`;
    "markov", a random Markov chain; "factored", hidden classes of words; "teacher", a Transformer with random weights;
    "reference", the smoothed reference text, compared token by token at the same position (`transition="teacher"` keeps
    both aligned); "causal_lm", the frozen neural model `target_model`, a Hugging Face folder or hub name or a run
    folder; or one of your own: a name given to `register_target`, "module:Class" or an object (see
    `tokenlm.envs.targets.ScoringTarget`). A neural model conditions on the first observation and all tokens appended
    since, also those that the observation no longer shows.

    With `transition="teacher"` the document's token is appended whatever the action. Actions do not influence states,
    so the problem is a contextual bandit and says nothing about sequential decisions.

    ```python
    import gymnasium as gym, tokenlm

    env = gym.make("TokenLM-v0", corpus="zh", reward_every=0)
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    info["log_prob"]  # log p*(a | s) of this token, paid yet or not
    ```

    ## Optimum
    `env.unwrapped.oracle` computes, for any temperature and discount, optimal values, action values and policies, the
    most likely text, and exact samples of p*^{1/τ} over whole texts. `env.unwrapped.optimal_q(temperature)` is Q* of
    the current state. At temperature 1 with a reward for every token V* = 0 for any discount, so a good score there
    says nothing about credit assignment; `reward_every=0` tests it.

    ## Vectorized environment
    `gym.make_vec("TokenLM-v0", num_envs=N)` makes a `TokenLMVectorEnv`, which steps N episodes as arrays. After
    `reset(seed=s)`, environment i has the same episodes as a single environment with seed s + i.

    ## Other libraries
    `info["action_mask"]` is int8, as `action_space.sample(mask)` and AgileRL take it; `action_masks()` is bool, as
    sb3-contrib takes it. A library without masks makes `unmasked/TokenLM-v0`, and so every id: the same with
    `invalid_action="random"`, so that a masked action is replaced by a random valid one.
    `spec.max_episode_steps` is `max_new_tokens`. A `max_episode_steps` of your own is a time limit in `gym.make` and
    `gym.make_vec` alike: it truncates and changes nothing else.

    ## Version History
    * v0: first version.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["ansi", "human", "rgb_array"],
        "render_fps": 10,
    }

    def __init__(self, config: EnvConfig | None = None, *, render_mode: str | None = None, **settings: Any) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode {render_mode!r} is unknown; use one of {self.metadata['render_modes']} or None"
            )
        self.config = EnvConfig.of(config, settings)
        self.world = World.of(self.config)
        self.render_mode = render_mode
        self._painter = Painter.of(self.world) if render_mode == "rgb_array" else None
        self.observation_space, self.action_space = token_spaces(
            always_valid(self.world, self.config), self.config.context_length
        )
        self.oracle = Oracle(self.world, self.config)
        self._episodes = OneRow.of(self.world, self.config)
        self._spec: EnvSpec | None = None
        self._running = False
        self._seeded = False
        self._log_probs: list[float] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; `options={"prompt": text}` starts it from a prompt of your own, see Starting State."""
        seed = None if seed is None else checked_seed(seed)
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self._episodes.seed_all([seed if seed is not None else int(self.np_random.integers(2**62))])
            self._seeded = True
        start_episodes(self._episodes, np.zeros(1, np.int64), options)
        self._running = True
        self._log_probs = []
        if self.render_mode == "human":
            self._print()
        return self._episodes.observe()[0], self._info()

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Write one token."""
        if not self._running:
            state = "is over" if self._log_probs else "has not begun"
            raise NotRunning(f"the episode {state}; call reset() before step()")
        token = int(action) if isinstance(action, np.integer) else int(token_ids(action, 1)[0])
        reward, terminated, truncated, log_prob = self._episodes.write(token)
        self._running = not (terminated or truncated)
        self._log_probs.append(log_prob)
        if self.render_mode == "human":
            self._print()
        return self._episodes.observe()[0], reward, terminated, truncated, {"log_prob": log_prob, **self._info()}

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium makes this environment; `max_episode_steps` is its own `max_new_tokens`."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = with_length(spec, self.config.max_new_tokens)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """(V,) bool, the actions that are valid now."""
        return self._episodes.action_masks()[0]

    def target_log_probs(self) -> npt.NDArray[np.float64]:
        """(V,) log p*(· | s) of the current state over the valid actions, in nats, -inf elsewhere."""
        return self._episodes.target_log_probs()[0]

    def optimal_q(self, temperature: float = 1.0, gamma: float = 1.0) -> npt.NDArray[np.float64]:
        """(V,) Q*(s, ·) of the current state in nats, -inf for invalid actions; see `Oracle.optimal_q`."""
        episodes = self._episodes
        return self.oracle.optimal_q(
            episodes.observe()[0],
            self.written,
            temperature=temperature,
            gamma=gamma,
            unpaid=episodes.unpaid_in(0),
        )

    @property
    def written(self) -> int:
        """Tokens written so far in this episode."""
        return self._episodes.written_in(0)

    @property
    def text(self) -> str:
        """The text so far, prompt included."""
        return self.world.tokenizer.decode(self._episodes.tokens(0))

    def render(self) -> str | npt.NDArray[np.uint8] | None:
        """The text so far, coloured by log-likelihood: a string ("ansi"), an image ("rgb_array"), or None ("human")."""
        if self._painter is not None:
            return self._painter.paint(*self._written())
        return self._coloured() if self.render_mode == "ansi" else None

    def state_dict(self) -> dict[str, Any]:
        """The state of the environment, for `load_state_dict`."""
        return {
            "episodes": self._episodes.state_dict(),
            "running": self._running,
            "seeded": self._seeded,
            "log_probs": list(self._log_probs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; the environment then continues exactly from there."""
        self._episodes.load_state_dict(state["episodes"])
        self._running, self._seeded = state["running"], state["seeded"]
        self._log_probs = list(state["log_probs"])

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks().astype(np.int8)} if self.config.mask_in_info else {}

    def _coloured(self) -> str:
        return render_ansi(self.world.tokenizer, *self._written())

    def _written(self) -> tuple[list[int], list[int], list[float]]:
        """Prompt, tokens written after it, and their log-likelihoods."""
        ids = self._episodes.tokens(0)
        cut = len(ids) - len(self._log_probs)
        return ids[:cut], ids[cut:], self._log_probs

    def _print(self) -> None:
        end = "" if self._running else "\n"
        sys.stdout.write(f"\r\x1b[K{self._coloured()}{end}")
        sys.stdout.flush()


def always_valid(world: World, config: EnvConfig) -> npt.NDArray[np.bool_]:
    """(V,) bool, the actions that are valid in every state."""
    valid = world.valid.copy()
    valid[Vocabulary.EOS] &= config.min_new_tokens == 0
    return valid


def token_ids(actions: Any, count: int) -> npt.NDArray[np.int64]:
    """`actions` as (count,) int64; ValueError if they are not whole numbers."""
    array = np.asarray(actions)
    if array.size != count or array.dtype.kind not in "iu":
        raise ValueError(f"expected {count} whole-number action(s), the ids of tokens, not {actions!r}")
    return array.reshape(count).astype(np.int64)


def row_seeds(seed: int | list[int | None], count: int) -> list[int]:
    """Seeds of `count` environments: seed + i, or seed[i] with None for a random one.

    Raises ValueError for a list of another length, BadSeed for a number that a single environment refuses.
    """
    if not isinstance(seed, (list, tuple, np.ndarray)):
        first = checked_seed(seed)
        return [first + i for i in range(count)]
    if len(seed) != count:
        raise ValueError(f"seed must be one number or {count} of them, not {len(seed)}")
    return [secrets.randbits(62) if s is None else checked_seed(s) for s in seed]


def checked_seed(seed: Any) -> int:
    """`seed` as an int; BadSeed unless it is a whole number of at least 0."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
        raise BadSeed(f"a seed must be a whole number of at least 0, not {seed!r}")
    return int(seed)


def start_episodes(
    episodes: Episodes, rows: Any, options: dict[str, Any] | None, known: tuple[str, ...] = RESET_OPTIONS
) -> None:
    """Start episodes in `rows`, from `options["prompt"]` (one text, or one per row) if given.

    Raises ValueError for an option that is not among the `known` ones.
    """
    if not options:
        episodes.start(rows)
        return
    for name in options:
        if name not in known:
            raise ValueError(f"reset has no option {name!r}{nearest(str(name), known)}; it has {', '.join(known)}")
    prompt = options.get("prompt")
    if prompt is None:
        episodes.start(rows)
        return

    tokenizer, config = episodes.world.tokenizer, episodes.config
    prompts = [checked_prompt(p, episodes.world, config) for p in _texts(prompt, len(rows), "prompt")]
    target = options.get("target")
    texts = _texts(target, len(rows), "target") if target is not None else None
    targets = [encode_target(t, tokenizer, config) for t in texts] if texts is not None else None
    episodes.start_from_prompts(rows, prompts, targets)


def _texts(value: Any, count: int, name: str) -> list[str]:
    texts = [value] * count if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    if len(texts) != count or not all(isinstance(t, str) for t in texts):
        raise ValueError(f'options["{name}"] must be a text, or a list of {count} texts, not {value!r}')
    return list(texts)
