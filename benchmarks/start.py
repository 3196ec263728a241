"""Time of each command from its start to its end, in fresh processes, beside `import torch`.

    python benchmarks/start.py [--json FILE]

Each command is a process of its own. The commands take turns, so that a change of the machine's speed affects
all alike. Ratios are those of processor seconds (user and system), which depend less than the clock on what
else the machine does, to `python -c "import torch"` in the same turns. Memory is the process's peak, at least
that of the measuring process, from which it is forked. `run --smoke` ends after two steps of each run; of two
workers, only the clock tells, because their processor seconds are not those of the command.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from commands import EMA_LAB, fill, in_turns, json_path, write

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

PYTHON = (sys.executable, "-c")
TORCH = "import torch"
SMOKE = (*EMA_LAB, "run", "quickstart", "--smoke", "--only", "variant=none,se", "--workers")
COMMANDS: Mapping[str, Sequence[str]] = {
    "python, no import": (*PYTHON, "pass"),
    TORCH: (*PYTHON, TORCH),
    "--help": (*EMA_LAB, "--help"),
    "plan": (*EMA_LAB, "plan", "quickstart"),
    "status": (*EMA_LAB, "status", "quickstart"),
    "report": (*EMA_LAB, "report", "quickstart"),
    "plan --check": (*EMA_LAB, "plan", "quickstart", "--check"),
    "cost --fresh": (*EMA_LAB, "cost", "quickstart", "--fresh"),
    "run --smoke --workers 2": (*SMOKE, "2"),
}


def main() -> None:
    path = json_path()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(RunStore(folder / "runs"), load_ablation("quickstart").runs())
        write(in_turns(folder, COMMANDS, TORCH), TORCH, path)


if __name__ == "__main__":
    main()
