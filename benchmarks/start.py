"""Time of each command from its start to its end, in fresh processes, beside `import torch`.

    python benchmarks/start.py [--json FILE]

Each command is a process of its own. The commands take turns, so that a change of the machine's speed affects
all alike. Ratios are those of processor seconds (user and system), which depend less than the clock on what
else the machine does, to `python -c "import torch"` in the same turns. Memory is the process's peak, at least
that of the measuring process, from which it is forked.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from commands import fill

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

ROUNDS = 5
PYTHON = (sys.executable, "-c")
EMA_LAB = (str(Path(sys.executable).with_name("ema-lab")),)
TORCH = "import torch"
COMMANDS: Mapping[str, Sequence[str]] = {
    "python, no import": (*PYTHON, "pass"),
    TORCH: (*PYTHON, TORCH),
    "--help": (*EMA_LAB, "--help"),
    "plan": (*EMA_LAB, "plan", "quickstart"),
    "status": (*EMA_LAB, "status", "quickstart"),
    "report": (*EMA_LAB, "report", "quickstart"),
    "plan --check": (*EMA_LAB, "plan", "quickstart", "--check"),
    "cost --fresh": (*EMA_LAB, "cost", "quickstart", "--fresh"),
}


def measured(folder: Path, command: Sequence[str]) -> tuple[float, float, float]:
    """Return processor seconds, seconds on the clock and peak memory (MiB) of a process."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - started, usage.ru_maxrss / 1024


def in_turns(
    folder: Path, commands: Mapping[str, Sequence[str]], base: str, rounds: int = ROUNDS
) -> list[dict[str, object]]:
    """Return a row per command: medians of all turns, and the ratio to the command `base`."""
    turns = [{name: measured(folder, command) for name, command in commands.items()} for _ in range(rounds)]
    rows: list[dict[str, object]] = []
    for name in commands:
        cpu, clock, memory = (statistics.median(turn[name][part] for turn in turns) for part in range(3))
        ratio = statistics.median(turn[name][0] / turn[base][0] for turn in turns)
        rows.append(
            {"command": name, "cpu_seconds": round(cpu, 3), "seconds": round(clock, 3)}
            | {"mib": round(memory), "ratio": round(ratio, 3)}
        )
    return rows


def write(rows: Sequence[Mapping[str, object]], base: str, path: Path | None) -> None:
    """Print a table, and write a line of JSON per row with machine and versions."""
    print(f"{'command':<34} processor s  clock s    MiB  x {base}")
    for row in rows:
        print("{command:<34} {cpu_seconds:>11.2f} {seconds:>8.2f} {mib:>6} {ratio:>8.2f}".format(**row))
    if path is not None:
        facts = {"machine": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
        facts |= {"torch": version("torch"), "base": base}
        path.write_text("".join(json.dumps({**row, **facts}) + "\n" for row in rows), encoding="utf-8")


def json_path() -> Path | None:
    """Read the option --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path, default=None)
    path: Path | None = parser.parse_args().json
    return path


def main() -> None:
    path = json_path()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(RunStore(folder / "runs"), load_ablation("quickstart").runs())
        write(in_turns(folder, COMMANDS, TORCH), TORCH, path)


if __name__ == "__main__":
    main()
