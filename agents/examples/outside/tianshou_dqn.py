"""DQN of Tianshou's high-level API, without action masks. Score after 64,000 steps: Markov -0.39, Factored -0.86."""

from jsonargparse import auto_cli
from tianshou.highlevel.config import OffPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactoryRegistered, VectorEnvType
from tianshou.highlevel.experiment import DQNExperimentBuilder, ExperimentConfig
from tianshou.highlevel.module.core import ModuleFactory
from tianshou.highlevel.params.algorithm_params import DQNParams

from tokenlm.agents.evaluation import greedy_score
from tokenlm.agents.examples.outside.network import WindowMLP


class Network(WindowMLP):
    def forward(self, obs, state=None, info=None):
        return super().forward(obs), state


class Networks(ModuleFactory):
    def create_module(self, envs, device):
        return Network(envs.get_action_shape(), *envs.get_observation_shape()).to(device)


def train(env_id: str = "TokenLM-Markov-v0", steps: int = 64_000, envs: int = 16) -> float | None:
    each = {"collection_step_num_env_steps": envs, "update_step_num_gradient_steps_per_sample": 1 / envs}
    plan = OffPolicyTrainingConfig(max_epochs=1, epoch_num_steps=steps, num_training_envs=envs, batch_size=256, **each)
    env = EnvFactoryRegistered(task=f"tokenlm:unmasked/{env_id}", venv_type=VectorEnvType.DUMMY)
    builder = DQNExperimentBuilder(env, ExperimentConfig(watch=False, persistence_enabled=False, device="cpu"), plan)
    params = DQNParams(gamma=1.0, target_update_freq=100, eps_training=0.1)
    result = builder.with_dqn_params(params).with_model_factory(Networks()).build().run()
    return greedy_score(env_id, lambda windows: result.world.algorithm.policy.model(windows)[0])


if __name__ == "__main__":
    print(auto_cli(train))
