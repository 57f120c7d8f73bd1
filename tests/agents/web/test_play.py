"""What the page shows: texts, branches, comparisons and credit are those of the agent and the oracle."""

import dataclasses
import re
import sys

import pytest
import torch

from tokenlm.agents import DQN, MaximumLikelihood
from tokenlm.agents.runs.listing import FoundRun
from tokenlm.agents.web.play import LONGEST, Play, Shown
from tokenlm.agents.web.server import listen
from tokenlm.agents.web.steps import BEST, Steps
from tokenlm.agents.web.words import CHINESE, ENGLISH, words_of
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, Oracle, Vocabulary

LSTM = {"embedding_size": 8, "hidden_size": 16}
ASKED = {"temperature": 0.8, "top_k": 0, "seed": 3}
LIKELIHOOD = "maximum likelihood on the same network (temperature 1)\nthe <b> sees\nthe dog\n"


def agent_in(env, seed=1, **settings):
    agent = DQN(env, network=LSTM, seed=seed, device="cpu", **settings)
    with torch.no_grad():
        agent.network.head.weight.mul_(20)
    return agent


def shown(name, agent, folder):
    return Shown(name, Steps(agent), FoundRun(folder, {}, [], {}))


@pytest.fixture(scope="module")
def play(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "samples.txt").write_text(LIKELIHOOD, encoding="utf-8")
    runs = [shown("one", agent_in(tiny), folder), shown("other", agent_in(tiny, seed=2), folder / "none")]
    return Play(runs, ENGLISH)


def words_in(markup):
    """The text of HTML without its marks."""
    return " ".join(re.sub(r"<[^>]*>", " ", markup).split())


def test_a_text_grows_token_by_token(play):
    texts = list(play.write(0, "the cat", **ASKED))
    assert [len(text.steps) for text in texts[:-1]] == list(range(1, len(texts)))
    assert [text.place for text in texts] == [*range(len(texts) - 1), 0]
    whole = play.runs[0].steps.agent.generate("the cat", temperature=0.8, seed=3)[0]
    assert f"the cat {play.written_part(texts[-1])}".strip() == whole
    markup = play.text_of(texts[-1])
    assert markup.count("<button") == len(texts[-1].steps)
    assert markup.count('aria-pressed="true"') == 1
    total = sum(step.written.log_target for step in texts[-1].steps)
    assert f"log p* {total:.2f} nats".replace("-", "−") in markup


def test_the_table_has_the_ten_best_and_the_one_written(play):
    text = list(play.write(0, "", **ASKED))[-1]
    for place, step in enumerate(text.steps):
        markup = play.best_of(play.chosen(text, place), 0.8)
        numbers = [int(n) for n in re.findall(r'data-number="(\d+)"', markup)]
        assert numbers[:BEST] == [each.token for each in step.best]
        assert numbers[BEST:] == [] if step.written in step.best else [step.written.token]
        (written,) = re.findall(r'<tr class=tl-written><td><button data-number="(\d+)"', markup)
        assert int(written) == step.written.token


def test_a_branch_keeps_what_stands_before_it(play):
    text = list(play.write(0, "the", **ASKED))[-1]
    place = 1
    other = next(c.token for c in text.steps[place].best if c.token not in (text.tokens[place], Vocabulary.EOS))
    branch = list(play.branch(play.chosen(text, place), other, **ASKED))[-1]
    assert branch.tokens[:2] == [text.tokens[0], other]
    steps = play.runs[0].steps
    written = steps.write(text.prompt, steps.decoding(0.8), 3, branch.tokens[:2])
    assert branch.tokens[2:] == [step.written.token for step in written]
    place = next(n for n, step in enumerate(text.steps) if any(c.token == Vocabulary.EOS for c in step.best))
    ended = list(play.branch(play.chosen(text, place), Vocabulary.EOS, **ASKED))[-1]
    assert ended.tokens == [*text.tokens[:place], Vocabulary.EOS]
    place = 1
    again = list(play.again(play.chosen(text, place), 0.8, 0, 4))[-1]
    assert again.tokens[:place] == text.tokens[:place]
    with pytest.raises(ValueError, match="token 999 is none of those shown"):
        play.branch(text, 999, **ASKED)
    with pytest.raises(ValueError, match=f"the text has {len(text.steps)} tokens, not a token 99"):
        play.chosen(text, 99)


def test_another_temperature_measures_the_same_text_anew(play):
    text = list(play.write(0, "the", **ASKED))[-1]
    hot = play.measured_at(text, 2.0, 0)
    assert hot.tokens == text.tokens
    for one, other in zip(hot.steps, text.steps, strict=True):
        assert one.written.value == pytest.approx(other.written.value, abs=1e-5)
        assert one.written.log_policy != pytest.approx(other.written.log_policy, abs=1e-3)


def test_a_comparison_has_all_runs_the_optimum_and_maximum_likelihood(play, tiny):
    *_, cards = play.compare(0, "the cat", **ASKED)
    titles = re.findall(r"<h4>(.*?)</h4>", cards)
    assert titles == [
        "one (this run)", "other", "the optimum&#x27;s best text (τ = 0)", "the optimum at τ = 0.8",
        "maximum likelihood on the same network (texts of the run, without a prompt)",
    ]  # fmt: skip
    best = Oracle.of(play.runs[0].steps.world, tiny).most_likely_text("the cat")
    assert f"log p* {best.log_prob:.2f} nats".replace("-", "−") in cards
    assert "the &lt;b&gt; sees" in cards
    texts = [play.runs[n].steps.agent.generate("the cat", temperature=0.8, seed=3)[0] for n in (0, 1)]
    for text, body in zip(texts, cards.split("</h4>")[1:], strict=False):
        assert words_in(body).startswith(text)


