"""Searches shared by several processes, some of them killed: no trial is lost or tried twice."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from search_fakes import GROUPS, LR
from search_workers import DyingTrain, assert_tried_exactly_once, start, work, work_together

from ema_lab.errors import StoreError
from ema_lab.search.storage import JournalLock
from ema_lab.search.study import SweepStudy

TEN = "  recipe.optimizer.lr: {values: [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}\n"
SIXTY = GROUPS + TEN + "  model.attention.local_branch: {values: [true, false]}\n"


@pytest.fixture
def dying(make, tmp_path):
    """Return a trier of a sweep's trials that is killed once."""

    def maker(sweep, **options):
        _, trier = make(sweep, **options)
        return replace(trier, train=DyingTrain(tmp_path / "log"))

    return maker


def test_eight_processes_try_a_grid_once_though_one_is_killed(write, dying):
    trier = dying(write(SIXTY, method="grid"))
    assert work_together([trier] * 8) == [-9, *[0] * 7]
    assert_tried_exactly_once(trier, 60)


def test_processes_keep_the_number_of_random_trials_though_one_is_killed(write, dying):
    trier = dying(write(LR), limit=20)
    assert work_together([trier] * 4) == [-9, 0, 0, 0]
    assert_tried_exactly_once(trier, 20)


def write_half_a_line_and_die(journal: Path) -> None:
    JournalLock(journal).acquire()
    with journal.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_killed_while_it_writes_the_journal_stalls_and_spoils_nothing(write, make):
    search, trier = make(write(LR), limit=6)
    study = SweepStudy(search)  # open before and after, as another process has it
    trier(study)
    journal = search.root / ".sweeps" / "sweep.journal"
    process = start(write_half_a_line_and_die, journal)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not journal.read_bytes().endswith(b"\n")
    trier(study)
    assert journal.read_bytes().endswith(b"\n")
    work(trier)
    assert_tried_exactly_once(trier, 6, died=0)


@pytest.mark.parametrize("lost", [1, 20, 200, 600])
def test_a_journal_cut_off_anywhere_goes_on_and_trains_nothing_twice(write, make, lost):
    search, trier = make(write(LR), limit=3)
    work(trier)
    journal = search.root / ".sweeps" / "sweep.journal"
    journal.write_bytes(journal.read_bytes()[:-lost])
    work(replace(trier, limit=5))
    study = SweepStudy(search)
    assert (study.counts().done, study.counts().own) == (5, 5)
    assert len(trier.train.trained) == len(set(trier.train.trained))


def test_a_store_given_relative_to_the_working_folder_has_one_journal(write, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search, trier = make(write(LR), limit=2)
    relative = replace(trier, search=replace(search, root=Path("runs")))
    process = start(work, relative)
    process.join()
    work(replace(trier, limit=4))
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*.journal")] == [
        Path("runs/.sweeps/sweep.journal")
    ]
    assert_tried_exactly_once(trier, 4, died=0)


@pytest.mark.parametrize("damage", [b"\xff\xfe no JSON\n", b"[]\n", b'{"op_code":99}\n', b'{"op_code":8}\n'])
def test_a_journal_damaged_in_its_middle_is_refused_in_one_line(write, make, damage):
    search, trier = make(write(LR), limit=2)
    work(trier)
    journal = search.root / ".sweeps" / "sweep.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    text = b"".join([*lines[:4], damage, *lines[4:]])
    journal.write_bytes(text)
    with pytest.raises(StoreError, match=r"sweep.journal cannot be read") as error:
        SweepStudy(search)
    assert len(str(error.value).splitlines()) == 1
    assert journal.read_bytes() == text


def test_what_the_store_knows_is_learned_again_where_the_journal_is_moved_away(write, make):
    search, trier = make(write(LR), limit=3)
    work(trier)
    (search.root / ".sweeps" / "sweep.journal").rename(search.root / "away")
    study = SweepStudy(search)
    assert study.add_finished() == 3
    assert len(study.best()) == 1
