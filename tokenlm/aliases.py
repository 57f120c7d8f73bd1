"""Names that people type for a field, and the field that they mean.

One rule: a name that can mean one field only is taken for it, and a line on the standard error says so. A name that can
mean several, or something that does not exist here, is refused with the right names. Files of configurations are read
by their full names alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# Names of other libraries. The last part of a field needs no entry: --hidden_size is --agent.network.hidden_size.
_MEANT = {
    "lr": "agent.learning_rate",
    "tau": "agent.temperature",
    "buffer_size": "agent.replay_capacity",
    "steps": "total_steps",
    "timesteps": "total_steps",
    "total_timesteps": "total_steps",
    "max_steps": "total_steps",
    "data": "env.corpus",
    "hidden_dim": "agent.network.hidden_size",
    "model": "agent.network.name",
    "run_name": "name",
}
_SHORT = ("agent.rule.", "agent.optimizer.", "agent.phrases.", "agent.rewards.")
_EPOCHS = ("epoch", "epochs", "num_epochs", "n_epochs", "num_train_epochs")
EPOCHS = (
    "there are no epochs here: an agent writes texts of its own beside those of the corpus; --total_steps counts the "
    "tokens that it writes, and each brings agent.replay_ratio (8) trained tokens, agent.corpus_share (0.5) of them "
    "from documents: with these a corpus of N tokens is read once in N / 4 steps"
)


def without_aliases(words: Sequence[str], fields: Iterable[str]) -> tuple[list[str], list[str]]:
    """The words of a command with every option in full, and a sentence for each one that was not.

    Args:
        words: "--FIELD", "--FIELD=VALUE" and values.
        fields: all fields with dots.

    Raises ValueError for a name that can mean several fields, and for epochs.
    """
    known = list(fields)
    full, said = [], []
    for word in words:
        option, equals, value = word.partition("=")
        name = option.removeprefix("--")
        meant = _meant(name, known) if option.startswith("--") else name
        if option.startswith("--") and meant != name:
            said.append(f"--{name} is taken for --{meant}")
            word = f"--{meant}{equals}{value}"
        full.append(word)
    return full, said


def _meant(name: str, known: Sequence[str]) -> str:
    """The field that a name means; the name itself where it is one, or nobody knows."""
    if name in known:
        return name
    plain = name.replace("-", "_")
    last = plain.removeprefix("agent.")
    if last in _EPOCHS:
        raise ValueError(EPOCHS)
    if last == "resume":
        raise ValueError("the same command goes on with an interrupted run; --continue RUN goes on with a finished one")
    if plain in known:
        return plain
    if _MEANT.get(last) in known:
        return _MEANT[last]
    first, _, inner = plain.rpartition(".")
    found = [each for each in known if each.endswith(f".{inner}") and each.startswith(first)]
    if first == "agent" and all(each.startswith(_SHORT) for each in found):
        return plain  # a short form that the agent itself takes, or refuses
    if len(found) > 1:
        raise ValueError(f"there is no field {name!r}; it may be {' or '.join(found)}")
    return found[0] if found else name
