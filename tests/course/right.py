"""A right solution of every exercise of the course, in the means that its chapter has."""

import math
from collections import Counter

import gymnasium as gym
import numpy as np

import tokenlm


def perplexity(log_probs):
    return math.exp(-sum(log_probs) / len(log_probs))


def softmax(logits, temperature):
    logits = np.array(logits)
    if temperature == 0:
        chances = np.zeros(len(logits))
        chances[logits.argmax()] = 1
        return chances
    weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def next_words(sentences, word):
    after = Counter()
    for sentence in sentences:
        for one, other in zip(sentence, [*sentence[1:], "<eos>"], strict=True):
            if one == word:
                after[other] += 1
    return {other: count / after.total() for other, count in after.items()}


def segment(text, words):
    found = []
    while text:
        length = next((n for n in range(len(text), 0, -1) if text[:n] in words), 1)
        found.append(text[:length])
        text = text[length:]
    return found


def vocabulary(documents, max_size):
    counts = Counter(word for words in documents for word in words)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return ["<pad>", "<unk>", "<bos>", "<eos>", "<sep>", *words][:max_size]


def bits_per_character(log_probs, text):
    return -sum(log_probs) / math.log(2) / (len(text) + 1)


def episode_return(env, actions):
    env.reset()
    total = 0.0
    for action in actions:
        _, reward, terminated, truncated, _ = env.step(action)
        total += reward
        if terminated or truncated:
            break
    return total


def policy(env):
    return int(env.unwrapped.target_log_probs().argmax())


def paid(rewards, every):
    result, owed = [], 0.0
    for t, reward in enumerate(rewards):
        owed += reward
        if t == len(rewards) - 1 or (every and (t + 1) % every == 0):
            result.append(owed)
            owed = 0.0
        else:
            result.append(0.0)
    return result


def best_text(log_probs, length):
    best = {(): (0.0, ())}  # by the last word: value and text
    for _ in range(length):
        longer = {}
        for value, text in best.values():
            for word, gain in log_probs(text).items():
                if (word,) not in longer or value + gain > longer[word,][0]:
                    longer[word,] = (value + gain, (*text, word))
        best = longer
    return list(max(best.values())[1])


def soft_value(q_values, temperature):
    best = max(q_values)
    if temperature == 0:
        return best
    return best + temperature * math.log(sum(math.exp((q - best) / temperature) for q in q_values))


def optimal_policy(log_probs, prefix, length, temperature):
    def q_values(prefix):
        return {word: gain + value((*prefix, word)) for word, gain in log_probs(prefix).items()}

    def value(prefix):
        return soft_value(list(q_values(prefix).values()), temperature) if len(prefix) < length else 0.0

    q = q_values(tuple(prefix))
    if temperature == 0:
        best = max(q, key=q.get)
        return {word: float(word == best) for word in q}
    top = soft_value(list(q.values()), temperature)
    return {word: math.exp((x - top) / temperature) for word, x in q.items()}


def td_targets(rewards, next_q, terminated, valid, gamma):
    best = np.where(valid, next_q, -np.inf).max(axis=1)
    return rewards + gamma * np.where(terminated, 0.0, best)


class Replay:
    def __init__(self, capacity):
        self.items, self.capacity, self.added = [], capacity, 0

    def __len__(self):
        return len(self.items)

    def add(self, item):
        if len(self.items) < self.capacity:
            self.items.append(item)
        else:
            self.items[self.added % self.capacity] = item
        self.added += 1

    def sample(self, count, rng):
        return [self.items[i] for i in rng.integers(len(self.items), size=count)]


def train():
    return tokenlm.DQN(
        "TokenLM-Tiny-v0", network="tabular", learning_rate=0.1, learning_starts=0, replay_ratio=4.0
    ).learn(2_000)


def epsilon_greedy(q_values, valid, epsilon):
    chances = epsilon * valid / valid.sum()
    chances[np.where(valid, q_values, -np.inf).argmax()] += 1 - epsilon
    return chances


def n_step_targets(rewards, values, n, gamma):
    targets = []
    for t in range(len(rewards)):
        end = min(t + n, len(rewards))
        target = values[end]
        for reward in rewards[t:end][::-1]:
            target = reward + gamma * target
        targets.append(target)
    return targets


def explore(env, steps):
    paid = {}  # (word before, word) -> reward; 0 invites to try

    def best_text():
        best = {None: (0.0, [])}
        for _ in range(env.length):
            best = {
                word: max((value + paid.get((last, word), 0.0), [*text, word]) for last, (value, text) in best.items())
                for word in env.words
            }
        return max(best.values())[1]

    while env.steps_left >= env.length:
        env.reset()
        last = None
        for word in best_text():
            _, paid[last, word], *_ = env.step(word)
            last = word
    return best_text()


def token_f1(answer, reference):
    if not answer and not reference:
        return 1.0
    shared = sum((Counter(answer) & Counter(reference)).values())
    return 2 * shared / (len(answer) + len(reference))


def macro_f1(truth, predicted):
    scores = []
    for label in {*truth, *predicted}:
        right = sum(t == p == label for t, p in zip(truth, predicted, strict=True))
        scores.append(2 * right / (truth.count(label) + predicted.count(label)))
    return sum(scores) / len(scores)


def train_classifier(env_config):
    return tokenlm.DQN(env_config, learning_starts=0, corpus_share=1.0).learn(1_500)


def reinforce_gradient(logits, action, advantage):
    gradient = softmax(logits, 1)
    gradient[action] -= 1
    return advantage * gradient


def soft_regret(log_pi, log_target, temperature):
    pi = np.exp(log_pi)
    return soft_value(list(log_target), temperature) - float(pi @ log_target - temperature * (pi @ log_pi))


class Mine:
    """Remembers what every word was paid after the two before it."""

    def __init__(self, env_config, seed=0):
        self.env = gym.make("TokenLM-v0", config=env_config).unwrapped
        self.paid, self.env_steps, self.rng = {}, 0, np.random.default_rng(seed)

    def learn(self, total_steps, callback=None):
        observation, _ = self.env.reset(seed=0)
        for _ in range(total_steps):
            word = int(self.rng.choice(np.flatnonzero(self.env.action_masks())))
            before = tuple(observation[-2:])
            observation, reward, terminated, truncated, _ = self.env.step(word)
            self.paid[before, word] = reward
            self.env_steps += 1
            if terminated or truncated:
                observation, _ = self.env.reset()

    def log_probs(self, observation, action_masks=None):
        rows = [[self.paid.get((tuple(row[-2:]), word), -np.inf) for word in range(8)] for row in observation]
        return np.array(rows)

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        return self.log_probs(observation).argmax(-1), state
