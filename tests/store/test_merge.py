"""What an import takes from another store or an archive, and what it leaves out."""

import errno
import io
import json
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
from contents import content

from ema_lab.errors import StoreError
from ema_lab.store.store import RunStore
from ema_lab.workflow.upkeep import check_runs, merge_store

UNKNOWN = "0123456789abcdef"


def change(store, run_id, top1):
    record = store.record(run_id)
    store.write(record.model_copy(update={"metrics": {**record.metrics, "top1": top1}}))


def merged(prefer=None):
    """Import `other`; return 1 if something needs a look, else 0, and the result by run."""
    merge = merge_store(Path("other"), RunStore("runs"), prefer)
    return int(not merge.ok), {row["run_id"]: row["result"] for row in merge.rows()}


@pytest.fixture
def copied(trained):
    """Return the store `other` of four finished runs, and their ids; beside it lies a secret."""
    run_ids = trained()
    Path("runs").rename("other")
    Path("secret").mkdir()
    Path("secret", "file").write_text("secret")
    return RunStore("other"), run_ids


def taken():
    """Import `other`; return 1 if something needs a look, else 0, and all rows."""
    merge = merge_store(Path("other"), RunStore("runs"))
    assert "secret" not in "".join(str(value) for value in content("runs").values())
    assert [path.name for path in Path("runs").iterdir() if path.name.startswith((".imp", ".rem"))] == []
    return int(not merge.ok), [(row["run_id"], row["result"], row["detail"]) for row in merge.rows()]


def test_copies_whole_runs_and_nothing_twice(other):
    assert merged() == (0, dict.fromkeys(other.run_ids(), "new"))
    mine = RunStore("runs")
    for run_id in other.run_ids():
        for path in other.folder(run_id).rglob("*"):
            if path.is_file():
                copy = mine.folder(run_id) / path.relative_to(other.folder(run_id))
                assert copy.read_bytes() == path.read_bytes()
    assert not check_runs(mine).rows()
    assert merged() == (0, dict.fromkeys(other.run_ids(), "equal"))


def test_may_write_to_what_it_copies_from_a_protected_store(other):
    for path in [Path("other"), *Path("other").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert merged() == (0, dict.fromkeys(other.run_ids(), "new"))
    for run_id in other.run_ids():
        folder = RunStore("runs").folder(run_id)
        assert all(path.stat().st_mode & stat.S_IWUSR for path in [folder, *folder.rglob("*")])


def test_prefer_settles_conflicts_and_keeps_ours_aside(runs, other, last):
    ours = runs.record(last)
    change(other, last, 1.5)
    assert merged("ours")[1][last] == "kept"
    assert runs.record(last) == ours
    code, results = merged("theirs")
    assert (code, results[last]) == (0, "taken")
    assert runs.record(last).metrics["top1"] == 1.5
    kept = runs.folder(last) / "superseded" / "1"
    assert json.loads((kept / "record.json").read_text())["metrics"] == dict(ours.metrics)
    assert (kept / "last.ckpt").exists()
    assert (runs.folder(last) / "last.ckpt").exists()


def test_takes_what_is_done_there_and_not_here(runs, other, last):
    (runs.folder(last) / "record.json").unlink()
    assert merged()[1][last] == "taken"
    assert runs.state(last) == "done"


def test_keeps_ours_where_theirs_is_not_done(runs, other, last):
    (other.folder(last) / "record.json").unlink()
    assert merged()[1][last] == "kept"
    assert runs.state(last) == "done"


def test_leaves_what_a_process_works_on_here_or_there(runs, other, last, best):
    (other.folder(best) / "record.json").unlink()
    other.begin(other.spec(best))
    with runs.claim(last), other.claim(best):
        results = merged()[1]
    assert (results[last], results[best]) == ("busy", "busy")


def test_names_what_it_cannot_read(other):
    broken = other.run_ids()[0]
    (other.folder(broken) / "spec.json").write_text("{")
    code, results = merged()
    assert (code, results[broken]) == (1, "unreadable")
    assert not Path("runs", broken).exists()


def tar_of(members):
    with tarfile.open("packed.tar", "w") as file:
        file.add("other")
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = 6 if kind == tarfile.REGTYPE else 0
            file.addfile(member, io.BytesIO(b"secret"))


@pytest.mark.parametrize("name", ["last.ckpt", "log.txt", "deep/er"])
@pytest.mark.parametrize("kind", ["link", "folder link", "loop", "pipe"])
def test_leaves_out_what_leads_out_of_a_run(copied, name, kind):
    store, run_ids = copied
    path = store.folder(run_ids[0]) / name
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        targets = {"link": Path("secret", "file").absolute(), "folder link": Path("secret").absolute()}
        path.symlink_to(targets.get(kind, path.name))
    code, rows = taken()
    assert code == 1
    assert [result for _, result, _ in rows].count("new") == 4
    [(run_id, _, detail)] = [row for row in rows if row[1] == "left out"]
    assert (run_id, name in detail) == (run_ids[0], True)
    assert not os.path.lexists(Path("runs", run_ids[0], name))


@pytest.mark.parametrize("name", ["record.json", "spec.json", "attempts", "attempts/1.json", ""])
def test_does_not_read_documents_through_a_link(copied, name):
    store, run_ids = copied
    path = store.folder(run_ids[0]) / name
    shutil.move(path, "secret/moved")
    path.symlink_to(Path("secret/moved").absolute())
    code, rows = taken()
    assert code == 1
    assert {row[0]: row[1] for row in rows} == {**dict.fromkeys(run_ids, "new"), run_ids[0]: "unreadable"}
    assert not Path("runs", run_ids[0]).exists()


def test_of_a_run_that_changes_meanwhile_takes_nothing_of_it(copied, monkeypatch):
    store, run_ids = copied
    copy = shutil.copytree

    def change_and_copy(source, *arguments, **options):
        if Path(source).name == run_ids[0]:
            record = store.record(run_ids[0])
            store.write(record.model_copy(update={"metrics": {"top1": 1.0}}))
        return copy(source, *arguments, **options)

    monkeypatch.setattr(shutil, "copytree", change_and_copy)
    code, rows = taken()
    assert (code, {row[0]: row[1] for row in rows}[run_ids[0]]) == (1, "unreadable")
    assert not Path("runs", run_ids[0]).exists()


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("../escaped", tarfile.REGTYPE, ""),
        ("other/../../escaped", tarfile.REGTYPE, ""),
        ("/escaped", tarfile.REGTYPE, ""),
        ("other/link", tarfile.SYMTYPE, "/etc/passwd"),
        ("other/link", tarfile.SYMTYPE, "link"),
        ("other/link", tarfile.LNKTYPE, "../../secret/file"),
        ("other/pipe", tarfile.FIFOTYPE, ""),
        ("other/device", tarfile.CHRTYPE, ""),
        ("other/disk", tarfile.BLKTYPE, ""),
        ("other/\x1b[31mred/../../escaped", tarfile.REGTYPE, ""),
    ],
)
def test_leaves_out_one_member_of_a_tar_file_and_takes_the_rest(copied, name, kind, target):
    tar_of([(name, kind, target)])
    before = content("secret")
    lines = merge_store(Path("packed.tar"), RunStore("runs")).skipped
    assert len(lines) == 1
    assert repr(name) in lines[0]
    assert {path.name for path in Path("runs").iterdir()} == {".locks", *copied[1]}
    assert content("secret") == before
    assert not any(Path(place, "escaped").exists() for place in (".", "..", "runs", "/"))


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("other/" + "x" * 5000, "File name too long"),
        ("other/" + "y" * 300 + "/file", "File name too long"),
        ("other/" + "z/" * 2000 + "file", "is nested in more than 100 folders"),
    ],
)
def test_leaves_out_a_member_whose_path_is_too_long_and_takes_the_rest(copied, form, name, problem):
    if form == "tar":
        tar_of([(name, tarfile.REGTYPE, "")])
    else:
        shutil.make_archive("packed", "zip", ".", "other")
        with zipfile.ZipFile("packed.zip", "a") as file:
            file.writestr(name, "x")
    [line] = merge_store(Path(f"packed.{form}"), RunStore("runs")).skipped
    assert line.endswith(problem)
    assert len(line) < 400
    assert {path.name for path in Path("runs").iterdir()} == {".locks", *copied[1]}


