"""store gc, rm and import lose nothing, follow nothing out of a store, and leave nothing behind."""

import errno
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from tiny import fake_outcome

from ema_lab.errors import StoreError
from ema_lab.store.record import RunRecord
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.garbage import Policy, Slimming, find_litter, remove, remove_runs

RESULTS = ["record.json", "last.ckpt", "best.ckpt", "predictions.npz", "curve.csv", "attempts/1.json"]
UNKNOWN = "0123456789abcdef"


@pytest.fixture
def runs(trained):
    """Return a store of four finished runs without weights, and their ids."""
    run_ids = trained(train=lambda spec, job: fake_outcome(spec))
    return RunStore("runs"), run_ids


def content(folder):
    paths = sorted(Path(folder).rglob("*"))
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in paths
        if ".locks" not in str(path)
    }


class TestGc:
    def test_keeps_a_finished_run_whose_spec_is_lost(self, command, runs):
        store, run_ids = runs
        (store.folder(run_ids[0]) / "spec.json").unlink()
        before = content("runs")
        assert command("store", "gc", "--apply", "--drop-weights", "--superseded").code == 0
        assert content("runs") == before

    @pytest.mark.parametrize("name", [*RESULTS, "record.json.damaged-1", "superseded/1/record.json"])
    def test_keeps_a_folder_with_any_result(self, command, folder, name):
        path = Path("runs", UNKNOWN, name)
        path.parent.mkdir(parents=True)
        path.write_text("x")
        command("store", "gc", "--apply")
        assert path.read_text() == "x"

    @pytest.mark.parametrize(
        "name", ["log.txt", "heartbeat.json", "spec.json.7.partial", "attempts/1.json.7.partial"]
    )
    def test_takes_a_folder_without_one(self, command, folder, name):
        path = Path("runs", UNKNOWN, name)
        path.parent.mkdir(parents=True)
        path.write_text("x")
        command("store", "gc")
        assert path.exists()
        command("store", "gc", "--apply")
        assert not Path("runs", UNKNOWN).exists()

    def test_judges_again_under_the_lock_what_was_an_orphan(self, specs, tmp_path):
        store = RunStore(tmp_path)
        store.folder(specs[0].run_id).mkdir()
        [litter] = find_litter(store, Policy())
        store.end(specs[0].run_id, store.begin(specs[0]), "done")
        store.write(RunRecord(run_id=specs[0].run_id, status="done", attempt=1))
        before = content(tmp_path)
        assert remove(store, litter, Policy()) is None
        assert content(tmp_path) == before

    @pytest.mark.parametrize(
        "policy", [Policy(), Policy(drop_weights=True), Policy(Slimming(lambda p: 1, Path.unlink))]
    )
    def test_judges_again_under_the_lock_what_only_resuming_needs(self, specs, tmp_path, policy):
        store, run_id = RunStore(tmp_path), specs[0].run_id
        store.begin(specs[0])
        for name in ("last.ckpt", "best.ckpt"):
            (store.folder(run_id) / name).write_text("weights")
        store.write(RunRecord(run_id=run_id, status="done", attempt=1))
        found = list(find_litter(store, policy))
        assert found
        (store.folder(run_id) / "record.json").unlink()  # `run --refresh`, say: it is trained again
        assert [remove(store, litter, policy) for litter in found] == [None] * len(found)
        assert (store.folder(run_id) / "last.ckpt").exists()
        assert (store.folder(run_id) / "best.ckpt").exists()

    def test_leaves_what_another_process_imports_or_removes(self, folder):
        store = RunStore("runs")
        for name in (".importing-x", f".removing-{UNKNOWN}"):
            Path("runs", name).mkdir(parents=True)
        with store.claim("import"), store.claim(UNKNOWN):
            assert list(find_litter(store, Policy())) == []
        found = list(find_litter(store, Policy()))
        assert len(found) == 2
        with store.claim("import"), store.claim(UNKNOWN):
            assert [remove(store, litter, Policy()) for litter in found] == [None, None]

    def test_takes_a_link_and_not_what_it_leads_to(self, command, folder):
        Path("outside").mkdir()
        Path("outside", "kept").write_text("x")
        Path("runs").mkdir()
        for name in (f".removing-{UNKNOWN}", ".importing-x"):
            Path("runs", name).symlink_to(Path("outside").absolute())
        assert command("store", "gc", "--apply").code == 0
        assert [path.name for path in Path("runs").iterdir()] == [".locks"]
        assert Path("outside", "kept").read_text() == "x"


