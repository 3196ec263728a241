"""Processes of a Slurm job by the machine that they belong to, and their ranks."""

import os
from pathlib import Path


def living() -> dict[int, int]:
    """Return the parent of each process that runs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state not in "ZX":
            parents[int(stat.parent.name)] = int(parent)
    return parents


def environment(pid: int) -> dict[str, str]:
    try:
        pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def of_machine(number: int, job_name: str) -> tuple[int, list[int]]:
    """Return the process that a job runs on one of its machines, and the ranks there."""
    parents = living()
    mine = {
        pid
        for pid in parents
        if (found := environment(pid)).get("SLURM_JOB_NAME", "").startswith(job_name)
        and found.get("SLURM_PROCID") == str(number)
        and pid != os.getpid()
    }
    mine = {pid for pid in mine if b"python" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]}
    (top,) = {pid for pid in mine if parents[pid] not in mine}
    return top, sorted(pid for pid in mine if parents.get(parents[pid]) == top)