def test_a_full_disk_ends_the_import_of_an_archive(copied, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    tar_of([])
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(StoreError, match="No space left on device"):
        merge_store(Path("packed.tar"), RunStore("runs"))


@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("/")])
def test_names_what_is_called_like_a_run_and_is_none(copied, make):
    make(Path("other", UNKNOWN))
    code, rows = taken()
    assert code == 1
    [detail] = [detail for run_id, result, detail in rows if (run_id, result) == (UNKNOWN, "unreadable")]
    assert detail in {"is not a folder", "a link is not followed"}
    assert [result for _, result, _ in rows].count("new") == 4


def test_names_a_result_whose_spec_is_lost_and_passes_over_an_empty_folder(copied):
    Path("other", UNKNOWN).mkdir()
    assert taken()[0] == 0
    store, run_ids = copied
    (store.folder(run_ids[0]) / "spec.json").rename("spec.json")
    assert taken() == (1, [
        (run_ids[0], "unreadable", "it has no spec.json"),
        *((run_id, "equal", None) for run_id in sorted(run_ids[1:])),
    ])  # fmt: skip


def test_names_each_further_store_of_an_archive(copied):
    shutil.copytree("other", "tree/one")
    shutil.copytree("other", "tree/two")
    shutil.make_archive("packed", "tar", "tree")
    merge = merge_store(Path("packed.tar"), RunStore("runs"))
    assert merge.skipped == ["'two': is a second store, to import by itself"]


def test_leaves_out_a_member_below_a_link_of_the_same_tar_file(copied):
    way = [("other/way", tarfile.SYMTYPE, str(Path("secret").absolute()))]
    tar_of([*way, ("other/way/escaped", tarfile.REGTYPE, "")])
    assert len(merge_store(Path("packed.tar"), RunStore("runs")).skipped) == 1
    assert list(content("secret")) == ["secret/file"]


def test_leaves_out_members_of_a_zip_file(copied):
    shutil.make_archive("packed", "zip", ".", "other")
    link = zipfile.ZipInfo("other/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile("packed.zip", "a") as file:
        for name in ("../escaped", "/escaped", "..\\escaped", link):
            file.writestr(name, "secret")
    lines = merge_store(Path("packed.zip"), RunStore("runs")).skipped
    assert len(lines) == 4
    assert {path.name for path in Path("runs").iterdir()} == {".locks", *copied[1]}
    assert not any(Path(place, "escaped").exists() for place in (".", "..", "runs", "/"))


@pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
def test_of_an_archive_that_is_cut_off_leaves_nothing_behind(copied, kind):
    path = Path(shutil.make_archive("packed", kind, ".", "other"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StoreError, match="cannot be unpacked"):
        merge_store(path, RunStore("runs"))
    assert [path.name for path in Path("runs").iterdir()] == [".locks"]
