"""`tokenlm serve`: OpenAI's own client gets the agent's own texts, and one sentence for what cannot be."""

import json
import threading

import httpx
import numpy as np
import openai
import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.evaluation.exact import every_text, log_policy
from tokenlm.agents.protocol import complete
from tokenlm.agents.web.admission import Room
from tokenlm.agents.web.completions import Completer, Limits
from tokenlm.agents.web.interface import app_of
from tokenlm.envs import EnvConfig, Vocabulary, World

LSTM = {"embedding_size": 8, "hidden_size": 16}
PAIRS = tuple((f"{a} and {b}", f"{b} {b}") for a in ("cat", "dog", "cow") for b in ("red", "blue", "green", "grey"))
LIMITS = Limits(tokens=20, texts=4, characters=50)


@pytest.fixture(scope="module")
def agent(tiny):
    agent = DQN(tiny, network=LSTM, seed=3, device="cpu", temperature=0.8)
    with torch.no_grad():
        agent.network.head.weight.mul_(20)  # preferences that are far from even
    return agent


@pytest.fixture(scope="module")
def url(agent, served):
    with served(app_of(Completer(agent, "animals", LIMITS), Room(body=4_000))) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def after(prompt, texts):
    assert all(text.startswith(prompt) for text in texts)
    return [text[len(prompt) :] for text in texts]


def test_models(client):
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("animals", "model", "tokenlm")
    assert client.models.retrieve("animals") == model
    with pytest.raises(openai.NotFoundError, match="the model 'gpt' does not exist; this server has 'animals'"):
        client.models.retrieve("gpt")


@pytest.mark.parametrize(
    ("asked", "how"),
    [
        ({}, {}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 1.5, "max_tokens": 3}, {"temperature": 1.5, "max_new_tokens": 3}),
        ({"top_p": 0.7, "stop": ["cat", "s t"]}, {"top_p": 0.7, "stop": ["cat", "s t"]}),
        ({"extra_body": {"top_k": 3}}, {"top_k": 3}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_texts_are_those_of_generate(agent, client, asked, how, stream):
    prompts, seed = ["the cat", "the dog sees"], 7
    expected = agent.generate(prompts, 2, **how, seed=seed)
    answer = client.completions.create(model="animals", prompt=prompts, n=2, seed=seed, stream=stream, **asked)
    if stream:
        texts, ends = dict.fromkeys(range(4), ""), {}
        for chunk in answer:
            (choice,) = chunk.choices
            assert choice.index not in ends
            texts[choice.index] += choice.text
            ends |= {choice.index: choice.finish_reason} if choice.finish_reason else {}
    else:
        texts = {choice.index: choice.text for choice in answer.choices}
        ends = {choice.index: choice.finish_reason for choice in answer.choices}
    assert [texts[0], texts[1]] == after("the cat", expected[:2])
    assert [texts[2], texts[3]] == after("the dog sees", expected[2:])
    assert set(ends) == {0, 1, 2, 3}
    assert set(ends.values()) <= {"stop", "length"}


def test_echo_begins_with_the_prompt(agent, client):
    answer = client.completions.create(model="animals", prompt="the cat", echo=True, seed=1)
    assert [answer.choices[0].text] == agent.generate("the cat", seed=1)


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.0])
def test_logprobs_are_those_of_the_policy(served, temperature):
    """Σ log π of the tokens, `<eos>` included, is log π(text) of the enumeration, at the agent's own τ for greedy texts."""
    env = EnvConfig(corpus=("a b", "b a", "a a b", "b"), tokenizer="word", max_new_tokens=3, context_length=6)
    agent = DQN(env, network=LSTM, seed=3, device="cpu", temperature=0.8)
    every = every_text(World.of(env), env)
    log_pi = log_policy(agent, every, temperature or 0.8)
    exact = {
        tuple(row[:length]): p for row, length, p in zip(every.tokens.tolist(), every.lengths, log_pi, strict=True)
    }
    ids = {
        token: number for number, token in enumerate([*Vocabulary.SPECIAL_TOKENS, *agent.tokenizer.vocabulary.words])
    }
    with served(app_of(Completer(agent, "ab"))) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        for seed in range(6):
            answer = client.completions.create(model="ab", prompt="", temperature=temperature, logprobs=3, seed=seed)
            choice = answer.choices[0]
            told = choice.logprobs
            tokens = [token.strip() for token in told.tokens]
            assert sum(told.token_logprobs) == pytest.approx(exact[tuple(ids[t] for t in tokens)], abs=1e-5)
            assert "".join(told.tokens).removesuffix("<eos>") == choice.text
            assert choice.finish_reason == ("stop" if tokens[-1] == "<eos>" else "length")
            assert told.text_offset == [len("".join(told.tokens[:n])) for n in range(len(tokens))]
            assert answer.usage.completion_tokens == len(tokens)
            for name, chosen, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
                assert len(top) == 3
                assert top[name] == chosen  # of three valid tokens every one is told
                assert sum(np.exp(list(top.values()))) == pytest.approx(1.0, abs=1e-5)


