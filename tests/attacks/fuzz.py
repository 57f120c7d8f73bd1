"""Fuzzing of the parsers of files by atheris, which looks for inputs that reach new code.

    python tests/attacks/fuzz.py                            names of the parsers
    python tests/attacks/fuzz.py yaml -max_total_time=600   one of them; other options are libFuzzer's

Anything but a value, ValueError or OSError is a crash, and so is an input that takes long or much memory.
"""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [{"id": 4, "content": "[U]", "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True}],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
    "model": {"type": "BPE", "unk_token": "[U]", "vocab": {"a": 0, "b": 1, "ab": 2, "<0x41>": 3, "[U]": 4},
              "merges": [["a", "b"]]},
}  # fmt: skip
CARD = r"""---
model-index:
- name: run
  results:
  - metrics:
    - type: regret
      value: 0.5
    - type: kl_to_target
      value: 0.25
---

| KL(agent \|\| p*), nats per text | 0.250 |
| regret, nats per text | 0.500 |
"""


def made(kind: str) -> bytes:
    """A small file in a binary format, or of all settings of a run."""
    import numpy as np
    import torch
    from safetensors.torch import save

    from tokenlm.agents.runs.config import RunConfig, plain
    from tokenlm.envs.text.yaml_files import dump_yaml

    file = io.BytesIO()
    if kind == "configuration":
        return dump_yaml(plain(RunConfig())).encode()
    if kind == "array":
        np.save(file, np.zeros((7, 3), np.float32))
    elif kind == "table":
        arrays = {"sums": np.zeros((1, 2, 2)), "counts": np.zeros((1, 2, 2), np.int64)}
        np.savez_compressed(file, **arrays, starts=np.arange(2), env_steps=np.array(3))
    elif kind == "checkpoint":
        torch.save({"agent": {"w": torch.zeros(2)}, "rows": [{"a": 1.5}], "before": ["x"], "best": None}, file)
    else:
        return save({"w": torch.zeros(2, 3), "b": torch.zeros(2, dtype=torch.int64)})
    return file.getvalue()


# Parsers by name, each with an input to begin with.
SEEDS = {
    "yaml": b"name: run\nenv: &a {target: markov, order: 2, prompt_length: [0, 1]}\nagent: {loss: 'x', of: *a, lr: 1e-3}\n",
    "configuration": made("configuration"),
    "json": b'{"a": [1, 2.5e-3, null, true, "\\u4e2d"]}',
    "vocabulary": b'["<pad>", "<unk>", "<bos>", "<eos>", "<sep>", "a", "b"]',
    "tokenizer": b'{"name": "word", "stop_words": ["a"], "own_words": [["b", 3], ["c", null]], "separate": true}',
    "tokenizer.json": json.dumps(TOKENIZER).encode(),
    "digests": b'{"x": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}',
    "words": "中文 3 n\nword\n".encode(),
    "stop words": "的\nthe\n".encode(),
    "corpus": "春 眠 不觉晓\r\nthe dog runs\n".encode(),
    "prompts": "春 眠\nthe dog\n".encode(),
    "pairs": b'{"source": "a", "target": "b"}\n{"source": "c", "target": "d"}\n',
    "tsv": b"a\tb\nc d\te\n",
    "arpa": b"\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\t<unk>\n-0.25\ta\n\n\\end\\\n",
    "vectors": b"2 3\na 0.5 -1e-3 2\nb 1 2 3\n",
    "array": made("array"),
    "weights": made("weights"),
    "table": made("table"),
    "checkpoint": made("checkpoint"),
    "results": b'{"num_steps": 0, "sampled_return": -1.5, "perplexity": null}\n{"num_steps": 8, "sampled_return": -1.25}\n',
    "row": b'{"worlds": [{"world": 0, "regret": 0.5, "kl": 0.25}], "name": "x"}',
    "card": CARD.encode(),
}  # fmt: skip


def parsers() -> dict[str, tuple[str, Callable[[Path], Any]]]:
    """The name that a file must have, and what reads it, by name of the parser."""
    from torch import nn

    from tokenlm.agents.baselines.table import read_arrays
    from tokenlm.agents.networks.weights import read_weights
    from tokenlm.agents.networks.word_vectors import use_word_vectors
    from tokenlm.agents.runs.checkpoints import read_tensors
    from tokenlm.agents.runs.config import run_config_of
    from tokenlm.agents.runs.listing import read_rows
    from tokenlm.agents.runs.stored_rows import read_row
    from tokenlm.commands.generate import lines_of
    from tokenlm.envs.targets.arpa import read_arpa
    from tokenlm.envs.text import Cleaning, make_tokenizer, read_documents
    from tokenlm.envs.text.digests import check_digests
    from tokenlm.envs.text.files import read_json
    from tokenlm.envs.text.jieba_words import read_own_words
    from tokenlm.envs.text.making import load_tokenizer
    from tokenlm.envs.text.pairs import read_pair_corpus
    from tokenlm.envs.text.vocabulary import Vocabulary
    from tokenlm.envs.text.yaml_files import read_mapping

    words = make_tokenizer("word", ["a b"])

    def vectors(path: Path) -> int:
        return use_word_vectors(nn.Embedding(len(words.vocabulary), 3), path, words)

    def subwords(path: Path) -> str:
        tokenizer = make_tokenizer(path, [])
        return tokenizer.decode(tokenizer.encode("a ab 中 A"))

    return {
        "yaml": ("x.yaml", read_mapping),
        "configuration": ("x.yaml", lambda path: run_config_of(read_mapping(path), str(path))),
        "json": ("x.json", read_json),
        "vocabulary": ("vocabulary.json", Vocabulary.load),
        "tokenizer": ("settings.json", lambda path: load_tokenizer(path.parent)),
        "tokenizer.json": ("tokenizer.json", subwords),
        "digests": ("digests.json", lambda path: check_digests(path.parent)),
        "words": ("words.txt", read_own_words),
        "stop words": ("words.txt", lambda path: Cleaning(stop_words=str(path)).stop_word_set()),
        "corpus": ("corpus.txt", read_documents),
        "prompts": ("prompts.txt", lines_of),
        "pairs": ("pairs.jsonl", read_pair_corpus),
        "tsv": ("pairs.tsv", read_pair_corpus),
        "arpa": ("x.arpa", read_arpa),
        "vectors": ("vectors.txt", vectors),
        "array": ("vectors.npy", vectors),
        "weights": ("weights.safetensors", lambda path: read_weights(path.parent, "cpu")),
        "table": ("table.npz", lambda path: read_arrays(path, 1 << 20)),
        "checkpoint": ("state.pt", read_tensors),
        "results": ("results.jsonl", read_rows),
        "row": ("row.json", lambda path: read_row(path, 0)),
        "card": ("card.md", lambda path: read_row(path, 0)),
    }


def furnish(folder: Path) -> None:
    """Make a folder with the files that some parsers need beside theirs."""
    folder.mkdir(parents=True)
    (folder / "x").touch()
    (folder / "vocabulary.json").write_bytes(SEEDS["vocabulary"])


def main() -> None:
    """Fuzz the parser that is named, or print the names."""
    if len(sys.argv) < 2:
        print("\n".join(SEEDS))
        return
    import atheris

    with atheris.instrument_imports(include=["tokenlm", "yaml", "json", "safetensors", "zipfile", "numpy.lib"]):
        known = parsers()
    chosen = sys.argv.pop(1)
    name, parse = known[chosen]
    # libFuzzer ends the process itself, so nothing could be removed afterwards.
    folder = Path("build") / "fuzz" / chosen.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    path, seeds = folder / "read" / name, folder / "seeds"
    furnish(path.parent)
    seeds.mkdir()
    (seeds / "seed").write_bytes(SEEDS[chosen])

    @atheris.instrument_func  # files that are read are kept apart from those that are refused
    def one_input(data: bytes) -> bool:
        path.unlink(missing_ok=True)  # to write over a file may wait for the disk, twenty times as long
        path.write_bytes(data)
        try:
            parse(path)
        except ValueError:
            return False
        except OSError:
            return False
        return True

    atheris.Setup([*sys.argv, f"-artifact_prefix={folder}/", str(seeds)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
