"""Time and memory of commands on large grids, beside reading the same records as bare JSON.

    python benchmarks/grid.py [--json FILE]

`plan` of 100,000 cells; `status` and `report` of 10,000 records. The base of the ratios reads every record of
the store with `json.loads` and does nothing with it.
"""

import sys
import tempfile
from pathlib import Path

from commands import EMA_LAB, fill, in_turns, json_path, write, write_ablation

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

BASE = "json.loads of 10,000 records"
READ = """
import json, pathlib
for path in pathlib.Path("runs").glob("*/record.json"):
    json.loads(path.read_bytes())
"""
ROUNDS = 3
REPORT = "name: wide\nablation: wide.yaml\ncolumns: [top1, delta, p, effect, n, parameters, macs]\n"
COMMANDS = {
    BASE: (sys.executable, "-c", READ),
    "status, 10,000 records": (*EMA_LAB, "status", "wide.yaml"),
    "report, 10,000 records": (*EMA_LAB, "report", "reports/wide.yaml"),
    "report --out, 10,000 records": (*EMA_LAB, "report", "reports/wide.yaml", "--out", "out"),
    "plan, 100,000 cells": (*EMA_LAB, "plan", "vast.yaml", "--store", "none"),
}


def main() -> None:
    path = json_path()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_ablation(folder / "wide.yaml", seeds=20, rates=250)
        write_ablation(folder / "vast.yaml", seeds=200, rates=250)
        (folder / "reports").mkdir()
        (folder / "reports" / "wide.yaml").write_text(REPORT, encoding="utf-8")
        fill(RunStore(folder / "runs"), load_ablation(folder / "wide.yaml").runs())
        write(in_turns(folder, COMMANDS, BASE, ROUNDS), BASE, path)


if __name__ == "__main__":
    main()
