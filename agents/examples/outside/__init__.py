"""Algorithms of other libraries on TokenLM as it comes, one short file each.

    python -m tokenlm.agents.examples.outside.skrl_dqn --env_id TokenLM-Markov-v0

A file prints its normalised score: 0 is the best trivial policy, 1 the optimum. The settings are hardly tuned:
none of them reaches the best trivial policy in 64,000 steps. Each needs its library: `pip install
skrl`, `pip install agilerl peft` or `pip install "tianshou[eval]"`.
"""
