"""Which claims a result in a setting supports; every evaluation includes this text."""

from __future__ import annotations

from ...envs import EnvConfig


def supported_claims(env: EnvConfig, temperature: float, gamma: float) -> str:
    """One or two sentences on what a good score in this setting shows and does not show.

    Args:
        env: the environment's arguments.
        temperature: τ of the agent.
        gamma: its discount.
    """
    if env.transition == "teacher":
        return (
            "A contextual bandit: actions do not influence the next state. Shows how well log-likelihoods are learned, "
            "nothing about sequential decisions."
        )
    if env.sequence_reward:
        return (
            f"A sequence reward, {env.sequence_reward} of the whole text: no optimum is known, so compare returns with "
            "other algorithms at equal training. Shows credit assignment over the whole text."
        )
    if env.max_new_tokens == 1:
        return (
            "One token per episode: a contextual bandit. Shows how well p* is learned, nothing about sequential "
            "decisions."
        )
    if env.pays_bonus:
        return (
            f"A form, {env.form}, whose bonus depends on tokens long before it. Shows planning: the likeliest text is "
            "far from the optimum."
        )
    temperature = temperature / env.log_prob_weight  # r = w log p* at τ has the optimum of log p* at τ/w
    if env.reward_every == 1 and temperature == 1.0:
        return (
            "Dense reward at temperature 1: V* = 0 and Q* = log p* for every discount. Shows how well p* is learned, "
            "nothing about credit assignment."
        )
    if gamma < 1.0:
        return (
            f"Discount {gamma:g}: the optimum favours early tokens and is not the distribution p*^(1/τ) over texts. "
            "Shows how well this discounted problem is solved, nothing about language modelling."
        )
    goal = "the most likely text" if temperature == 0.0 else f"p*^(1/{temperature:g}) over whole texts"
    if env.reward_every == 1:
        return f"Dense reward: every token has a reward, but {goal} needs planning. Shows planning, not delayed credit."
    late = "the whole text" if env.reward_every == 0 else f"{env.reward_every} tokens"
    return f"Delayed reward: the optimum, {goal}, needs credit assignment over {late}. Shows credit assignment."
