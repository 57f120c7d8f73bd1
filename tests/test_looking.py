"""Own texts, going on with a run, and looking at runs: runs, compare, chat, doctor."""

import io
import json
import math
import shutil

import pytest

from tokenlm.agents import DQN, RunConfig
from tokenlm.agents.runs.listing import differing, read_run, setting
from tokenlm.agents.runs.table import beside, table, width_of
from tokenlm.agents.runs.training import load_run
from tokenlm.aliases import without_aliases
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, World, fitted, notices
from tokenlm.envs.text.digests import write_digests
from tokenlm.help_pages import field_names
from tokenlm.parsing import parse_run

SMALL = [
    "--agent.network.embedding_size=8", "--agent.network.hidden_size=16", "--agent.num_envs=8", "--agent.batch_size=8",
    "--agent.learning_starts=0", "--env.tokenizer=word", "--evaluation_episodes=8", "--evaluation_documents=5",
    "--evaluations=2", "--baseline_seconds=0",
]  # fmt: skip


def command(*words) -> int | str | None:
    """The exit code of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as ending:
        return ending.code
    return 0


@pytest.fixture(scope="module")
def runs(sentences, tmp_path_factory):
    """A finished run of a file of texts, and one that goes on with it."""
    folder = tmp_path_factory.mktemp("looking")
    (folder / "animals.txt").write_text("\n".join(sentences), encoding="utf-8")
    train = ["train", folder / "animals.txt", f"--output={folder / 'runs'}", *SMALL, "--total_steps=400"]
    assert command(*train) == 0
    assert command("train", "--continue", folder / "runs" / "animals", "--steps=800") == 0
    return folder / "runs"


def rows_of(run):
    return [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_file_of_texts_stands_in_place_of_a_configuration(runs, sentences):
    _, config = load_run(runs / "animals")
    assert (config.name, config.env.corpus) == ("animals", str(runs.parent / "animals.txt"))
    assert config.env.max_new_tokens == 6  # five words and <eos>
    assert config.env.context_length == 64
    assert parse_run([str(runs.parent)]).env.corpus == str(runs.parent)  # a folder of texts
    assert parse_run([str(runs.parent)]).name == runs.parent.name


def test_a_report_is_one_page_that_needs_nothing_else(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert command("report", runs / "animals", *[p for p in runs.iterdir() if p.name != "animals"][:1],
                   "--page", page, "--documents=4") == 0  # fmt: skip
    assert str(page) in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert text.count("<img ") == text.count('src="data:image/png;base64,') == 3  # curves, calibration, credit
    assert "http" not in text
    assert "<script" not in text
    for heading in (
        "Figures",
        "Curves",
        "Calibration",
        "Credit of every token",
        "The best texts",
        "All settings",
        "Commands",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert command("report", runs / "animals", "--documents=0") == 2
    assert "documents must be at least 1, not 0" in capsys.readouterr().err


def test_a_run_without_evaluations_is_said_to_have_none(runs, tmp_path, capsys):
    shutil.copytree(runs / "animals", tmp_path / "bare")
    (tmp_path / "bare" / "results.jsonl").unlink()
    assert command("report", tmp_path / "bare", "--documents=4") == 0
    said = f"tokenlm: {tmp_path / 'bare'} has no results.jsonl, so there are no curves of it"
    assert [line for line in capsys.readouterr().err.splitlines() if "which" not in line] == [said]
    assert command("compare", tmp_path / "bare", runs / "animals", "--picture", tmp_path / "both.png") == 0
    assert capsys.readouterr().err.strip() == said
    (tmp_path / "bare" / "results.jsonl").write_text("", encoding="utf-8")
    write_digests(tmp_path / "bare", [tmp_path / "bare" / "results.jsonl"])
    assert command("report", tmp_path / "bare", "--documents=4") == 0
    assert "has no line in results.jsonl" in capsys.readouterr().err
    assert command("report", runs / "animals", "--page", tmp_path / "page.html", "--documents=4") == 0
    assert all(line.startswith("reading ") for line in capsys.readouterr().err.splitlines())


def test_a_word_is_a_configuration_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()  # as in the folder of all runs
    assert parse_run(["quickstart", "--env.max_new_tokens=9"]).env.corpus == "zh"
    (tmp_path / "poems.txt.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "none").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: run", encoding="utf-8")
    for word, said in {
        "poems.txt.gz": "poems.txt.gz is compressed (gzip); unpack it first", "none": "holds no .txt or .tsv file",
        "nowhere.txt": "there is no file 'nowhere.txt'", "run": "run is a run; `tokenlm train --continue run",
    }.items():  # fmt: skip
        assert command("config", word) == 2
        assert said in capsys.readouterr().err


def test_automatic_length_covers_95_percent():
    texts = tuple(" ".join([f"w{i}", *["x"] * (i % 100)]) for i in range(400))
    config = EnvConfig(corpus=texts, tokenizer="word")
    lengths = sorted(World.of(config).documents["train"].lengths.tolist())
    needed = lengths[math.ceil(0.95 * len(lengths)) - 1]
    found = fitted(config)
    assert found.max_new_tokens == needed + 1  # <eos>
    assert found.context_length == needed + 1 + 4 + 1  # the longest prompt and <bos>
    assert fitted(config, context=False).context_length == 64
    assert fitted(EnvConfig(corpus=("x " * 500, "y " * 500, "z " * 500), tokenizer="word")).max_new_tokens == 256
    parsed = parse_run(["quickstart", "--env.max_new_tokens=auto", "--env.context_length", "40"]).env
    assert (parsed.max_new_tokens, parsed.context_length) == (fitted(EnvConfig()).max_new_tokens, 40)
    assert parse_run(["text", "--env.max_new_tokens", "9"]).env.max_new_tokens == 9


def test_what_is_cut_is_said():
    texts = tuple(f"{i} " + "x " * (99 if i % 10 else 1) for i in range(100))
    config = EnvConfig(corpus=texts, tokenizer="word")
    train = World.of(config).documents["train"].lengths + 1
    share, unused = (train > 32).mean(), (train - 32).clip(0).sum() / train.sum()
    (said,) = notices(config)
    assert said == (
        f"{share:.0%} of the training documents are longer than max_new_tokens 32, {unused:.0%} of the text is unused; "
        "--env.max_new_tokens 101 --env.context_length 106"
    )
    assert not notices(fitted(config))
    assert not notices(EnvConfig(target="markov"))
    (small,) = notices(EnvConfig(corpus=("a b", "b a"), tokenizer="word"))
    assert small.startswith("the corpus is too small to keep documents apart: validation and test are on the training")


def test_going_on_begins_where_the_run_ended(runs):
    before, after = rows_of(runs / "animals"), rows_of(runs / "animals-2")
    assert [row["num_steps"] for row in after] == [400, 800]
    best = min(row["perplexity"] for row in before)
    assert after[0]["perplexity"] == pytest.approx(best, rel=1e-6)
    assert after[1]["perplexity"] < 1.02 * best
    assert after[1]["transitions_trained"] > after[0]["transitions_trained"] == before[-1]["transitions_trained"]
    _, config = load_run(runs / "animals-2")
    assert (config.agent.learning_rate.start, config.agent.learning_rate.end) == (1e-4, 1e-4)
    assert config.agent.epsilon.start == 0.0
    assert config.continues == str(runs / "animals")


def test_what_cannot_go_on_gets_one_sentence(runs, tmp_path, capsys):
    def failing(*words):
        capsys.readouterr()
        assert command("train", *words) == 2
        return capsys.readouterr().err.strip()

    assert failing("--continue", runs / "animals").endswith("animals is finished after 400 steps; say how far it is to go in all, --total_steps 800")  # fmt: skip
    assert "no run folder" in failing("--continue", tmp_path)
    assert "leave out 'quickstart' or" in failing("quickstart", "--continue", runs / "animals")
    given = [runs.parent / "animals.txt", f"--output={tmp_path}", *SMALL, "--total_steps=9000"]
    assert "no run with these settings is finished" in failing(*given, "--continue")
    other = failing("--continue", runs / "animals", "--total_steps=3000", "--hidden_size=8", f"--output={tmp_path}")
    assert "has another network" in other
    shutil.copytree(runs / "animals", tmp_path / "cut")
    (tmp_path / "cut" / "summary.json").unlink()
    unfinished = parse_run(["--continue", str(tmp_path / "cut")])
    assert (unfinished.output, unfinished.name, unfinished.total_steps) == (str(tmp_path), "cut", 400)
    assert "is not finished; `tokenlm train --continue" in failing("--continue", tmp_path / "cut", "--total_steps=9000")


@pytest.mark.parametrize(
    ("line", "said"),
    [("[" * 200_000, "is nested too deeply"), ('{"env_steps": "x"}', "no numbers by name"), ("{", "is not JSON")],
)
def test_evaluations_that_are_none_are_named(runs, tmp_path, capsys, line, said):
    shutil.copytree(runs / "animals", tmp_path / "animals")
    (tmp_path / "animals" / "results.jsonl").write_text(f"{line}\n", encoding="utf-8")
    write_digests(tmp_path / "animals", [tmp_path / "animals" / "results.jsonl"])
    sentence = f"line 1 of {tmp_path / 'animals' / 'results.jsonl'}"
    for words in (["report", tmp_path / "animals"], ["compare", tmp_path / "animals", runs / "animals"]):
        assert command(*words) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert said in told
    assert command("runs", tmp_path) in (None, 0)
    assert "damaged" in capsys.readouterr().out


def test_the_same_command_with_more_steps_finds_its_run(runs):
    given = [str(runs.parent / "animals.txt"), f"--output={runs}", *SMALL]
    found = parse_run([*given, "--total_steps=3000", "--continue"])
    assert found == parse_run(["--continue", str(runs / "animals-2"), "--total_steps=3000"])
    assert parse_run([*given, "--continue", "--total_steps=3000"]) == found
    with pytest.raises(ValueError, match="animals-2 is finished after 800 steps"):
        parse_run([*given, "--total_steps=800", "--continue"])


def test_a_repeated_command_says_first_where_it_goes(runs, tmp_path, capsys, monkeypatch):
    shutil.copytree(runs / "animals", tmp_path / "animals")
    monkeypatch.setattr("tokenlm.agents.runs.training.Run.train", lambda run: {})
    given = ["train", runs.parent / "animals.txt", f"--output={tmp_path}", *SMALL]
    assert command(*given, "--total_steps=400") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{tmp_path / 'animals'} is finished, so this is a new run, {tmp_path / 'animals-2'}; ")
    assert command(*given, "--total_steps=401") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{tmp_path / 'animals'} is a run with other settings; this one goes to {tmp_path / 'animals-2'}"


def test_paths_are_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("a b\nb c\nc a\n", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("a\tb\n", encoding="utf-8")
    assert RunConfig(env=EnvConfig(corpus="texts.txt")).env.corpus == str(tmp_path / "texts.txt")
    env = EnvConfig(corpus="pairs.tsv?source=q", task="qa", target="reference")
    assert RunConfig(env=env).env.corpus == f"{tmp_path / 'pairs.tsv'}?source=q"
    assert RunConfig(env=EnvConfig(corpus="zh")).env.corpus == "zh"


def test_a_loaded_agent_keeps_its_schedules_where_they_were(tiny, tmp_path):
    network = {"embedding_size": 4, "hidden_size": 4}
    agent = DQN(tiny, network=network, num_envs=8, batch_size=8, learning_starts=0, learning_rate=(1e-2, 1e-4))
    agent.learn(32).save(tmp_path / "end")
    loaded = DQN.load(tmp_path / "end", env=tiny)
    rates = []
    loaded.learn(32, lambda a: rates.append(a.learner.learning_rate(a.progress)))
    assert rates == pytest.approx([1e-4] * 4)
    half = DQN(tiny, agent.config).learn(64, lambda a: a.progress < 0.5)
    half.save(tmp_path / "half")
    progress = []
    DQN.load(tmp_path / "half", env=tiny).learn(32, lambda a: progress.append(a.progress))
    assert progress == [0.625, 0.75, 0.875, 1.0]


def test_runs_are_listed(runs, tmp_path, capsys):
    shutil.copytree(runs, tmp_path / "runs")
    shutil.copytree(runs / "animals", tmp_path / "runs" / "deep" / "cut")
    (tmp_path / "runs" / "deep" / "cut" / "summary.json").unlink()
    shutil.copytree(runs / "animals", tmp_path / "runs" / "torn")
    (tmp_path / "runs" / "torn" / "config.yaml").write_text("a: [", encoding="utf-8")
    assert command("runs", tmp_path / "runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["run", "state"], ["animals", "finished"], ["animals-2", "finished"]]  # fmt: skip
    assert "unfinished at 400 of 400 steps" in lines[3]
    assert "damaged" in lines[4]
    assert "is not YAML" in lines[4]
    assert "total_steps 800" in lines[2]
    summary = json.loads((runs / "animals" / "summary.json").read_text(encoding="utf-8"))
    assert f"{summary['perplexity']:,.3f}" in lines[1]
    assert command("runs", runs, "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [run["differs"]["total_steps"] for run in found] == [400, 800]
    assert found[0]["perplexity"] == summary["perplexity"]
    assert command("runs", tmp_path / "nowhere") == 2
    assert command("runs", runs.parent / "runs" / "animals" / "best") == 2


def test_runs_are_compared(runs, capsys):
    assert command("compare", runs / "animals", runs / "animals-2") == 0
    shown = capsys.readouterr().out
    assert (runs / "compare-animals-animals-2.png").read_bytes().startswith(b"\x89PNG")
    assert shown.rstrip().endswith(f"curves: {runs / 'compare-animals-animals-2.png'}")
    both = [read_run(runs / name) for name in ("animals", "animals-2")]
    assert differing(both) == ["agent.epsilon", "agent.learning_rate", "total_steps", "continues"]
    assert setting(both[0].settings["agent.learning_rate"]) == "0.004→0.0001"
    (steps,) = [line.split() for line in shown.splitlines() if line.strip().startswith("total_steps")]
    assert steps == ["total_steps", "400", "800"]
    (figure,) = [line.split() for line in shown.splitlines() if "held-out perplexity" in line]
    assert figure[-2:] == [f"{run.summary['perplexity']:.3f}" for run in both]
    assert "[animals]" in shown.split("after training, the policy itself")[1]
    assert command("compare", runs / "animals") == 2
    assert command("compare", runs / "animals", runs / "animals") == 2
    assert "is given twice" in capsys.readouterr().err


def test_chinese_is_two_columns_wide():
    assert [width_of(text) for text in ("中文", "ab", "，", "e\u0301", "")] == [4, 2, 2, 1, 0]
    lines = table([("a", "b"), ("中文", "1"), ("x", "22")], right=[1])
    assert lines == ["a      b", "中文   1", "x     22"]
    assert beside([["中文中文中", "x"], ["ab cdefghi jk", "y"]], 18) == [
        "中文中文  ab", "中        cdefghi", "          jk", "x         y",
    ]  # fmt: skip


def talk(monkeypatch, capsys, run, *lines):
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    capsys.readouterr()
    assert command("chat", run) == 0
    return capsys.readouterr().out.splitlines()


def test_chat_continues_texts(runs, monkeypatch, capsys):
    agent, _ = load_run(runs / "animals", with_env=False)
    found = talk(monkeypatch, capsys, runs / "animals", "/seed 3", "the cat", "the cat", "/τ 0", "the dog", "", "/t 0.5", "/k 1", "the cow")  # fmt: skip
    assert found[:2] == [agent.generate("the cat", seed=seed)[0] for seed in (3, 4)]
    assert found[2:4] == agent.generate(["the dog", ""], temperature=0.0)
    assert found[4:] == agent.generate("the cow", temperature=0.0)  # the best token only


def test_chat_goes_on_after_mistakes(runs, monkeypatch, capsys):
    found = talk(monkeypatch, capsys, runs / "animals", "zebra", "/τ hot", "/τ -1", "/k 0", "/k 1.5", "/sede 3", "/help", "the zebra", "/quit", "the cat")  # fmt: skip
    for line, part in zip(found, (
        "has words outside the vocabulary only: 'zebra'", "/τ takes a number, not 'hot'", "temperature must be 0",
        "top_k must be at least 1, not 0", "/k takes a whole number, not '1.5'", "did you mean 'seed'",
    ), strict=False):  # fmt: skip
        assert part in line
    assert any("/seed 3" in line for line in found)
    assert "read as <unk>: 'zebra'" in found[-2]
    assert not any(line.startswith("the cat") for line in found)


def test_doctor_names_what_is_here(capsys, tmp_path, monkeypatch):
    assert command("doctor", "--output", tmp_path / "none") == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    import numpy
    import torch

    assert shown["torch"] == torch.__version__
    assert shown["numpy"] == numpy.__version__
    assert {"python", "gymnasium", "jieba", "stable-baselines3", "device", "threads", "terminal", "Chinese"} <= set(
        shown
    )


def test_names_that_people_type():
    def meant(*words, command="train"):
        return without_aliases(words, field_names(command))

    assert meant("--lr", "1e-3") == (["--agent.learning_rate", "1e-3"], ["--lr is taken for --agent.learning_rate"])
    for typed, full in {
        "agent.lr": "agent.learning_rate", "hidden_size": "agent.network.hidden_size", "steps": "total_steps",
        "agent.hidden_size": "agent.network.hidden_size", "total-steps": "total_steps", "corpus": "env.corpus",
        "learning-rate": "agent.learning_rate", "max_new_tokens": "env.max_new_tokens", "loss": "agent.loss",
    }.items():  # fmt: skip
        assert meant(f"--{typed}=1")[0] == [f"--{full}=1"]
    for full in ("--seed", "--agent.expectile", "--agent.td_weight", "--agent.learning_rate.end", "--bla", "lr", "-5"):
        assert meant(full) == ([full], [])
    assert meant("--entries.SB3 DQN.settings.lr=1", command="race")[0] == ["--entries.SB3 DQN.settings.lr=1"]
    assert meant("--steps", command="race")[0] == ["--total_steps"]
