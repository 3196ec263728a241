"""Event files of TensorBoard, through torch's writer: scalars, config, hyper-parameters and a table."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ema_lab.tracking.mlflow_runs import flat

SHORT_ID = 8


def folder_name(name: str, run_id: str) -> str:
    """Return the name under which TensorBoard shows a run: its name, and enough of its id to be unique."""
    return f"{re.sub(r'[^A-Za-z0-9.,=+-]+', '_', name).strip('_')}-{run_id.rpartition('-')[2][:SHORT_ID]}"


class EventFiles:
    """Writer of one run's event files.

    Args:
        folder: Folder of the run.
        first_step: Step from which on earlier event files no longer count.
    """

    def __init__(self, folder: Path, first_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, step: int, row: Mapping[str, float | int]) -> None:
        """Write numbers at a step."""
        for key, value in row.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def config(self, config: Mapping[str, Any]) -> None:
        """Write a config as text."""
        self._writer.add_text("config", f"    {json.dumps(config, indent=1)}".replace("\n", "\n    "))

    def summary(self, config: Mapping[str, Any], summary: Mapping[str, float | int]) -> None:
        """Write the final numbers beside the config, for TensorBoard's table of hyper-parameters."""
        values = {
            key: value if isinstance(value, str | bool | int | float) else str(value)
            for key, value in flat(config).items()
        }
        self._writer.add_hparams(values, {f"final/{key}": v for key, v in summary.items()}, run_name=".")

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table as Markdown."""
        lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
        self._writer.add_text("results", "\n".join(f"| {' | '.join(line)} |" for line in lines))

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


def _cell(value: Any) -> str:
    return "" if value is None else str(value).replace("|", "\\|")
