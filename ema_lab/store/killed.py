"""Attempts whose process was killed: what is known of why.

A process that is killed cannot say so. The kernel counts the processes that it kills for want of memory
(cgroups, `memory.events`); an attempt notes the count when it begins, and who finds the attempt without
an outcome, on the same host, compares.
"""

import socket
from pathlib import Path

from ema_lab.store.record import Attempt

OOM_KILLED = "killed while the kernel killed processes for want of memory"
KILLED = "its process was killed"
_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int | None:
    """Return how many processes were killed for want of memory here; None where the kernel does not say.

    The count is that of this process's cgroup (version 2, then 1), else of the whole machine.
    """
    for path, key in (*_cgroup_files(proc, cgroups), (proc / "vmstat", "oom_kill")):
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        counts = [line.split()[1] for line in lines if line.split()[:1] == [key] and len(line.split()) == 2]
        if counts and counts[0].isdecimal():
            return int(counts[0])
    return None


def _cgroup_files(proc: Path, cgroups: Path) -> list[tuple[Path, str]]:
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:  # "0::/path" in version 2, "4:memory:/path" in version 1
        _, _, rest = line.partition(":")
        controllers, _, below = rest.partition(":")
        if not controllers:
            files.append((cgroups / below.lstrip("/") / "memory.events", "oom_kill"))
        elif "memory" in controllers.split(","):
            files.append((cgroups / "memory" / below.lstrip("/") / "memory.oom_control", "oom_kill"))
    return [*files, (cgroups / "memory.events", "oom_kill")]


def kill_reason(attempt: Attempt) -> str:
    """Return what is known of why the process of an attempt was killed."""
    now = oom_kills() if attempt.host == socket.gethostname() else None
    known = now is not None and attempt.oom_kills is not None
    return OOM_KILLED if known and (now or 0) > (attempt.oom_kills or 0) else KILLED
