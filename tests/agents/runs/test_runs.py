"""A run loses nothing: not by kills, signals, damage, other terminals, numbers that are none; and lets nobody in."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from tokenlm.agents.runs.checkpoints import Checkpoints
from tokenlm.agents.runs.folder import RunFolder
from tokenlm.agents.runs.interruption import Interrupted
from tokenlm.agents.runs.training import Run, load_run
from tokenlm.cli import main
from tokenlm.envs.text.digests import write_digests
from tokenlm.parsing import parse_run

OWN = """
import math
from dataclasses import dataclass
from pathlib import Path

from tokenlm.agents.dqn.rules import SoftQ
from tokenlm.agents import DQN
from tokenlm.envs.targets import MarkovTarget

print("IMPORTED")


def late():
    return any(Path("run").glob("state-*"))


class Chain(MarkovTarget):
    def __init__(self, tokenizer):
        super().__init__(len(tokenizer.vocabulary), eos_probability=0.1)


class Nan:
    context_size = 1

    def __init__(self, tokenizer):
        self.vocab_size, self.chain = len(tokenizer.vocabulary), Chain(tokenizer)

    def log_prob(self, prefixes, tokens, expected=None):
        return self.chain.log_prob(prefixes, tokens) * (math.nan if late() else 1.0)

    def log_probs(self, prefixes, expected=None):
        return self.chain.log_probs(prefixes) * (math.nan if late() else 1.0)


def nan_later(hypothesis, reference):
    return math.nan if late() else 0.5


def score(hypothesis, reference):
    return 0.5


class Mine(DQN):
    pass


@dataclass(frozen=True)
class Rule(SoftQ):
    pass
"""


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.fixture(scope="module", autouse=True)
def _plain_pictures():
    """Drawing takes longer than everything else here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tokenlm.agents.runs.report.Figure.savefig", lambda figure, path, **_: path.write_bytes(b"PNG"))
        yield


