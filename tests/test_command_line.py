"""The command `tokenlm`: a run from end to end, and one clear line for everything that is wrong."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tokenlm.agents import DQN, RunConfig
from tokenlm.agents.runs.training import Run, load_run
from tokenlm.cli import main
from tokenlm.commands import NAMES
from tokenlm.parsing import config_names, parse_run

SMALL = [
    "--agent.network.embedding_size=8", "--agent.network.hidden_size=16", "--agent.num_envs=8", "--agent.batch_size=8",
    "--agent.learning_starts=0", "--env.tokenizer=word", "--env.max_new_tokens=8", "--env.context_length=12",
    "--evaluation_episodes=8", "--evaluation_documents=5", "--evaluations=2", "--total_steps=800",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    main(
        [
            "train",
            "quickstart",
            f"--env.corpus={corpus}",
            f"--output={output}",
            "--baseline_seconds=0.5",
            *SMALL,
        ]
    )
    return output / "quickstart"


def test_a_run_folder_holds_everything(run):
    names = {p.name for p in run.iterdir()}
    assert {
        "config.yaml", "results.jsonl", "results.csv", "curves.png", "samples.txt", "summary.json", "weights.safetensors",
        "agent.json", "tokenizer", "tensorboard", "best", "maximum-likelihood", "digests.json", ".lock",
    } == names  # fmt: skip
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["num_steps"] for row in rows] == [0, 400, 800]
    assert rows[-1]["perplexity"] < rows[0]["perplexity"]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len((run / "samples.txt").read_text(encoding="utf-8").splitlines()) >= 12
    assert list((run / "tensorboard").iterdir())


def test_the_saved_configuration_makes_the_same_run(run):
    _, config = load_run(run)
    assert parse_run([str(run / "config.yaml")]) == config


def test_evaluate_prints_one_json_object(run, capsys):
    main(["evaluate", str(run), "--json", "--episodes=8"])
    result = json.loads(capsys.readouterr().out)
    for key in (
        "perplexity", "target_perplexity", "bits_per_character", "kl_to_target", "random_return", "greedy_return",
        "optimal_return", "normalized_score", "env_steps", "transitions_trained", "wall_seconds",
    ):  # fmt: skip
        assert isinstance(result[key], (int, float)), key
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert result["perplexity"] == pytest.approx(summary["perplexity"])
    assert (result["env_steps"], result["transitions_trained"]) == (
        summary["env_steps"],
        summary["transitions_trained"],
    )
    assert result["random_return"] < result["greedy_return"] <= result["optimal_return"] + 1e-9
    main(["evaluate", str(run), "--episodes=8"])
    said = capsys.readouterr().out
    assert "perplexity" in said
    assert f"  the best text, {result['texts'][0]['best_return']:.3f} nats" in said
    assert result["texts"][0]["best_return"] >= result["texts"][0]["greedy_return"] - 1e-9


def test_generate(run, capsys):
    main(["generate", str(run), "--prompt", "the cat", "--count", "3", "--temperature", "0.5"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("the cat") for line in lines)


def test_generate_in_every_way(run, tmp_path, capsys):
    def lines(*words):
        main(["generate", str(run), *words])
        return capsys.readouterr().out.splitlines()

    (tmp_path / "prompts.txt").write_text("the cat\nthe dog sees\n", encoding="utf-8")
    found = lines("--prompts", str(tmp_path / "prompts.txt"), "--temperature", "0")
    assert [text[:7] for text in found] == ["the cat", "the dog"]
    assert found[:1] == lines("--prompt", "the cat", "--count", "1", "--temperature", "0")
    assert found[:1] * 2 == lines("--prompt", "the cat", "--count", "2", "--top_k", "1")
    how = ["--prompts", str(tmp_path / "prompts.txt"), "--count", "3", "--top_p", "0.9", "--max_new_tokens", "4"]
    assert lines(*how, "--stream") == lines(*how)
    assert len(lines(*how)) == 6
    assert len(set(lines("--beams", "4", "--count", "3", "--length_penalty", "1"))) == 3
    assert not any("cat" in text or "th" in text for text in lines("--stop", "cat", "th"))


def test_config_prints_everything_resolved(capsys):
    main(["config", "quickstart", "--agent.learning_rate=3e-4", "--env.prompt_length=[0,1]"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["agent"]["learning_rate"] == {"start": 3e-4, "end": 3e-4, "share": 1.0, "shape": "linear"}
    assert printed["env"]["prompt_length"] == [0, 1]
    assert set(printed) == set(RunConfig.__dataclass_fields__)


@pytest.mark.parametrize("name", config_names())
def test_every_shipped_configuration_is_valid(name):
    assert parse_run([name]).name == name


@pytest.mark.parametrize("command", ["train", "tune", "race", "config"])
def test_help_is_one_screen(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert sum(line.startswith("  --") for line in lines) >= 10
    assert any(line.startswith(f"  tokenlm {command} ") for line in lines)


def test_all_help_explains_every_field_with_its_default(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    for field in (
        "--env.max_new_tokens",
        "--agent.learning_rate",
        "--agent.network.hidden_size",
        "--total_steps",
    ):
        assert re.search(rf"{re.escape(field)} [A-Z_]+ \w[^-]+ \(type: .{{1,60}}, default: ", text), field


def test_a_finished_run_is_never_overwritten(run, corpus, capsys):
    before = (run / "weights.safetensors").read_bytes()
    main(
        [
            "train",
            "quickstart",
            f"--env.corpus={corpus}",
            f"--output={run.parent}",
            "--baseline_seconds=0",
            *SMALL,
        ]
    )
    assert (run / "weights.safetensors").read_bytes() == before
    assert (run.with_name("quickstart-2") / "summary.json").exists()


def test_an_interrupted_run_goes_on_where_it_stopped(corpus, tmp_path, monkeypatch):
    def config(name):
        return parse_run(
            [
                "quickstart",
                f"--env.corpus={corpus}",
                f"--output={tmp_path}",
                f"--name={name}",
                "--baseline_seconds=0",
                *SMALL,
            ]
        )

    whole = Run(config("whole"), quiet=True)
    whole.train()
    cut = Run(config("cut"), quiet=True)
    learn = DQN.learn

    def interrupted(agent, total, callback, **settings):
        def stop(agent):
            callback(agent)
            if agent.num_steps >= 600:
                raise KeyboardInterrupt
            return True

        return learn(agent, total, stop, **settings)

    monkeypatch.setattr(DQN, "learn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    monkeypatch.undo()
    again = Run(config("cut"), quiet=True)
    assert again.resumes
    again.train()
    for name in ("weights.safetensors", "samples.txt"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    rows = [
        [
            {k: v for k, v in json.loads(line).items() if "second" not in k and not k.startswith("time_")}
            for line in path.read_text().splitlines()
        ]
        for path in (tmp_path / "cut" / "results.jsonl", tmp_path / "whole" / "results.jsonl")
    ]
    assert rows[0] == rows[1]
    assert not list((tmp_path / "cut").glob("state*"))


MISTAKES = [
    (["bla"], "unknown command 'bla'"),
    (["trian"], "did you mean 'train'"),
    (["train", "quikstart"], "no configuration 'quikstart'; did you mean 'quickstart'"),
    (
        ["train", "quickstart", "--agent.lerning_rate=1"],
        "the agent has no setting 'lerning_rate'; did you mean 'learning_rate'",
    ),
    (
        ["train", "quickstart", "--env.max_new_tokens=many"],
        '"env.max_new_tokens": expected int. Got value: many',
    ),
    (["train", "quickstart", "--env.ending=stop"], "expected one of ['eos', 'fixed']. Got value: stop"),
    (["train", "quickstart", "--env.tokenizer=jeiba"], "tokenizer 'jeiba' is unknown; did you mean 'jieba'"),
    (
        ["train", "quickstart", "--env.task=generatoin"],
        "expected one of ['generation', 'qa', 'translation', 'classification']. Got value: generatoin",
    ),
    (["train", "quickstart", "--env.target=ngrm"], "target 'ngrm' is unknown; did you mean 'ngram'"),
    (["train", "quickstart", "--env.corpus=missing.txt"], "no corpus 'missing.txt'"),
    (["train", "quickstart", "--agent.gamma=2"], "gamma must lie between 0 and 1, not 2"),
    (
        ["train", "quickstart", "--env.context_length=1"],
        "context_length is 1; make context_length at least 2",
    ),
    (["train", "quickstart", "--device=tpu"], "device 'tpu' is unknown"),
    (["evaluate", "nowhere"], "nowhere is no run folder"),
    (["generate"], "required: run"),
    (["generate", "RUN", "--prompt", "zebra"], "'zebra' has words outside the vocabulary"),
    (["generate", "RUN", "--top_p", "2"], "top_p must be above 0 and at most 1, not 2.0"),
    (["generate", "RUN", "--beams", "2", "--stream"], "a beam search knows its texts at the end only"),
    (["generate", "RUN", "--prompt", "the", "--prompts", "x"], "give --prompt or --prompts, not both"),
    (["generate", "RUN", "--promt", "x"], "there is no option 'promt'; did you mean 'prompt'"),
    (["evaluate", "RUN", "--episods", "x"], "there is no option 'episods'; did you mean 'episodes'"),
    (["race", "race-markov", "--sede", "3"], "there is no field 'sede'; did you mean 'seeds'"),
    (["race", "race-markov", "--seed", "3"], "there is no field 'seed'; did you mean 'seeds'"),
    (["evaluate", "RUN", "--episode", "3"], "there is no option 'episode'; did you mean 'episodes'"),
    (["evaluate", "RUN", "--episodes", "0"], "episodes must be at least 1, not 0"),
    (["evaluate", "RUN", "--documents", "0"], "documents must be at least 1, not 0"),
    (["evaluate", "RUN", "--documents", "-1"], "documents must be at least 1, not -1"),
    (["evaluate", "RUN", "--seed", "-1"], "seed must be at least 0, not -1"),
    (["generate", "RUN", "--count", "0"], "count must be at least 1, not 0"),
    (["generate", "RUN", "--count", "1.5"], "count must be a whole number, not 1.5"),
    (["generate", "RUN", "--temperature", "inf"], "temperature must be a number, not inf"),
    (["generate", "RUN", "--beams", "3", "--length_penalty", "500"], "length_penalty must lie between -10 and 10"),
    (["generate", "RUN", "--prompts", "nowhere.txt"], "there is no file 'nowhere.txt'; give one with a prompt on each"),
    (["config", "BAD"], "the agent has no setting 'lr'; did you mean 'learning_rate'"),
    (["config", "quickstart", "--epochs", "3"], "there are no epochs here"),
    (["config", "quickstart", "--epsilon=0.1"], "there is no field 'epsilon'; it may be env.epsilon or agent.epsilon"),
    (["config", "pairs.tsv"], "there is no file 'pairs.tsv'"),
    (["config", "PAIRS"], "holds pairs; say what they are for: tokenlm config qa --env.corpus"),
    (
        ["config", "quickstart", "--agent.loss=dqn", "--agent.td_weight=2"],
        "loss 'dqn' has no setting 'td_weight'; iq_learn has it",
    ),
    (
        ["config", "quickstart", "--agent.network.lora_rank=2"],
        "the network 'lstm' has no setting 'lora_rank'; pretrained has it",
    ),
    (["config", "quickstart", "--agent.learning_rate=abc"], "learning_rate must be a number or a schedule"),
    (["train", "EMPTY"], "is empty"),
    (["train", "WRONG"], "is not UTF-8"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_mistakes_end_with_one_line_and_exit_code_2(words, message, run, tmp_path, capsys):
    (tmp_path / "bad.yaml").write_text("agent: {lr: 3}\n", encoding="utf-8")
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    (tmp_path / "pairs.tsv").write_text("a\tb\n", encoding="utf-8")
    (tmp_path / "wrong.txt").write_bytes("中文\n".encode("gbk"))
    places = {
        "RUN": [str(run)],
        "BAD": [str(tmp_path / "bad.yaml")],
        "PAIRS": [str(tmp_path / "pairs.tsv")],
        "EMPTY": ["quickstart", f"--env.corpus={tmp_path / 'empty.txt'}"],
        "WRONG": ["quickstart", f"--env.corpus={tmp_path / 'wrong.txt'}"],
    }
    words = [w for word in words for w in places.get(word, [word])]
    with pytest.raises(SystemExit) as ending:
        main(words)
    captured = capsys.readouterr()
    assert ending.value.code == 2
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_the_installed_command_exits_with_2():
    result = subprocess.run([sys.executable, "-m", "tokenlm", "nothing"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"tokenlm: unknown command 'nothing'; use one of {', '.join(NAMES)}\n"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("total_steps=0", "total_steps must be at least 1, not 0"),
        ("total_steps=-5", "total_steps must be at least 1, not -5"),
        ("seed=-1", "seed must be at least 0, not -1"),
        ("threads=0", "threads must be at least 1, or None, not 0"),
        ("evaluation_episodes=0", "evaluation_episodes must be at least 1, not 0"),
        ("evaluations=-1", "evaluations must be at least 0, not -1"),
        ("max_seconds=-1", "max_seconds must be at least 0, or None, not -1"),
        ("agent.temperature=.inf", "a schedule's values must be finite"),
        ("agent.epsilon=5", "epsilon is a probability, at most 1, not 5"),
        ("agent.learning_rate=.nan", "a schedule's values must be finite"),
    ],
)
def test_numbers_at_the_edge_are_refused(setting, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["config", "quickstart", f"--{setting}"])
    assert message in capsys.readouterr().err


def test_a_file_for_one_network_or_rule_is_the_start_of_another():
    def parsed(*words):
        return parse_run(["qa", *words]).agent

    assert (parsed().network.name, parsed().network.dropout, parsed().rule.huber_delta) == ("seq2seq_lstm", 0.2, 0.5)
    other = parsed("--agent.network.name=seq2seq_transformer", "--agent.network.num_heads", "2", "--agent.loss=cql")
    assert (other.network.dropout, other.network.hidden_size, other.network.num_heads) == (0.2, 128, 2)
    assert other.rule.huber_delta == 0.5
    assert (parsed().pretrain, parsed("--agent.loss", "q_sft").pretrain) == (60_000, 0)  # it has no logits to pretrain
    assert parsed("--agent.loss", "q_sft").rule.reward_scale == 20.0
    short = parsed("--agent.network=transformer", "--agent.optimizer=sgd", "--agent.optimizer.weight_decay=1e-3")
    assert (short.network.name, short.network.dropout) == ("transformer", 0.2)
    assert (short.optimizer.name, short.optimizer.weight_decay) == ("sgd", 1e-3)
