"""Display properties of metrics and costs: label, unit, and a metric's direction of improvement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """Label, unit and direction of a metric. `sign` is +1 if higher is better, -1 if lower is.

    `name` is the label without the rule of evaluation, `protocol`. A metric that can be computed by only one
    rule has no protocol.
    """

    name: str
    unit: str
    sign: int
    protocol: str = ""

    @property
    def label(self) -> str:
        """Name with the protocol, such as `mAP50 (coco)`."""
        return f"{self.name} ({self.protocol})" if self.protocol else self.name

    @property
    def header(self) -> str:
        """Name with protocol and unit, such as `Top-1 (%)` or `mAP50 (coco, %)`."""
        notes = ", ".join(filter(None, (self.protocol, self.unit)))
        return f"{self.name} ({notes})" if notes else self.name

    def prefixed(self, word: str) -> "Metric":
        """Return the metric with a word before its name, such as `Val top-1`; acronyms stay."""
        first, rest = self.name[:1], self.name[1:]
        lowered = first if rest[:1].isupper() else first.lower()
        return replace(self, name=f"{word} {lowered}{rest}")

    @property
    def unit_of_differences(self) -> str:
        """Unit of a difference: percentage points for percent."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Cost:
    """Label, unit and scale of a model cost. A table shows the recorded number divided by `scale`.

    `unit_recorded` is the unit before scaling, `digits` the number of decimals.
    """

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
