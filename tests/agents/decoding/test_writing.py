"""`generate` and `stream`: what every agent's texts obey."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.agents import DQN
from tokenlm.agents.baselines.sb3 import SB3A2C
from tokenlm.agents.decoding import Decoding, Transcript, WindowReader, prompt_ids, sample, uniform_numbers
from tokenlm.agents.evaluation.playing import play
from tokenlm.agents.evaluation.policies import write_ids
from tokenlm.agents.protocol import complete
from tokenlm.envs import EnvConfig, TokenLMEnv, Vocabulary, World

LSTM = {"embedding_size": 8, "hidden_size": 16}
TRANSFORMER = {"name": "transformer", "hidden_size": 16, "num_layers": 1, "num_heads": 2}
MIXED = tuple(
    f"{a}{b}{c}"
    for a, b, c in itertools.product(
        ("今天", "Today ", "我们👍🏽", "é"),
        ("天气", "is (not) ", "去,去 ", "👨‍👩‍👧"),
        ("好。", "fine.", "公园…", "\u3000"),
    )
)


def decided(env: EnvConfig, **settings) -> DQN:
    """Untrained, with preferences that are far from even."""
    agent = DQN(env, **{"network": LSTM, "seed": 3, "device": "cpu", "temperature": 1.0, **settings})
    with torch.no_grad():
        agent.network.head.weight.mul_(20)
    return agent


@pytest.fixture(scope="module", params=[LSTM, TRANSFORMER], ids=["lstm", "transformer"])
def agent(request, tiny) -> DQN:
    return decided(tiny, network=request.param)


MIXED_AGENTS = {
    name: decided(EnvConfig(corpus=MIXED, tokenizer=name, max_new_tokens=12, context_length=24, max_vocab_size=size))
    for name, size in (("char", None), ("word", None), ("jieba", None), ("bpe", 280))
}
PROMPTS = ["the cat", "", "the dog sees the bird", "the"]


@pytest.mark.parametrize(
    "how",
    [{"temperature": 0.0}, {}, {"temperature": 0.5, "top_k": 3}, {"top_p": 0.7, "stop": ["cat", "s t"]}, {"beams": 3}],
)
def test_many_prompts_at_once_as_each_alone(agent, how):
    together = agent.generate(PROMPTS, 2, seed=10, **how)
    alone = [text for n, prompt in enumerate(PROMPTS) for text in agent.generate(prompt, 2, seed=10 + 2 * n, **how)]
    assert together == alone
    assert all(text.startswith(prompt) for prompt, text in zip(np.repeat(PROMPTS, 2), together, strict=True))


def test_more_texts_than_are_written_at_once(agent):
    texts = agent.generate("the", 300, seed=5, max_new_tokens=3)
    assert texts[280] == agent.generate("the", seed=285, max_new_tokens=3)[0]
    assert len(set(texts)) > 10


def test_samples_differ_and_seeds_repeat_them(agent):
    texts = agent.generate("the", 20, seed=1)
    assert texts == agent.generate("the", 20, seed=1)
    assert texts[1:] == agent.generate("the", 19, seed=2)
    assert len(set(texts)) > 5
    state = agent.generator.get_state()
    without = agent.generate("the", 5)
    assert without != agent.generate("the", 5)
    agent.generator.set_state(state)
    assert without == agent.generate("the", 5)


def test_a_shorter_limit_gives_the_beginning(agent):
    for short, long in zip(
        agent.generate("", 20, seed=0, max_new_tokens=3), agent.generate("", 20, seed=0), strict=True
    ):
        assert long.startswith(short)
        assert len(short.split()) <= 3


def test_the_best_token_alone_is_greedy(agent):
    greedy = agent.generate(PROMPTS, temperature=0.0)
    assert greedy == agent.generate(PROMPTS, top_k=1, seed=4)
    assert greedy == agent.generate(PROMPTS, top_p=1e-6, seed=4)
    assert greedy == agent.generate(PROMPTS, temperature=0.0, top_k=3, top_p=0.5)


def test_only_the_best_tokens_are_drawn_in_their_proportions(agent):
    window = np.array([[0] * 10 + [2, 6]])
    prompt = agent.tokenizer.decode([6])
    expected = np.exp(agent.log_probs(window)[0] / 0.7)
    best = np.sort(np.argsort(-expected)[:3])
    expected = expected[best] / expected[best].sum()
    texts = agent.generate(prompt, 4_000, temperature=0.7, top_k=3, max_new_tokens=1, seed=0)
    found = [texts.count(agent.tokenizer.decode([6, int(i)])) / 4_000 for i in best]
    assert sum(found) == pytest.approx(1.0)
    np.testing.assert_allclose(found, expected, atol=0.04)  # five standard deviations


@pytest.mark.parametrize("name", MIXED_AGENTS)
@settings(max_examples=30)
@given(data=st.data())
def test_pieces_of_a_stream_join_to_the_text(name, data):
    agent = MIXED_AGENTS[name]
    prompt = data.draw(st.sampled_from(["", "今天", "Today is", "我们👍🏽"]))
    if Vocabulary.UNK in agent.tokenizer.encode(prompt):
        prompt = ""
    how = {
        "seed": data.draw(st.integers(0, 10_000)),
        "temperature": data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        "top_k": data.draw(st.sampled_from([None, 5])),
        "top_p": data.draw(st.sampled_from([None, 0.9])),
        "stop": data.draw(st.sampled_from([None, "天", "。", ["is", "👍"], "去,", " "])),
        "max_new_tokens": data.draw(st.sampled_from([None, 1, 5])),
    }
    pieces = list(agent.stream(prompt, **how))
    [text] = agent.generate(prompt, **how)
    assert "".join(pieces) == text
    assert all(pieces)
    assert not any(special in text for special in Vocabulary.SPECIAL_TOKENS)


def test_a_stream_writes_while_it_is_read(agent):
    fixed = next(seed for seed in range(50) if len(agent.generate("the cat", seed=seed)[0].split()) == 7)
    stream = agent.stream("the cat", seed=fixed)
    assert next(stream) == "the cat"
    assert len(list(stream)) == 5


def test_special_tokens_are_never_written(agent):
    for temperature in (1.0, 5.0):
        transcripts = [Transcript(agent.tokenizer) for _ in range(200)]
        numbers = uniform_numbers(range(200), 8)
        for _ in sample(agent.reader([[Vocabulary.BOS]] * 200), transcripts, Decoding(temperature), numbers):
            pass
        assert all(i >= 5 or i == Vocabulary.EOS for transcript in transcripts for i in transcript.ids)
        assert all(transcript.over or len(transcript.ids) == 8 for transcript in transcripts)
        assert any(transcript.over for transcript in transcripts)


def test_least_and_fixed_lengths_are_kept(tiny):
    long = decided(dataclasses.replace(tiny, min_new_tokens=4))
    assert min(len(text.split()) for text in long.generate("", 100, seed=0)) >= 4
    fixed = decided(dataclasses.replace(tiny, ending="fixed"))
    assert {len(text.split()) for text in fixed.generate("", 50, seed=0)} == {8}


def test_of_a_long_prompt_the_last_tokens_are_read(agent):
    prompt = " ".join(["the", "cat"] * 10)
    whole = agent.generate(prompt, temperature=0.0)[0]
    assert whole.startswith(prompt)
    window = [*agent.tokenizer.encode(prompt)][-12:]
    assert window == agent.tokenizer.encode(" ".join(["the", "cat"] * 6))
    action, _ = agent.predict(np.array(window), deterministic=True)
    assert whole[len(prompt) :].startswith(" " + agent.tokenizer.decode([int(action)]))


@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"top_k": 4}, {"top_p": 0.8, "stop": "the"}, {"beams": 3}])
def test_an_agent_of_windows_writes_what_the_network_behind_it_writes(tiny, how):
    agent = decided(dataclasses.replace(tiny, min_new_tokens=2, context_length=20))

    class Bare:
        learn, predict, log_probs, env_steps = agent.learn, agent.predict, agent.log_probs, 0

    env, world = agent.env_config, World.of(agent.env_config)
    prompts = [prompt_ids(prompt, agent.tokenizer, env) for prompt in PROMPTS]
    bare = complete(Bare(), env)
    found = write_ids(bare, world, env, prompts, Decoding(**{"temperature": 1.0, **how}), seed=7, count=2)
    assert found == agent.generate(PROMPTS, 2, seed=7, **how)
    assert found == write_ids(agent, world, env, prompts, Decoding(**{"temperature": 1.0, **how}), seed=7, count=2)


def test_windows_slide(tiny):
    seen = []

    class Watched:
        def log_probs(self, windows, masks):
            seen.append(windows.copy())
            return np.where(masks, 0.0, -np.inf)

    short = dataclasses.replace(tiny, context_length=3)
    reader = WindowReader(Watched(), World.of(tiny).valid, short, [[2, 5], [2, 6, 7, 8]])
    reader.values()
    reader.step(torch.tensor([9, 10]))
    reader.select(torch.tensor([1, 1, 0]))
    assert reader.values().shape == (3, World.of(tiny).vocab_size)
    assert [w.tolist() for w in seen] == [[[0, 2, 5], [6, 7, 8]], [[7, 8, 10], [7, 8, 10], [2, 5, 9]]]


def test_other_algorithms_decode_too(tiny):
    agent = SB3A2C(tiny, device="cpu", num_envs=2, network=LSTM)
    greedy = agent.generate("the", temperature=0.0)
    assert greedy == agent.generate("the", top_k=1, seed=3)
    assert "".join(agent.stream("the", temperature=0.0)) == greedy[0]
    assert len(set(agent.generate("the", 3, beams=4))) == 3
    with pytest.raises(ValueError, match=r"SB3A2C has no temperature; use 0 for greedy texts, not 0\.5"):
        agent.generate("the", temperature=0.5)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_a_state_carries_what_the_window_no_longer_shows(tiny, network):
    short = dataclasses.replace(tiny, context_length=4, order=3, ending="fixed")
    agent = DQN(short, network=network, device="cpu", num_envs=2, seed=1)
    env = TokenLMEnv(short)
    observation, _ = env.reset(seed=0, options={"prompt": ""})
    reader, state, over = agent.reader([[2]]), None, False
    while not over:
        action, state = agent.predict(observation[None], state, deterministic=True)
        assert int(action[0]) == int(reader.values().argmax())
        observation, _, over, _, _ = env.step(action)
        reader.step(torch.from_numpy(action))


@pytest.mark.parametrize("tau", [1e-9, 1e-38, 1e-45, 1e-300, 5e-324])
def test_a_tiny_temperature_writes_the_greedy_text(agent, tau):
    greedy = agent.generate("the", temperature=0.0)
    for filtered in ({}, {"top_p": 0.9}, {"top_k": 3}):
        assert agent.generate("the", temperature=tau, seed=1, **filtered) == greedy
    assert "".join(agent.stream("the", temperature=tau, seed=2)) == greedy[0]
    played = [play(agent, World.of(agent.env_config), agent.env_config, 8, 0, temperature=t) for t in (0.0, tau)]
    np.testing.assert_array_equal(*(each.returns for each in played))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 .greedy. or more, and finite, not -1.0"),
        ({"temperature": math.inf}, "or more, and finite, not inf"),
        ({"temperature": math.nan}, "or more, and finite, not nan"),
        ({"temperature": "1"}, "or more, and finite, not '1'"),
        ({"beams": 2, "length_penalty": 500.0}, "length_penalty must lie between -10 and 10, not 500.0"),
        ({"beams": 2, "length_penalty": -500}, "length_penalty must lie between -10 and 10, not -500"),
        ({"beams": 2, "length_penalty": math.nan}, "length_penalty must lie between -10 and 10, not nan"),
        ({"top_k": 1.5}, "top_k must be a whole number or None, not 1.5"),
        ({"beams": 1.5}, "beams must be a whole number, not 1.5"),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be a whole number or None, not 1.5"),
        ({"stop": 3}, "stop must be text or a list of text or None, not 3"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": 1.5}, "seed must be a whole number, not 1.5"),
        ({"count": 1.5}, "count must be a whole number, not 1.5"),
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, not 1.5"),
        ({"beams": 0}, "beams must be at least 1, not 0"),
        ({"beams": 2, "top_k": 3}, "top_k and top_p are for sampling and cannot be combined with beams 2"),
        ({"stop": ["a", ""]}, "a stop string must have at least one character"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, not 0"),
        ({"count": 0}, "count must be at least 1, not 0"),
    ],
)
def test_what_cannot_work_is_refused(agent, how, message):
    with pytest.raises(ValueError, match=message):
        agent.generate("the", **how)
    if how.keys() <= {"temperature", "top_k", "top_p", "stop", "max_new_tokens"}:
        with pytest.raises(ValueError, match=message):  # at the call, not when the first piece is asked for
            agent.stream("the", **how)
