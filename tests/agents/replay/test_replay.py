"""Replay, sampling and exploration."""

import numpy as np
import pytest
import torch

from tokenlm.agents.acting.choosing import choose_actions
from tokenlm.agents.replay.corpus import corpus_replay
from tokenlm.agents.replay.episodes import EpisodeReplay, concatenate
from tokenlm.agents.replay.sampling import POOL, BatchSampler
from tokenlm.envs import EnvConfig, TokenLMEnv, Vocabulary, World, env_config_from


def filled(lengths, capacity=10, prompts=None, vocab_size=50) -> EpisodeReplay:
    """Episodes whose i-th token is 10·episode + i, rewards -token, log-probabilities -token/2."""
    replay = EpisodeReplay(capacity, prompt_size=3, max_new_tokens=4, vocab_size=vocab_size, keeps_log_probs=True)
    for number, length in enumerate(lengths):
        prompt = 1 if prompts is None else prompts[number]
        tokens = torch.zeros(1, 7, dtype=torch.int64)
        tokens[0, : prompt + length] = 10 * number + torch.arange(prompt + length)
        actions = torch.zeros(1, 4, dtype=torch.int64)
        actions[0, :length] = tokens[0, prompt : prompt + length]
        once = (T([prompt]), T([length]), T([number % 2 == 0]))
        replay.add(tokens, actions, -actions.float(), *once, log_probs=-actions / 2)
    return replay


T = torch.tensor


def test_rows_by_hand():
    batch = filled([2, 3], prompts=[3, 1]).rows(T([0, 1]))
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4], [10, 11, 12, 13, 0]]
    assert batch.actions[0, 2:].tolist() == [3, 4]
    assert batch.is_action.tolist() == [[False, False, True, True], [True, True, True, False]]
    assert batch.rewards.tolist() == [[0, 0, -3, -4], [-11, -12, -13, 0]]
    assert batch.log_probs.tolist() == [[0, 0, -1.5, -2], [-5.5, -6, -6.5, 0]]
    assert batch.terminal.tolist() == [[False, False, False, True], [False] * 4]
    assert batch.written[0, 2:].tolist() == [0, 1]
    assert batch.written[1, :3].tolist() == [0, 1, 2]


def test_the_oldest_makes_place():
    replay = filled([1, 2, 3, 4, 2], capacity=3)
    assert len(replay) == 3
    assert sorted(replay.tokens[:, 0].tolist()) == [20, 30, 40]
    assert replay.num_transitions == 3 + 4 + 2
    with pytest.raises(ValueError, match="2 episodes do not fit into a replay of 1"):
        filled([1], capacity=1).add(*(torch.zeros(2, n) for n in (7, 4, 4)), *(torch.ones(2),) * 3)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(1 << 15, torch.int16), ((1 << 15) + 1, torch.int32)])
def test_ids_take_no_more_than_they_need(vocab_size, dtype):
    replay = filled([1], vocab_size=vocab_size)
    assert replay.tokens.dtype == dtype
    size = torch.empty(0, dtype=dtype).element_size()
    assert replay.num_bytes == 10 * (7 * size + 2 * 4 * 4 + 8 + 8 + 1)
    assert EpisodeReplay(10, 3, 4, vocab_size).num_bytes == 10 * (7 * size + 4 * 4 + 8 + 8 + 1)


