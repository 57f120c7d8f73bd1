"""Pairs from everywhere they come from, and splits in which equal sources stay together."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenlm.envs.text import Cleaning, read_pair_corpus, read_pair_splits

BUILT_IN = [(task, language) for task in ("qa", "translation", "classification") for language in ("zh", "en")]


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def is_chinese(text):
    return any("\u4e00" <= c <= "\u9fff" for c in text)


@pytest.mark.parametrize(
    "data",
    ["问\t答\n\nq\ta 🙂\n", "\ufeff问\t答\r\nq\ta 🙂\r\n", "问\t答\rq\ta 🙂", "\n \n问\t答\n \nq\ta 🙂\n\n"],
)
def test_marks_line_ends_and_empty_lines(tmp_path, data):
    assert read_pair_corpus(write(tmp_path / "a.tsv", data)) == [("问", "答"), ("q", "a 🙂")]


def test_json_lines_with_their_own_keys(tmp_path):
    rows = [
        {"source": "问", "target": "答", "id": 1},
        {"source": "two\nlines", "target": 7},
        {"source": None, "target": "x"},
    ]
    path = write(tmp_path / "a.jsonl", "\ufeff" + "\r\n".join(json.dumps(r) for r in rows) + "\r\n\r\n")
    assert read_pair_corpus(str(path)) == [("问", "答"), ("two lines", "7")]
    other = write(tmp_path / "b.jsonl", '{"question": "q", "the answer": "a"}\n')
    assert read_pair_corpus(f"{other}?source=question&target=the+answer") == [("q", "a")]


def test_a_folder_is_all_its_files_in_order(tmp_path):
    write(tmp_path / "b.tsv", "2\tb\n")
    write(tmp_path / "a.jsonl", '{"source": "1", "target": "a"}\n')
    write(tmp_path / "notes.txt", "no\n")
    assert read_pair_corpus(tmp_path) == [("1", "a"), ("2", "b")]


def test_a_dataset_has_columns(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.csv", "question,answer,label\nwhat?,that,1\nwho?,,2\nwhere?,here,3\n")
    name = f"hf:{tmp_path / 'data'}"
    assert read_pair_corpus(f"{name}?source=question&target=answer") == [("what?", "that"), ("where?", "here")]
    assert read_pair_corpus(f"{name}?split=train&source=question&target=label")[1] == ("who?", "2")
    with pytest.raises(ValueError, match="no column 'answers'; add \\?target= with one of question, answer, label"):
        read_pair_corpus(f"{name}?source=question&target=answers")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "missing.tsv", FileNotFoundError, "there is no corpus .*missing.tsv"),
        (lambda p: write(p / "a.txt", "x\n"), ValueError, "is not a file of pairs \\(suffix '.txt'\\)"),
        (lambda p: write(p / "a.tsv", "x\n"), ValueError, "line 1 of .* has 0 tabs"),
        (lambda p: write(p / "a.jsonl", "{\n"), ValueError, "line 1 of .* is not JSON"),
        (lambda p: write(p / "a.jsonl", "[1]\n"), ValueError, "is a list, not an object"),
        (
            lambda p: write(p / "a.jsonl", '{"source": "x", "text": "y"}\n'),
            ValueError,
            "has no key 'target'; its keys are source, text",
        ),
        (lambda p: write(p / "a.jsonl", '{"source": "x", "target": []}\n'), ValueError, "has a list as 'target'"),
        (lambda p: write(p / "a.tsv", "\t\n"), ValueError, "is empty"),
        (lambda p: write(p / "a.tsv", "é\tx\n".encode("latin-1")), ValueError, "not UTF-8"),
        (lambda p: f"{write(p / 'a.jsonl', '{}')}?sauce=x", ValueError, "unknown option 'sauce'.*'source'"),
        (lambda p: p, FileNotFoundError, "holds no .tsv or .jsonl file"),
        (lambda p: [("a", "b"), "c"], ValueError, "item 1 of the corpus is 'c', not a pair"),
        (lambda p: 3, ValueError, "cannot be of type int"),
        (lambda p: "", ValueError, "the name of the corpus is empty"),
    ],
)
def test_bad_input_is_named(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        read_pair_corpus(make(tmp_path))


PAIRS = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from("xyz")), min_size=3).filter(
    lambda pairs: len({s for s, _ in pairs}) >= 3
)


@given(PAIRS, st.booleans())
def test_equal_sources_never_stand_in_two_splits(pairs, reverse):
    if reverse:
        pairs = [(t, s) for s, t in pairs]
    splits = read_pair_splits(pairs, Cleaning(), reverse=reverse)
    sides = [{s for s, _ in part} for part in (splits.train, splits.valid, splits.test)]
    assert all(sides)
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    swapped = [(t, s) for s, t in pairs] if reverse else pairs
    assert sorted([*splits.train, *splits.valid, *splits.test]) == sorted(swapped)


def test_given_splits_are_taken_less_what_they_share(tmp_path):
    write(tmp_path / "train.jsonl", '{"q": "a", "a": "1"}\n{"q": "b", "a": "1"}\n')
    write(tmp_path / "valid.tsv", "a\t1\na\t2\nc\t1\n")
    write(tmp_path / "test.jsonl", '{"q": "c", "a": "1"}\n{"q": "d", "a": "1"}\n')
    splits = read_pair_splits(f"{tmp_path}?source=q&target=a", Cleaning())
    assert splits.train == [("a", "1"), ("b", "1")]
    assert splits.valid == [("a", "2"), ("c", "1")]
    assert splits.test == [("d", "1")]


def test_a_split_that_is_missing_is_taken_out_of_train_by_its_sources(tmp_path):
    write(tmp_path / "train.tsv", "".join(f"question {i % 40}\tanswer {i}\n" for i in range(80)))
    write(tmp_path / "test.tsv", "last\tone\n")
    splits = read_pair_splits(tmp_path, Cleaning())
    assert not {s for s, _ in splits.train} & {s for s, _ in splits.valid}
    assert len(splits.train) + len(splits.valid) == 80
    assert splits.test == [("last", "one")]


@pytest.mark.parametrize(("task", "language"), BUILT_IN)
def test_built_in_pairs(task, language):
    pairs = read_pair_corpus(language, task)
    clean = Cleaning()
    assert len(pairs) == len({s for s, _ in pairs}) >= 300
    assert all((clean(s), clean(t)) == (s, t) and s and t for s, t in pairs)
    assert all(is_chinese(s) == (language == "zh") for s, _ in pairs)
    if task == "translation":
        assert all(is_chinese(t) == (language == "en") for _, t in pairs)
    elif task == "classification":
        counts = {label: sum(t == label for _, t in pairs) for label in {t for _, t in pairs}}
        assert len(counts) == 4
        assert min(counts.values()) >= 70
    else:
        assert all(is_chinese(t) == (language == "zh") for _, t in pairs)


def test_a_task_without_built_in_pairs_says_so():
    with pytest.raises(ValueError, match="the task 'generation' has no built-in pairs"):
        read_pair_corpus("zh", "generation")
