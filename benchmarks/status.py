"""Time and memory of `status` with 5,000 records and 10,000 cells, in fresh processes.

    python benchmarks/status.py

The baseline of the ratios is `plan` of the same ablation with an empty store: interpreter, imports and
expansion, which every command needs.
"""

import tempfile
from pathlib import Path

from commands import ROUNDS, fill, median_seconds, print_largest_process, write_ablation

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

BASE = "plan, empty store"
COMMANDS = {
    BASE: ["plan", "wide.yaml", "--store", "none"],
    "status, empty store": ["status", "wide.yaml", "--store", "none"],
    "plan, 5,000 records": ["plan", "wide.yaml"],
    "status, 5,000 records": ["status", "wide.yaml"],
    "status --json, 5,000 records": ["status", "wide.yaml", "--json"],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ablation(folder / "wide.yaml", seeds=20, rates=250)
        fill(RunStore(folder / "runs"), load_ablation(folder / "wide.yaml").runs()[::2])
        seconds = median_seconds(folder, COMMANDS)
    for key, median in seconds.items():
        ratio = f"{median / seconds[BASE]:.2f} x the first, {median - seconds[BASE]:+.2f} s"
        print(f"{key:<30} {median:.2f} s (median of {ROUNDS})  {ratio}")
    print_largest_process()


if __name__ == "__main__":
    main()
