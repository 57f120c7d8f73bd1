"""Settings in their short and long forms mean the same, and what cannot be meant is refused in one sentence."""

import dataclasses

import numpy as np
import pytest

from tokenlm.agents import DQN, AgentConfig, MaximumLikelihood, Outcome, Rule, Schedule, register_rule
from tokenlm.agents.dqn.rules import ILQL, PCL, CrossEntropy
from tokenlm.parsing import parse_run

SAME = [
    ({"loss": "ilql", "expectile": 0.9}, {"loss": "ilql", "rule": {"expectile": 0.9}}),
    ({"network": "transformer"}, {"network": {"name": "transformer"}}),
    ({"optimizer": "sgd", "head_rate": 3.0}, {"optimizer": {"name": "sgd", "head_rate": 3.0}}),
    ({"phrases": 9, "phrase_length": 3}, {"phrases": {"count": 9, "length": 3}}),
    ({"learning_rate": 1e-3}, {"learning_rate": {"start": 1e-3, "end": 1e-3}}),
    ({"epsilon": {"share": 0.7}}, {"epsilon": Schedule(0.1, 0.0, 0.7)}),
    ({"batch_size": np.int64(8), "gamma": np.float32(0.5)}, {"batch_size": 8, "gamma": 0.5}),
]


@pytest.mark.parametrize(("short", "long"), SAME)
def test_short_and_long_forms_are_one(short, long):
    assert AgentConfig.of(None, short) == AgentConfig.of(None, long)


REFUSED = [
    ({"loss": None}, "loss must be the name of a rule"),
    ({"loss": "ilqll"}, "did you mean 'ilql'"),
    ({"rule": "ilql"}, "rule must be settings by name, not 'ilql'"),
    ({"rule": None}, "rule must be settings by name, not None"),
    ({"network": 3}, "network must be a name or settings by name, not 3"),
    ({"network": ["lstm"]}, "network must be a name or settings by name"),
    ({"phrases": True}, "phrases must be a number or settings by name"),
    ({"loss": "ilql", "expectile": 0.9, "rule": {"expectile": 0.8}}, "expectile of the rule is given twice"),
    ({"loss": "ilql", "expectil": 0.9}, "did you mean 'expectile'"),
    ({"network": {"initial_value": float("inf")}}, "initial_value must be finite"),
    ({"network": {"value_scale": 0.0}}, "value_scale must be at least 1e-09"),
    ({"loss": "c51", "value_range": (-float("inf"), 0.0)}, "value_range must be"),
    ({"loss": "pqn", "replay_capacity": 9}, "pqn does not use replay_capacity"),
    ({"learning_rate": {"begin": 1}}, "learning_rate has no setting 'begin'"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=lambda v: str(v))
def test_what_cannot_be_meant_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AgentConfig.of(None, settings)


def test_another_rule_begins_with_its_own_defaults():
    config = AgentConfig.of(None, {"loss": "dqn"})
    assert DQN("TokenLM-Tiny-v0", config).temperature == 0.0
    assert DQN("TokenLM-Tiny-v0", DQN("TokenLM-Tiny-v0", config).config, loss="soft_q").temperature == 1.0
    several = AgentConfig.of(None, {"n_step": 3})
    assert dataclasses.replace(several, loss="pcl").rule == PCL(n_step=3)
    with pytest.raises(ValueError, match="loss 'c51' has no setting 'n_step'"):
        dataclasses.replace(several, loss="c51")


@pytest.mark.parametrize("settings", [{"n_step": 3}, {"loss": "ilql", "expectile": 0.9}, {"epsilon": 0.2}])
def test_maximum_likelihood_takes_the_configuration_of_any_rule(settings):
    agent = MaximumLikelihood("TokenLM-Tiny-v0", AgentConfig.of(None, settings))
    assert agent.config.rule == CrossEntropy()
    assert agent.config.loss == "cross_entropy"


def test_maximum_likelihood_refuses_only_what_differs():
    MaximumLikelihood("TokenLM-Tiny-v0", temperature=1.0, phrases=0, corpus_share=1)
    for settings in ({"loss": "dqn"}, {"temperature": 0.5}, {"decision_cost": 3.0}, {"n_step": 2}):
        with pytest.raises(ValueError, match=r"fixed|no setting"):
            MaximumLikelihood("TokenLM-Tiny-v0", **settings)


def test_the_command_line_beats_the_file_in_every_form(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("agent: {loss: ilql, expectile: 0.9, optimizer: adamw, epsilon: 0.3}\n", encoding="utf-8")

    def parsed(*words):
        return parse_run([str(path), *words]).agent

    assert parsed().rule == ILQL(expectile=0.9)
    for word in ("--agent.rule.expectile=0.55", "--agent.expectile=0.55"):
        assert parsed(word).rule == ILQL(expectile=0.55)
    for words in (["--agent.optimizer=sgd", "--agent.optimizer.weight_decay=0.3"],
                  ["--agent.optimizer.weight_decay=0.3", "--agent.optimizer=sgd"]):  # fmt: skip
        assert (parsed(*words).optimizer.name, parsed(*words).optimizer.weight_decay) == ("sgd", 0.3)
    assert parsed("--agent.epsilon.share", "0.5").epsilon == Schedule(0.3, 0.3, 0.5)
    assert parsed("--agent.loss=soft_q").rule.n_step == 1
    assert parsed("--agent", "{loss: dqn}").loss == "dqn"
    for word in ("--agent.loss=null", "--agent.rule=ilql", "--agent=[1]", "--agent.epsilon={beginn: 1}"):
        with pytest.raises(ValueError, match=r"must be|has no setting"):
            parsed(word)


def test_a_rule_without_the_decorator_is_refused():
    class Plain(Rule):
        limit: float = 1.0

        def loss(self, update):
            return Outcome(update.rewards)

    with pytest.raises(ValueError, match="decorate Plain with @dataclass"):
        register_rule("plain", Plain)
    with pytest.raises(ValueError, match="not built in"):
        register_rule("soft_q", ILQL)
