"""A pipe in place of a file is named, or passed over, and never waited for."""

import os
import signal

import pytest

from ema_lab.data.detection.annotation import Problems
from ema_lab.data.detection.coco import read_coco
from ema_lab.data.detection.folders import voc
from ema_lab.data.detection.voc import read_voc
from ema_lab.data.detection.yolo import _lines, read_data_yaml
from ema_lab.errors import DamagedFileError, DataError, DefinitionError, StoreError
from ema_lab.execution.threads import FILE, planned_threads
from ema_lab.reports.check.compare import differences
from ema_lab.search.lease import Leases
from ema_lab.search.storage import _open_journal, read_journal
from ema_lab.specs.document import read_document
from ema_lab.store.predictions import read_predictions
from ema_lab.store.store import RunStore


@pytest.fixture
def pipe(tmp_path):
    """Return a function that makes a pipe below the test's folder; opening it would raise after a while."""

    def waits(_number, _frame):
        raise AssertionError("the pipe was waited for")

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        return path

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(20)
    yield make
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def test_in_the_store(pipe):
    with pytest.raises(DamagedFileError, match="it is not a regular file"):
        read_predictions(pipe("run/predictions.npz").parent)
    store = RunStore(pipe(FILE).parent)
    assert planned_threads(store, "tiny", list, 3).number == 3
    assert planned_threads(store, "tiny", list).number > 0


def test_as_a_search_s_journal_or_lease(pipe):
    with pytest.raises(StoreError, match="cannot be read"):
        read_journal(pipe("a.journal"))
    with pytest.raises(StoreError, match="cannot be written"):
        _open_journal(pipe("b.journal"))
    with pytest.raises(StoreError):
        Leases(pipe("study/store-id").parent, object())


def test_as_a_definition_or_a_report_s_file(pipe):
    with pytest.raises(DefinitionError, match=r"fifo\.yaml: cannot be read: it is not a regular file"):
        read_document(pipe("fifo.yaml"))
    for name, built in (("table.md", "text"), ("figure.png", b"bytes")):
        [difference] = differences(pipe(name), built)
        assert "cannot be read: it is not a regular file" in difference.problem


def test_among_the_annotations_of_a_data_set(pipe, tmp_path):
    problems = Problems(9)
    with pytest.raises(DataError, match="it is not a regular file"):
        read_coco(pipe("instances.json"), tmp_path, problems)
    with pytest.raises(DataError, match="it is not a regular file"):
        read_data_yaml(pipe("data.yaml"))
    with pytest.raises(DataError, match="it is not a regular file"):
        voc(pipe("VOCdevkit/VOC2012/ImageSets/Main/train.txt").parents[4])
    assert list(_lines(pipe("labels/a.txt"), problems)) == []
    assert read_voc([pipe("a.xml")], tmp_path, ("cat",), problems) == []
    assert ["it is not a regular file" in problem.message for problem in problems.entries] == [True, True]
