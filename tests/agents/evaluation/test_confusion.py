"""Accuracy, macro-F1 and the confusion matrix, by hand, and the picture of it."""

import matplotlib.image
import numpy as np
import pytest

from tokenlm.agents.evaluation import confusion as picture
from tokenlm.agents.evaluation.confusion import Confusion, plot_confusion

TRUE = ["a", "a", "a", "b", "b", "c"]
WRITTEN = ["a", "b", "a", "b", "c", "a"]


def test_by_hand():
    confusion = Confusion.of(WRITTEN, TRUE)
    assert confusion.labels == ["a", "b", "c"]
    assert confusion.counts.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert confusion.accuracy == pytest.approx(3 / 6)
    # a: 2 hits, 3 written, 3 asked for; b: 1 of 2 and 2; c: none
    assert confusion.f1.tolist() == pytest.approx([4 / 6, 2 / 4, 0.0])
    assert confusion.macro_f1 == pytest.approx((4 / 6 + 2 / 4) / 3)


def test_labels_keep_their_order_and_unknown_ones_follow():
    confusion = Confusion.of(["b", "?"], ["b", "a"], labels=["z", "b", "a"])
    assert confusion.labels == ["z", "b", "a", "?"]
    assert confusion.counts.sum() == 2
    assert confusion.macro_f1 == pytest.approx(1 / 3)  # z never occurs and does not count


def test_all_right():
    confusion = Confusion.of(TRUE, TRUE)
    assert (confusion.accuracy, confusion.macro_f1) == (1.0, 1.0)


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="every label needs one prediction; there are 1 for 2 labels"):
        Confusion.of(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="there are 0 for 0"):
        Confusion.of([], [])


@pytest.mark.parametrize(
    "labels", [["good", "bad"], ["体育", "财经"], ["\U000f1234", "\U000f1235"], [f"l{i}" for i in range(25)]]
)
def test_picture(labels, tmp_path):
    plot_confusion(Confusion.of(labels, labels[::-1]), tmp_path / "confusion.png")
    image = matplotlib.image.imread(tmp_path / "confusion.png")
    assert min(image.shape[:2]) > 300
    colours = np.round(255 * image).astype(np.uint8).view(np.uint32)  # four channels of a byte in one number
    assert len(np.unique(colours)) > 10
    if labels[0] == "\U000f1234":  # no font shows it
        key = (tmp_path / "confusion.txt").read_text(encoding="utf-8")
        assert key == "0\t\U000f1234\n1\t\U000f1235\n"


def test_names_that_no_font_shows_become_numbers():
    assert picture.label_font(["\U000f1234"]) is None
    assert picture.label_font(["ordinary"]) is not None
