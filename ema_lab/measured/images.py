"""Results of runs by test image, from their stored predictions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ema_lab.measured.analysis import Analyses
from ema_lab.measured.selection import Measured, Row
from ema_lab.specs.run import RunSpec
from ema_lab.statistics.images import Discordance, discordance
from ema_lab.store.record import RunRecord


@dataclass(frozen=True)
class ImageResult:
    """Metric of one run on the draws of its test images.

    Attributes:
        test_set: Hash of the test set.
        images: Number of test images.
        value: Metric on all images.
        drawn: Metric on each draw of the images; NaN where it is undefined.
        right: Whether the network is right, by image; empty for a metric that does not count images.
    """

    test_set: str
    images: int
    value: float
    drawn: tuple[float, ...]
    right: tuple[bool, ...] = ()

    def has_images_of(self, other: "ImageResult") -> bool:
        """Return whether both results are of the same test images and draws."""
        mine, theirs = (
            (each.test_set, each.images, len(each.drawn), len(each.right)) for each in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True)
class ImagePair:
    """Run and its baseline on the same test images.

    Attributes:
        item: The run's cell.
        run: Result of the run.
        baseline: Result of the baseline's run.
    """

    item: Measured
    run: ImageResult
    baseline: ImageResult

    @property
    def difference(self) -> float:
        """Variant minus baseline on all images."""
        return self.run.value - self.baseline.value

    @property
    def drawn(self) -> list[float]:
        """Variant minus baseline on each draw."""
        return [mine - other for mine, other in zip(self.run.drawn, self.baseline.drawn, strict=True)]

    @property
    def discordance(self) -> Discordance | None:
        """Images that one network alone gets right; None for a metric that does not count images."""
        if not self.run.right or not self.baseline.right:
            return None
        return discordance(self.run.right, self.baseline.right)


class ImageResults:
    """Results by test image of one metric, each computed once.

    Args:
        analyses: Analyses of stored predictions.
        metric: The metric.
    """

    def __init__(self, analyses: Analyses, metric: str) -> None:
        self.analyses, self.metric = analyses, metric
        self._results: dict[str, ImageResult | None] = {}

    def of_run(self, spec: RunSpec, record: RunRecord | None) -> ImageResult | None:
        """Return a run's result; None if the run is not done, or its predictions cannot be used."""
        if record is None or self.metric not in record.metrics:
            return None
        if record.run_id not in self._results:
            analysis = self.analyses.of(spec, record, "images", {"metric": self.metric})
            self._results[record.run_id] = _result(analysis or {})
        return self._results[record.run_id]

    def of_row(self, row: Row) -> list[tuple[Measured, ImageResult]]:
        """Return the cells of a row that have a result, on the test images of the first of them."""
        analysis = [(item, self.of_run(item.cell.spec, item.record)) for item in row.cells]
        known = [(item, result) for item, result in analysis if result is not None]
        return [(item, result) for item, result in known if result.has_images_of(known[0][1])]

    def pairs(self, row: Row) -> list[ImagePair]:
        """Return the cells whose baseline has a result on the same test images."""
        pairs = []
        for item, result in self.of_row(row):
            baseline = self.of_run(item.cell.spec, item.baseline)
            if baseline is not None and baseline.has_images_of(result):
                pairs.append(ImagePair(item, result, baseline))
        return pairs

    def without_predictions(self, rows: Sequence[Row]) -> list[Measured]:
        """Return the finished cells that have no result by image, or one of another test set."""
        with_result = {item.cell.run_id for row in rows for item, _ in self.of_row(row)}
        return [
            item
            for row in rows
            for item, _ in row.finished(self.metric)
            if item.cell.run_id not in with_result
        ]


def _result(analysis: Mapping[str, Any]) -> ImageResult | None:
    """Return the result of an analysis; None if the analysis is damaged."""
    try:
        images, value, packed = (
            int(analysis["images"]),
            float(analysis["value"]),
            bytes.fromhex(analysis["right"] or ""),
        )
        drawn = tuple(math.nan if number is None else float(number) for number in analysis["drawn"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    right = [bit == "1" for byte in packed for bit in f"{byte:08b}"][:images]
    if images < 1 or not math.isfinite(value) or len(right) not in {0, images}:
        return None
    return ImageResult(str(analysis.get("test_set")), images, value, drawn, tuple(right))
