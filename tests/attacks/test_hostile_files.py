"""A hostile file of each kind is refused with one sentence, soon, within a gigabyte of memory, with exit code 2."""

import json
import os
import sys

import numpy as np
import pytest
import yaml

from tokenlm.envs.text.digests import write_digests

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has them")

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(12)
)
YAML = {
    "billion laughs": (LAUGHS, "values, counting aliases"),
    "merged laughs": (
        "a: &a {k: v, l: w}\n" + "".join(f"b{i}: &b{i} {{<<: [*{'a' if not i else f'b{i - 1}'}, {'*a' if not i else f'*b{i - 1}'}]}}\n" for i in range(40)),
        "values, counting aliases",
    ),
    "brackets": ("[" * 200_000, "nest"),
    "braces": ("{a: " * 200_000, "nested more than 50 deep"),
    "dashes": ("- " * 200_000, "nested more than 50 deep"),
    "itself": ("a: &a [*a]", "stands for nothing that comes before it"),
    "nothing": ("a: *b", "stands for nothing that comes before it"),
    "base 60": ("a: " + "1:" * 200_000 + "1", "characters without quotes"),
    "digits": ("a: " + "9" * 400_000, "characters without quotes"),
    "many values": ("a: [" + "x, " * 200_000 + "]", "more than 20,000 values"),
    "code": ("a: !!python/object/apply:os.system [echo]", "is not YAML: could not determine a constructor"),
    "code of a name": ("a: !!python/name:os.system", "is not YAML: could not determine a constructor"),
    "binary": ("a: !!binary aGFsbG8=", "has a value of type bytes"),
    "set": ("a: !!set {x, y}", "has a value of type set"),
    "number as a name": ("1: x", "has 1 as a name of a setting"),
    "wrong number": ("a: !!int x", "is not YAML"),
    "wrong float": ("a: !!float x", "is not YAML"),
    "wrong date": ("a: !!timestamp x", "is not YAML"),
    "wrong mapping": ("a: !!omap {x: 1}", "is not YAML"),
    "control characters": ("a: \x00\x01", "is not YAML"),
    "tab": ("a:\n\tb: 1", "is not YAML"),
    "two documents": ("a: 1\n---\nb: 2", "is not YAML"),
    "no mapping": ("[1]", "is no configuration"),
    "empty": ("", "is no configuration"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(YAML))
def test_yaml(kind, refused, run, tmp_path):
    text, reason = YAML[kind]
    path = tmp_path / "hostile.yaml"
    path.write_text(text, encoding="utf-8")
    assert reason in refused("config", path)
    (run / "config.yaml").write_text(text, encoding="utf-8")
    for command in ("generate", "evaluate"):
        assert str(run / "config.yaml") in refused(command, run, "--trust")


def test_a_configuration_that_is_not_utf_8(refused, tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: Größe".encode("latin-1"))
    assert "is not UTF-8" in refused("config", path)


JSON = {
    "brackets": ("[" * 200_000, "nested too deeply"),
    "many values": ("[" + "1," * 5_000_000 + "1]", "values"),
    "digits": ('{"agent": {}, "format": ' + "9" * 100_000 + "}", "is not JSON"),
    "list": ("[]", "it holds no agent"),
    "empty": ("", "is not JSON"),
    "zeros": ("\0" * 1000, "is not JSON"),
    "no settings": ('{"format": 2, "agent": {}}', "is damaged"),
    "lists": ('{"format": 2, "agent": {}, "env": []}', "is damaged"),
    "format": ('{"format": [], "agent": {}}', "was saved in format []"),
    "huge network": ('{"format": 2, "agent": {"network": {"hidden_size": 1000000}}, "env": {}}', "is damaged"),
}


@pytest.mark.parametrize("kind", list(JSON))
def test_json_of_an_agent_even_with_digests_that_fit(kind, refused, run):
    text, reason = JSON[kind]
    (run / "agent.json").write_text(text, encoding="utf-8")
    write_digests(run, [run / "agent.json"])
    assert reason in refused("generate", run)


def test_a_network_that_no_memory_holds(refused, run):
    values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    settings = json.loads((run / "agent.json").read_text(encoding="utf-8"))
    for place in (values, settings):
        place["agent"]["network"]["hidden_size"] = 1_000_000
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (run / "agent.json").write_text(json.dumps(settings), encoding="utf-8")
    write_digests(run, [run / "agent.json", run / "config.yaml"])
    assert "are not those of a network with hidden_size 1,000,000" in refused("generate", run)


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def loop(path):
    path.symlink_to(path)


PLACES = [
    "config.yaml", "agent.json", "digests.json", "weights.safetensors", "tokenizer/settings.json",
    "tokenizer/vocabulary.json",
]  # fmt: skip
THINGS = {
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
    "loop": loop,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "gigabyte": lambda path: sparse(path, 1 << 30),
}


SAID = {"pipe": "is a pipe or a device, not a file", "folder": "is a folder", "device": "is a pipe or a device"}


@pytest.mark.parametrize("thing", list(THINGS))
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trust", [[], ["--trust"]], ids=["checked", "trusted"])
def test_what_is_no_file_in_a_run_folder(trust, place, thing, refused, run):
    if trust and place == "digests.json":
        pytest.skip("with trust it is not read")
    if not trust and place == "weights.safetensors" and thing == "gigabyte":
        pytest.skip("a gigabyte of weights may be honest: its digest takes what the digest of honest ones takes")
    (run / place).unlink()
    THINGS[thing](run / place)
    line = refused("evaluate" if place == "digests.json" else "generate", run, *trust)
    assert str(run / place) in line or thing in ("loop", "gigabyte")
    assert SAID.get(thing, "") in line


@pytest.mark.parametrize("thing", list(THINGS))
@pytest.mark.parametrize(
    "option", ["config", "corpus", "stop_words", "user_dictionary", "tokenizer", "arpa", "vectors"]
)
def test_what_is_no_file_where_a_user_names_one(option, thing, refused, corpus, tmp_path):
    path = tmp_path / {"tokenizer": "x.json", "vectors": "x.npy"}.get(option, "x.txt")
    THINGS[thing](path)
    small = ["train", "quickstart", f"--output={tmp_path / 'runs'}", f"--env.corpus={corpus}", "--env.tokenizer=word"]
    words = {
        "config": ["config", path],
        "corpus": [*small, f"--env.corpus={path}"],
        "stop_words": [*small, f"--env.cleaning.stop_words={path}"],
        "user_dictionary": [*small, "--env.tokenizer=jieba", f"--env.user_dictionary={path}"],
        "tokenizer": [*small, f"--env.tokenizer={path}"],
        "arpa": [*small, "--env.target=ngram", f"--env.arpa={path}"],
        "vectors": [*small, f"--agent.network.embedding_file={path}"],
    }
    if option == "corpus" and thing == "folder":
        assert "holds no .txt or .tsv file" in refused(*words[option])
    else:
        refused(*words[option])


def test_a_vocabulary_of_ten_million(refused, run):
    special = json.loads((run / "tokenizer" / "vocabulary.json").read_text(encoding="utf-8"))[:5]
    text = json.dumps([*special, *range(10)])[:-1] + ", " + ", ".join(f'"{i}"' for i in range(10**7)) + "]"
    (run / "tokenizer" / "vocabulary.json").write_text(text, encoding="utf-8")
    refused("generate", run, "--trust")


def test_vectors_of_a_million_million_rows(refused, corpus, tmp_path):
    path = tmp_path / "vectors.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 64)})
    words = ["train", "quickstart", f"--output={tmp_path / 'runs'}", f"--env.corpus={corpus}", "--env.tokenizer=word"]
    assert str(path) in refused(*words, f"--agent.network.embedding_file={path}")


@pytest.mark.parametrize("option", ["corpus", "stop_words", "vectors"])
def test_a_line_of_200_megabytes(option, refused, corpus, tmp_path):
    path = tmp_path / "long.txt"
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"x" * 1_000_000)
    words = ["train", "quickstart", f"--output={tmp_path / 'runs'}", f"--env.corpus={corpus}", "--env.tokenizer=word"]
    option = {
        "corpus": "env.corpus",
        "stop_words": "env.cleaning.stop_words",
        "vectors": "agent.network.embedding_file",
    }[option]
    assert "has more than 10,000,000 characters" in refused(*words, f"--{option}={path}")


def test_prompts_that_are_no_file(refused, run, tmp_path):
    path = tmp_path / "prompts"
    os.mkfifo(path)
    refused("generate", run, "--prompts", path)