@pytest.fixture
def finished(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "finished")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own, in the working directory."""
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("own", None)


def outcome(folder):
    """All that a run makes, without times."""

    def timeless(text):
        return {k: v for k, v in json.loads(text).items() if "second" not in k and not k.startswith("time_")}

    return {
        "weights": (folder / "weights.safetensors").read_bytes(),
        "rows": [timeless(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()],
        "summary": timeless((folder / "summary.json").read_text(encoding="utf-8")),
        "samples": (folder / "samples.txt").read_bytes(),
    }


def failing(words, capsys):
    """Exit code and the one line that a command ends with."""
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    last = captured.err.replace("\r", "\n").strip().rpartition("\n")[2]
    assert last.startswith("tokenlm: ")
    return ending.value.code, last


def killed(config, output, monkeypatch, after=1, *words):
    """A run that is killed after so many checkpoints."""
    save, saved = Checkpoints.save, []

    def dying(self, state):
        save(self, state)
        saved.append(state)
        if len(saved) == after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(Killed):
            main(["train", config, f"--output={output}", *words])
    return output / "run"


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_run_goes_on_bit_for_bit(after, config, whole, tmp_path, monkeypatch):
    run = killed(config, tmp_path, monkeypatch, after)
    assert Run(parse_run([config, f"--output={tmp_path}"]), quiet=True).resumes
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(run) == outcome(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not list(run.glob("state*"))


def test_a_damaged_copy_of_the_best_weights_changes_nothing(config, tmp_path, monkeypatch):
    """They stand in the checkpoint too, so that a run goes on whatever became of the folder best/."""
    words = "--agent.learning_rate=3.0"  # so that it gets worse from step to step
    main(["train", config, f"--output={tmp_path / 'whole'}", words])
    summary = json.loads((tmp_path / "whole" / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["weights_of_step"] < summary["last_step"]
    run = killed(config, tmp_path / "killed", monkeypatch, 3, words)
    flip(run / "best" / "weights.safetensors")
    main(["train", config, f"--output={tmp_path / 'killed'}", words])
    assert outcome(run) == outcome(tmp_path / "whole" / "run")


def test_a_run_killed_after_its_summary_is_finished_not_begun_anew(config, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "remove", lambda self: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            main(["train", config, f"--output={tmp_path}"])
    assert list((tmp_path / "run").glob("state*"))
    written = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    main(["train", config, f"--output={tmp_path}"])
    assert not list((tmp_path / "run").glob("state*"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == written
    assert outcome(tmp_path / "run") == outcome(whole)


def test_a_run_killed_before_its_configuration_had_its_name_is_the_same_run(config, whole, tmp_path):
    run = tmp_path / "run"
    (run / "tokenizer").mkdir(parents=True)
    left = [run / ".config.yaml.ab12_x9z.yaml", run / ".lock", run / ".owner"]
    for path in left:
        path.write_text("99999999", encoding="ascii")
    (run / "tokenizer").rmdir()
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(run) == outcome(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert not left[0].exists()


def test_left_over_files_vanish_and_a_users_own_stay(config, tmp_path, monkeypatch):
    run = killed(config, tmp_path, monkeypatch, 2)
    left = [
        ".state.pt",
        "..state.pt.abcdefgh.pt",
        "best/.tmpAb3dE9",
        "best/.agent.json.abc_1234.json",
        "best/tokenizer/.v.json.12345678.json",
    ]
    for name in (*left, ".gitignore", ".my.settings"):
        (run / name).parent.mkdir(exist_ok=True, parents=True)
        (run / name).write_text("x", encoding="utf-8")
    main(["train", config, f"--output={tmp_path}"])
    assert not [name for name in left if (run / name).exists()]
    assert (run / ".gitignore").exists()
    assert (run / ".my.settings").exists()


@pytest.mark.parametrize("spelling", ["relative", "other name", "other pace of checkpoints"])
def test_a_run_is_known_by_what_it_trains(spelling, config, whole, tmp_path, monkeypatch):
    killed(config, tmp_path / "a", monkeypatch, 2)
    monkeypatch.chdir(tmp_path)
    words = {
        "relative": ["--output=a"],
        "other name": [f"--output={tmp_path}", "--name=a/run"],
        "other pace of checkpoints": ["--output=a", "--checkpoint_seconds=1000"],
    }
    assert Run(parse_run([config, *words[spelling]]), quiet=True).resumes
    main(["train", config, *words[spelling]])
    assert outcome(tmp_path / "a" / "run") == outcome(whole)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["1e3", "None", "0x1F", "yes", "2026-01-01", "~"])
def test_a_name_that_yaml_would_read_as_something_else_is_kept(name, config, tmp_path):
    made = RunFolder(parse_run([config, f"--output={tmp_path}", "--env.corpus", f"{name}", "--name=run"]))
    made.path.mkdir()
    made.write_config()
    (made.path / "state-000000-0123456789abcdef.pt").touch()
    assert RunFolder(made.config).continues
    assert parse_run([str(made.path / "config.yaml")]).env.corpus == name


def test_another_run_never_goes_on_from_a_checkpoint(config, tmp_path, monkeypatch):
    killed(config, tmp_path, monkeypatch, 2)
    assert RunFolder(parse_run([config, f"--output={tmp_path}", "--seed=1"])).path == tmp_path / "run-2"


class _Closed(io.TextIOWrapper):
    """What was closed at the other end: every write fails."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


@pytest.mark.parametrize("terminal", ["ascii", "closed", "broken", "none"])
def test_no_terminal_fails_a_run(terminal, config, whole, tmp_path, monkeypatch):
    streams = {
        "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
        "closed": lambda: io.TextIOWrapper(io.BytesIO(), encoding="utf-8"),
        "broken": lambda: _Closed(io.BytesIO(), encoding="utf-8"),
        "none": lambda: None,
    }
    with monkeypatch.context() as patch:
        for name in ("stdout", "stderr"):
            stream = streams[terminal]()
            patch.setattr(sys, name, stream)
            if terminal == "closed":
                stream.close()
        monkeypatch.setattr(Run, "_samples", lambda *_: ["床前明月光 → 疑是地上霜"])
        main(["train", config, f"--output={tmp_path}"])
    assert outcome(tmp_path / "run")["weights"] == outcome(whole)["weights"]


