"""DQN of skrl, which has no action masks. Score after 64,000 steps: Markov -0.43, Factored -0.74."""

import gymnasium as gym
from jsonargparse import auto_cli
from skrl.agents.torch.dqn import DQN
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import Model
from skrl.trainers.torch import SequentialTrainer

from tokenlm.agents.evaluation import greedy_score
from tokenlm.agents.examples.outside.network import WindowMLP


class QNetwork(Model):
    def compute(self, inputs, role=""):
        return self.net(inputs["observations"]), {}

    act = compute


def train(env_id: str = "TokenLM-Markov-v0", steps: int = 64_000, num_envs: int = 16) -> float | None:
    env = wrap_env(gym.make_vec(f"tokenlm:unmasked/{env_id}", num_envs=num_envs, autoreset_mode="SameStep"))
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space, "device": "cpu"}
    online, target = QNetwork(**spaces), QNetwork(**spaces)
    online.net, target.net = (WindowMLP(online.num_actions, online.num_observations) for _ in range(2))
    cfg = {"discount_factor": 1.0, "polyak": 0.05, "batch_size": 256, "exploration_scheduler": lambda *_: 0.1}
    memory = RandomMemory(memory_size=steps // num_envs, num_envs=num_envs)
    agent = DQN(models={"q_network": online, "target_q_network": target}, memory=memory, cfg=cfg, **spaces)
    SequentialTrainer(cfg={"timesteps": steps // num_envs, "headless": True}, env=env, agents=agent).train()
    return greedy_score(env_id, online.net)


if __name__ == "__main__":
    print(auto_cli(train))
