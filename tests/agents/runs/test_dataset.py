"""Episodes as a Minari data set and back: the same episodes, an environment that pays them the same, rules that learn."""

import numpy as np
import pytest
import torch
import yaml

from tokenlm.agents import DQN
from tokenlm.agents.replay.corpus import corpus_replay
from tokenlm.agents.runs.algorithms import make
from tokenlm.agents.runs.share.dataset import read_dataset, write_dataset, written_episodes
from tokenlm.agents.runs.training import load_run
from tokenlm.cli import main
from tokenlm.envs import EnvConfig, World

minari = pytest.importorskip("minari")

MARKOV = {"target": "markov", "order": 2, "vocab_size": 12, "max_new_tokens": 6, "context_length": 7}
SMALL = {
    "network": {"name": "lstm", "embedding_size": 8, "hidden_size": 16},
    "num_envs": 4, "batch_size": 16, "learning_starts": 0, "replay_capacity": 256, "learning_rate": 1e-2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def same(one, other):
    assert len(one) == len(other)
    for row in range(len(one)):
        a, b = (replay.rows(torch.tensor([row])) for replay in (one, other))
        width = int(a.tokens.shape[1])
        assert torch.equal(a.tokens, b.tokens[:, :width])
        for field in ("actions", "rewards", "is_action", "terminal"):
            assert torch.equal(getattr(a, field), getattr(b, field)[:, : width - 1]), field


def test_documents_go_there_and_back(own_place, capsys):
    (own_place / "corpus.txt").write_text(
        "\n".join(["the cat sees the dog", "the dog likes a bird"] * 30), encoding="utf-8"
    )
    (own_place / "mine.yaml").write_text(
        yaml.safe_dump({"env": {"corpus": str(own_place / "corpus.txt"), "tokenizer": "word", "max_new_tokens": 4, "context_length": 6}}),
        encoding="utf-8",
    )  # fmt: skip
    main(["dataset", str(own_place / "mine.yaml"), "tokenlm/mine-v0"])
    assert "tokenlm/mine-v0" in capsys.readouterr().out
    config = EnvConfig(corpus=str(own_place / "corpus.txt"), tokenizer="word", max_new_tokens=4, context_length=6)
    same(corpus_replay(World.of(config), config, 0), read_dataset("tokenlm/mine-v0", config))


@pytest.mark.parametrize("settings", [{}, {"transition": "teacher"}, {"ending": "fixed", "reward_every": 0}])
def test_texts_of_an_agent_go_there_and_back_and_earn_what_the_environment_pays(settings):
    config = EnvConfig(**MARKOV, **settings)
    agent = DQN(config, device="cpu", **SMALL)
    replay = written_episodes(agent, config, 40, 0, 1.0)
    write_dataset("markov/agent-v0", replay, config, "dqn", "texts")
    same(replay, read_dataset("markov/agent-v0", config))
    dataset = minari.load_dataset("markov/agent-v0")
    env = dataset.recover_environment()
    for episode in list(dataset.iterate_episodes())[:10]:
        assert env.observation_space.contains(episode.observations[0])
        prompt = env.unwrapped.world.tokenizer.decode(episode.observations[0].tolist())
        observation, _ = env.reset(
            seed=0, options={"prompt": prompt} if settings.get("transition") != "teacher" else None
        )
        if settings.get("transition") == "teacher":
            continue  # the document is drawn anew
        assert np.array_equal(observation, episode.observations[0])
        for step, action in enumerate(episode.actions):
            observation, reward, terminated, truncated, _ = env.step(int(action))
            assert np.array_equal(observation, episode.observations[step + 1])
            assert reward == pytest.approx(float(np.ravel(episode.rewards)[step]), abs=1e-5)
            assert (terminated, truncated) == (episode.terminations[step], episode.truncations[step])


@pytest.mark.parametrize("loss", ["ilql", "cql", "iq_learn"])
def test_offline_rules_learn_from_a_data_set(loss):
    config = EnvConfig(**MARKOV)
    write_dataset(
        "markov/oracle-v0", written_episodes(make("oracle", config, 0), config, 200, 0, 1.0), config, "oracle", "texts"
    )
    agent = DQN(config, device="cpu", loss=loss, **SMALL)
    agent.use_episodes(read_dataset("markov/oracle-v0", config))
    before = agent.evaluate(split="valid", episodes=64)["kl_to_target"]
    agent.learn(600, lambda _: True)
    assert agent.replay is None  # it acted nowhere
    assert agent.evaluate(split="valid", episodes=64)["kl_to_target"] < 0.8 * before


def test_a_run_writes_a_data_set_and_another_learns_from_it(own_place, monkeypatch, capsys):
    monkeypatch.chdir(own_place)
    common = {
        "env": MARKOV, "total_steps": 32, "evaluations": 1, "evaluation_documents": 2, "evaluation_episodes": 2,
        "samples": 1, "baseline_seconds": 0.0, "device": "cpu",
    }  # fmt: skip
    (own_place / "one.yaml").write_text(yaml.safe_dump({**common, "name": "one", "agent": SMALL}), encoding="utf-8")
    main(["train", "one.yaml"])
    main(["dataset", "runs/one", "markov/one-v0", "--episodes", "12"])
    assert minari.load_dataset("markov/one-v0").total_episodes == 12
    main(["train", "one.yaml", "--name", "two", "--agent.loss", "cql", "--dataset", "markov/one-v0"])
    assert load_run("runs/two", "cpu")[1].dataset == "markov/one-v0"
    capsys.readouterr()
    for words, sentence in (
        (["dataset", "runs/one", "markov/one-v0"], "exists; choose another name"),
        (["dataset", "runs/one", "markov"], "is no name of a Minari data set"),
        (["train", "one.yaml", "--name", "three", "--dataset", "no-v0"], "there is no data set no-v0"),
        (["train", "one.yaml", "--name", "four", "--dataset", "markov/one-v0", "--env.vocab_size", "13"], "13 actions"),
        (
            ["train", "one.yaml", "--name", "five", "--dataset", "markov/one-v0", "--agent.corpus_share", "0"],
            "corpus_share above 0",
        ),
    ):
        with pytest.raises(SystemExit):
            main(words)
        assert sentence in capsys.readouterr().err
