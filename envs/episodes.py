"""The dynamics of all TokenLM environments, batched, for NumPy and torch.

The single, the vector and the device environment are interfaces to this class. Its arrays are those of the Python
array API namespace `xp`. What has one value per row, (B,), may also be a Python number: see `one_row.py`.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
from array_api_compat import device

from .arrays import any_true, column, namespace, sliding_windows
from .config import EnvConfig
from .counter_rng import uniform
from .forms import conditioned, form_in, states_along
from .no_repeat import banned_among, first_of_equals, log_rest, without
from .sequence_rewards import sequence_score
from .text import Vocabulary
from .world import World

_SEED_BITS = 2**63 - 1
_DOCUMENT, _PROMPT, _REPLACEMENT = range(3)  # streams of `uniform`


class Episodes:
    """A batch of `num_envs` episodes of a TokenLM environment.

    Args:
        world: tokenizer, documents, target and valid actions.
        config: the environment's arguments.
        num_envs: B, the batch size.
        like: an array of the namespace and device to compute in; None for NumPy.

    Attributes:
        history: (B, L + T + 1) int64. The first L = context_length columns are the first observation, newest token
            last; written token t is in column L + t. An observation is a window of L columns. Actions of finished
            episodes of T tokens go to the last column.
        written: (B,) int64, tokens written so far.
        unpaid: (B,) float64, log-probabilities not yet paid as reward.
        reference: (B, ·) int64, the rest of the document after the prompt, filled up with `<eos>`; None if neither
            reward nor transition depends on it.
        prompt_lengths: (B,) int64, tokens of the document in the prompt, which may be more than L.
    """

    def __init__(self, world: World, config: EnvConfig, num_envs: int, like: Any = None) -> None:
        self.world = world
        self.config = config
        self.num_envs = num_envs
        like = np.zeros(0) if like is None else like
        xp, length, horizon = namespace(like), config.context_length, config.max_new_tokens
        self._rows = xp.arange(num_envs, device=device(like))
        self.history = xp.zeros((num_envs, length + horizon + 1), dtype=xp.int64, device=device(like))
        self._windows = sliding_windows(self.history, length)  # a view of all possible observations
        documents = world.documents[config.split]
        self._tokens = self._array(documents.tokens)
        self._offsets = self._array(documents.offsets)
        self._shortest = self._array(documents.shortest_prompt)
        self._longest = self._array(documents.longest_prompt)
        self._valid = self._valid_at = self._array(world.valid)
        # <eos> comes last, so that leaving it out shortens the list.
        self._choices = self._array(np.append(world.words, Vocabulary.EOS))
        self._place = self._array(_places(world))
        if config.no_repeat >= len(world.words):
            raise ValueError(
                f"no_repeat={config.no_repeat} needs more words than that, but only {len(world.words)} can be written"
            )
        self._form = form_in(world, config)
        self._every = self._array(np.arange(world.vocab_size))[None, :]
        if self._form is not None and (longest := world.longest_text(config)) > config.context_length:
            raise ValueError(
                f"with a form an observation must show prompt and text, {longest} tokens, but context_length is "
                f"{config.context_length}"
            )
        self._score = sequence_score(config.sequence_reward) if config.sequence_reward else None
        self._needs_reference = (
            config.transition == "teacher" or config.target == "reference" or self._score is not None
        )
        # Whether <eos> is valid, as `_valid` then says too, or None if that depends on the state.
        self._eos_valid = False if config.ending == "fixed" else True if config.min_new_tokens == 0 else None

        self._columns = xp.arange(length, device=self.device)
        self.written = self._row_zeros(xp.int64)
        self.unpaid = self._row_zeros(xp.float64)
        # Next tokens are needed up to the horizon only, but a score needs the whole reference text.
        ahead = (
            horizon if self._score is None else max(horizon, int((documents.lengths - documents.shortest_prompt).max()))
        )
        self.reference = self._zeros((num_envs, ahead + 1)) if self._needs_reference else None
        self.seed = self._row_zeros(xp.int64)
        self.episode = self._row_zeros(xp.int64)
        self.prompt_lengths = self._zeros((num_envs,))
        self._states: Any = None
        if world.target.tracks_states:
            self._states = self._track_from(self.observe())
        self._memory = self._new_memory()
        self._form_states: Any = None if self._form is None else self._form.start(self.observe())
        self.seed_all([secrets.randbits(62) for _ in range(num_envs)])

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_windows", "_memory")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._windows = sliding_windows(self.history, self.config.context_length)  # a pickled view would be a copy
        self._remember()

    @property
    def xp(self) -> Any:
        """The namespace of the arrays: the Python array API of NumPy or torch."""
        return namespace(self.history)

    @property
    def row_xp(self) -> Any:
        """The namespace of what has one value per row, (B,): `xp`, or `scalars`."""
        return namespace(self._rows)

    @property
    def device(self) -> Any:
        """The device of the arrays."""
        return device(self.history)

    def _array(self, values: Any) -> Any:
        return self.xp.asarray(values, device=self.device)

    def _zeros(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        return self.xp.zeros(shape, dtype=dtype or self.xp.int64, device=self.device)

    def _row_zeros(self, dtype: Any) -> Any:
        """(B,) zeros, for what has one value per row."""
        return self._zeros((self.num_envs,), dtype)

    def _track_from(self, prefixes: Any) -> Any:
        """(R,) states of p* after the prefixes (R, L)."""
        return self.world.target.track(prefixes)

    def _at(self, rows: Any, values: Any) -> Any:
        """(R,) what has one value per row, (B,), in some rows."""
        return values[rows]

    def _first(self, values: Any, chosen: Any) -> int:
        """The first of the values (B,) whose row is `chosen` (B,) bool."""
        return int(values[chosen][0])

    def _put(self, name: str, values: Any, rows: Any = ..., where: Any = None) -> None:
        """Write `values` to `rows` of the attribute `name`; with `where` (B,) bool, of all rows, where it is True."""
        _write(getattr(self, name), values, rows, where)

    def seed_all(self, seeds: list[int]) -> None:
        """Seed all rows. Rows with equal seeds get the same sequence of documents and prompts."""
        self._put("seed", self._array(np.array([s & _SEED_BITS for s in seeds], np.int64)))
        self._put("episode", 0)

    def seed_row(self, row: int, seed: int) -> None:
        """Seed one row; see `seed_all`."""
        self.seed[row] = seed & _SEED_BITS
        self.episode[row] = 0

    def start(self, rows: Any, where: Any = None) -> None:
        """Start new episodes in `rows` (R,), each with a random document and prompt length.

        With `where` (B,) bool, `rows` must be all rows, and an episode starts where it is True. This needs no
        synchronisation with the device.
        """
        xp, seed, episode = self.row_xp, self._at(rows, self.seed), self._at(rows, self.episode)
        number = self._offsets.shape[0] - 1
        document = xp.astype(uniform(seed, episode, _DOCUMENT) * number, xp.int64)
        shortest, longest = self._shortest[document], self._longest[document]
        prompt = shortest + xp.astype(uniform(seed, episode, _PROMPT) * (longest - shortest + 1), xp.int64)
        self.start_from(rows, self._tokens, self._offsets[document], self._offsets[document + 1], prompt, where)

    def start_from_prompts(self, rows: Any, prompts: list[list[int]], targets: list[list[int]] | None) -> None:
        """Start in `rows` from prompt ids; target ids are required if reward or transition depend on them."""
        if targets is None and self._needs_reference:
            raise ValueError(
                "a prompt alone is not enough, because reward or transition depend on the target text; "
                'pass options={"prompt": …, "target": …}'
            )
        if targets and self._score is not None and self.reference is not None:
            more = max(map(len, targets)) + 1 - self.reference.shape[1]
            if more > 0:  # longer than all references of the corpus
                shape = (self.num_envs, more)
                ends = self.xp.full(shape, Vocabulary.EOS, dtype=self.xp.int64, device=self.device)
                self.reference = self.xp.concat([self.reference, ends], axis=1)
        texts = [prompt + (targets[i] if targets else []) for i, prompt in enumerate(prompts)]
        offsets = np.cumsum([0] + [len(t) for t in texts])
        flat = self._array(np.array([t for text in texts for t in text] or [0], np.int64))
        lengths = self._array(np.array([len(p) for p in prompts], np.int64))
        self.start_from(rows, flat, self._array(offsets[:-1]), self._array(offsets[1:]), lengths)

    def start_from(self, rows: Any, tokens: Any, begin: Any, end: Any, prompt: Any, where: Any = None) -> None:
        """Start in `rows` from the first `prompt` (R,) tokens of tokens[begin:end]; `where` as in `start`."""
        xp = self.xp
        length = self.config.context_length
        place = column(prompt) - length + self._columns[None, :]  # position in the document, -1 for <bos>
        inside = place >= 0
        window = tokens[xp.where(inside, column(begin) + place, 0)]
        window = xp.where(inside, window, xp.where(place == -1, Vocabulary.BOS, Vocabulary.PAD))
        _write(self.history[:, :length], window, rows, where)
        if self.reference is not None:
            ahead = column(begin + prompt) + xp.arange(self.reference.shape[1], device=self.device)
            inside = ahead < column(end)
            following = xp.where(inside, tokens[xp.where(inside, ahead, 0)], Vocabulary.EOS)
            _write(self.reference, following, rows, where)
        self._put("written", 0, rows, where)
        self._put("unpaid", 0.0, rows, where)
        self._put("prompt_lengths", prompt, rows, where)
        self._put("episode", self._at(rows, self.episode) + 1, rows, where)
        if self._form is not None:
            self._put("_form_states", self._form.start(window), rows, where)
        if self.world.target.tracks_states:
            self._put("_states", self._track_from(window), rows, where)
        elif self._memory is not None:
            if where is not None:  # encoding prompts costs more than a synchronisation
                (begun,) = xp.nonzero(where)
                rows, window = rows[begun], window[begun]
            self._memory.begin(rows, window)

    def observe(self) -> Any:
        """(B, L) int64, the last L tokens of every prefix, newest last, as a copy."""
        return self._windows[self._rows, self.written]

    def first_observation(self) -> Any:
        """(B, L) int64, the first observation of every episode, as a view."""
        return self.history[:, : self.config.context_length]

    def eos_valid(self) -> Any:
        """Whether <eos> is valid now: a bool if that is the same in every state, else (B,) bool."""
        return self.written >= self.config.min_new_tokens if self._eos_valid is None else self._eos_valid

    def action_masks(self) -> Any:
        """(B, V) bool, the actions that are valid now."""
        masks = self.xp.tile(self._valid, (self.num_envs, 1))
        if self.config.no_repeat:
            masks = without(self.recent(), masks, False)
        masks[:, Vocabulary.EOS] = self.eos_valid()
        return masks if self._form is None else masks & self._form.allowed(self._form_states, self._every)

    def recent(self) -> Any:
        """(B, no_repeat) int64, the last tokens of every prefix, oldest first."""
        columns = self._columns[self.config.context_length - self.config.no_repeat :]
        return self.history[self._rows[:, None], self.written[:, None] + columns[None, :]]

    def target_log_probs(self) -> Any:
        """(B, V) log p*(· | s) over the valid actions, in nats, -inf elsewhere."""
        rows = self.world.target.log_probs(self._track(), self.eos_valid(), self.expected())
        if self.config.no_repeat:
            rest = log_rest(self.world.target, self._track(), self.recent(), self.eos_valid(), self.expected())
            rows = without(self.recent(), rows, -self.xp.inf) - rest[:, None]
        return rows if self._form is None else conditioned(rows, self._form.allowed(self._form_states, self._every))

    def expected(self) -> Any:
        """(B,) next token of the document, <eos> after its end; None if nothing depends on it."""
        return None if self.reference is None else self.reference[self._rows, self.written]

    def written_in(self, row: int) -> int:
        """Tokens written so far in a row."""
        return int(self._at(row, self.written))

    def unpaid_in(self, row: int) -> float:
        """Log-probabilities of a row that are not yet paid as reward, nats."""
        return float(self._at(row, self.unpaid))

    def tokens(self, row: int) -> list[int]:
        """Ids of the first observation and of all tokens written since, without padding."""
        ids = self.history[row, : self.config.context_length + self.written_in(row)].tolist()
        return [i for i in ids if i != Vocabulary.PAD]

    def check(self, actions: Any, active: Any = None) -> None:
        """Raise ValueError for the first action of the `active` rows (None: all) that is out of range or masked."""
        if active is not None:
            actions = self.xp.where(active, actions, self._choices[0])
        size = self.world.target.vocab_size
        out = (actions < 0) | (actions >= size)
        if any_true(out):
            wrong = self._first(actions, out)
            raise ValueError(f"action {wrong} is out of range; actions are the token ids 0 to {size - 1}")
        if self.config.invalid_action != "raise":
            return
        valid = self.is_valid(actions)
        if active is not None:
            valid = valid | ~active
        masked = self.row_xp.logical_not(valid)
        if any_true(masked):
            wrong = self._first(actions, masked)
            raise ValueError(
                f"action {wrong} ({self.world.vocabulary.token(wrong)}) is masked in this state; choose one that "
                'action_masks() allows, or make the environment with invalid_action="random"'
            )

    def write(self, action: int) -> tuple[float, bool, bool, float]:
        """`check` and `step` for one row: its action to its reward, terminated, truncated and log p*."""
        actions = self._array(np.array([action]))
        self.check(actions)
        reward, terminated, truncated, log_prob = (values.item() for values in self.step(actions))
        return reward, terminated, truncated, log_prob

    def step(self, actions: Any, active: Any = None) -> tuple[Any, Any, Any, Any]:
        """Take the valid `actions` (B,) in the `active` (B,) bool rows (None: all); other rows stay, with reward 0.

        Returns: (rewards, terminated, truncated, log_probs), each (B,). log_probs are log p*(action | s) in nats, paid
        or not. A sequence reward is computed on the host, so it synchronises with the device.
        """
        xp, config, target = self.row_xp, self.config, self.world.target
        if active is not None:
            actions = xp.where(active, actions, self._choices[0])
        if config.invalid_action == "random":
            valid = self.is_valid(actions)
            if valid is not True:  # drawing costs one row as much as the rest of a step
                actions = xp.where(valid, actions, self._random_actions())
        expected = self.expected()
        log_probs, states = target.step(self._track(), actions, self.eos_valid(), expected)
        bonus = None
        if self._form is not None:
            log_probs = self.target_log_probs()[self._rows, actions]
            bonus = config.form_bonus * self._form.bonus(self._form_states, actions[:, None])[:, 0]
        elif config.no_repeat:
            recent = self.recent()
            log_probs = log_probs - log_rest(target, self._track(), recent, self.eos_valid(), expected)
            log_probs = xp.where(self._banned(recent, actions), -xp.inf, log_probs)
        appended = actions
        if config.transition == "teacher":
            appended = expected
            states = target.automaton.next_state(self._states, appended) if target.tracks_states else None
        if target.tracks_states:
            self._put("_states", states, where=active)
        if self._form is not None:
            following = self._form.next(self._form_states, appended)
            self._put("_form_states", following, where=active)
        # In an inactive row this column is behind its last token and is never read.
        self.history[self._rows, config.context_length + self.written] = appended
        self.written += 1 if active is None else xp.astype(active, xp.int64)

        full = self.written >= config.max_new_tokens
        if config.ending == "fixed":
            terminated, truncated = full, xp.zeros_like(full)
        elif self._score is not None:  # a score covers the whole text, so nothing follows it
            terminated, truncated = full | (appended == Vocabulary.EOS), xp.zeros_like(full)
        else:
            terminated = appended == Vocabulary.EOS
            truncated = full & (appended != Vocabulary.EOS)
        if self._memory is not None:
            self._memory.advance(appended, ~terminated if active is None else ~terminated & active)
        earned = log_probs if config.log_prob_weight == 1.0 else config.log_prob_weight * log_probs
        if bonus is not None:
            earned = earned + bonus
        if active is not None:
            terminated, truncated = terminated & active, truncated & active
            earned = xp.where(active, earned, 0.0)
        if config.reward_every == 1:
            return self._with_scores(earned, terminated), terminated, truncated, log_probs
        self.unpaid += earned
        pays = terminated | truncated
        if config.reward_every:
            due = self.written % config.reward_every == 0
            pays = pays | (due if active is None else due & active)
        rewards = xp.where(pays, self.unpaid, 0.0)
        self._put("unpaid", xp.where(pays, 0.0, self.unpaid))
        return self._with_scores(rewards, terminated), terminated, truncated, log_probs

    def _random_actions(self) -> Any:
        """(B,) uniformly random valid actions."""
        xp, eos_valid = self.row_xp, self.eos_valid()
        words = self._choices.shape[0] - 1
        number = words + (eos_valid if isinstance(eos_valid, bool) else xp.astype(eos_valid, xp.int64))
        uniforms = uniform(self.seed, self.episode, _REPLACEMENT + self.written)
        if self._form is not None:
            counts = xp.cumulative_sum(xp.astype(self.action_masks(), xp.int64), axis=1)
            drawn = xp.astype(uniforms * counts[:, -1], xp.int64)
            return xp.sum(xp.astype(counts <= drawn[:, None], xp.int64), axis=1)
        if not self.config.no_repeat:
            return self._choices[xp.astype(uniforms * number, xp.int64)]
        recent = self.recent()
        counted = first_of_equals(recent, self._valid)
        skipped = xp.sort(xp.where(counted, self._place[recent], words + 1), axis=1)
        drawn = xp.astype(uniforms * (number - xp.sum(xp.astype(counted, xp.int64), axis=1)), xp.int64)
        for place in range(recent.shape[1]):  # the next choice that is not banned
            drawn = drawn + xp.astype(drawn >= skipped[:, place], xp.int64)
        return self._choices[drawn]

    def _with_scores(self, rewards: Any, over: Any) -> Any:
        """(B,) rewards plus the sequence reward of the episodes that are `over` (B,) bool."""
        if self._score is None:
            return rewards
        xp, bonus = self.xp, np.zeros(self.num_envs)
        ended = np.flatnonzero(np.from_dlpack(over.cpu() if hasattr(over, "cpu") else over))
        for row in ended.tolist():
            bonus[row] = self.config.sequence_weight * self._score(self.hypothesis(row), self.reference_text(row))
        return rewards + xp.asarray(bonus, device=self.device) if len(ended) else rewards

    def hypothesis(self, row: int) -> str:
        """The text written so far in a row, without the prompt."""
        first = self.config.context_length
        return self.world.tokenizer.decode(self.history[row, first : first + self.written_in(row)].tolist())

    def reference_text(self, row: int) -> str:
        """The document after the prompt, encoded and decoded; "" if nothing depends on it."""
        if self.reference is None:
            return ""
        ids = self.reference[row].tolist()
        return self.world.tokenizer.decode(ids[: ids.index(Vocabulary.EOS)] if Vocabulary.EOS in ids else ids)

    def _track(self) -> Any:
        if self._memory is not None:
            return self._memory.log_probs
        return self._states if self.world.target.tracks_states else self.observe()

    def _new_memory(self) -> Any:
        target = self.world.target
        return target.recurrent.memory(self.num_envs, self._rows) if target.remembers else None

    def _remember(self) -> None:
        """Give a new memory the texts in the history."""
        self._memory = self._new_memory()
        if self._memory is not None:
            longest = int(self.xp.max(self.written))
            width = self.config.context_length + longest
            place = self.written[:, None] - longest + self.xp.arange(width, device=self.device)[None, :]
            read = self.history[self._rows[:, None], self.xp.clip(place, 0, width - 1)]
            self._memory.begin(self._rows, self.xp.where(place >= 0, read, Vocabulary.PAD))

    def is_valid(self, actions: Any) -> Any:
        """(B,) bool, whether each of the `actions` (B,) is valid now."""
        valid = self._valid_at[actions]
        if self._eos_valid is None:
            valid = valid & ((actions != Vocabulary.EOS) | self.eos_valid())
        if self._form is not None:
            valid = valid & self._form.allowed(self._form_states, actions[:, None])[:, 0]
        return valid & ~self._banned(self.recent(), actions) if self.config.no_repeat else valid

    def _banned(self, recent: Any, actions: Any) -> Any:
        return banned_among(recent, actions) & (actions != Vocabulary.EOS)

    def _kept(self, name: str) -> Any:
        """The array `name`."""
        return getattr(self, name)

    _KEPT = ("history", "written", "unpaid", "reference", "seed", "episode", "prompt_lengths")

    def state_dict(self) -> dict[str, Any]:
        """Copies of all arrays that change from step to step."""
        xp = self.xp
        return {name: xp.asarray(value, copy=True) for name in self._KEPT if (value := self._kept(name)) is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`; ValueError for other shapes.

        The values may be arrays or CPU tensors. A neural target encodes the texts again in one pass, so its
        log-probabilities may differ in the last digits.
        """
        for name, value in state.items():
            own = self._kept(name)
            if tuple(value.shape) != tuple(own.shape):
                raise ValueError(
                    f"the saved {name} has shape {tuple(value.shape)}, this environment needs {tuple(own.shape)}"
                )
            self._put(name, self._array(np.from_dlpack(value)))
        if self.world.target.tracks_states:
            self._put("_states", self._track_from(self.observe()))
        if self._form is not None:
            written = self.history[:, self.config.context_length :]
            self._form_states = states_along(self._form, self.first_observation(), written, self.written)
        self._remember()


def _write(array: Any, values: Any, rows: Any, where: Any) -> None:
    """Write `values` to `rows` of an array; with `where` (B,) bool, to all rows where it is True."""
    if where is None:
        array[rows] = values
    else:
        mask = where if array.ndim == 1 else where[:, None]
        array[...] = namespace(array).where(mask, values, array)


def _places(world: World) -> Any:
    """(V,) place of each word among the words, which are the first valid actions."""
    places = np.zeros(world.vocab_size, np.int64)
    places[world.words] = np.arange(len(world.words))
    return places
