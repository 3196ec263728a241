"""Time of `plan` with 10,000 cells, in fresh processes.

    python benchmarks/plan.py

The baseline of the ratios is the interpreter with the same imports and an ablation of four cells.
"""

import tempfile
from pathlib import Path

from commands import ROUNDS, median_seconds, write_ablation

SIZES = {"four": (2, 1), "ten-thousand": (20, 250)}  # seeds, learning rates; two variants


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, (seeds, rates) in SIZES.items():
            write_ablation(folder / f"{size}.yaml", seeds, rates)
        seconds = median_seconds(folder, {size: ["plan", f"{size}.yaml"] for size in SIZES})
    for size, (seeds, rates) in SIZES.items():
        ratio = f"{seconds[size] / seconds['four']:.1f} x four cells"
        print(f"{2 * seeds * rates:>6} cells  {seconds[size]:.2f} s (median of {ROUNDS})  {ratio}")


if __name__ == "__main__":
    main()