def test_a_stream_tells_log_probabilities_and_usage(client):
    settings = {"model": "animals", "prompt": "the", "seed": 2, "logprobs": 2}
    whole = client.completions.create(**settings)
    chunks = list(client.completions.create(**settings, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage == whole.usage
    told = [chunk.choices[0].logprobs for chunk in chunks[:-1]]
    assert [t for part in told for t in part.tokens] == whole.choices[0].logprobs.tokens
    assert [p for part in told for p in part.token_logprobs] == whole.choices[0].logprobs.token_logprobs


def test_a_question_is_answered(served):
    env = EnvConfig(corpus=PAIRS, task="qa", target="reference", tokenizer="word", context_length=12, max_new_tokens=4)
    agent = DQN(env, network=LSTM, seed=1, device="cpu")
    with served(app_of(Completer(agent, "qa"))) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        answer = client.completions.create(model="qa", prompt="cat and red", seed=3)
        assert [answer.choices[0].text] == agent.generate("cat and red", seed=3)
        with pytest.raises(openai.BadRequestError, match="echo is for continuations"):
            client.completions.create(model="qa", prompt="cat and red", echo=True)


@pytest.mark.parametrize(
    ("asked", "parameter", "said"),
    [
        ({"max_tokens": 21}, "max_tokens", "max_tokens must be at most 20, not 21"),
        ({"max_tokens": 0}, "max_tokens", "max_tokens: input should be greater than or equal to 1, not 0"),
        ({"n": 5}, "n", "prompts times n must be at most 4, not 5"),
        ({"prompt": []}, "prompt", "prompt must be a text or a list of at least one"),
        ({"prompt": "the " * 20}, "prompt", "a prompt has at most 50 characters here, not 80"),
        ({"prompt": [1, 2]}, "prompt", "prompt must be a text or a list of texts"),
        ({"prompt": "xylophone"}, None, "has words outside the vocabulary only"),
        ({"temperature": -1}, "temperature", "temperature: input should be greater than or equal to 0, not -1"),
        ({"logprobs": 21}, "logprobs", "logprobs: input should be less than or equal to 20, not 21"),
        ({"stop": ["a"] * 17}, "stop", "there may be at most 16 stop strings, not 17"),
        ({"stop": ""}, "stop", "a stop string must have at least one character"),
        ({"best_of": 3}, "best_of", "best_of is not supported here; leave it out, not 3"),
        ({"presence_penalty": 1.0}, "presence_penalty", "presence_penalty is not supported here"),
        ({"echo": True, "logprobs": 1}, "echo", "echo is for continuations without logprobs"),
        ({"extra_body": {"beams": 3}}, "beams", "there is no parameter 'beams'"),
    ],
)
def test_what_cannot_be_answered_gets_one_sentence(client, asked, parameter, said):
    with pytest.raises(openai.BadRequestError) as found:
        client.completions.create(**{"model": "animals", "prompt": "the", **asked})
    assert said in found.value.body["message"]
    assert found.value.body["type"] == "invalid_request_error"
    assert found.value.body["param"] == parameter


def test_bodies_paths_and_hosts_that_are_none(url):
    def error(response):
        return response.status_code, response.json()["error"]["message"]

    json_body = {"content-type": "application/json"}
    assert error(httpx.post(f"{url}/completions", content=b"{", headers=json_body)) == (400, "the body is not JSON")
    assert error(httpx.post(f"{url}/completions", json=[1])) == (
        400, "the body must be a JSON object of settings by name",
    )  # fmt: skip
    assert error(httpx.post(f"{url}/completions", content=b"{}")) == (
        400, "the body must be a JSON object of settings by name with the header Content-Type: application/json",
    )  # fmt: skip
    beyond = (400, "the body is not JSON in UTF-8, or goes beyond what is read")
    for body in (b'{"prompt": "\xff"}', b"[" * 3_900):  # no text, too deep
        assert error(httpx.post(f"{url}/completions", content=body, headers=json_body)) == beyond
    large = b'{"prompt": "' + b"x" * 4_000 + b'"}'
    refused = (413, "the body has more than 4,000 bytes; send less")
    assert error(httpx.post(f"{url}/completions", content=large)) == refused
    assert error(httpx.post(f"{url}/completions", content=iter([large[:9], large[9:]]))) == refused  # no length is told
    status, said = error(httpx.post(f"{url}/chat/completions", json={}))
    assert status == 404
    assert said == "POST /v1/chat/completions is not answered here; POST /v1/completions and GET /v1/models are"
    assert error(httpx.get(f"{url}/completions"))[0] == 405
    assert httpx.get(f"{url}/models", headers={"host": "example.org"}).status_code == 400


class Waiting:
    """An agent that thinks until it is let go."""

    env_steps = 0

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def learn(self, total_steps, callback=None):
        return self

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        return np.asarray(action_masks).argmax(1), None

    def log_probs(self, observation, action_masks=None):
        self.asked.set()
        assert self.go.wait(60)
        masks = np.asarray(action_masks)
        return np.where(masks, -np.log(masks.sum(1, keepdims=True)), -np.inf)


def test_more_requests_than_may_wait_are_refused(tiny, served):
    agent = Waiting()
    app = app_of(Completer(complete(agent, tiny), "slow"), Room(at_once=1, waiting=0))
    with served(app) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        first = threading.Thread(target=client.completions.create, kwargs={"model": "slow", "prompt": "the"})
        first.start()
        try:
            assert agent.asked.wait(60)
            with pytest.raises(openai.RateLimitError, match="1 requests are being answered or wait; try again later"):
                client.completions.create(model="slow", prompt="the")
            assert client.models.list().data[0].id == "slow"
        finally:
            agent.go.set()
            first.join()
        assert client.completions.create(model="slow", prompt="the").choices


def test_a_client_that_goes_away_leaves_its_place(tiny, served):
    agent = Waiting()
    app = app_of(Completer(complete(agent, tiny), "slow"), Room(at_once=1, waiting=0))
    with served(app) as url:
        for _ in range(3):
            agent.go.set()
            body = {"prompt": "the", "stream": True, "logprobs": 0}
            with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
                assert json.loads(next(response.iter_lines()).removeprefix("data: "))["choices"]
                agent.go.clear()
            agent.go.set()
            while httpx.post(f"{url}/v1/completions", json={"prompt": "the"}).status_code == 429:
                pass  # until the server has seen that the client is gone
