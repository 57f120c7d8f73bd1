"""Limits of files: each refuses, names the setting that raises it, and is raised by the user alone."""

import dataclasses
import json
import multiprocessing

import pytest
import yaml

from tokenlm.agents.networks.weights import FILE, read_weights
from tokenlm.agents.runs.config import RunConfig, plain, run_config_of
from tokenlm.cli import main
from tokenlm.envs import Vocabulary
from tokenlm.envs.targets import NGramTarget
from tokenlm.envs.text import read_documents
from tokenlm.envs.text.files import read_json
from tokenlm.envs.text.limits import LIMITS, Limits, limited, limits_here, set_limits
from tokenlm.envs.text.yaml_files import read_mapping

ARPA = "\\data\\\nngram 1=3\n\n\\1-grams:\n-1\t<s>\n-0.3010299957\t</s>\n-0.3010299957\t<unk>\n\n\\end\\\n"


@pytest.fixture(autouse=True)
def _the_limits_stay():
    before = limits_here()
    yield
    set_limits(**before)


def words(path):
    path.write_text("the cat sees a dog\n", encoding="utf-8")
    return read_documents(path)


def arpa(path, words=()):
    path.write_text(ARPA, encoding="utf-8")
    return NGramTarget.from_arpa(path, Vocabulary(words))


def vocabulary(path):
    path.write_text(json.dumps([*Vocabulary.SPECIAL_TOKENS, "a", "b"]), encoding="utf-8")
    return Vocabulary.load(path)


def numbers(path):
    path.write_text("[1, 2, 3]", encoding="utf-8")
    return read_json(path)


def mapping(path):
    path.write_text("a: [1, 2, 3]", encoding="utf-8")
    return read_mapping(path)


def weights(path):
    (path / FILE).write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return read_weights(path, "cpu")


# By limit: what reads a file, its name, and the least limit with which it is read.
READERS = {
    "text_bytes": (words, "a.txt", 19),
    "text_line": (words, "a.txt", 19),
    "arpa_bytes": (arpa, "a.arpa", len(ARPA)),
    "arpa_added": (lambda path: arpa(path, ["a", "b", "c"]), "a.arpa", 3),
    "json_bytes": (numbers, "a.json", 9),
    "json_values": (numbers, "a.json", 3),
    "tokens": (vocabulary, "a.json", 7),
    "yaml_bytes": (mapping, "a.yaml", 12),
    "yaml_values": (mapping, "a.yaml", 6),
    "weights_bytes": (weights, "", 10),
}


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(Limits)])
def test_a_limit_refuses_what_is_beyond_it_and_says_how_to_raise_it(name, tmp_path):
    read, file, least = READERS[name]
    set_limits(**{name: least - 1})
    with pytest.raises(
        ValueError, match=rf"--limits\.{name} N raises this limit \(set_limits\({name}=N\) in Python\)$"
    ):
        read(tmp_path / file)
    set_limits(**{name: least})
    read(tmp_path / file)


@pytest.mark.parametrize(
    "given", [{"token": 9}, {"tokens": 0}, {"tokens": -1}, {"tokens": 1e9}, {"tokens": True}, {"tokens": 10**21}]
)
def test_what_is_no_limit_changes_nothing(given):
    before = limits_here()
    with pytest.raises(ValueError, match="did you mean 'tokens'" if "token" in given else "a whole number from 1 to"):
        set_limits(json_bytes=9, **given)
    assert limits_here() == before


@pytest.mark.parametrize("words", [["--limits.yaml_bytes", "2_000"], ["--limits.yaml_bytes=2000"]])
def test_every_command_takes_limits_anywhere(words, tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_text("name: x\n", encoding="utf-8")
    main([*words, "config", str(path)])
    main(["config", *words, str(path)])
    assert LIMITS.yaml_bytes == 2000
    assert "name: x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--limits.token", "9"], "there is no limit 'token'; did you mean 'tokens'? (limits: text_bytes, "),
        (["--limits.tokens"], "--limits.tokens needs a value"),
        (
            ["--limits.tokens=many"],
            "the limit tokens must be a whole number from 1 to 1,152,921,504,606,846,976, not 'many'",
        ),
        (["--limits.tokens=0"], "the limit tokens must be a whole number from 1 to 1,152,921,504,606,846,976, not 0"),
    ],
)
def test_limits_that_are_none(words, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["runs", *words])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"tokenlm: {sentence}")


def test_a_configuration_raises_no_limit(tmp_path, capsys):
    """It may come from somebody else, as a run folder may."""
    values = {**plain(RunConfig()), "limits": {"tokens": 10**9}}
    with pytest.raises(ValueError, match="limits"):
        run_config_of(values, "it")
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["config", str(path)])
    assert limits_here() == dataclasses.asdict(Limits())


def test_a_new_process_has_the_limits_that_it_is_given():
    set_limits(tokens=7)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(limited, (limits_here(), limits_here))["tokens"] == 7
        assert pool.apply(limits_here)["tokens"] == 7
