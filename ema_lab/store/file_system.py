"""Check that locks in a shared folder hold on every machine."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ema_lab.errors import StoreError

ONE_MACHINE = "EMA_LAB_ONE_MACHINE"
ONE_MACHINE = "EMA_LAB_ONE_MACHINE"
MOUNTS = Path("/proc/self/mounts")
# File systems whose locks hold on one machine only, although several machines may share the files.
ALWAYS_LOCAL = {"9p", "afs", "ceph-fuse", "fuse.s3fs", "fuse.sshfs", "prl_fs", "vboxsf", "vmhgfs"}
# Mount options that make the locks of a shared file system local.
LOCAL_OPTIONS = {
    "cifs": {"nobrl"},
    "lustre": {"localflock"},
    "nfs": {"local_lock=all", "local_lock=flock", "nolock"},
    "nfs4": {"local_lock=all", "local_lock=flock"},
}


@dataclass(frozen=True)
class Mount:
    """Mounted file system: mount point, type and mount options."""

    folder: str
    kind: str
    options: frozenset[str]


def require_shared_locks(folder: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a folder whose locks other machines cannot see.

    Without a mount table, as outside of Linux, every folder passes. The environment variable
    EMA_LAB_ONE_MACHINE disables the check.

    Raises:
        StoreError: If two machines could train the same run at the same time.
    """
    mount = _mount_of(folder, mounts)
    if mount is None or os.environ.get(ONE_MACHINE):
        return
    local = sorted(LOCAL_OPTIONS.get(mount.kind, set()) & mount.options)
    if mount.kind in ALWAYS_LOCAL or local:
        file_system = f"{mount.kind} mounted with {local[0]}" if local else mount.kind
        raise StoreError(
            f"the store {folder} is on {file_system} ({mount.folder}), whose locks hold on this machine "
            "only: two machines could train one run at the same time; use another folder, or set "
            f"{ONE_MACHINE}=1 if no other machine uses it"
        )


def _mount_of(folder: Path, mounts: Path) -> Mount | None:
    """Return the innermost mount above a folder; the folder need not exist yet."""
    path = folder.absolute()
    while not path.exists():
        path = path.parent
    path = path.resolve()
    holding = [mount for mount in _mounts(mounts) if path.is_relative_to(mount.folder)]
    return max(reversed(holding), key=lambda mount: len(mount.folder), default=None)


def _mounts(table: Path) -> Iterator[Mount]:
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(" ")
        if len(fields) >= 4:
            folder = fields[1].replace("\\040", " ").replace("\\011", "\t")
            yield Mount(folder, fields[2], frozenset(fields[3].split(",")))
