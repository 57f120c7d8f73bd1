"""你好 → 你好吗: the smallest language model, by supervised learning and by DQN.

    python -m tokenlm.agents.examples.article [--folder FOLDER]

One article teaches "a language model with DQN" by the words 你, 好, 吗. The first half takes its steps in its order,
in plain PyTorch. The right next word is given for every input, so it is supervised learning; the target network has no
part in it. The second half learns the same text as a DQN does: it writes, is paid, and backs values up.
Load the weights of the first with torch.load("policy_network.pth", weights_only=True).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from tokenlm import DQN
from tokenlm.envs import TokenLMEnv

WORDS = ("你", "好", "吗")


class PolicyNetwork(nn.Module):
    """Embedding, LSTM, linear: (B, T) word ids to (B, T, 3) logits of the next word."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.linear = nn.Linear(width, len(WORDS))

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T) -> (B, T, 3)."""
        logits: Tensor = self.linear(self.lstm(self.embedding(sequence))[0])
        return logits


def supervised(folder: Path, epochs: int = 100) -> PolicyNetwork:
    """The article's steps. Returns the trained network; writes it and its log into `folder`."""
    text, answer = "你好", "你好吗"  # 1. input
    words = list(text)  # 2. segmentation: here every character is a word
    sequence = torch.tensor([[WORDS.index(word) for word in words]])  # 3. sequence of ids, (1, 2)
    target = torch.tensor([[WORDS.index(word) for word in answer[1:]]])  # 4. target: the next word at every place
    policy_network = PolicyNetwork()  # 5. policy network
    target_network = copy.deepcopy(policy_network)  # and its copy, which nothing below reads
    optimizer = torch.optim.Adam(policy_network.parameters(), lr=0.01)
    log = []
    for epoch in range(1, epochs + 1):  # 9. iterate
        logits = policy_network(sequence)
        distribution = logits.softmax(-1)  # 6. distribution of the next word, (1, 2, 3)
        loss = nn.functional.cross_entropy(logits[0], target[0])  # 7. loss: it is told the right word
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # 8. update
        if epoch % 10 == 0:
            target_network.load_state_dict(policy_network.state_dict())
            after = ", ".join(f"{word} {p:.3f}" for word, p in zip(WORDS, distribution[0, -1].tolist(), strict=True))
            log.append(f"epoch {epoch:3}: loss {loss.item():.4f}, after {text}: {after}")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(policy_network.state_dict(), folder / "policy_network.pth")
    (folder / "train_results.txt").write_text("\n".join(log) + "\n", encoding="utf-8")
    print("\n".join(log))
    return policy_network


def values_after(agent: DQN, env: TokenLMEnv, prompt: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """After `prompt`: the valid words and <eos>, their learned action values, and Q* (τ = 0), in nats."""
    observation, _ = env.reset(options={"prompt": prompt})
    valid, exact = env.action_masks(), env.optimal_q(temperature=0.0)
    learned = agent.reader([[int(i) for i in observation if i]]).values()[0].numpy()
    words = [env.world.vocabulary.token(int(i)) for i in np.flatnonzero(valid)]
    return words, learned[valid], exact[valid]


def dqn(total_steps: int = 6_000, seed: int = 0) -> tuple[DQN, TokenLMEnv]:
    """DQN on the environment: the reward says what the word it chose was worth, never which one is right."""
    text: dict[str, Any] = {"corpus": ("你好吗",), "tokenizer": "char", "prompt_length": (0, 2)}
    env = gym.make("TokenLM-v0", context_length=8, max_new_tokens=4, **text)
    agent = DQN(
        env, loss="dqn", seed=seed, device="cpu",  # Bellman targets r + max Q of the target network
        network={"embedding_size": 32, "hidden_size": 32},
        corpus_share=0.0,  # it sees no text but its own
        temperature=0.0, epsilon={"start": 1.0, "end": 0.1, "share": 0.8}, num_envs=32, learning_starts=200,
        learning_rate={"start": 1e-2, "end": 1e-4},
    )  # fmt: skip
    return agent.learn(total_steps), cast("TokenLMEnv", env.unwrapped)


def main(folder: str = "runs/article", epochs: int = 100, total_steps: int = 6_000) -> None:
    """Both halves, one after the other.

    Args:
        folder: where policy_network.pth and train_results.txt go.
        epochs: of the supervised half.
        total_steps: words that the DQN writes.
    """
    torch.manual_seed(0)
    print("1. As in the article: supervised learning")
    supervised(Path(folder), epochs)
    print(f"policy_network.pth and train_results.txt are in {folder}\n\n2. DQN on the environment")
    agent, env = dqn(total_steps)
    words, learned, exact = values_after(agent, env, "你好")
    print("after 你好" + "".join(f"{word:>8}" for word in words))
    print("Q learned" + "".join(f"{value:9.2f}" for value in learned))
    print("Q* exact " + "".join(f"{value:9.2f}" for value in exact))
    print(f"it writes: {agent.generate('你好', temperature=0.0)[0]}\n")
    print("What differs: 1 is told the right word at every place, and its target network is never read. 2 writes words")
    print("of its own, is told only what they were worth, and learns the sum of rewards up to the end of the text.")


if __name__ == "__main__":
    auto_cli(main)
