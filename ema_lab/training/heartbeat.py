"""A sign of life every few seconds, for who watches a grid."""

import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from ema_lab.files import write_text
from ema_lab.store.layout import HEARTBEAT

SECONDS = 5


class Heartbeat(Callback):
    """Writes the epoch and the time to a file of the run every few seconds; `status` shows them.

    Locks, not heartbeats, say whether a run is on: one that cannot be written is left out.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HEARTBEAT
        self._last = 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if time.monotonic() - self._last < SECONDS:
            return
        self._last = time.monotonic()
        beat = {"epoch": trainer.current_epoch + 1, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        with suppress(OSError):
            write_text(self.path, json.dumps(beat), durable=False)

    def on_fit_end(self, *_: Any) -> None:
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
