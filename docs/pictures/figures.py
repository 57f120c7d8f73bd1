"""Draws figures of the pages: `python docs/pictures/figures.py [NAME …]` writes NAME.png and NAME-zh.png beside it.

`credit` shows benchmarks/results/credit.json, `export` trains, exports and compares small agents. They need the extra
[dev]; the Chinese ones a font with Chinese characters.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.font_manager import FontProperties, fontManager

from tokenlm.agents import DQN
from tokenlm.agents.networks.hugging_face import language_model
from tokenlm.agents.networks.onnx_file import write_onnx
from tokenlm.envs import EnvConfig
from tokenlm.envs.picture import font_for

HERE = Path(__file__).parent
FIRST, SECOND = "#35659b", "#e0912f"

Label = Callable[[str, str], str]


@contextlib.contextmanager
def language(chinese: bool) -> Iterator[Label]:
    """Labels in one language."""
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "axes.unicode_minus": False}):
        if chinese:
            path = font_for(frozenset("偏差噪声导出模型"))
            fontManager.addfont(path)
            plt.rcParams["font.family"] = [FontProperties(fname=path).get_name(), "DejaVu Sans"]
        yield lambda english, other: other if chinese else english


def credit(label: Label) -> Any:
    """Bias and noise of every estimate, by when the reward is paid."""
    rows = json.loads((HERE.parents[1] / "benchmarks" / "results" / "credit.json").read_text(encoding="utf-8"))["rows"]
    paid = {
        1: label("paid at every token", "逐个词元给奖励"),
        4: label("every four tokens", "每四个词元给一次"),
        0: label("at the end", "最后一起给"),
    }
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    figure, axes = plt.subplots(1, 3, figsize=(10.0, 4.4), sharey=True, sharex=True)
    for (every, title), place in zip(paid.items(), axes, strict=True):
        found = {row["estimator"]: row for row in rows if row["reward_every"] == every}
        for shift, part, colour, name in (
            (-0.2, "bias", FIRST, label("bias", "偏差")),
            (0.2, "noise", SECOND, label("noise", "噪声")),
        ):
            lengths = [found[each][part] for each in names]
            place.barh([n + shift for n in range(len(names))], lengths, 0.38, color=colour, label=name)
        place.axvline(1.0, color="grey", linewidth=1, linestyle="--")
        place.axhline(4.5, color="lightgrey", linewidth=1)
        place.set(title=title)
    axes[0].set_yticks(range(len(names)), [label(each, ESTIMATORS[each]) for each in names])
    axes[0].invert_yaxis()
    axes[1].set(xlabel=label("in spreads of the exact advantages (dashed: as far off as 0 everywhere)",
                             "以精确优势的标准差为单位（虚线：和处处估成 0 一样差）"))  # fmt: skip
    axes[2].legend(frameon=False, loc="lower right")
    return figure


ESTIMATORS = {
    "GRPO, groups of 16": "GRPO，每组 16 个",
    "REINFORCE with a baseline": "REINFORCE，带基线",
    "GAE, λ = 0.95": "GAE，λ = 0.95",
    "GAE, λ = 0": "GAE，λ = 0",
    "return decomposition": "拆分回报",
    "soft Q, one step": "soft Q，1 步",
    "soft Q, four steps": "soft Q，4 步",
    "path consistency, whole texts": "路径一致性，整段文本",
    "trajectory balance": "轨迹平衡",
    "soft Q, rewards redistributed": "soft Q，重分奖励",
}
ENV = EnvConfig(target="markov", order=2, vocab_size=200, max_new_tokens=16, context_length=17)
_TRANSFORMER = {"name": "transformer", "hidden_size": 64, "num_layers": 2, "num_heads": 2}
EXPORTED: dict[str, dict[str, Any]] = {
    "Llama": {**_TRANSFORMER, "layout": "llama"},
    "Mistral": {**_TRANSFORMER, "layout": "llama", "attention_window": 6},
    "Starcoder2": {**_TRANSFORMER, "layout": "gpt"},
    "GPT-2": {**_TRANSFORMER, "layout": "gpt", "positions": "learned"},
    "ONNX (LSTM)": {"name": "lstm", "embedding_size": 64, "hidden_size": 64},
}
_SAME = 1e-5  # what a test asks for


def export(label: Label) -> Any:
    """Size of exported models, and how far their log π is from the agent's."""
    found = {name: _exported(name) for name in EXPORTED}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 2.8), sharey=True)
    for number, (own, other, difference) in enumerate(found.values()):
        left.barh(number - 0.2, own / 1024, 0.38, color=FIRST, label=label("agent", "智能体") if not number else None)
        shown = label("exported", "导出的模型") if not number else None
        left.barh(number + 0.2, other / 1024, 0.38, color=SECOND, label=shown)
        right.plot(difference, number, "o", color=SECOND)
    left.set_yticks(range(len(found)), list(found))
    left.invert_yaxis()
    left.set(xlabel=label("file of weights, KiB", "权重文件的大小（KiB）"))
    left.legend(frameon=False, fontsize="small")
    right.axvline(_SAME, color="grey", linewidth=1, linestyle="--")
    right.set(xscale="log", xlim=(1e-8, 1e-3))
    right.set(xlabel=label("largest |Δ log π|, nats (dashed: allowed)", "log π 的最大差别（nat；虚线：允许的上限）"))
    return figure


