"""Fuzzing of the parsers of files by atheris, which looks for inputs that reach new code.

    python tests/attacks/fuzz.py                            names of the parsers
    python tests/attacks/fuzz.py yaml -max_total_time=600   one of them; other options are libFuzzer's

Anything but a value, ValueError or OSError is a crash, and so is an input that takes long or much memory.
"""

import shutil
import sys
from pathlib import Path

# Parsers by name, each with an input to begin with.
SEEDS = {
    "yaml": b"name: run\nenv: &a {target: markov, order: 2, prompt_length: [0, 1]}\nagent: {loss: 'x', of: *a, lr: 1e-3}\n",
    "json": b'{"a": [1, 2.5e-3, null, true, "\\u4e2d"]}',
    "vocabulary": b'["<pad>", "<unk>", "<bos>", "<eos>", "<sep>", "a", "b"]',
    "tokenizer": b'{"name": "word", "stop_words": ["a"], "own_words": [["b", 3], ["c", null]], "separate": true}',
    "digests": b'{"x": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}',
    "words": "中文 3 n\nword\n".encode(),
    "pairs": b'{"source": "a", "target": "b"}\n{"source": "c", "target": "d"}\n',
    "arpa": b"\\data\\\nngram 1=2\n\n\\1-grams:\n-0.5\t<unk>\n-0.25\ta\n\n\\end\\\n",
}


def main() -> None:
    """Fuzz the parser that is named, or print the names."""
    if len(sys.argv) < 2:
        print("\n".join(SEEDS))
        return
    import atheris

    with atheris.instrument_imports(include=["tokenlm.envs.text", "tokenlm.envs.targets", "yaml", "json"]):
        from tokenlm.envs.targets.arpa import read_arpa
        from tokenlm.envs.text.digests import check_digests
        from tokenlm.envs.text.files import read_json
        from tokenlm.envs.text.jieba_words import read_own_words
        from tokenlm.envs.text.making import load_tokenizer
        from tokenlm.envs.text.pairs import read_pair_corpus
        from tokenlm.envs.text.vocabulary import Vocabulary
        from tokenlm.envs.text.yaml_files import read_mapping
    parsers = {
        "yaml": ("x.yaml", read_mapping),
        "json": ("x.json", read_json),
        "vocabulary": ("vocabulary.json", Vocabulary.load),
        "tokenizer": ("settings.json", lambda path: load_tokenizer(path.parent)),
        "digests": ("digests.json", lambda path: check_digests(path.parent)),
        "words": ("words.txt", read_own_words),
        "pairs": ("pairs.jsonl", read_pair_corpus),
        "arpa": ("x.arpa", read_arpa),
    }
    chosen = sys.argv.pop(1)
    name, parse = parsers[chosen]
    # libFuzzer ends the process itself, so nothing could be removed afterwards.
    folder = Path("build") / "fuzz" / chosen
    shutil.rmtree(folder, ignore_errors=True)
    path, seeds = folder / "read" / name, folder / "seeds"
    for place in (path.parent, seeds):
        place.mkdir(parents=True)
    (path.parent / "x").touch()
    (path.parent / "vocabulary.json").write_bytes(SEEDS["vocabulary"])
    (seeds / "seed").write_bytes(SEEDS[chosen])

    def one_input(data: bytes) -> None:
        path.write_bytes(data)
        try:
            parse(path)
        except (ValueError, OSError):
            return

    atheris.Setup([*sys.argv, str(seeds)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
