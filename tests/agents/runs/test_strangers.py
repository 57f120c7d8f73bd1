"""Run folders that somebody made to harm: each is one sentence, and nothing of them is run or believed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tokenlm import EnvConfig
from tokenlm.agents.runs.checkpoints import Checkpoints
from tokenlm.agents.runs.listing import find_runs
from tokenlm.agents.runs.training import Run, load_run
from tokenlm.cli import main
from tokenlm.envs import named_files
from tokenlm.envs.text.cleaning import for_terminal
from tokenlm.envs.text.digests import check_digests, file_digest, write_digests
from tokenlm.parsing import parse_run


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def refused(words, capsys):
    """The one line that a command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main([str(word) for word in words])
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("reading ")]
    assert ending.value.code == 2
    assert len(lines) == 1
    assert len(lines[0]) < 600
    return lines[0]


def changed(path, change):
    """Change the JSON or YAML in `path`, and its digest too, as a stranger would."""
    load, dump = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    values = load(path.read_text(encoding="utf-8"))
    values = change(values) or values
    path.write_text(dump(values), encoding="utf-8")
    write_digests(path.parent, [path])


def test_a_models_own_code_is_never_run(run, tmp_path, monkeypatch, capsys):
    pytest.importorskip("transformers")
    folder = run / "pretrained"
    folder.mkdir()
    ran = tmp_path / "ran"
    (folder / "evil.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nfrom transformers import PretrainedConfig\n"
        "class EvilConfig(PretrainedConfig):\n    model_type = 'evil'\n",
        encoding="utf-8",
    )
    names = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": names}), encoding="utf-8")
    network = {"name": "pretrained", "pretrained": "x"}
    for file in ("agent.json", "config.yaml"):
        changed(run / file, lambda values: values["agent"].update(network=network))
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers may ask, and a stranger's input answers
    assert "brings code of its own, which is never run" in refused(["generate", run], capsys)
    target = ["--env.target=causal_lm", f"--env.target_model={folder}"]
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    refused(["train", "quickstart", *target, f"--output={tmp_path}"], capsys)
    assert not ran.exists()


def test_a_configuration_changed_under_a_run_is_that_of_the_run_at_its_end(config, tmp_path, monkeypatch):
    checkpoint = Run._checkpoint

    def changing(self):
        checkpoint(self)
        path = self.folder / "config.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace("seed: 0", "seed: 5"), encoding="utf-8")

    monkeypatch.setattr(Run, "_checkpoint", changing)
    Run(parse_run([config, f"--output={tmp_path}"]), quiet=True).train()
    loaded = load_run(tmp_path / "run")[1]
    assert (loaded.seed, loaded.env.target_seed) == (0, 0)


def test_a_summary_changed_before_the_run_is_closed_is_not_certified(config, tmp_path, monkeypatch, capsys):
    words = ["train", config, f"--output={tmp_path}"]
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "remove", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            main(words)
    path = tmp_path / "run" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**summary, "regret": 0.001}), encoding="utf-8")
    main(words)  # which was finished
    assert "was changed since it was saved" in refused(["report", tmp_path / "run"], capsys)


def nested(depth):
    value = 1.0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.yaml", lambda v: v.update(total_steps=[1]), "total_steps in .* must be a whole number"),
        ("config.yaml", lambda v: v.update(total_steps="abc"), "total_steps in .* must be a whole number"),
        (
            "config.yaml",
            lambda v: v["agent"].update(learning_rate={"start": "a", "end": 0.0, "share": 1.0, "shape": "linear"}),
            "learning_rate in .* is no schedule",
        ),
        ("summary.json", lambda v: v.update(regret=nested(900)), "regret in .* cannot be"),
        ("summary.json", lambda v: v.update(regret_ci=5), "regret_ci in .* cannot be 5"),
        ("summary.json", lambda v: v.update(baseline=5), "baseline in .* cannot be 5"),
        ("summary.json", lambda v: v.update(texts=[5]), r"texts in .* cannot be \[5\]"),
        ("summary.json", lambda _: [1], "holds no figures by name"),
    ],
)
def test_a_run_that_cannot_be_shown_is_damaged_and_hides_no_other(file, change, sentence, run, capsys):
    shutil.copytree(run, run.parent / "good")
    changed(run / file, change)
    for words in (["report", run], ["compare", run, run.parent / "good"]):
        refused(words, capsys)
    main(["runs", str(run.parent), "--json"])
    rows = {Path(row["run"]).name: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["good"]["state"] == "finished"
    assert rows["run"]["state"] == "damaged"
    [found] = [each for each in find_runs(run.parent) if each.folder.name == "run"]
    with pytest.raises(ValueError, match=sentence):
        raise ValueError(rows["run"]["damage"])
    assert found.damage == rows["run"]["damage"]


def test_an_unfinished_run_without_numbers_is_shown(run, capsys):
    (run / "summary.json").unlink()
    (run / "results.jsonl").write_text('{"num_steps": null, "time_x": null}\n', encoding="utf-8")
    write_digests(run, [run / "results.jsonl"])
    main(["runs", str(run.parent)])
    assert "unfinished at 0 of 16 steps" in capsys.readouterr().out
    main(["report", str(run)])


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.yaml", lambda v: v.update(agent=5)),
        ("config.yaml", lambda v: v.update(agent=True)),
        ("agent.json", lambda v: v.pop("vocabulary") and None),
        ("agent.json", lambda v: v.update(progress=float("nan"))),
        ("agent.json", lambda v: v.update(num_steps=-5)),
        ("agent.json", lambda v: v.update(seed=2**80)),
        ("agent.json", lambda v: v["agent"]["network"].update(hidden_size=60_000)),
        ("agent.json", lambda v: v["agent"]["network"].update(num_layers=1_000_000)),
    ],
)
def test_settings_that_no_agent_has_are_one_sentence(file, change, run, capsys):
    changed(run / file, change)
    refused(["generate", run], capsys)


