"""Metrics and costs of a record: label, unit, and for a metric the direction of improvement."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """`sign` is +1 where more is better, -1 where less is."""

    label: str
    unit: str
    sign: int

    @property
    def header(self) -> str:
        """The label with its unit, such as `Top-1 (%)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def unit_of_differences(self) -> str:
        """The unit of a difference: percentage points for percent."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Cost:
    """A cost of a model as a table shows it: the number, recorded in `unit_recorded`, divided by `scale`."""

    label: str
    unit: str
    scale: float = 1.0
    digits: int = 2
    unit_recorded: str = ""


COSTS: Mapping[str, Cost] = {
    "parameters": Cost("Parameters", "", 1.0, 0),
    "macs": Cost("MACs", "M", 1e6),
    "macs_matmul": Cost("MACs (products)", "M", 1e6),
    "macs_all": Cost("Operations", "M", 1e6),
    "parameters_without_norm": Cost("Parameters without norms", "", 1.0, 0),
    "parameters_trainable": Cost("Trainable parameters", "", 1.0, 0),
    "activations": Cost("Activations", "M", 1e6),
}