@pytest.mark.parametrize("damage", ["torn", "altered", "empty"])
def test_the_checkpoint_before_is_used_where_the_newest_is_damaged(
    damage, config, whole, tmp_path, monkeypatch, capsys
):
    run = killed(config, tmp_path, monkeypatch, 3)
    before, newest = sorted(run.glob("state-*.pt"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes({"torn": data[:1000], "altered": data, "empty": b""}[damage])
    capsys.readouterr()
    kept = []
    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, s: (save(self, s), kept.append(sorted(run.glob("state-*.pt")))))
        main(["train", config, f"--output={tmp_path}"])
    out = capsys.readouterr().out
    assert f"{newest} is damaged; the checkpoint before is used" in out
    assert f"continuing {run} from its checkpoint at 4 steps" in out
    assert kept[0][0] == before
    assert newest not in kept[0]
    assert outcome(run) == outcome(whole)


def test_without_a_checkpoint_that_is_whole_the_run_begins_anew_and_says_so(
    config, whole, tmp_path, monkeypatch, capsys
):
    run = killed(config, tmp_path, monkeypatch, 3)
    for path in run.glob("state-*.pt"):
        path.write_bytes(b"")
    main(["train", config, f"--output={tmp_path}"])
    out = capsys.readouterr().out
    assert "the checkpoint before is used" in out
    assert "is damaged; there is none before it, so the run begins anew" in out
    assert outcome(run) == outcome(whole)


def test_a_checkpoint_of_numpys_numbers_can_be_read(tmp_path):
    import numpy as np

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"x": np.float64(0.5), "n": np.int64(3), "a": np.arange(3), "scalar": np.array(2.0)})
    state, messages = checkpoints.load()
    assert messages == []
    assert (state["x"], state["n"], state["a"].tolist(), float(state["scalar"])) == (0.5, 3, [0, 1, 2], 2.0)


def test_a_checkpoint_of_another_kind_of_run_is_refused(config, tmp_path, monkeypatch, capsys):
    run = killed(config, tmp_path, monkeypatch, 1)
    Checkpoints(run).save({"agent": {"learner": {}}, "rows": [], "before": [], "references": {}})
    code, line = failing(["train", config, f"--output={tmp_path}"], capsys)
    assert code == 2
    assert "is of another kind of run or of another version (KeyError)" in line


@pytest.mark.parametrize("lost", ["config.yaml", "results.jsonl", "tensorboard", "."])
def test_a_file_removed_under_the_run_is_written_again(lost, config, whole, tmp_path, monkeypatch):
    evaluate, done = Run._evaluate, []

    def removing(self, board):
        row = evaluate(self, board)
        done.append(row)
        if len(done) == 1:
            path = self.folder / lost
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return row

    monkeypatch.setattr(Run, "_evaluate", removing)
    run = killed(config, tmp_path, monkeypatch, 4)
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(run) == outcome(whole)


def test_a_folder_that_another_process_has_taken_is_left_to_it(config, tmp_path, monkeypatch, capsys):
    """The folder is removed under a run; a second process makes it anew before the first one writes again."""
    evaluate, words, others = Run._evaluate, ["train", config, f"--output={tmp_path}"], contextlib.ExitStack()

    def taken(self, board):
        row = evaluate(self, board)
        if len(self.rows) == 1:
            shutil.rmtree(self.folder)
            others.enter_context(RunFolder(self.config).held())
        return row

    with others, monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", taken)
        code, line = failing(words, capsys)
        assert code == 2
        assert "belongs to a running process" in line
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", ".owner"]


def test_a_file_that_is_removed_while_it_is_written_is_named(config, whole, tmp_path, monkeypatch, capsys):
    def removed(self):
        (self.folder / "gone").read_text(encoding="utf-8")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_checkpoint", removed)
        code, line = failing(["train", config, f"--output={tmp_path}"], capsys)
    assert code == 2
    assert f"{tmp_path / 'run' / 'gone'} was removed while the run was writing; the same command goes on" in line
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(tmp_path / "run") == outcome(whole)


def test_one_process_at_a_time(config, tmp_path, capsys):
    held = RunFolder(parse_run([config, f"--output={tmp_path}"]))
    with held.held():
        code, line = failing(["train", config, f"--output={tmp_path}"], capsys)
        assert code == 2
        assert f"{tmp_path / 'run'} belongs to a running process ({os.getpid()}); wait for it" in line
        (held.path / ".owner").write_bytes(b"\xff\xfe")
        assert "belongs to a running process" in failing(["train", config, f"--output={tmp_path}"], capsys)[1]


