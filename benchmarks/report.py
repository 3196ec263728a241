"""Time and memory of `report` with 1,000 and with 10,000 records, in fresh processes.

    python benchmarks/report.py

The baseline of the differences is `plan` of the same ablation with an empty store: interpreter, imports
and expansion, which every command needs.
"""

import tempfile
from pathlib import Path

from commands import ROUNDS, fill, median_seconds, print_largest_process, write_ablation

from ema_lab.ablation.ablation import load_ablation
from ema_lab.store.store import RunStore

SIZES = {1_000: (10, 50), 10_000: (20, 250)}  # records: seeds, learning rates; two variants
REPORT = """\
name: {name}
ablation: {name}.yaml
columns: [top1, delta, p, effect, n, parameters, macs]
"""
BASE = "plan, empty store"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for size, (seeds, rates) in SIZES.items():
            seconds = measure(Path(folder), f"r{size}", seeds, rates)
            for key, median in seconds.items():
                line = f"{size:>6,} records: {key:<18} {median:.2f} s (median of {ROUNDS})"
                print(f"{line}  {median - seconds[BASE]:+.2f} s")
    print_largest_process()


def measure(folder: Path, name: str, seeds: int, rates: int) -> dict[str, float]:
    """Return the seconds of each command on an ablation all of whose runs are finished."""
    write_ablation(folder / f"{name}.yaml", seeds, rates)
    (folder / "reports").mkdir(exist_ok=True)
    (folder / "reports" / f"{name}.yaml").write_text(REPORT.format(name=name), encoding="utf-8")
    fill(RunStore(folder / "runs"), load_ablation(folder / f"{name}.yaml").runs())
    report = ["report", f"reports/{name}.yaml"]
    commands = {
        BASE: ["plan", f"{name}.yaml", "--store", "none"],
        "report": report,
        "report --out": [*report, "--out", f"out-{name}"],
        "report --check": [*report, "--out", f"out-{name}", "--check"],
    }
    return median_seconds(folder, commands)


if __name__ == "__main__":
    main()
