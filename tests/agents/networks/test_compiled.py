"""The compiled pass equals the plain one, and stands aside where no compiler works."""

import os
import subprocess
import sys
import warnings

import pytest
import torch

from tokenlm.agents import AgentConfig
from tokenlm.agents.dqn.learner import Learner
from tokenlm.agents.dqn.replay import EpisodeReplay
from tokenlm.agents.dqn.update import ActionRules
from tokenlm.agents.networks import make_network

UNCOMPILED = """
import torch, warnings
from tokenlm.agents.networks import make_network
from tokenlm.agents.networks.compiled import compile_forward
network = make_network("transformer", 9, hidden_size=8, num_layers=1, num_heads=2, max_length=8)
tokens = torch.tensor([[2, 5, 7]])
plain = network(tokens)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = compile_forward(network, "cpu")
said = [str(w.message) for w in caught if "runs uncompiled" in str(w.message)]
print(compiled, len(said), torch.equal(network(tokens), plain))
"""


def updated(compile_it):
    torch.manual_seed(0)
    network = make_network("transformer", 12, hidden_size=8, num_layers=1, num_heads=2, max_length=12)
    rules = ActionRules(torch.arange(12) >= 3, 3, 0, 6)
    config = AgentConfig.of(None, {"network": "transformer", "compile": compile_it, "target_update_rate": 0.5})
    learner = Learner(network, config, rules)
    replay = EpisodeReplay(8, 2, 6, 12)
    tokens = torch.randint(4, 12, (8, 8))
    lengths = torch.randint(2, 7, (8,))
    replay.add(
        tokens=tokens,
        actions=tokens[:, 1:7],
        rewards=-torch.rand(8, 6),
        log_probs=-torch.rand(8, 6),
        prompt_lengths=torch.ones(8, dtype=torch.int64),
        lengths=lengths,
        terminated=torch.ones(8, dtype=torch.bool),
    )
    losses = [learner.update(replay.rows(torch.arange(first, 8)), 0.0)["loss"] for first in (0, 3, 5)]
    return torch.stack(losses), torch.cat([p.detach().flatten() for p in network.parameters()])


def test_updates_are_the_same_compiled():
    plain_losses, plain_weights = updated(False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script_method", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="torch.compile does not work here")  # equal then, too
        losses, weights = updated(True)
    torch.testing.assert_close(losses, plain_losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights, plain_weights, rtol=1e-3, atol=1e-4)


def test_without_a_compiler_the_network_stays_plain_and_says_so():
    nowhere = {**os.environ, "CXX": "/nonexistent", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    out = subprocess.run([sys.executable, "-c", UNCOMPILED], env=nowhere, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "1", "True"]


def test_a_network_with_nothing_to_fuse_is_refused():
    with pytest.raises(ValueError, match="compile is for the network transformer, not lstm"):
        AgentConfig(compile=True)