def test_going_on_with_an_agent_without_a_vocabulary_is_one_sentence(run, capsys):
    changed(run / "agent.json", lambda v: v.pop("vocabulary") and None)
    assert "names no vocabulary" in refused(["train", "--continue", run, "--total_steps=32"], capsys)


@pytest.mark.parametrize("name", ["./agent.json", "a//b", "tokenizer/../agent.json", ".//agent.json", "/agent.json"])
def test_a_file_has_one_name(name, run):
    known = json.loads((run / "digests.json").read_text(encoding="utf-8"))
    (run / "digests.json").write_text(json.dumps({**known, name: "0" * 64}), encoding="utf-8")
    with pytest.raises(ValueError, match="it must map names of files to digests"):
        check_digests(run)


def test_a_checkpoint_that_is_compressed_is_damaged(config, tmp_path, monkeypatch, capsys):
    """A torn one is passed over in the same way, so the run begins anew."""

    def stopping(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_stop_if_asked", stopping)
        with pytest.raises(SystemExit):
            main(["train", config, f"--output={tmp_path}"])
    *others, state = sorted((tmp_path / "run").glob("state-*"))
    for path in others:
        path.unlink()
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(state) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    state.unlink()
    packed.rename(tmp_path / "run" / f"state-000000-{file_digest(packed)[:16]}.pt")
    main(["train", config, f"--output={tmp_path}"])
    assert "cannot be read (ValueError); there is none before it" in capsys.readouterr().out


def test_a_finished_run_without_its_summary_is_left_alone(config, run, capsys):
    weights = (run / "weights.safetensors").read_bytes()
    (run / "summary.json").unlink()
    main(["train", config, f"--output={run.parent}"])
    assert f"{run} has a saved agent but no summary.json; it is left as it is" in capsys.readouterr().out
    assert (run / "weights.safetensors").read_bytes() == weights
    assert (run.parent / "run-2" / "summary.json").exists()


def test_files_are_named_whatever_they_are_called(tmp_path):
    (tmp_path / "corpus.txt").write_text("a b\n", encoding="utf-8")
    config = EnvConfig(corpus=str(tmp_path / "corpus.txt"), user_dictionary="zh", arpa="en", target="ngram")
    assert named_files(config) == {"corpus": config.corpus, "user_dictionary": "zh", "arpa": "en"}
    assert named_files(EnvConfig(corpus="zh")) == {}
    cleaned = dataclasses.replace(config.cleaning, stop_words="zh+en")
    assert "cleaning.stop_words" not in named_files(dataclasses.replace(config, cleaning=cleaned))


def test_nothing_steers_the_terminal():
    assert for_terminal("中文 a\tb\n👨‍👩‍👧 é") == "中文 a\tb\n👨‍👩‍👧 é"
    assert for_terminal("\x1b[2J\x07\x9b\u202ex\r") == "\ufffd[2J\ufffd\ufffd\ufffdx\ufffd"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["config", "quickstart"], ["doctor"]])
def test_an_answer_that_cannot_be_written_is_no_success(words):
    command = [sys.executable, "-m", "tokenlm", *words]
    with Path("/dev/full").open("w", encoding="ascii") as full:
        found = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith("tokenlm: the standard output cannot be written (")
    assert found.stderr.count("\n") == 1


def test_help_in_ascii():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run(
        [sys.executable, "-m", "tokenlm", "--help"], env=environment, capture_output=True, check=True
    )
    assert b"usage: tokenlm COMMAND" in found.stdout
