"""Every metric of a record: its label, its unit and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`sign` is +1 where more is better, -1 where less is."""

    label: str
    unit: str
    sign: int


METRICS: Mapping[str, Metric] = {
    "top1": Metric("Top-1", "%", +1),
    "top5": Metric("Top-5", "%", +1),
    "loss": Metric("Loss", "nats", -1),
}