@cache
def _exported(name: str) -> tuple[int, int, float]:
    """Bytes of the agent's weights and of the exported model's, and the largest difference of log π, nats."""
    settings = EXPORTED[name]
    agent = DQN(ENV, network=settings, temperature=1.0, num_envs=8, batch_size=8, learning_starts=0, device="cpu")
    agent.learn(400)
    valid = agent.valid_tokens.valid
    texts = torch.randint(5, ENV.vocab_size, (16, ENV.context_length), generator=torch.Generator().manual_seed(0))
    texts[:, 0] = 2
    network, temperature = agent.network_policy()
    with tempfile.TemporaryDirectory() as place, torch.no_grad():
        folder = Path(place)
        agent.save(folder / "agent")
        own = network.eval().policy_values(network(texts), valid.expand(*texts.shape, -1)) / temperature
        if settings["name"] == "lstm":
            other = _by_onnx(network, temperature, folder, texts)
        else:
            language_model(network, temperature).model.save_pretrained(folder / "model")
            other = _reloaded(folder / "model", texts)
        sizes = [
            sum(path.stat().st_size for path in (folder / part).rglob("*") if path.suffix in (".safetensors", ".onnx"))
            for part in ("agent", "model")
        ]
    one, two = (torch.log_softmax(x.double().masked_fill(~valid, -torch.inf), -1)[..., valid] for x in (own, other))
    return sizes[0], sizes[1], float((one - two).abs().max())


def _reloaded(folder: Path, texts: torch.Tensor) -> torch.Tensor:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    logits: torch.Tensor = model(input_ids=texts).logits
    return logits


def _by_onnx(network: Any, temperature: float, folder: Path, texts: torch.Tensor) -> torch.Tensor:
    import numpy as np
    import onnxruntime

    (folder / "model").mkdir()
    layers, size = write_onnx(network, temperature, folder / "model" / "model.onnx")
    session = onnxruntime.InferenceSession(folder / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    state = np.zeros((len(texts), layers, size), np.float32)
    return torch.from_numpy(session.run(None, {"tokens": texts.numpy(), "h": state, "c": state})[0])


FIGURES: dict[str, Callable[[Label], Any]] = {"credit": credit, "export": export}


def main() -> None:
    """Draw what is asked for, in both languages."""
    for name in sys.argv[1:] or FIGURES:
        for chinese in (False, True):
            with language(chinese) as label:
                figure = FIGURES[name](label)
                figure.tight_layout()
                figure.savefig(HERE / f"{name}{'-zh' if chinese else ''}.png", dpi=90)
                plt.close(figure)


if __name__ == "__main__":
    main()