def test_maximum_likelihood_that_was_kept_writes_after_the_same_prompt(play, tiny):
    likelihood = MaximumLikelihood(tiny, network=LSTM, seed=5, device="cpu")
    with torch.no_grad():
        likelihood.network.head.weight.mul_(20)
    one = dataclasses.replace(play.runs[0], likelihood=Steps(likelihood))
    *_, cards = Play([one, play.runs[1]], ENGLISH).compare(0, "the cat", **ASKED)
    assert re.findall(r"<h4>(.*?)</h4>", cards)[-1] == "maximum likelihood on the same network"
    written = cards.split("</h4>")[-1]
    assert words_in(written).startswith(likelihood.generate("the cat", temperature=0.8, seed=3)[0])
    assert written.count("tl-token") == written.count("--shade")  # every token is shaded by p*
    assert "the &lt;b&gt; sees" not in cards


def test_credit_shows_bias_and_error_of_the_text(play):
    steps = play.runs[0].steps
    markup = play.credit(0, "the", "cat sees the dog", 0.8)
    followed = steps.along(steps.prompt("the"), steps.tokens("cat sees the dog"), steps.decoding(0.8))
    errors = [s.written.advantage - s.written.optimal_advantage for s in followed]
    assert f"mean of A − A*: {sum(errors) / len(errors):.2f} nats".replace(": -", ": −") in markup
    assert markup.count("<tr>") == 1 + len(followed)
    assert f"{errors[0]:.2f}".replace("-", "−") in markup


def test_what_cannot_be_known_is_said(tiny, tmp_path):
    env = dataclasses.replace(tiny, sequence_reward="bleu", log_prob_weight=0.0)
    play = Play([shown("bleu", agent_in(env), tmp_path)], ENGLISH)
    text = list(play.write(0, "the", **ASKED))[-1]
    assert "Without the exact optimum: the exact optimum is that of log-likelihood alone" in play.best_of(text, 0.8)
    *_, cards = play.compare(0, "the", **ASKED)
    assert "the exact optimum is that of log-likelihood alone" in cards
    text = list(play.write(0, "the elephant", **ASKED))[-1]
    assert "outside the vocabulary, read as &lt;unk&gt;: &#x27;elephant&#x27;" in play.text_of(text)
    with pytest.raises(ValueError, match="the text has 2,001 characters; at most 2,000 are read here"):
        list(play.write(0, "x" * (LONGEST + 1), **ASKED))
    with pytest.raises(ValueError, match="seed must be at least 0, not -1"):
        list(play.write(0, "the", 0.8, 0, -1))


def test_pairs_have_a_question_and_the_answer_of_the_corpus(tmp_path):
    pairs = tuple((f"{a} and {b}", f"{b} {b}") for a in ("cat", "dog", "cow") for b in ("red", "blue", "green", "grey"))
    env = EnvConfig(corpus=pairs, task="qa", target="reference", tokenizer="word", context_length=12, max_new_tokens=4)
    play = Play([shown("qa", agent_in(env), tmp_path)], ENGLISH)
    assert play.example(0) in {source for source, _ in play.runs[0].steps.world.pairs["valid"]}
    known = play.text_of(list(play.write(0, "cat and blue", **ASKED))[-1])
    assert "the corpus has" in known
    assert "blue blue" in known
    assert "tl-prompt" not in known  # an answer does not begin with its question
    unknown = play.text_of(list(play.write(0, "blue and cat", **ASKED))[-1])
    assert "Without p*: p* is that of a text of the corpus, and the corpus has none for this prompt." in unknown
    assert unknown.count("border-style:dashed") == unknown.count("<button")


def test_the_languages_say_the_same():
    for field in dataclasses.fields(ENGLISH):
        one, other = getattr(ENGLISH, field.name), getattr(CHINESE, field.name)
        assert one.count("{}") == other.count("{}"), field.name
        assert one.strip(), field.name
    assert words_of("zh") is CHINESE
    with pytest.raises(ValueError, match="language 'fr' is unknown; use auto, en or zh"):
        words_of("fr")


def failing(capsys, *words):
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    assert ending.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    return said


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(capsys):
    with listen(0) as taken:
        port = taken.getsockname()[1]
        for command in ("play", "serve"):
            said = failing(capsys, command, "nowhere", "--port", port)
            assert said.startswith(f"tokenlm: port {port} cannot be used (Address already in use); give another")
    assert failing(capsys, "play", "--port", 70_000) == "tokenlm: port must lie between 0 and 65535, not 70000"
    assert "no run folder" in failing(capsys, "serve", "nowhere", "--port", 0)
    assert failing(capsys, "play", "--language", "fr").endswith("language 'fr' is unknown; use auto, en or zh")
    assert failing(capsys, "serve", "nowhere", "--texts", 0).endswith("texts must be at least 1, not 0")


@pytest.mark.parametrize(("command", "library"), [("play", "gradio"), ("serve", "fastapi"), ("serve", "uvicorn")])
def test_a_library_that_is_missing_is_named_with_its_extra(capsys, monkeypatch, command, library):
    for name in ("page", "interface", "completion_request", "server"):
        monkeypatch.delitem(sys.modules, f"tokenlm.agents.web.{name}", raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    said = failing(capsys, command, "nowhere")
    assert said.endswith(f'needs the library {library}; pip install "tokenlm[web]"')
