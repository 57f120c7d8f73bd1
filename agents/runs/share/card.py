"""The model card of an exported run: README.md as the Hugging Face hub reads it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....envs import EnvConfig
from ....envs.text.yaml_files import dump_yaml
from ..config import RunConfig
from ..listing import FoundRun, setting
from ..report import figures_of, shown

_LANGUAGES = ("zh", "en")  # corpora that are built in, named after their language
_METRICS = {"perplexity": "perplexity", "regret": "regret, nats per text", "kl_to_target": "KL(π ‖ p*), nats per text"}
_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
prompt = tokenizer("", return_tensors="pt")  # <bos> and the beginning of a text
print(tokenizer.decode(model.generate(prompt.input_ids)[0], skip_special_tokens=True))
```"""
_ONNX = """```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("FOLDER/model.onnx")
state = np.zeros((1, LAYERS, SIZE), np.float32)
tokens = np.array([[2]])  # <bos> and the ids of a text
logits, h, c = session.run(None, {"tokens": tokens, "h": state, "c": state})  # then the next token with h and c
```"""


@dataclass
class Exported:
    """What was written.

    Args:
        kind: class of the model in transformers, or "ONNX".
        network: kind of the agent's network.
        temperature: τ of the policy.
        files: names in the folder.
        notes: sentences on what differs from the agent.
        state: layers and D of the state, of an ONNX file alone.
    """

    kind: str
    network: str
    temperature: float
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    state: tuple[int, int] | None = None


def card(run: FoundRun, config: RunConfig, made: Exported) -> str:
    """The card of a run.

    Args:
        run: what its files say; without a summary the figures are those of its newest evaluation.
        config: its configuration.
        made: what was exported.
    """
    figures = run.summary or (run.rows[-1] if run.rows else {})
    of = "test documents" if run.summary else "validation documents, of a run that is not finished"
    rows = "\n".join(figure_rows(figures))
    notes = "\n".join(f"- {sentence[0].upper()}{sentence[1:]}." for sentence in made.notes)
    use = _TRANSFORMERS
    if made.state is not None:
        use = _ONNX.replace("LAYERS", str(made.state[0])).replace("SIZE", str(made.state[1]))
    named = f"{config.algorithm}, loss {config.agent.loss}" if config.algorithm == "dqn" else config.algorithm
    return f"""---
{dump_yaml(_header(config, figures, made))}---

# {config.name}

A policy over tokens that TokenLM trained by reinforcement learning ({named}, network {made.network}).
The reward of a token is its log-likelihood under a target distribution p\\*. The logits are log π at
τ = {made.temperature:g}, up to a constant of the state. As a model it is: {made.kind}.

## Figures

Of {of}; intervals and all other figures stand in the run's summary.

| figure | value |
|---|---|
{rows}

## Use

{use}

Texts must be cleaned as in training: Unicode NFC, one line, single blanks. Valid tokens and the length limit stand in
generation_config.json.

## What differs from the agent

{notes or "Nothing that is known."}

## Environment

| setting | value |
|---|---|
{_settings(config.env)}

## How it was trained

```bash
tokenlm train training.yaml   # {config.total_steps:,} environment steps, seed {config.seed}
```
"""


def figure_rows(figures: dict[str, Any]) -> list[str]:
    """Rows of the card's table, of those figures that are known."""
    return [f"| {_cell(title)} | {shown(value)} |" for title, value in _titled(figures) if value is not None]


def _titled(figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """Title and value of the figures, those below another with its name before them."""
    above, found = "", []
    for title, value in figures_of(figures):
        above = above if title.startswith(" ") else title
        found.append((f"{above}, {title.strip()}" if title.startswith(" ") else title, value))
    return found


def _header(config: RunConfig, figures: dict[str, Any], made: Exported) -> dict[str, Any]:
    """The metadata of the card."""
    corpus = config.env.corpus
    source = corpus if isinstance(corpus, str) and config.env.target != "markov" else config.env.target
    known = [(kind, title, figures.get(kind)) for kind, title in _METRICS.items()]
    metrics = [{"type": kind, "name": title, "value": value} for kind, title, value in known if value is not None]
    header: dict[str, Any] = {
        "library_name": "transformers" if made.state is None else "onnx",
        "pipeline_tag": "text-generation",
        "tags": ["tokenlm", "reinforcement-learning", config.algorithm],
    }
    if corpus in _LANGUAGES:
        header["language"] = [corpus]
    if metrics:
        data = {"name": f"{Path(str(source)).name}, test documents", "type": "text"}
        task = {"type": "text-generation"}
        result = {"task": task, "dataset": data, "metrics": metrics}
        header["model-index"] = [{"name": config.name, "results": [result]}]
    return header


def _cell(text: str) -> str:
    """`text` in a cell of a Markdown table."""
    return text.strip().replace("|", "\\|")


def _settings(env: EnvConfig) -> str:
    """Rows of the environment's settings that are not the defaults, and of those that say which world it is."""
    always = ("corpus", "target", "tokenizer", "max_new_tokens", "context_length", "ending", "reward_every")
    rows = []
    for each in dataclasses.fields(env):
        value = getattr(env, each.name)
        default = each.default if each.default is not dataclasses.MISSING else None
        if each.name in always or (value != default and not dataclasses.is_dataclass(value)):
            text = Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            rows.append(f"| `{each.name}` | {_cell(setting(text))} |")
    return "\n".join(rows)
