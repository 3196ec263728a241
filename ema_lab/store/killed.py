"""Causes of killed attempts.

A killed process cannot record its own end. The kernel counts the processes that it kills for lack of memory
(cgroups, `memory.events`). An attempt records the count at its beginning. The next process on the same host
that finds the attempt without an outcome compares the counts.
"""

import socket
from pathlib import Path

from ema_lab.store.record import Attempt

OOM_KILLED = "killed while the kernel killed processes for want of memory"
KILLED = "its process was killed"
_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> int | None:
    """Return the kernel's count of processes killed for lack of memory; None if it keeps none.

    Sources, in this order: this process's cgroup (version 2, then 1), the whole machine.
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
    """Return the reason why the process of an attempt was killed, as far as the kernel's counts show it."""
    now = oom_kills() if attempt.host == socket.gethostname() else None
    known = now is not None and attempt.oom_kills is not None
    return OOM_KILLED if known and (now or 0) > (attempt.oom_kills or 0) else KILLED
