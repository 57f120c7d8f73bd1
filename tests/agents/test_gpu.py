"""On a GPU: the same updates as on the CPU, compiled networks, learning, and a stopwatch that keeps few events.

`make gpu` runs these, and the other tests marked gpu; without a GPU they are skipped.
"""

import copy

import pytest
import torch

from tokenlm.agents import DQN
from tokenlm.agents.dqn.rules import RULES
from tokenlm.agents.dqn.stopwatch import MAX_EVENTS, Stopwatch
from tokenlm.envs import EnvConfig

from agreement import TOLERANCE, difference, exact_products
from cases import Case, make_update

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
CHAIN = EnvConfig(
    target="markov", order=2, vocab_size=12, max_new_tokens=4, context_length=5, ending="fixed", prompt_length=(0, 0)
)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
@pytest.mark.parametrize("rule", RULES)
def test_an_update_is_that_of_the_cpu(rule, network):
    assert difference(rule, "cuda", network) <= TOLERANCE


@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_a_compiled_network_gives_what_the_network_gives(network):
    with exact_products():
        learner, _ = make_update(Case(network, vocab_size=60, length=8, batch=4), "cuda", loss="soft_q")
        plain = learner.network
        twin = copy.deepcopy(plain).to("cuda")  # an LSTM's weights in one piece again
        twin.compile()
        tokens = torch.randint(5, 60, (4, 9), device="cuda")
        for one in (plain, twin):
            one(tokens).square().sum().backward()
        torch.testing.assert_close(twin(tokens), plain(tokens), rtol=1e-4, atol=1e-4)
        found = {name: p.grad for name, p in twin.named_parameters()}
        for name, parameter in plain.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_it_learns_the_same_task_as_on_the_cpu():
    """KL(π‖p*) of a chain of eight words falls below a tenth of what it was before."""
    agent = DQN(CHAIN, device="cuda", temperature=1.0, num_envs=64, batch_size=64, learning_rate=1e-2)
    before = agent.evaluate(episodes=64)["kl_to_target"]
    agent.learn(16_000)
    assert agent.evaluate(episodes=64)["kl_to_target"] < 0.1 * before


def test_a_stopwatch_on_a_gpu_keeps_few_events():
    watch = Stopwatch("cuda")
    for _ in range(2 * MAX_EVENTS + 5):
        with watch.time("forward"):
            pass
    assert len(watch._events) < MAX_EVENTS
    assert watch.shares()["forward"] == 1.0
