"""What the page of `tokenlm play` does, without its widgets: write, branch, compare, measure the credit of a text."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from ...envs import Vocabulary
from ...envs.arguments import whole_number
from ..decoding import Decoding
from ..decoding.writer import shows_prompt
from ..runs.comparing import names_of_runs, texts_of
from ..runs.likelihood import load_baseline
from ..runs.listing import FoundRun, read_runs
from ..runs.training import load_run
from .markup import best_markup, card, credit_markup, lines_markup, note, text_markup
from .steps import Prompt, Step, Steps
from .words import Words

LONGEST = 2_000  # characters of a prompt or a text
_LIKELIHOOD = "maximum likelihood"


@dataclasses.dataclass(frozen=True)
class Shown:
    """A run on the page.

    Args:
        name: of the run.
        steps: its agent.
        run: what its files say.
        likelihood: maximum likelihood on the same network; None where the run has not kept it.
    """

    name: str
    steps: Steps
    run: FoundRun
    likelihood: Steps | None = None


@dataclasses.dataclass(frozen=True)
class Written:
    """The text on the page, of one visitor.

    Args:
        shown: number of the run that wrote it.
        source: the prompt as it was typed.
        prompt: its ids.
        steps: the tokens.
        notes: what is to be said of the prompt.
        place: number of the token whose alternatives are shown.
    """

    shown: int
    source: str
    prompt: Prompt
    steps: list[Step]
    notes: list[str]
    place: int

    @property
    def tokens(self) -> list[int]:
        """Ids of the text."""
        return [step.written.token for step in self.steps]


def shown_runs(folders: Sequence[str], device: str = "auto", trust: bool = False) -> list[Shown]:
    """Load runs, each with the maximum likelihood that it kept; as `load_run`."""
    found = read_runs(folders)
    shown = []
    for name, run in zip(names_of_runs(found), found, strict=True):
        agent, config = load_run(run.folder, device, trust=trust)
        likelihood = load_baseline(run.folder, config, device, trust)
        shown.append(Shown(name, Steps(agent), run, None if likelihood is None else Steps(likelihood)))
    return shown


class Play:
    """Runs to look at.

    Args:
        runs: one or more.
        words: of the page's language.
    """

    def __init__(self, runs: Sequence[Shown], words: Words) -> None:
        self.runs = list(runs)
        self.words = words
        self._examples = 0

    def write(
        self, shown: int, source: str, temperature: float, top_k: float, seed: float, begun: Sequence[Step] = ()
    ) -> Iterator[Written]:
        """The text after each of its tokens, and in the end with the place where the writing began."""
        steps = self.runs[shown].steps
        how, (prompt, notes) = _decoding(steps, temperature, top_k), _prompt(steps, source)
        text = Written(shown, source, prompt, list(begun), notes, 0)
        for step in steps.write(prompt, how, _seed(seed), text.tokens):
            text = dataclasses.replace(text, steps=[*text.steps, step], place=len(text.steps))
            yield text
        yield dataclasses.replace(text, place=min(len(begun), len(text.steps) - 1))

    def branch(self, text: Written, token: int, temperature: float, top_k: float, seed: float) -> Iterator[Written]:
        """Put `token` in the chosen place and write on."""
        here = text.steps[text.place]
        known = {each.token: each for each in [*here.best, here.written]}
        if token not in known:
            raise ValueError(f"token {token} is none of those shown")
        begun = [*text.steps[: text.place], Step(known[token], here.best)]
        return self.write(text.shown, text.source, temperature, top_k, seed, begun)

    def again(self, text: Written, temperature: float, top_k: float, seed: float) -> Iterator[Written]:
        """Draw the chosen token and all after it anew."""
        return self.write(text.shown, text.source, temperature, top_k, seed, text.steps[: text.place])

    def chosen(self, text: Written, place: int) -> Written:
        """The same text with the alternatives of another token; ValueError where it has none of this number."""
        if not 0 <= place < len(text.steps):
            raise ValueError(f"the text has {len(text.steps)} tokens, not a token {place}")
        return dataclasses.replace(text, place=place)

    def measured_at(self, text: Written, temperature: float, top_k: float) -> Written:
        """The same text with the facts of another temperature and top-k."""
        steps = self.runs[text.shown].steps
        how = _decoding(steps, temperature, top_k)
        return dataclasses.replace(text, steps=steps.along(text.prompt, text.tokens, how))

    def text_of(self, text: Written) -> str:
        """The text, its tokens as buttons; the corpus' own answer; why p* is unknown where it is."""
        steps = self.runs[text.shown].steps
        shown = self._markup(steps, text.prompt, text.steps, text.place, clicks=True)
        if (reference := steps.known_target(text.source)) is not None:
            shown += card(self.words.reference, lines_markup([reference]))
        if (reason := steps.why_no_target(text.prompt)) is not None:
            shown += note(self.words.no_target.format(self.words.said(reason)))
        return shown + "".join(note(self.words.said(each)) for each in text.notes)

    def best_of(self, text: Written, temperature: float) -> str:
        """The table of the chosen place."""
        steps = self.runs[text.shown].steps
        before = [*self._shown_prompt(steps, text.prompt), *text.tokens[: text.place]]
        tokenizer = steps.agent.tokenizer
        table = best_markup(tokenizer, text.steps[text.place], tokenizer.decode(before), self.words)
        return table + self._without_optimum(steps, temperature)

    def compare(self, shown: int, source: str, temperature: float, top_k: float, seed: float) -> Iterator[str]:
        """Cards: the run's text, those of the other runs, of the optimum, of maximum likelihood; one more each time."""
        steps, settings = self.runs[shown].steps, (source, temperature, top_k, seed)
        others = [one for number, one in enumerate(self.runs) if number != shown]
        parts: list[tuple[str, Callable[[], str]]] = [
            (f"{self.runs[shown].name} ({self.words.own_text})", partial(self._sampled, steps, *settings))
        ]
        parts += [(one.name, partial(self._sampled, one.steps, *settings)) for one in others]
        parts.append((self.words.optimum_best, partial(self._optimum, steps, source, 0.0, 0, seed)))
        if temperature > 0:
            title = self.words.optimum_policy.format(f"{temperature:g}")
            parts.append((title, partial(self._optimum, steps, *settings)))
        if (likelihood := self.runs[shown].likelihood) is not None:
            parts.append((self.words.likelihood, partial(self._sampled, likelihood, *settings)))
        else:  # runs of earlier versions kept a few texts of it
            for title, columns in texts_of([self.runs[shown].run], [""]):
                if title.startswith(_LIKELIHOOD):
                    parts.append((self.words.likelihood_texts, partial(lines_markup, columns[0][1:])))
        cards = ""
        for title, made in parts:
            try:
                cards += card(title, made())
            except ValueError as problem:  # a prompt or a setting that this one cannot take, an optimum that is unknown
                cards += card(title, note(self.words.said(str(problem))))
            yield cards

    def credit(self, shown: int, source: str, text: str, temperature: float) -> str:
        """The table of learned and exact advantages of a text."""
        steps = self.runs[shown].steps
        how, (prompt, _) = _decoding(steps, temperature, 0), _prompt(steps, source)
        followed = steps.along(prompt, steps.tokens(_checked(text)), how)
        table = credit_markup(steps.agent.tokenizer, followed, self.words)
        return table + self._without_optimum(steps, temperature)

    def written_part(self, text: Written) -> str:
        """The text without its prompt."""
        return self.runs[text.shown].steps.agent.tokenizer.decode(text.tokens)

    def example(self, shown: int) -> str:
        """The next prompt of the validation documents, the source of a pair; empty where texts have no prompt."""
        steps = self.runs[shown].steps
        self._examples += 1
        if pairs := steps.world.pairs["valid"]:
            return pairs[self._examples % len(pairs)][0]
        documents = steps.world.documents["valid"]
        number = self._examples % len(documents)
        prompt = documents[number][: documents.longest_prompt[number]].tolist()
        return steps.agent.tokenizer.decode([token for token in prompt if token >= Vocabulary.FIRST_WORD])

    def _sampled(self, steps: Steps, source: str, temperature: float, top_k: float, seed: float) -> str:
        how, (prompt, _) = _decoding(steps, temperature, top_k), _prompt(steps, source)
        return self._markup(steps, prompt, list(steps.write(prompt, how, _seed(seed))))

    def _optimum(self, steps: Steps, source: str, temperature: float, top_k: float, seed: float) -> str:
        optimum, tau = steps.optimum(temperature)
        return self._sampled(optimum, source, tau, top_k, seed)

    def _markup(
        self, steps: Steps, prompt: Prompt, written: Sequence[Step], place: int | None = None, clicks: bool = False
    ) -> str:
        shown = self._shown_prompt(steps, prompt)
        return text_markup(steps.agent.tokenizer, shown, written, self.words, place, clicks)

    def _shown_prompt(self, steps: Steps, prompt: Prompt) -> list[int]:
        return prompt.ids if shows_prompt(steps.config) else []

    def _without_optimum(self, steps: Steps, temperature: float) -> str:
        reason = steps.why_no_optimum(float(temperature))
        return "" if reason is None else note(self.words.no_optimum.format(self.words.said(reason)))


def _checked(text: str) -> str:
    if len(text) > LONGEST:
        raise ValueError(f"the text has {len(text):,} characters; at most {LONGEST:,} are read here")
    return text


def _prompt(steps: Steps, source: str) -> tuple[Prompt, list[str]]:
    """The prompt, and what is to be said of its words."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        prompt = steps.prompt(_checked(source))
    return prompt, [str(warning.message) for warning in found]


def _decoding(steps: Steps, temperature: float, top_k: float) -> Decoding:
    """Settings of decoding from numbers of widgets, where 0 is no top-k."""
    return steps.decoding(float(temperature), int(top_k) or None)


def _seed(value: float | None) -> int:
    return whole_number("seed", int(value or 0), 0)
