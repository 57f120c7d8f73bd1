"""Raw text from everywhere it comes from, and splits that never mix."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenlm.envs.text import Cleaning, read_documents, read_pairs, read_splits, split_documents


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


@pytest.mark.parametrize(
    "data",
    [
        "一行\n\nline two 🙂\n",
        "\ufeff一行\r\nline two 🙂\r\n",
        "一行\rline two 🙂",
        "\n \n一行\n\t\nline two 🙂\n\n",
    ],
)
def test_marks_line_ends_and_empty_lines(tmp_path, data):
    assert read_documents(write(tmp_path / "a.txt", data)) == ["一行", "line two 🙂"]


def test_only_line_ends_end_lines(tmp_path):
    text = "a\u2028b\x0cc\x85d\nsecond"
    assert read_documents(write(tmp_path / "a.txt", text)) == ["a\u2028b\x0cc\x85d", "second"]


def test_a_folder_is_all_its_files_in_order(tmp_path):
    write(tmp_path / "b.txt", "2\n")
    write(tmp_path / "a.txt", "1\n")
    write(tmp_path / "notes.md", "no\n")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep" / "c.tsv", "question\tanswer\n")
    assert read_documents(tmp_path) == ["1", "2", "answer"]


def test_pairs(tmp_path):
    path = write(tmp_path / "a.tsv", "问题\t回答\r\n\nq\ta\n")
    assert read_pairs(path) == [("问题", "回答"), ("q", "a")]
    assert read_documents(path) == ["回答", "a"]


def test_iterables():
    assert read_documents(line for line in ["a", " ", "b"]) == ["a", "b"]


@pytest.mark.parametrize(("name", "least"), [("zh", 2_000), ("en", 1_000)])
def test_built_in_corpora(name, least):
    documents = read_documents(name)
    assert len(documents) == len(set(documents)) >= least
    assert all(d == Cleaning()(d) and len(d) >= 5 for d in documents)
    ends = tuple("。！？" if name == "zh" else ".!?")
    assert all(d.endswith(ends) for d in documents)


def test_a_large_file_is_read_line_by_line(tmp_path):
    path = tmp_path / "large.txt"
    with path.open("w", encoding="utf-8") as file:
        for i in range(50_000):
            file.write(f"第{i}行，一些文字和 words 🙂\n")
    documents = read_documents(path)
    assert len(documents) == 50_000
    assert documents[-1] == "第49999行，一些文字和 words 🙂"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: p / "missing.txt", FileNotFoundError, "there is no corpus .*missing.txt.*zh, en"),
        (lambda p: write(p / "empty.txt", b""), ValueError, "empty.txt is empty"),
        (lambda p: write(p / "blank.txt", b"\n \n"), ValueError, "blank.txt is empty"),
        (
            lambda p: write(p / "gbk.txt", "ok\n中文".encode("gbk")),
            ValueError,
            "gbk.txt is not UTF-8 .*offset 3",
        ),
        (lambda p: write(p / "a.tsv", "a\tb\nno tab\n"), ValueError, "line 2 of .*a.tsv has 0 tabs"),
        (lambda p: p, FileNotFoundError, "holds no .txt or .tsv file"),
        (lambda p: ["a", 3], ValueError, "document 1 is int, not text"),
        (lambda p: [], ValueError, "the iterable of texts is empty"),
        (lambda p: 3, ValueError, "a corpus cannot be of type int; use a text file"),
        (lambda p: b"abc", ValueError, "a corpus cannot be of type bytes"),
        (lambda p: "", ValueError, "the name of the corpus is empty; use a text file"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        read_documents(make(tmp_path))


def test_a_dataset_without_the_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "tokenlm\[hf\]"'):
        read_documents("hf:some/name")


texts = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=3, max_size=80).filter(
    lambda t: len(set(t)) >= 3
)


@settings(max_examples=60)
@given(texts, st.randoms())
def test_splits_hold_everything_once_whatever_the_order(documents, random):
    splits = split_documents(documents)
    parts = [set(splits.train), set(splits.valid), set(splits.test)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set(documents))
    assert sorted(splits.train + splits.valid + splits.test) == sorted(documents)
    shuffled = documents.copy()
    random.shuffle(shuffled)
    again = split_documents(shuffled)
    assert [set(again.train), set(again.valid), set(again.test)] == parts


def test_large_corpora_split_90_5_5():
    splits = split_documents([str(i) for i in range(20_000)])
    assert len(splits.train) == pytest.approx(18_000, rel=0.02)
    assert len(splits.valid) == pytest.approx(1_000, rel=0.15)
    assert len(splits.test) == pytest.approx(1_000, rel=0.15)


def test_given_splits_are_taken_less_what_they_share(tmp_path):
    for name, text in (("train", "a\nb\nc\n"), ("valid", "b\nd\n"), ("test", "e\nd\na\n")):
        write(tmp_path / f"{name}.txt", text)
    splits = read_splits(tmp_path, Cleaning())
    assert (splits.train, splits.valid, splits.test) == (["a", "b", "c"], ["d"], ["e"])


def test_fewer_documents_than_splits_are_in_all_of_them():
    splits = read_splits(["a", "b", "a"], Cleaning())
    assert splits.train == splits.valid == splits.test == ["a", "b", "a"]
    assert read_splits(["a"], Cleaning()).valid == ["a"]
    with pytest.raises(ValueError, match="no train document is left"):
        read_splits(["\u200b"], Cleaning())


@pytest.mark.parametrize("there", ["valid", "test"])
def test_a_missing_split_is_taken_from_train_and_never_from_the_others(tmp_path, there):
    write(tmp_path / "train.txt", "\n".join(f"t{i}" for i in range(400)))
    write(tmp_path / f"{there}.txt", "own\nt3\n")
    splits = read_splits(tmp_path, Cleaning())
    missing = splits.test if there == "valid" else splits.valid
    assert set(missing).isdisjoint(splits.train)
    assert len(missing) == pytest.approx(20, abs=12)
    assert set(getattr(splits, there)) == {"own"}
    assert set(splits.train) | set(missing) == {f"t{i}" for i in range(400)}


def test_a_missing_split_of_a_tiny_folder_gets_one_document(tmp_path):
    write(tmp_path / "train.txt", "a\nb\nc\na\n")
    write(tmp_path / "test.txt", "d\n")
    splits = read_splits(tmp_path, Cleaning())
    assert len(set(splits.valid)) == 1
    assert set(splits.train) | set(splits.valid) == {"a", "b", "c"}
    assert splits.test == ["d"]


def test_a_folder_with_nothing_left_for_a_split_says_so(tmp_path):
    for name in ("train", "valid", "test"):
        write(tmp_path / f"{name}.txt", "a\nb\n")
    with pytest.raises(ValueError, match="no valid document is left"):
        read_splits(tmp_path, Cleaning())


def test_pairs_are_in_a_file_not_in_a_folder(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        read_pairs(tmp_path)


def test_a_hugging_face_dataset(tmp_path):
    pytest.importorskip("datasets")
    write(
        tmp_path / "data.jsonl",
        '{"sentence": "一行"}\n{"sentence": null}\n{"sentence": "two\\nlines\\u2028here"}\n',
    )
    source = f"hf:{tmp_path}"
    assert read_documents(f"{source}?column=sentence&split=train") == ["一行", "two", "lines\u2028here"]
    with pytest.raises(ValueError, match=r"no column 'text'; add \?column= with one of sentence"):
        read_documents(source)
    with pytest.raises(ValueError, match="unknown option 'colum'; did you mean 'column'"):
        read_documents(f"{source}?colum=sentence")