class TestRemove:
    def test_of_a_link_takes_the_link(self, command, runs):
        store, run_ids = runs
        shutil.move(store.folder(run_ids[0]), "elsewhere")
        store.folder(run_ids[0]).symlink_to(Path("elsewhere").absolute())
        assert command("store", "rm", run_ids[0], "--yes").code == 0
        assert {path.name for path in Path("runs").iterdir()} == {".locks", *run_ids[1:]}
        assert Path("elsewhere", "record.json").exists()

    def test_keeps_a_run_that_was_finished_after_the_question(self, runs):
        store, run_ids = runs
        with pytest.raises(StoreError, match="is done now: this run and the later ones are kept"):
            remove_runs(store, {run_ids[0]: "pending", run_ids[1]: "done"})
        assert store.run_ids() == sorted(run_ids)

    def test_takes_nothing_that_is_no_run(self, command, runs):
        Path("runs", "my-notes").mkdir()
        answer = command("store", "rm", "my-notes", "--yes")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert Path("runs", "my-notes").exists()


class TestImport:
    @pytest.fixture
    def other(self, runs):
        Path("runs").rename("other")
        Path("secret").mkdir()
        Path("secret", "file").write_text("secret")
        return RunStore("other"), runs[1]

    def taken(self, command, source):
        answer = command("store", "import", source, "--json")
        assert "secret" not in "".join(str(value) for value in content("runs").values())
        assert [path.name for path in Path("runs").iterdir() if path.name.startswith((".imp", ".rem"))] == []
        return answer.code, [(row["run_id"], row["result"], row["detail"]) for row in json.loads(answer.out)]

    @pytest.mark.parametrize("name", ["last.ckpt", "log.txt", "deep/er"])
    @pytest.mark.parametrize("kind", ["link", "folder link", "loop", "pipe"])
    def test_leaves_out_what_leads_out_of_a_run(self, command, other, name, kind):
        store, run_ids = other
        path = store.folder(run_ids[0]) / name
        path.parent.mkdir(exist_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            targets = {"link": Path("secret", "file").absolute(), "folder link": Path("secret").absolute()}
            path.symlink_to(targets.get(kind, path.name))
        code, rows = self.taken(command, "other")
        assert code == 1
        assert [result for _, result, _ in rows].count("new") == 4
        [(run_id, _, detail)] = [row for row in rows if row[1] == "left out"]
        assert (run_id, name in detail) == (run_ids[0], True)
        assert not os.path.lexists(Path("runs", run_ids[0], name))

    @pytest.mark.parametrize("name", ["record.json", "spec.json", "attempts", "attempts/1.json", ""])
    def test_does_not_read_documents_through_a_link(self, command, other, name):
        store, run_ids = other
        path = store.folder(run_ids[0]) / name
        shutil.move(path, "secret/moved")
        path.symlink_to(Path("secret/moved").absolute())
        code, rows = self.taken(command, "other")
        assert code == 1
        assert {row[0]: row[1] for row in rows} == {**dict.fromkeys(run_ids, "new"), run_ids[0]: "unreadable"}
        assert not Path("runs", run_ids[0]).exists()

    def test_of_a_run_that_changes_meanwhile_takes_nothing_of_it(self, command, other, monkeypatch):
        store, run_ids = other
        copy = shutil.copytree

        def change_and_copy(source, *arguments, **options):
            if Path(source).name == run_ids[0]:
                record = store.record(run_ids[0])
                store.write(record.model_copy(update={"metrics": {"top1": 1.0}}))
            return copy(source, *arguments, **options)

        monkeypatch.setattr(shutil, "copytree", change_and_copy)
        code, rows = self.taken(command, "other")
        assert (code, {row[0]: row[1] for row in rows}[run_ids[0]]) == (1, "unreadable")
        assert not Path("runs", run_ids[0]).exists()

    def tar_of(self, members):
        with tarfile.open("packed.tar", "w") as file:
            file.add("other")
            for name, kind, target in members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                member.size = 6 if kind == tarfile.REGTYPE else 0
                file.addfile(member, io.BytesIO(b"secret"))

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
    def test_leaves_out_one_member_of_a_tar_file_and_takes_the_rest(self, command, other, name, kind, target):
        self.tar_of([(name, kind, target)])
        before = content("secret")
        answer = command("store", "import", "packed.tar")
        lines = [line for line in answer.err.splitlines() if line.startswith("left out of packed.tar: ")]
        assert (answer.code, len(lines)) == (1, 1)
        assert repr(name) in lines[0]
        assert {path.name for path in Path("runs").iterdir()} == {".locks", *other[1]}
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
    def test_leaves_out_a_member_whose_path_is_too_long_and_takes_the_rest(
        self, command, other, form, name, problem
    ):
        if form == "tar":
            self.tar_of([(name, tarfile.REGTYPE, "")])
        else:
            shutil.make_archive("packed", "zip", ".", "other")
            with zipfile.ZipFile("packed.zip", "a") as file:
                file.writestr(name, "x")
        answer = command("store", "import", f"packed.{form}")
        [line] = [line for line in answer.err.splitlines() if line.startswith("left out of")]
        assert answer.code == 1
        assert line.endswith(problem)
        assert len(line) < 400
        assert {path.name for path in Path("runs").iterdir()} == {".locks", *other[1]}

    def test_a_full_disk_ends_the_import_of_an_archive(self, command, other, monkeypatch):
        def full(*_args):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.tar_of([])
        monkeypatch.setattr(shutil, "copyfileobj", full)
        answer = command("store", "import", "packed.tar")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "No space left on device" in answer.err

    @pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("/")])
    def test_names_what_is_called_like_a_run_and_is_none(self, command, other, make):
        make(Path("other", UNKNOWN))
        code, rows = self.taken(command, "other")
        assert code == 1
        [detail] = [detail for run_id, result, detail in rows if (run_id, result) == (UNKNOWN, "unreadable")]
        assert detail in {"is not a folder", "a link is not followed"}
        assert [result for _, result, _ in rows].count("new") == 4

    def test_names_a_result_whose_spec_is_lost_and_passes_over_an_empty_folder(self, command, other):
        Path("other", UNKNOWN).mkdir()
        assert self.taken(command, "other")[0] == 0
        store, run_ids = other
        (store.folder(run_ids[0]) / "spec.json").rename("spec.json")
        assert self.taken(command, "other") == (1, [
            (run_ids[0], "unreadable", "it has no spec.json"),
            *((run_id, "equal", None) for run_id in sorted(run_ids[1:])),
        ])  # fmt: skip

    def test_names_each_further_store_of_an_archive(self, command, other):
        shutil.copytree("other", "tree/one")
        shutil.copytree("other", "tree/two")
        shutil.make_archive("packed", "tar", "tree")
        answer = command("store", "import", "packed.tar")
        assert answer.code == 1
        assert "left out of packed.tar: 'two': is a second store, to import by itself" in answer.err

    def test_leaves_out_a_member_below_a_link_of_the_same_tar_file(self, command, other):
        way = [("other/way", tarfile.SYMTYPE, str(Path("secret").absolute()))]
        self.tar_of([*way, ("other/way/escaped", tarfile.REGTYPE, "")])
        assert command("store", "import", "packed.tar").code == 1
        assert list(content("secret")) == ["secret/file"]

    def test_leaves_out_members_of_a_zip_file(self, command, other):
        shutil.make_archive("packed", "zip", ".", "other")
        link = zipfile.ZipInfo("other/link")
        link.external_attr = 0o120777 << 16
        with zipfile.ZipFile("packed.zip", "a") as file:
            for name in ("../escaped", "/escaped", "..\\escaped", link):
                file.writestr(name, "secret")
        answer = command("store", "import", "packed.zip")
        lines = [line for line in answer.err.splitlines() if line.startswith("left out of packed.zip: ")]
        assert (answer.code, len(lines)) == (1, 4)
        assert {path.name for path in Path("runs").iterdir()} == {".locks", *other[1]}
        assert not any(Path(place, "escaped").exists() for place in (".", "..", "runs", "/"))

    @pytest.mark.parametrize("kind", ["zip", "gztar", "tar"])
    def test_of_an_archive_that_is_cut_off_leaves_nothing_behind(self, command, other, kind):
        path = Path(shutil.make_archive("packed", kind, ".", "other"))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        answer = command("store", "import", path.name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "cannot be unpacked" in answer.err
        assert [path.name for path in Path("runs").iterdir()] == [".locks"]
