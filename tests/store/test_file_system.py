"""A store is refused where its locks would hold on one machine only."""

import pytest

from ema_lab.errors import StoreError
from ema_lab.store.file_system import require_shared_locks


@pytest.fixture
def table(tmp_path):
    """Return a function that enters a file system below tmp_path in a mount table."""

    def mounted(kind: str, options: str = "rw", folder: str = "shared disk"):
        (tmp_path / folder).mkdir(exist_ok=True)
        where = str(tmp_path / folder).replace(" ", "\\040")
        (tmp_path / "mounts").write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {where} {kind} {options} 0 0\n")
        return tmp_path / "mounts"

    return mounted


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("fuse.sshfs", "rw", "is on fuse.sshfs"),
        ("9p", "rw,trans=virtio", "is on 9p"),
        ("nfs", "rw,vers=3,nolock,hard", "is on nfs mounted with nolock"),
        ("nfs4", "rw,local_lock=flock", "is on nfs4 mounted with local_lock=flock"),
        ("lustre", "rw,localflock", "is on lustre mounted with localflock"),
        ("cifs", "rw,nobrl", "is on cifs mounted with nobrl"),
    ],
)
def test_local_locks_on_shared_files_are_refused(tmp_path, table, kind, options, message):
    mounts = table(kind, options)
    for folder in ("shared disk", "shared disk/runs/new"):
        with pytest.raises(StoreError, match=message) as caught:
            require_shared_locks(tmp_path / folder, mounts)
        assert "two machines could train one run at the same time" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("nfs4", "rw,local_lock=none"), ("nfs", "rw,local_lock=none"), ("lustre", "flock"), ("xfs", "rw")],
)
def test_locks_that_all_machines_see_are_taken(tmp_path, table, kind, options):
    assert require_shared_locks(tmp_path / "shared disk" / "runs", table(kind, options)) is None


def test_who_knows_that_no_other_machine_is_there_may_say_so(tmp_path, table, monkeypatch):
    monkeypatch.setenv("EMA_LAB_ONE_MACHINE", "1")
    assert require_shared_locks(tmp_path / "shared disk", table("9p")) is None


def test_the_innermost_mount_decides(tmp_path, table):
    mounts = table("fuse.sshfs")
    assert require_shared_locks(tmp_path / "beside", mounts) is None
    with mounts.open("a") as file:
        (tmp_path / "shared disk" / "local").mkdir()
        file.write(f"/dev/sdb {tmp_path}/shared\\040disk/local ext4 rw 0 0\n")
    assert require_shared_locks(tmp_path / "shared disk" / "local" / "runs", mounts) is None


def test_without_a_table_nothing_is_refused(tmp_path):
    assert require_shared_locks(tmp_path, tmp_path / "absent") is None
    assert require_shared_locks(tmp_path) is None
