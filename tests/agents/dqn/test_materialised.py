"""What the benchmark compares with is the same update: equal loss, equal gradients, equal windows."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))


@pytest.mark.parametrize("network", ["lstm", "transformer"])
@pytest.mark.parametrize("optimizer", ["adam", "sparse_adam"])
def test_the_materialised_form_has_our_loss_and_gradients(network: str, optimizer: str) -> None:
    from ours import GAMMA, Ours, Task, materialised_loss

    torch.manual_seed(0)
    ours = Ours(Task(network, 40, 6, episodes=8), 24, max_grad_norm=None, optimizer=optimizer)
    for parameter in ours.learner.target_network.parameters():  # a target network of its own
        parameter.add_(0.1 * torch.randn_like(parameter))
    plain = copy.deepcopy(ours.learner.network)
    for module in plain.modules():
        if isinstance(module, torch.nn.Embedding):
            module.sparse = False
    batch = ours.replay.rows(torch.tensor([0, 3, 5, 7]))

    expected = materialised_loss(plain, ours.learner.target_network, batch, ours.learner.valid_actions.valid, GAMMA)
    expected.backward()
    metrics = ours.learner.update(batch, 0.0)

    torch.testing.assert_close(metrics["loss"], expected.detach())
    trained = dict(ours.learner.network.named_parameters())
    for name, parameter in plain.named_parameters():
        if parameter.grad is None:
            assert trained[name].grad is None
            continue
        gradient = trained[name].grad
        assert gradient is not None
        torch.testing.assert_close(gradient.to_dense(), parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_a_window_is_read_like_the_prefix_it_shows(network: str) -> None:
    from windows import RandomEpisodes, WindowReader

    torch.manual_seed(0)
    reader = WindowReader(network, 40, 7)
    drawn = RandomEpisodes.draw(3, 6, 40)
    stored = drawn.transitions()
    whole = reader.network(drawn.tokens)  # (3, 7, D)

    torch.testing.assert_close(reader(stored.observations), whole[:, :-1].flatten(0, 1))
    torch.testing.assert_close(reader(stored.next_observations), whole[:, 1:].flatten(0, 1))
    assert stored.actions.tolist() == stored.next_observations[:, -1].tolist()
    assert stored.terminal.nonzero().flatten().tolist() == [5, 11, 17]
