"""Tasks of pairs: what is written for a source, and what it is worth beside the target asked for."""

import json

import pytest
import torch

from tokenlm.agents import DQN, MaximumLikelihood
from tokenlm.agents.evaluation.confusion import Confusion
from tokenlm.agents.evaluation.tasks import decode_pairs, task_figures
from tokenlm.cli import main
from tokenlm.envs import EnvConfig
from tokenlm.envs.metrics import corpus_bleu, corpus_chrf, exact_match, token_f1

ANIMALS = {"cat": "猫", "dog": "狗", "bird": "鸟", "horse": "马", "cow": "牛", "fish": "鱼"}
VERBS = {"sees": "看见", "likes": "喜欢", "hears": "听见", "finds": "找到"}
TRANSLATIONS = tuple(
    (f"the {a} {v} the {b}", f"{ANIMALS[a]}{VERBS[v]}{ANIMALS[b]}") for a in ANIMALS for v in VERBS for b in ANIMALS
)
LABELS = tuple((source, "动物 animal" if i % 3 else "other") for i, (source, _) in enumerate(TRANSLATIONS))
ANSWERS = tuple((source, source.split()[1]) for source, _ in TRANSLATIONS)
NETWORK = {"embedding_size": 8, "hidden_size": 16, "skip": True}


def env_of(task: str, corpus, **arguments) -> EnvConfig:
    return EnvConfig(
        corpus=corpus, task=task, target="reference", context_length=12,
        **{"max_new_tokens": 1 if task == "classification" else 5, **arguments},
    )  # fmt: skip


def decided(env: EnvConfig, kind=DQN) -> DQN:
    """Untrained, with preferences that are far from even."""
    agent = kind(env, network=NETWORK, seed=3, device="cpu")
    with torch.no_grad():
        agent.network.head.weight.mul_(20)
    return agent


@pytest.mark.filterwarnings("ignore::tokenlm.envs.UnknownWords")
@pytest.mark.parametrize("vocabularies", ["joint", "separate"])
def test_only_the_target_is_shown(vocabularies):
    agent = decided(env_of("translation", TRANSLATIONS, vocabularies=vocabularies))
    sources = ["the cat sees the dog", "the cow", "the zebra sees the bird"]  # a word nobody knows is read as such
    words = set("".join(target for _, target in TRANSLATIONS))
    for how in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 4}, {"temperature": 1.0, "top_p": 0.8, "seed": 2}):
        for source, text in zip(sources, agent.generate(sources, **how), strict=True):
            assert set(text) <= words
            if how.get("seed") is None:
                assert "".join(agent.stream(source, **how)) == text
        assert "".join(agent.stream(sources[0], **how)) == agent.generate(sources, **how)[0]
    found = agent.generate(sources[0], 3, beams=3, temperature=1.0)
    assert len(set(found)) == 3
    assert set("".join(found)) <= words


def test_pairs_are_decoded_in_their_order_as_their_sources_are():
    agent = decided(env_of("translation", TRANSLATIONS))
    pairs = agent.world.pairs["test"]
    found = decode_pairs(agent, agent.world, agent.env_config, "test")
    assert found == agent.generate([source for source, _ in pairs], temperature=0.0)
    assert found[:3] == decode_pairs(agent, agent.world, agent.env_config, "test", 3)


def test_translations_have_bleu_and_chrf():
    agent = decided(env_of("translation", TRANSLATIONS))
    figures = task_figures(agent, agent.world, agent.env_config, "valid", None, 0)
    found = decode_pairs(agent, agent.world, agent.env_config, "valid")
    references = [target for _, target in agent.world.pairs["valid"]]
    assert figures == {
        "pairs_decoded": len(references),
        "bleu": corpus_bleu(found, references),
        "chrf": corpus_chrf(found, references),
    }


def test_answers_have_exact_match_and_f1():
    env = env_of("qa", ANSWERS)
    learned = MaximumLikelihood(env, network=NETWORK, learning_rate=3e-2, batch_size=16, device="cpu").learn(1_200)
    figures = task_figures(learned, learned.world, env, "test", None, 0)
    found = decode_pairs(learned, learned.world, env, "test")
    references = [target for _, target in learned.world.pairs["test"]]
    scores = [(exact_match(h, r), token_f1(h, r)) for h, r in zip(found, references, strict=True)]
    assert figures["exact_match"] == pytest.approx(sum(e for e, _ in scores) / len(scores))
    assert figures["token_f1"] == pytest.approx(sum(f for _, f in scores) / len(scores))
    assert figures["exact_match"] > 0.9  # the animal is named in the question


def test_labels_are_counted():
    agent = decided(env_of("classification", LABELS))
    figures = task_figures(agent, agent.world, agent.env_config, "test", 9, 0)
    found = decode_pairs(agent, agent.world, agent.env_config, "test", 9)
    references = [label for _, label in agent.world.pairs["test"][:9]]
    assert set(found) <= {"动物 animal", "other"}
    confusion = Confusion.of(found, references)
    assert figures["accuracy"] == confusion.accuracy == sum(map(str.__eq__, found, references)) / len(references)
    assert figures["confusion"] == {"labels": confusion.labels, "counts": confusion.counts.tolist()}


def test_a_run_of_labels_ends_with_a_confusion_matrix(tmp_path, capsys):
    (tmp_path / "labels.tsv").write_text("\n".join("\t".join(pair) for pair in LABELS), encoding="utf-8")
    main(
        [
            "train", "quickstart", f"--env.corpus={tmp_path / 'labels.tsv'}", "--env.task=classification",
            "--env.target=reference", "--env.context_length=12", "--env.max_new_tokens=1", "--env.tokenizer=word",
            "--agent.num_envs=8", "--agent.batch_size=8", "--agent.network.hidden_size=16", "--total_steps=200",
            "--agent.network.embedding_size=8", "--evaluations=1", "--evaluation_episodes=4", "--baseline_seconds=0",
            f"--output={tmp_path}",
        ]
    )  # fmt: skip
    run = tmp_path / "quickstart"
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "macro-F1" in printed
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert sorted(summary["confusion"]["labels"]) == ["other", "动物 animal"]
    rows = [json.loads(line) for line in (run / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    sample = (run / "samples.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert sample.partition(" → ")[0] in dict(LABELS)
    assert sample.partition(" → ")[2] in dict(LABELS).values()
    (run / "confusion.png").unlink()
    main(["evaluate", str(run), "--json", "--episodes=4"])
    assert json.loads(capsys.readouterr().out)["accuracy"] == summary["accuracy"]
    assert (run / "confusion.png").read_bytes().startswith(b"\x89PNG")
    main(["generate", str(run), "--prompt", "the cat sees the dog", "--count", "2", "--beams", "2"])
    assert sorted(capsys.readouterr().out.splitlines()) == ["other", "动物 animal"]
