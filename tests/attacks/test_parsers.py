"""Whatever a file holds, its parser gives a value or one clear error: ValueError or OSError, nothing else."""

import contextlib
import json
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentError

from tokenlm.agents.dqn.agent import DQN
from tokenlm.agents.runs.config import plain, run_config_of
from tokenlm.agents.runs.training import load_run
from tokenlm.commands.generate import lines_of
from tokenlm.envs.text.cleaning import Cleaning
from tokenlm.envs.text.digests import check_digests, write_digests
from tokenlm.envs.text.files import read_json
from tokenlm.envs.text.jieba_words import read_own_words
from tokenlm.envs.text.making import load_tokenizer
from tokenlm.envs.text.reading import read_documents, read_pairs
from tokenlm.envs.text.yaml_files import dump_yaml, parse_yaml, read_mapping
from tokenlm.parsing import parse_run

REFUSALS = (ValueError, OSError)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(st.text(max_size=10), parts, max_size=4),
    max_leaves=10,
)
YAML_LIKE = st.lists(
    st.sampled_from([*"abx0159:-?,[]{}&*!|>'\"%@`#~.\n\t ", "- ", ": ", "&a ", "*a ", "<<: ", "!!", "---\n", "1e3", "0x", "None"])
).map("".join)  # fmt: skip
BYTES = st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))


def refused_or(function, *arguments):
    """The value, or None where it is refused."""
    try:
        return function(*arguments)
    except REFUSALS:
        return None


@QUICK
@given(YAML_LIKE | st.text())
def test_yaml(text):
    value = refused_or(parse_yaml, text, "the text")
    json.dumps(value)


@QUICK
@given(VALUES)
@example({"\x85": None})
@example({"a": "天\u2028气"})
def test_what_is_dumped_is_read(value):
    value = json.loads(json.dumps(value, ensure_ascii=True))
    read = refused_or(parse_yaml, dump_yaml(value), "the text")
    assert read is None or json.dumps(read, sort_keys=True) == json.dumps(value, sort_keys=True)


@pytest.mark.parametrize(
    "text", ["1e3", "None", "null", "2026-01-01", "1:30", "0x1F", "yes", "~", "", "1_000", "床前", "\n"]
)
def test_text_stays_text(text):
    assert parse_yaml(dump_yaml({"a": text}), "the text") == {"a": text}


@QUICK
@given(content=BYTES)
def test_configurations(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "x.yaml"
    path.write_bytes(content)
    refused_or(read_mapping, path)
    refused_or(read_json, path)


def places_of(value, above=()):
    yield above
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places_of(part, (*above, key))


def changed(values, data):
    """`values` with something else in one place."""
    values = json.loads(json.dumps(values))
    *outer, last = data.draw(st.sampled_from([place for place in places_of(values) if place]))
    part = values
    for key in outer:
        part = part[key]
    how = data.draw(st.sampled_from(["value", "delete", "name"]))
    if how == "delete":
        del part[last]
    elif how == "name" and isinstance(part, dict):
        part[data.draw(st.text(max_size=8))] = part.pop(last)
    else:
        part[last] = data.draw(VALUES)
    return values


@QUICK
@given(data=st.data())
def test_a_configuration_with_something_else_in_it(data, saved, tmp_path_factory):
    values = changed(yaml.safe_load((saved / "config.yaml").read_text(encoding="utf-8")), data)
    config = refused_or(run_config_of, values, "it")
    assert config is None or plain(config)
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_text(dump_yaml(values), encoding="utf-8")
    with contextlib.suppress(*REFUSALS, ArgumentError):  # the command line knows the last
        parse_run([str(path)])


@QUICK
@given(data=st.data())
def test_agents_with_something_else_in_them(data, saved, tmp_path_factory):
    """Read with trust, so that no digest is asked for."""
    folder = tmp_path_factory.getbasetemp() / "agent"
    if not folder.exists():
        shutil.copytree(saved, folder)
    for name in ("agent.json", "tokenizer/settings.json", "tokenizer/vocabulary.json"):
        shutil.copy(saved / name, folder / name)
    name = data.draw(
        st.sampled_from(["agent.json", "agent.json", "tokenizer/settings.json", "tokenizer/vocabulary.json"])
    )
    values = changed(json.loads((saved / name).read_text(encoding="utf-8")), data)
    (folder / name).write_text(json.dumps(values), encoding="utf-8")
    refused_or(load_tokenizer, folder / "tokenizer")
    agent = refused_or(DQN.load, folder, None, "cpu", True)
    if agent is not None:
        refused_or(agent.generate, [""], 1)


@QUICK
@given(content=BYTES | VALUES.map(lambda value: json.dumps(value).encode()))
def test_digests(content, saved, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "digests"
    folder.mkdir(exist_ok=True)
    (folder / "x").write_text("x", encoding="utf-8")
    (folder / "digests.json").write_bytes(content)
    with pytest.raises(REFUSALS):
        check_digests(folder, ["x"])
    write_digests(folder, [folder / "x"])
    check_digests(folder, ["x"])


@QUICK
@given(content=BYTES)
def test_agents_of_any_bytes(content, saved, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    if not folder.exists():
        shutil.copytree(saved, folder)
    for name in (
        "agent.json",
        "weights.safetensors",
        "config.yaml",
        "tokenizer/vocabulary.json",
        "tokenizer/settings.json",
    ):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        for trust in (False, True):
            with pytest.raises(REFUSALS):
                load_run(folder, "cpu", with_env=False, trust=trust)
        (folder / name).write_bytes(kept)


@QUICK
@given(content=BYTES)
def test_word_lists_and_prompts(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "words.txt"
    path.write_bytes(content)
    refused_or(lines_of, path)
    refused_or(read_own_words, path)
    refused_or(read_documents, path)
    refused_or(read_pairs, path)
    refused_or(Cleaning(stop_words=str(path)).stop_word_set)