def test_a_run_finished_by_another_process_meanwhile_is_left_alone(config, whole, tmp_path):
    late = Run(parse_run([config, f"--output={tmp_path}"]), quiet=True)
    shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(ValueError, match="meanwhile; give the command again"):
        late.train()
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_a_run_with_a_checkpoint(number, code, times, config, whole, tmp_path, monkeypatch):
    evaluate = Run._evaluate

    def signalled(self, board):
        row = evaluate(self, board)
        if len(self.rows) == 2:
            for _ in range(times):
                os.kill(os.getpid(), number)
                time.sleep(0.01)
        return row

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", signalled)
        with pytest.raises(Interrupted) as ending:
            Run(parse_run([config, f"--output={tmp_path}"]), quiet=True).train()
    assert (ending.value.exit_code, ending.value.at_once) == (code, times == 2)
    said = "interrupted; the same command goes on from here" if times == 1 else "stopped at once; the same command goes"
    assert said in str(ending.value)
    assert list((tmp_path / "run").glob("state-*.pt"))
    assert signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL)
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_the_command(number, code, times, config, whole, tmp_path):
    words = [config, f"--output={tmp_path}"]
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, str(int(number)), str(times), *words], stderr=subprocess.PIPE, text=True
    )
    err = process.communicate()[1]
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert ("interrupted; the same" if times == 1 else "stopped at once; the same") in err.splitlines()[-1]
    main(["train", *words])
    assert outcome(tmp_path / "run") == outcome(whole)


# A command that sends itself signals after its second evaluation.
SIGNALLED = """
import os, sys, time
from tokenlm.agents.runs.training import Run
from tokenlm.cli import main

evaluate = Run._evaluate

def signalled(self, board):
    row = evaluate(self, board)
    if len(self.rows) == 2:
        for _ in range(int(sys.argv[2])):
            os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(0.01)
    return row

Run._evaluate = signalled
main(["train", *sys.argv[3:]])
"""