def test_log_probabilities_are_kept_where_they_are_wanted():
    without = EpisodeReplay(2, 3, 4, 50)
    tokens, ones = torch.ones(1, 7, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    parts = (tokens, tokens[:, :4], torch.zeros(1, 4), ones, ones, ones.bool())
    without.add(*parts)
    assert without.rows(T([0])).log_probs is None
    with pytest.raises(ValueError, match="keeps log-probabilities; pass those of the behaviour policy"):
        EpisodeReplay(2, 3, 4, 50, keeps_log_probs=True).add(*parts)


def test_a_batch_knows_its_actions_without_asking_the_device():
    replay = filled([1, 4, 2], prompts=[2, 1, 3])
    batch = concatenate([replay.rows(T([0, 2])), replay.rows(T([1]))])
    assert batch.num_actions == 7
    assert torch.equal(batch.action_index, batch.is_action.flatten().nonzero().squeeze(1))


def test_a_replay_that_does_not_fit_is_refused_with_its_bytes():
    needed = 10**12 * ((3 + 4) * 2 + 4 * 4 + 17)
    with pytest.raises(ValueError, match=rf"needs {needed:,} bytes, but only [\d,]+ are free on cpu; lower"):
        EpisodeReplay(10**12, 3, 4, 50)
    with pytest.raises(ValueError, match=rf"needs {needed + 10**12 * 4 * 4:,} bytes"):
        EpisodeReplay(10**12, 3, 4, 50, keeps_log_probs=True)


def test_concatenated_batches_are_padded():
    replay = filled([1, 4])
    joined = concatenate([replay.rows(T([0])), replay.rows(T([1]))])
    together = replay.rows(T([0, 1]))
    for name in ("tokens", "rewards", "is_action", "terminal"):
        assert torch.equal(getattr(joined, name), getattr(together, name))


def test_state_dict_holds_the_same_episodes():
    replay, other = filled([1, 2, 3, 4], capacity=3), EpisodeReplay(3, 3, 4, 50)
    other.load_state_dict(replay.state_dict())
    assert torch.equal(replay.rows(T([0, 1, 2])).tokens, other.rows(T([0, 1, 2])).tokens)
    assert (other.added, len(other), other.num_transitions) == (4, 3, replay.num_transitions)
    with pytest.raises(ValueError, match="saved replay has 3 episodes, more than the capacity 2"):
        EpisodeReplay(2, 3, 4, 50).load_state_dict(replay.state_dict())


def test_sampling_keeps_shares_and_is_uniform():
    own, corpus = filled([1, 2, 3, 4, 1, 2, 3, 4]), filled([4, 3, 2, 1])
    sampler = BatchSampler(own, corpus, 16, 0.25, torch.Generator().manual_seed(0))
    counts, from_corpus = np.zeros(8), np.zeros(4)
    for _ in range(POOL * 40):
        batch = sampler.sample()
        assert len(batch.tokens) == 16
        first = batch.tokens[:, 0] // 10
        length = batch.is_action.sum(1)
        mine = (first >= 4) | (length == first % 4 + 1)
        both = (first < 4) & (length == first + 1) & (length == 4 - first)
        assert not both.any()  # the two replays' episodes can be told apart
        np.add.at(counts, first[mine].numpy(), 1)
        np.add.at(from_corpus, first[~mine].numpy(), 1)
    total = 16 * POOL * 40
    assert from_corpus.sum() == total // 4
    for found, expected in ((counts, total * 0.75 / 8), (from_corpus, total * 0.25 / 4)):
        assert ((found - expected) ** 2 / expected).sum() < 30  # χ² with at most 7 degrees of freedom


def test_an_action_weighs_the_same_in_every_batch():
    """Batches hold texts of like length, so a mean over each batch's own actions would favour those of short texts."""
    own, corpus = filled([1, 2, 3, 4]), filled([4, 3, 2, 1, 1])
    sampler = BatchSampler(own, corpus, 16, 0.25, torch.Generator().manual_seed(0))
    for _ in range(5):
        batches = [sampler.sample() for _ in range(POOL)]
        numbers = [len(b.action_index) for b in batches]
        assert len(set(numbers)) > 1
        for batch in batches:
            losses = torch.arange(float(len(batch.action_index)))
            assert batch.mean(losses).item() == pytest.approx(losses.sum().item() * POOL / sum(numbers))
    joined = concatenate(batches[:2])
    assert joined.expected_actions == pytest.approx(2 * sum(numbers) / POOL)


def test_a_batch_from_elsewhere_takes_the_mean_of_its_own():
    batch = filled([1, 2, 3]).rows(T([0, 1, 2]))
    assert batch.mean(torch.arange(6.0)).item() == 2.5


def test_sampling_goes_on_exactly():
    own = filled([1, 2, 3, 4])
    one, other = (BatchSampler(own, None, 2, 0.0, torch.Generator().manual_seed(s)) for s in (0, 1))
    one.sample()
    other.load_state_dict(one.state_dict())
    for _ in range(2 * POOL):
        assert torch.equal(one.sample().tokens, other.sample().tokens)
    assert BatchSampler(EpisodeReplay(2, 3, 4, 50), None, 2, 0.0, torch.Generator()).sample() is None


def test_corpus_episodes_are_what_the_environment_pays(tiny):
    world = World.of(tiny)
    corpus = corpus_replay(world, tiny, seed=0)
    documents = world.documents["train"]
    assert len(corpus) == len(documents)
    env = TokenLMEnv(tiny)
    for row in range(0, len(corpus), 7):
        batch = corpus.rows(T([row]))
        at = batch.is_action[0]
        prompt = batch.tokens[0, 1 : int(corpus.prompt_lengths[row])].tolist()
        assert [*prompt, *batch.actions[0][at].tolist()] == [*documents[row].tolist(), Vocabulary.EOS]
        env.reset(options={"prompt": world.tokenizer.decode(prompt)})
        rewards = [env.step(a)[1] for a in batch.actions[0][at].tolist()]
        assert batch.rewards[0][at].tolist() == pytest.approx(rewards)
        assert batch.terminal[0][at].tolist() == [False] * (len(rewards) - 1) + [True]


def test_long_documents_are_seen_all_over():
    documents = tuple(" ".join(f"w{(i * 7 + j) % 40}" for j in range(30)) for i in range(120))
    config = EnvConfig(corpus=documents, tokenizer="word", max_new_tokens=6, context_length=8)
    world = World.of(config)
    corpus = corpus_replay(world, config, seed=0)
    batch = corpus.rows(torch.arange(len(corpus)))
    assert batch.tokens.shape[1] <= 8 + 6
    assert (corpus.lengths == 6).any()
    assert batch.terminal.any()
    assert (~corpus.terminated).any()


@pytest.mark.parametrize("name", ["TokenLM-Factored-v0", "TokenLM-Markov-v0"])
def test_a_document_that_just_fits_begins_after_its_prompt(name):
    """Without <eos> the horizon is enough for it; cut later, its tokens would stand where no episode has them."""
    config = env_config_from(name)
    world = World.of(config)
    corpus = corpus_replay(world, config, seed=0)
    assert set(corpus.prompt_lengths.tolist()) == {1 + config.prompt_length[0]}
    assert set(corpus.lengths.tolist()) == {config.max_new_tokens}
    batch = corpus.rows(torch.arange(3))
    assert batch.tokens[:, 1:].tolist() == [world.documents["train"][row].tolist() for row in range(3)]


def test_an_unknown_word_ends_a_corpus_episode():
    documents = tuple(f"a{i % 9} b{i % 7} rare{i} c{i % 5}" for i in range(80))
    config = EnvConfig(
        corpus=documents, tokenizer="word", min_count=3, max_new_tokens=6, context_length=8, reward_every=0
    )
    corpus = corpus_replay(World.of(config), config, seed=0)
    batch = corpus.rows(torch.arange(len(corpus)))
    assert not (batch.actions[batch.is_action] == Vocabulary.UNK).any()
    broken = ~corpus.terminated[: len(corpus)]
    assert broken.any()
    # With the reward at the end only, what was written is paid by the last action there is.
    assert (batch.rewards[broken].sum(1) < 0).all()


def test_greedy_is_the_best_valid_action():
    actions, log_probs = choose_actions(T([[1.0, -torch.inf, 3.0]]), 0.0)
    assert actions.tolist() == [2]
    assert log_probs.tolist() == [0.0]
