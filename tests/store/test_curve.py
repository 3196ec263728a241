"""Curves name their run; a damaged or foreign file counts as no curve."""

import os

import pytest

from ema_lab.errors import DamagedFileError
from ema_lab.store.curve import curve_rows, read_curve, render_curve

ROWS = [{"epoch": 1, "val_top1": 50.0}, {"epoch": 2, "val_top1": 60.5}]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "0123456789abcdef"
    folder.mkdir()
    return folder


def test_is_read_as_it_was_written(folder):
    (folder / "curve.csv").write_text(render_curve(ROWS, folder.name))
    assert read_curve(folder) == ROWS
    assert [list(row) for row in curve_rows(folder)] == [["epoch", "val_top1"]] * 2


def test_of_an_older_version_names_no_run(folder):
    (folder / "curve.csv").write_text("epoch,val_top1\n1,50.0\n2,60.5\n")
    assert read_curve(folder, strict=True) == ROWS


def test_of_another_run_is_none(folder):
    (folder / "curve.csv").write_text(render_curve(ROWS, "f" * 16))
    assert read_curve(folder) == []
    with pytest.raises(DamagedFileError, match="is the curve of 'ffffffffffffffff'"):
        read_curve(folder, strict=True)


def test_that_is_no_file_is_none_and_is_not_waited_for(folder):
    assert read_curve(folder, strict=True) == []
    os.mkfifo(folder / "curve.csv")
    assert read_curve(folder, strict=True) == []


def test_holds_finite_numbers_only(folder):
    (folder / "curve.csv").write_text("epoch,a,b\n1,nan,1\n2,1e999,2\n3,x,3\n4,,4\n")
    assert read_curve(folder) == [{"epoch": 1, "b": 1}, {"epoch": 2, "b": 2}, {"epoch": 4, "b": 4}]
