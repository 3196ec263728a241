"""The report of an ablation without a report file: the columns and figures that suit it."""

from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.specs.report import ReportSpec


def ablation_report(ablation: Ablation) -> ReportSpec:
    """Return the usual report of an ablation.

    The table has the primary metric (of detectors mAP50, too), the difference to the baseline, parameters and
    MACs; of an ablation that leaves parts out, a check mark for each part. The figures are the trade-off, the
    differences, the curves and, over two axes, a heat map.
    """
    task = ablation.task
    compared = ("delta",) if ablation.baseline else ()
    second = ("map50",) if task.primary != "map50" and "map50" in task.metrics else ()
    figures: list[dict[str, Any]] = []
    if len(ablation.rows()) > 1:
        figures.append({"kind": "tradeoff", "name": "tradeoff"})
        figures += [{"kind": "forest", "name": "differences"}] if compared else []
    figures.append({"kind": "curves", "name": "curves", "column": _column(ablation)})
    if len(axes := _axes(ablation)) == 2:
        figures.append({"kind": "heatmap", "name": "heatmap", "factors": axes})
    return ReportSpec.model_validate(
        {
            "name": ablation.name,
            "title": ablation.name,
            "kind": "leave_one_out" if ablation.form == "without" else "main",
            "ablation": str(ablation.path),
            "set": ablation.changes,
            "columns": [task.primary, *second, *compared, "parameters", "macs"],
            "figures": figures,
        }
    )


def _column(ablation: Ablation) -> str:
    """Return the validation metric if every run has a validation split, else the training loss."""
    validated = all(cell.spec.data.val_images for cell in ablation.cells)
    return f"val_{ablation.task.primary}" if validated else "train_loss"


def _axes(ablation: Ablation) -> list[str]:
    """Return the axes with several values that every cell has, if there is one row for each combination."""
    names = [name for name, _ in ablation.cells[0].own_axes + ablation.cells[0].axes]
    points = [{name: repr(value) for name, value in cell.own_axes + cell.axes} for cell in ablation.cells]
    if not all(list(point) == names for point in points):
        return []
    several = [name for name in names if len({point[name] for point in points}) > 1]
    return (
        several
        if len(ablation.rows()) == len({tuple(point[name] for name in several) for point in points})
        else []
    )
