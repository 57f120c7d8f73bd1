"""Pairs as documents: source, <sep>, target; what may be written; one token a label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.envs import EnvConfig, TokenLMEnv, UnknownWords, Vocabulary, World
from tokenlm.envs.targets import ConditionedTarget, ReferenceTarget
from tokenlm.envs.text import load_tokenizer

COLOURS, THINGS = ("red", "green", "blue"), ("bird", "fish", "tree", "car")
PAIRS = tuple((f"a {c} {t} {n}", f"one {t} {c}") for c in COLOURS for t in THINGS for n in range(6))
LABELS = tuple((source, f"the colour {source.split()[1]}") for source, _ in PAIRS)
SEP, EOS = Vocabulary.SEP, Vocabulary.EOS


def config(task="qa", **settings):
    corpus = LABELS if task == "classification" else PAIRS
    return EnvConfig(**{"corpus": corpus, "tokenizer": "word", "task": task, "target": "reference", **settings})


@pytest.mark.parametrize("vocabularies", ["joint", "separate"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_document_is_source_sep_target(vocabularies, reverse):
    world = World.of(config("translation", vocabularies=vocabularies, reverse=reverse))
    swapped = {(t, s) for s, t in PAIRS} if reverse else set(PAIRS)
    assert {pair for split in world.pairs.values() for pair in split} == swapped
    for split, documents in world.documents.items():
        assert len(documents) == len(world.pairs[split])
        for i, (source, target) in enumerate(world.pairs[split]):
            ids = documents[i].tolist()
            cut = ids.index(SEP)
            assert documents.shortest_prompt[i] == documents.longest_prompt[i] == cut + 1 == len(source.split()) + 1
            assert world.tokenizer.decode(ids) == f"{source} → {target}"
            assert world.tokenizer.decode(ids[cut + 1 :]) == target


@pytest.mark.parametrize("vocabularies", ["joint", "separate"])
def test_only_words_of_training_targets_may_be_written(vocabularies):
    world = World.of(config(vocabularies=vocabularies))
    words = {word for _, target in world.pairs["train"] for word in target.split()}
    assert {world.vocabulary.token(int(i)) for i in np.flatnonzero(world.valid)} == words | {"<eos>"}
    if vocabularies == "separate":
        number = len(Vocabulary.SPECIAL_TOKENS)
        assert world.valid[number : number + len(words)].all()
        documents = world.documents["train"]
        source = documents[0][: documents.shortest_prompt[0] - 1]
        assert not world.valid[source].any()
        assert not set(source.tolist()) & set(documents[0][documents.shortest_prompt[0] :].tolist())


def test_a_label_is_one_token():
    env = TokenLMEnv(config("classification"))
    assert (env.config.max_new_tokens, env.config.ending, env.config.vocabularies) == (1, "fixed", "separate")
    valid = np.flatnonzero(env.action_masks())
    assert {env.world.tokenizer.decode([i]) for i in valid} == {f"the colour {c}" for c in COLOURS}
    for seed in range(5):
        env.reset(seed=seed)
        expected = env.target_log_probs()
        assert np.exp(expected).sum() == pytest.approx(1.0)
        best = int(expected.argmax())
        assert env.world.tokenizer.decode([best]).split()[-1] == env.text.split()[1]
        _, reward, terminated, truncated, _ = env.step(best)
        assert (reward, terminated, truncated) == (expected[best], True, False)


def test_an_episode_reads_the_source_and_writes_the_target():
    env = TokenLMEnv(config())
    observation, _ = env.reset(seed=0, options={"prompt": "a red fish 1", "target": "one fish red"})
    assert observation[-1] == SEP
    assert observation[-6] == Vocabulary.BOS
    over, written = False, []
    while not over:
        written.append(int(env.target_log_probs().argmax()))
        *_, over, _, _ = env.step(written[-1])
    assert written[-1] == EOS
    assert env.text == "a red fish 1 → one fish red"


def test_an_unknown_word_may_be_asked_but_not_answered():
    env = TokenLMEnv(config())
    with pytest.warns(UnknownWords, match="read as <unk>: 'purple'"):
        observation, _ = env.reset(options={"prompt": "a purple fish 1", "target": "one fish red"})
    assert Vocabulary.UNK in observation
    with pytest.raises(ValueError, match="has words outside the vocabulary only: '🐟'"):
        env.reset(options={"prompt": "🐟", "target": "one fish red"})
    with pytest.raises(ValueError, match="the target 'one purple fish' has words outside the vocabulary"):
        env.reset(options={"prompt": "a red fish 1", "target": "one purple fish"})


def test_a_long_source_keeps_its_beginning():
    env = TokenLMEnv(config(context_length=4))
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        assert observation[0] == Vocabulary.BOS
        assert observation[-1] == SEP
        assert env.world.vocabulary.token(int(observation[1])) == "a"


@pytest.mark.parametrize("settings", [{}, {"vocabularies": "separate"}, {"task": "classification"}])
def test_the_tokenizer_comes_back_from_its_folder(tmp_path, settings):
    world = World.of(config(**settings))
    world.tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.vocabulary == world.vocabulary
    assert np.array_equal(loaded.writable, world.tokenizer.writable)
    for source, target in world.pairs["valid"]:
        assert loaded.encode(target) == world.tokenizer.encode(target)
        assert loaded.encode_source(source) == world.tokenizer.encode_source(source)


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
@pytest.mark.parametrize("vocabularies", ["joint", "separate"])
def test_other_tokenizers_write_the_same_texts(tokenizer, vocabularies):
    world = World.of(config(tokenizer=tokenizer, vocabularies=vocabularies))
    documents = world.documents["test"]
    texts = {world.tokenizer.decode(documents[i].tolist()) for i in range(len(documents))}
    assert texts == {f"{s} → {t}" for s, t in world.pairs["test"]}


@given(st.integers(0, 11), st.integers(0, 2**20 - 1), st.booleans())
def test_the_mass_of_what_may_not_be_written_has_a_closed_form(expected, chosen, eos_valid):
    """Against the sum over all tokens, one by one."""
    target = ReferenceTarget(20, 0.3)
    valid = np.array([bool(chosen >> i & 1) for i in range(20)])
    valid[[3, 19]] = True
    conditioned = ConditionedTarget(target, valid)
    states, wanted = np.zeros((1, 4), np.int64), np.array([expected])
    every = np.exp(target.log_probs(states, wanted))[0]
    allowed = valid & (eos_valid | (np.arange(20) != 3))
    log_probs = conditioned.log_probs(states, eos_valid, wanted)[0]
    np.testing.assert_allclose(np.exp(log_probs), np.where(allowed, every, 0.0) / every[allowed].sum(), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "qas"}, "task 'qas' is unknown; did you mean 'qa'"),
        ({"task": "classification", "max_new_tokens": 3}, "'classification' needs max_new_tokens 1, not 3"),
        ({"task": "classification", "reverse": True}, "reverse works for the tasks"),
        ({"task": "generation", "reverse": True}, "reverse works for the tasks"),
        ({"target": "markov"}, "the target 'markov' has no pairs"),
        ({"context_length": 2}, "context_length must be at least 3 for the task 'qa'"),
        ({"log_prob_weight": 0.0}, "every reward is 0"),
        ({"log_prob_weight": -1.0}, "must be a finite number of at least 0"),
        ({"sequence_weight": float("inf")}, "sequence_weight a finite one"),
        ({"sequence_reward": "belu"}, "sequence_reward 'belu' is unknown; did you mean 'bleu'"),
        ({"sequence_reward": "bleu", "transition": "teacher"}, "the same for every policy"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        config(**settings)


def test_no_word_to_write():
    pairs = tuple((f"question {i}", f"answer{i}") for i in range(60))
    with pytest.raises(ValueError, match="no word of a training target is in the vocabulary"):
        World.of(config(corpus=pairs, min_count=2))
