"""Heartbeat: the last progress report of a running training. Locks, not heartbeats, decide what is active."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from ema_lab.errors import StoreError
from ema_lab.files import write_text
from ema_lab.store.document import read_json
from ema_lab.store.layout import HEARTBEAT
from ema_lab.wording import number_of

STALL_SECONDS = 120.0  # a training batch that takes no longer is never called a stall
STALL_BATCHES = 20.0  # nor one that takes no longer than so many batches before
STALL_EPOCHS = 3.0  # nor an evaluation that takes no longer than the training of so many epochs

Phase = Literal["training", "evaluating"]


@dataclass(frozen=True)
class Heartbeat:
    """Last progress report of a running run. Speeds are those since the report before.

    Attributes:
        epoch: Epoch, from 1.
        batch: Number of trained batches of the epoch.
        batches: Number of batches of an epoch; 0 in reports of older versions.
        batch_seconds: Seconds per training batch.
        images_per_second: Training images per second.
        data_share: Share of the time that was spent waiting for the next batch.
        phase: Evaluation has no batches of its own in the report.
        seconds_ago: Age of the report.
    """

    epoch: int
    batch: int = 0
    batches: int = 0
    batch_seconds: float = 0.0
    images_per_second: float = 0.0
    data_share: float = 0.0
    phase: Phase = "training"
    seconds_ago: float = 0.0

    @property
    def fraction(self) -> float:
        """Share of the epoch that is trained."""
        return self.batch / self.batches if self.batches else 0.0

    @property
    def trained(self) -> float:
        """Epochs that are trained, with the begun part of this one."""
        return self.epoch - 1 + self.fraction

    @property
    def is_stalled(self) -> bool:
        """Whether the run has been silent for much longer than its batches, or an evaluation, take."""
        batches = STALL_EPOCHS * self.batches if self.phase == "evaluating" else STALL_BATCHES
        return self.seconds_ago > max(STALL_SECONDS, batches * self.batch_seconds)

    @property
    def speed(self) -> str:
        """The images per second, to three digits."""
        return f"{number_of(float(f'{self.images_per_second:.3g}'), 'image')}/s"

    @property
    def place(self) -> str:
        """The epoch, and the batch within it if it is known."""
        if self.phase == "evaluating":
            return f"epoch {self.epoch}, evaluating"
        return f"epoch {self.epoch}" + (f", batch {self.batch} of {self.batches}" if self.batches else "")

    def write(self, folder: Path) -> None:
        """Write the report to a run's folder; a failed write is ignored."""
        facts = {key: value for key, value in asdict(self).items() if key != "seconds_ago"}
        facts["time"] = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):
            write_text(folder / HEARTBEAT, json.dumps(facts), durable=False)

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read a run's report; None if the file is missing or unreadable."""
        try:
            beat = read_json(folder / HEARTBEAT)
            age = datetime.now(UTC) - datetime.fromisoformat(beat["time"])
            return cls(
                epoch=int(beat["epoch"]),
                batch=int(beat.get("batch", 0)),
                batches=int(beat.get("batches", 0)),
                batch_seconds=float(beat.get("batch_seconds", 0.0)),
                images_per_second=float(beat.get("images_per_second", 0.0)),
                data_share=float(beat.get("data_share", 0.0)),
                phase="evaluating" if beat.get("phase") == "evaluating" else "training",
                seconds_ago=max(0.0, age.total_seconds()),
            )
        except (OSError, StoreError, ValueError, OverflowError, KeyError, TypeError, AttributeError):
            return None


def remove_heartbeat(folder: Path) -> None:
    """Remove the report of a training that has ended."""
    with suppress(OSError):
        (folder / HEARTBEAT).unlink(missing_ok=True)
