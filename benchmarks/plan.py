"""How long planning takes: expansion of 10,000 cells, and the whole command, in fresh processes.

    python benchmarks/plan.py

The baseline of the ratios is the interpreter with the same imports and an ablation of four cells.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
TEMPLATE = """\
name: {name}
base:
  model: {{backbone: resnet20, attention: {{name: ema, groups: 4}}}}
  data: {{name: digits}}
  recipe: {{use: digits-quick}}
seeds: [{seeds}]
variants: {{ema: {{}}, plain: {{model.attention: none}}}}
axes:
  recipe.optimizer.lr: [{rates}]
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sizes = {"four": (2, 1), "ten-thousand": (20, 250)}
        seconds: dict[str, list[float]] = {name: [] for name in sizes}
        for name, (seeds, rates) in sizes.items():
            text = TEMPLATE.format(
                name=name,
                seeds=", ".join(map(str, range(seeds))),
                rates=", ".join(f"{0.001 * (i + 1):.3f}" for i in range(rates)),
            )
            Path(folder, f"{name}.yaml").write_text(text, encoding="utf-8")
        for _ in range(ROUNDS):
            for name in sizes:
                seconds[name].append(timed(Path(folder), f"{name}.yaml"))
        base = statistics.median(seconds["four"])
        for name, (seeds, rates) in sizes.items():
            median = statistics.median(seconds[name])
            cells = 2 * seeds * rates
            print(f"{cells:>6} cells  {median:.2f} s (median of {ROUNDS})  {median / base:.1f} x four cells")


def timed(folder: Path, file: str) -> float:
    command = [Path(sys.executable).with_name("ema-lab"), "plan", file]
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
