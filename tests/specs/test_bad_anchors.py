"""Anchors that cannot be used, in a definition or in a file: one line, and nothing is trained."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

import ema_lab
from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import EmaLabError
from ema_lab.store.store import RunStore

ABLATION = """\
name: mine
base:
  model: {backbone: yolov5n}
  data: {name: synthetic_scenes, train_images: 4, test_images: 2}
  recipe:
    epochs: 1
    batch_size: 2
    optimizer: {name: sgd, lr: 0.01}
    detection:
      anchors: ANCHORS
seeds: [0]
baseline: none
variants: {none: {}}
"""
PLACE = "ablations/mine.yaml:10: recipe.detection.anchors: "
FORM = (
    "must be fitted, published, a file, or for each head a list such as [[10, 13], [16, 30]], sides from "
    "0.001 to 1,000,000 pixels, got "
)
DEEP = "[" * 50_000
HUGE = "1" + "0" * 400


@pytest.fixture(autouse=True)
def _folder(folder: Path) -> None:
    """Work in an empty folder."""


def refused(anchors: str, call: Callable[[str], object] = load_ablation) -> str:
    """Return the line that refuses anchors."""
    Path("ablations/mine.yaml").write_text(ABLATION.replace("ANCHORS", anchors))
    with pytest.raises(EmaLabError) as raised:
        call("mine")
    line = str(raised.value)
    assert "\n" not in line
    assert not Path("runs").exists() or not RunStore("runs").run_ids()
    assert len(line) < 400
    return line


@pytest.mark.parametrize(
    ("anchors", "words"),
    [
        ("fited", "'fited', which cannot be read (No such file or directory)"),
        ("''", "'', which cannot be read"),
        ("5", "5"),
        ("{a: 1}", "{'a': 1}"),
        ("[]", "[]"),
        ("[[]]", "[]"),
        ("[10, 13]", "10"),
        ("[[10, 13, 16]]", "[10, 13, 16]"),
        ("[[[10, 13], [16]]]", "[[10, 13], [16]]"),
        ("[[[[10, 13]]]]", "[[[10, 13]]]"),
        ("[[[10, 13]], [[16, 1.0e+7]]]", "[[16, 10000000.0]]"),
        ("[[[10, 13]], [[16, 1.0e-4]]]", "[[16, 0.0001]]"),
        ("[[[10, 13]], [[16, -3]]]", "[[16, -3]]"),
        ("[[[10, 13]], [[16, 0]]]", "[[16, 0]]"),
        ("[[[10, 13]], [[16, true]]]", "[[16, True]]"),
        ("[[[10, 13]], [[16, '3']]]", "[[16, '3']]"),
    ],
)
def test_anchors_of_a_wrong_form_are_one_line(anchors, words):
    line = refused(anchors)
    assert line.startswith(f"{PLACE}{FORM}{words}")


@pytest.mark.parametrize("value", [".nan", ".inf", HUGE])
def test_a_number_that_yaml_cannot_hold_is_one_line(value):
    assert refused(f"[[[10, 13]], [[16, {value}]]]").startswith("ablations/mine.yaml:10: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", f"{FORM}[] in anchors.txt"),
        ('{"a": 1}', f"{FORM}{{'a': 1}} in anchors.txt"),
        ("[[[[10, 13]]]]", f"{FORM}[[[10, 13]]] in anchors.txt"),
        ("[10, 13]", f"{FORM}10 in anchors.txt"),
        ("[[NaN, 13], [1, 2]]", f"{FORM}[nan, 13] in anchors.txt"),
        (f"[[{HUGE}, 13], [1, 2]]", f"{FORM}[1000"),
        ("nan 13\n1 2\n", f"{FORM}[nan, 13.0] in anchors.txt"),
        ("1e999 13\n1 2\n", f"{FORM}[inf, 13.0] in anchors.txt"),
        ("-1 13\n1 2\n", f"{FORM}[-1.0, 13.0] in anchors.txt"),
        ("10,13,16\n", f"{FORM}[10.0, 13.0, 16.0] in anchors.txt"),
        ("10,13\n10,13 16,30\n", "needs as many anchors for every head, got [1, 2] in anchors.txt"),
        ("ten 13\n", FORM.replace("got ", "got neither JSON nor lines of numbers in anchors.txt")),
        (DEEP, FORM.replace("got ", "got neither JSON nor lines of numbers in anchors.txt")),
        (b"\xff\xfe", f"{FORM}'anchors.txt', which cannot be read (UnicodeDecodeError)"),
        (b"1 " * 100_000, f"{FORM}'anchors.txt', which cannot be read"),
    ],
)
def test_a_file_of_a_wrong_form_is_one_line(content, words):
    Path("anchors.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    line = refused("anchors.txt")
    assert line.startswith(f"{PLACE}{words}")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda name: os.symlink(name, name)])
def test_what_is_no_file_is_one_line(make):
    make("anchors.txt")
    line = refused("anchors.txt")
    assert line.startswith(f"{PLACE}{FORM}'anchors.txt', which cannot be read (")


@pytest.mark.parametrize(
    ("content", "given"),
    [
        ("10 13 16 30\n", "1 head with 2 anchors"),
        ("[[10, 13], [16, 30], [33, 23]]", "3 heads with 1 anchor each"),
        ("1 2 3 4 5 6 7 8\n" * 3, "3 heads with 4 anchors each"),
    ],
)
def test_anchors_that_do_not_fit_the_detector_are_refused_before_training(content, given):
    Path("anchors.txt").write_text(content)
    rule = f"recipe.detection.anchors gives {given}, but backbone yolov5n has 3 heads with 3 anchors each"
    run = partial(ema_lab.run, device="cpu", workers=1)
    assert refused("anchors.txt", run) == f"ablations/mine.yaml: none: {rule}"
