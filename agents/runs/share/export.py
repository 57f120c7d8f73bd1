"""A run's policy as a folder that other libraries read: transformers, or ONNX for an LSTM."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ....envs import EnvConfig, Vocabulary, World, valid_actions
from ....envs.text import Tokenizer, write_json, write_text_atomically
from ....envs.text.tokenizer_json import agreement, as_tokenizer_json
from ....envs.text.yaml_files import dump_yaml
from ...networks.hugging_face import language_model
from ...networks.lstm import LSTMQNetwork
from ...networks.onnx_file import write_onnx
from ...protocol import BaseAgent
from ..config import RunConfig, plain
from ..listing import read_run
from ..training import load_run
from .card import Exported, card

MODEL = "model.onnx"
_TEXTS = 200  # test documents that a tokenizer.json is compared on


def export_run(run: str | Path, folder: str | Path, device: str = "auto", trust: bool = False) -> Exported:
    """Write a run's policy into `folder`, whole or not at all.

    A Transformer or a pretrained network becomes a folder of transformers, an LSTM an ONNX file beside the same
    tokenizer. README.md is a model card with the run's figures, training.yaml its configuration.

    Args:
        run: folder of the run.
        folder: to be made; it may exist if it is empty.
        device: of the agent while it is read.
        trust: as of `load_run`.

    Raises ValueError for a policy that cannot be exported and for a folder that holds something, ImportError without
    the library.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} exists and is not empty; give a new folder")
    found = read_run(run)
    if found.damage:
        raise ValueError(found.damage)
    if not found.summary and not (found.folder / "agent.json").exists():
        raise ValueError(f"{run} is not finished and has nothing to export yet; first go on with its training")
    agent, config = load_run(run, device, trust=trust)
    with made_whole(folder) as place:
        made = _write_policy(agent, config, place)
        if config.env.no_repeat or config.env.form:
            rule = "no_repeat" if config.env.no_repeat else f"the form {config.env.form}"
            made.notes.append(f"generation_config.json cannot hold {rule}: only `tokenlm generate` writes by it")
        if agent.tokenizer is not None:
            made.notes += _write_tokenizer(agent.tokenizer, config.env, place)
        settings = without_folders({**plain(config), "output": RunConfig.output})
        write_text_atomically(place / "training.yaml", dump_yaml(settings))
        made.files = sorted({path.name for path in place.iterdir()} | {"README.md"})
        write_text_atomically(place / "README.md", card(found, config, made))
    return made


def _write_policy(agent: BaseAgent, config: RunConfig, place: Path) -> Exported:
    network, temperature = agent.network_policy()
    name = type(network).__name__.removesuffix("QNetwork")
    generation = generation_settings(config.env, agent.tokenizer, temperature)
    if isinstance(network, LSTMQNetwork):
        made = Exported("ONNX", name, temperature, state=write_onnx(network, temperature, place / MODEL))
        write_json(place / "generation_config.json", generation)
        return made
    written = language_model(network, temperature)
    made = Exported(type(written.model).__name__, name, temperature)
    if written.bias is not None:
        generation["sequence_bias"] = [[[token], value] for token, value in enumerate(written.bias.tolist())]
        made.notes.append(
            f"a {made.kind} has no place for the biases of the action head; they stand in generation_config.json, so "
            "`generate` writes by the policy, and the logits of a plain pass lack them"
        )
    from transformers import GenerationConfig

    written.model.generation_config = GenerationConfig(**generation)
    written.model.save_pretrained(place)
    if temperature == 0.0:
        made.notes.append(
            "the policy is greedy (τ = 0): the logits are its action values, and no text should be sampled"
        )
    return made


def generation_settings(env: EnvConfig, tokenizer: Tokenizer, temperature: float) -> dict[str, Any]:
    """The environment's valid actions and limits as settings of transformers' `generate`."""
    valid = valid_actions(len(tokenizer.vocabulary), env, tokenizer)
    never = [int(token) for token in np.flatnonzero(~valid)]
    settings: dict[str, Any] = {
        "bos_token_id": Vocabulary.BOS,
        "eos_token_id": Vocabulary.EOS,
        "pad_token_id": Vocabulary.PAD,
        "do_sample": temperature > 0.0,
        "max_new_tokens": env.max_new_tokens,
        "suppress_tokens": never,
    }
    if temperature > 0.0:
        settings |= {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
    if env.min_new_tokens:
        settings["min_new_tokens"] = env.min_new_tokens
    return settings


def _write_tokenizer(tokenizer: Tokenizer, env: EnvConfig, place: Path) -> list[str]:
    """Write tokenizer.json, or vocab.json where there can be none; sentences on what differs."""
    vocabulary = tokenizer.vocabulary
    try:
        made, said = as_tokenizer_json(tokenizer, env.has_pairs)
    except ValueError as problem:
        write_json(place / "vocab.json", {vocabulary.token(i): i for i in range(len(vocabulary))})
        return [f"there is no tokenizer.json: {problem}; vocab.json has the ids"]
    from transformers import PreTrainedTokenizerFast

    special = zip(("pad", "unk", "bos", "eos", "sep"), Vocabulary.SPECIAL_TOKENS, strict=True)
    PreTrainedTokenizerFast(
        tokenizer_object=made, padding_side="left", clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in special},
    ).save_pretrained(place)  # fmt: skip
    documents = World.of(env).documents["test"]
    texts = [tokenizer.decode(documents[i].tolist()) for i in range(min(_TEXTS, len(documents)))]
    encoded, decoded = agreement(made, tokenizer, texts, cut=bool(said))
    notes = [f"tokenizer.json is not quite the tokenizer: {said}"] if said else []
    if encoded < len(texts):
        notes.append(f"tokenizer.json encodes {encoded} of {len(texts)} test documents as the agent's tokenizer does")
    if decoded < len(texts):
        notes.append(f"it writes the blanks of {decoded} of {len(texts)} test documents as the agent's tokenizer does")
    return notes


def without_folders(value: Any) -> Any:
    """Settings without the folders that files lie in on this machine."""
    if isinstance(value, dict):
        return {name: without_folders(part) for name, part in value.items()}
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` once it is full; removed where filling it fails."""
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as problem:
        raise ValueError(f"{folder} cannot be made ({problem.strerror}); give another folder") from None
    try:
        yield place
        place.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        if folder.exists():
            folder.rmdir()
        place.replace(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