@pytest.mark.slow
def test_the_installed_command_with_a_broken_pipe_an_ascii_terminal_and_a_signal(config, whole, tmp_path):
    """Real processes: one gets SIGTERM in the middle, the next, which has no standard streams at all, ends the run."""
    words = [sys.executable, "-m", "tokenlm", "train", config, f"--output={tmp_path}"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    process.stdout.close()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/state-*.pt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (143, 0), err
    assert b"Traceback" not in err
    if process.returncode == 143:
        shell = 'exec "$@" <&- >&- 2>&-'
        done = subprocess.run(["/bin/sh", "-c", shell, "sh", *words], env=environment, check=False)
        assert done.returncode == 0
    assert outcome(tmp_path / "run")["weights"] == outcome(whole)["weights"]


NANS = {
    "target": (["--env.target=own:Nan", "--env.tokenizer=word"], 1, "is not finite in update"),
    "reward": (["--env.sequence_reward=own:nan_later", "--env.tokenizer=word"], 1, "returned nan for the text"),
    "learning rate": (["--agent.learning_rate=3e38"], 1, "is not finite in update"),
}


@pytest.mark.parametrize("kind", list(NANS))
def test_what_is_not_a_number_stops_a_run_and_leaves_a_good_checkpoint(kind, config, sentences, own, tmp_path, capsys):
    words, expected, reason = NANS[kind]
    (tmp_path / "corpus.txt").write_text("\n".join(sentences), encoding="utf-8")
    if kind != "learning rate":
        words = [
            *words,
            f"--env.corpus={tmp_path / 'corpus.txt'}",
            "--env.target=own:Nan" if kind == "target" else "--env.target=ngram",
        ]
    code, line = failing(
        ["train", config, f"--output={tmp_path}", "--total_steps=4000", "--evaluations=4", *words], capsys
    )
    assert reason in line
    assert code == expected
    run = tmp_path / "run"
    state, messages = Checkpoints(run).load()
    assert messages == []
    assert all(bool(t.isfinite().all()) for t in state["agent"]["learner"]["network"].values())
    if kind != "reward":
        assert f"its batch is in {run / 'not_finite.pt'}" in line
        batch = torch.load(run / "not_finite.pt", weights_only=True)
        assert set(batch) == {"tokens", "actions", "rewards", "at"}
        assert bool(batch["rewards"].isnan().any()) == (kind == "target")
    assert_json(run)


def assert_json(folder):
    def refuse(name):
        raise AssertionError(name)

    for path in (p for p in folder.rglob("*") if p.suffix in (".json", ".jsonl")):
        texts = path.read_text(encoding="utf-8")
        for text in texts.splitlines() if path.suffix == ".jsonl" else [texts]:
            json.loads(text, parse_constant=refuse)


def test_every_json_file_is_json(whole):
    assert_json(whole)
    assert (whole / "digests.json").exists()


def test_memory_that_runs_out_is_one_sentence_and_the_run_goes_on_later(config, whole, tmp_path, monkeypatch, capsys):
    def exhausted(self, board):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")

    killed(config, tmp_path, monkeypatch, 2)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_evaluate", exhausted)
        code, line = failing(["train", config, f"--output={tmp_path}"], capsys)
    assert code == 2
    assert "there is not enough memory" in line
    main(["train", config, f"--output={tmp_path}"])
    assert outcome(tmp_path / "run") == outcome(whole)


@pytest.mark.parametrize(
    ("command", "advice"), [("generate", "give a smaller --count"), ("evaluate", "fewer --episodes")]
)
@pytest.mark.parametrize(
    "problem", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_runs_out_while_writing_is_one_sentence(command, advice, problem, finished, monkeypatch, capsys):
    def exhausted(*_, **__):
        raise problem

    monkeypatch.setattr("tokenlm.agents.dqn.agent.DQN.reader", exhausted)
    code, line = failing([command, finished], capsys)
    assert code == 2
    assert line.startswith("tokenlm: there is not enough memory; ")
    assert advice in line


@pytest.mark.parametrize("damage", ["gone", "torn", "other", "empty"])
def test_an_unfinished_run_whose_configuration_is_damaged_is_not_begun_anew(
    damage, config, tmp_path, monkeypatch, capsys
):
    run = killed(config, tmp_path, monkeypatch, 2)
    saved = (run / "config.yaml").read_text(encoding="utf-8")
    if damage == "gone":
        (run / "config.yaml").unlink()
    else:
        torn = {"torn": saved[:40] + "{", "other": saved.replace("num_envs: 4", "num_envs: 8"), "empty": ""}
        (run / "config.yaml").write_text(torn[damage], encoding="utf-8")
    code, line = failing(["train", config, f"--output={tmp_path}"], capsys)
    assert code == 2
    assert f"{run} holds the checkpoints of an unfinished run, but not what it trains (" in line
    assert damage != "other" or "was changed since it was saved" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (run / "config.yaml").write_text(saved, encoding="utf-8")
    assert RunFolder(parse_run([config, f"--output={tmp_path}"])).continues


CODE = [
    ("config.yaml", ["env", "sequence_reward"], "shutil:rmtree"),
    ("config.yaml", ["algorithm"], "own:Mine"),
    ("config.yaml", ["env", "target"], "own:Chain"),
    ("config.yaml", ["agent", "loss"], "own:Rule"),
    ("agent.json", ["env", "sequence_reward"], "shutil:rmtree"),
    ("agent.json", ["env", "target"], "own:Chain"),
    ("agent.json", ["agent", "loss"], "own:Rule"),
]


@pytest.mark.parametrize("command", ["generate", "evaluate"])
@pytest.mark.parametrize(("file", "names", "code"), CODE, ids=lambda v: ".".join(v) if isinstance(v, list) else str(v))
def test_a_saved_folder_imports_no_code(command, file, names, code, finished, own, capsys):
    """Not even one whose digests were made to fit."""
    path = finished / file
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    place = values
    for name in names[:-1]:
        place = place[name]
    place[names[-1]] = code
    text = json.dumps(values) if file.endswith(".json") else yaml.safe_dump(values)
    path.write_text(text, encoding="utf-8")
    before = set(sys.modules)
    assert "was changed since it was saved" in failing([command, finished], capsys)[1]
    write_digests(finished, [path])
    found, line = failing([command, finished], capsys)
    assert found == 2
    assert f"names code of its own, {'.'.join(names)} '{code}', which would be imported and run; pass --trust" in line
    assert "own" not in set(sys.modules) - before


@pytest.mark.parametrize("command", ["generate", "evaluate"])
def test_with_trust_a_runs_own_code_is_imported(command, config, own, sentences, tmp_path, capsys):
    (tmp_path / "corpus.txt").write_text("\n".join(sentences), encoding="utf-8")
    words = ["--env.target=own:Chain", "--env.tokenizer=word", f"--env.corpus={tmp_path / 'corpus.txt'}"]
    words += ["--agent.loss=own:Rule", "--env.sequence_reward=own:score"]
    main(["train", config, f"--output={tmp_path}", *words])
    assert "IMPORTED" in capsys.readouterr().out
    short = {"generate": ["--count", "2"], "evaluate": ["--documents", "2", "--episodes", "2"]}[command]
    sys.modules.pop("own")
    assert failing([command, tmp_path / "run", *short], capsys)[0] == 2
    assert "own" not in sys.modules
    main([command, str(tmp_path / "run"), *short, "--trust"])
    assert capsys.readouterr().out


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def swap_tokens(path):
    tokens = json.loads(path.read_text(encoding="utf-8"))
    tokens[6], tokens[7] = tokens[7], tokens[6]
    path.write_text(json.dumps(tokens), encoding="utf-8")


@pytest.mark.parametrize("command", ["generate", "evaluate"])
@pytest.mark.parametrize(
    ("file", "damage"),
    [("weights.safetensors", flip), ("tokenizer/settings.json", flip), ("agent.json", flip), ("config.yaml", flip)],
)
def test_damage_speaks(command, file, damage, finished, capsys):
    damage(finished / file)
    code, line = failing([command, finished], capsys)
    assert code == 2
    assert str(finished / file) in line
    (finished / file).unlink()
    assert failing([command, finished], capsys)[0] == 2


def test_swapped_tokens_speak(sentences, tmp_path):
    from tokenlm import DQN, EnvConfig

    env = EnvConfig(corpus=sentences, tokenizer="word", max_new_tokens=4, context_length=6)
    DQN(env, network="lstm", num_envs=2).save(tmp_path)
    DQN.load(tmp_path)
    swap_tokens(tmp_path / "tokenizer" / "vocabulary.json")
    with pytest.raises(ValueError, match=r"vocabulary\.json was changed since it was saved; restore it from a copy"):
        DQN.load(tmp_path)
    write_digests(tmp_path, [tmp_path / "tokenizer" / "vocabulary.json"])  # which now say that nothing was changed
    with pytest.raises(ValueError, match="tokenizer has another vocabulary than the agent was trained with"):
        DQN.load(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "results.jsonl"])
def test_figures_that_were_changed_are_not_shown_and_stop_no_policy(name, finished, capsys):
    text = (finished / name).read_text(encoding="utf-8")
    (finished / name).write_text(text.replace('"sampled_return": -', '"sampled_return": -1'), encoding="utf-8")
    assert (finished / name).read_text(encoding="utf-8") != text
    code, line = failing(["report", finished], capsys)
    assert code == 2
    assert f"{finished / name} was changed since it was saved, so its figures are not those of the run" in line
    main(["generate", str(finished)])
    (finished / name).unlink()
    main(["generate", str(finished)])


def test_a_run_names_the_files_that_it_has_read(small, sentences, tmp_path, capsys):
    (tmp_path / "corpus.txt").write_text("\n".join(sentences), encoding="utf-8")
    settings = {**small, "env": {"corpus": str(tmp_path / "corpus.txt"), "tokenizer": "word"}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    main(["train", str(tmp_path / "run.yaml"), f"--output={tmp_path}"])
    corpus, saved = str(tmp_path / "corpus.txt"), str(tmp_path / "run" / "config.yaml")
    line = f"reading {corpus!r}, which {saved!r} names as env.corpus"
    capsys.readouterr()
    main(["generate", str(tmp_path / "run")])  # which reads none of them
    assert line not in capsys.readouterr().err
    main(["evaluate", str(tmp_path / "run"), "--episodes=2", "--documents=2"])
    assert line in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "it must map names of files to digests"),
        ([1], "it must map names of files to digests"),
        ({"../x": "0" * 64}, "it must map names of files to digests"),
        ({"/etc/passwd": "0" * 64}, "it must map names of files to digests"),
        ({"a\0b": "0" * 64}, "it must map names of files to digests"),
        ({"x" * 5000: "0" * 64}, "it must map names of files to digests"),
        ({"agent.json": 3}, "it must map names of files to digests"),
        ({"nothing": "0" * 64}, "it has no digest of config.yaml"),
    ],
    ids=str,
)
def test_digests_that_are_none(values, message, finished):
    (finished / "digests.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_run(finished)
    load_run(finished, trust=True)
    write_digests(finished, [finished / "config.yaml"])  # damaged ones never stop a run from being saved
