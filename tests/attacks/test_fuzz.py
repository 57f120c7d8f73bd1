"""Fuzzing begins with files that are read: from a file that is refused it would hardly find one that is not."""

import runpy
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")
FUZZ = runpy.run_path(str(Path(__file__).with_name("fuzz.py")))


def test_every_parser_has_a_file_to_begin_with():
    assert list(FUZZ["SEEDS"]) == list(FUZZ["parsers"]())


@pytest.mark.parametrize("parser", FUZZ["SEEDS"])
def test_the_first_file_is_read(parser, tmp_path):
    name, parse = FUZZ["parsers"]()[parser]
    FUZZ["furnish"](tmp_path / "read")
    path = tmp_path / "read" / name
    path.write_bytes(FUZZ["SEEDS"][parser])
    parse(path)


@pytest.mark.parametrize("parser", FUZZ["SEEDS"])
def test_an_empty_file_and_nonsense_are_refused(parser, tmp_path):
    name, parse = FUZZ["parsers"]()[parser]
    FUZZ["furnish"](tmp_path / "read")
    path = tmp_path / "read" / name
    for content in (b"\xff\xfe\x00 \x93", b"\x80" * 9):
        path.write_bytes(content)
        with pytest.raises((ValueError, OSError)):
            parse(path)
