"""A usual mistake in every exercise of the course; what each must not do is in `right.py`."""

import math

import gymnasium as gym
import numpy as np

import tokenlm


def perplexity(log_probs):
    return math.exp(-sum(log_probs))


def softmax(logits, temperature):
    weights = np.exp(np.array(logits) - max(logits))
    return weights / weights.sum()


def next_words(sentences, word):
    after = [s[i + 1] for s in sentences for i in range(len(s) - 1) if s[i] == word]
    return {other: after.count(other) / len(after) for other in after}


def segment(text, words):
    return list(text)


def vocabulary(documents, max_size):
    words = [word for document in documents for word in document]
    return ["<pad>", "<unk>", "<bos>", "<eos>", "<sep>", *sorted(set(words), key=lambda w: (-words.count(w), w))]


def bits_per_character(log_probs, text):
    return -sum(log_probs) / math.log(2) / len(text)


def episode_return(env, actions):
    env.reset()
    return env.step(actions[0])[1]


def policy(env):
    return 5


def paid(rewards, every):
    return [reward if every and (t + 1) % every == 0 else 0.0 for t, reward in enumerate(rewards)]


def best_text(log_probs, length):
    text = []
    for _ in range(length):
        given = log_probs(text)
        text.append(max(given, key=given.get))
    return text


def soft_value(q_values, temperature):
    return max(q_values)


def optimal_policy(log_probs, prefix, length, temperature):
    weights = {w: math.exp(lp / temperature) if temperature else 1.0 for w, lp in log_probs(prefix).items()}
    return {word: weight / sum(weights.values()) for word, weight in weights.items()}


def td_targets(rewards, next_q, terminated, valid, gamma):
    return rewards + gamma * np.where(valid, next_q, -np.inf).max(axis=1)


class Replay:
    def __init__(self, capacity):
        self.items = []

    def __len__(self):
        return len(self.items)

    def add(self, item):
        self.items.append(item)

    def sample(self, count, rng):
        return [self.items[i] for i in rng.integers(len(self.items), size=count)]


def train():
    return tokenlm.DQN("TokenLM-Tiny-v0")  # not trained


def epsilon_greedy(q_values, valid, epsilon):
    chances = np.full(len(q_values), epsilon / len(q_values))
    chances[q_values.argmax()] += 1 - epsilon
    return chances


def n_step_targets(rewards, values, n, gamma):
    return [rewards[t] + gamma * values[t + 1] for t in range(len(rewards))]


def explore(env, steps):
    return [env.words[0]] * env.length


def token_f1(answer, reference):
    shared = len(set(answer) & set(reference))
    return 2 * shared / max(1, len(set(answer)) + len(set(reference)))


def macro_f1(truth, predicted):
    return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)


def train_classifier(env_config):
    return tokenlm.DQN(env_config)  # not trained


def reinforce_gradient(logits, action, advantage):
    weights = np.exp(logits)
    gradient = -advantage * weights / weights.sum()
    gradient[action] += advantage
    return gradient


def soft_regret(log_pi, log_target, temperature):
    return max(log_target) - float(np.exp(log_pi) @ log_target)


class Mine:
    """The uniform policy."""

    def __init__(self, env_config, seed=0):
        self.env = gym.make("TokenLM-v0", config=env_config).unwrapped
        self.env_steps = 0

    def learn(self, total_steps, callback=None):
        self.env_steps += total_steps

    def log_probs(self, observation, action_masks=None):
        return np.tile(np.where(np.arange(8) > 4, -math.log(3), -np.inf), (len(observation), 1))

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        return self.log_probs(observation).argmax(-1), state
