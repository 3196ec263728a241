"""Analyses of stored predictions that a report shows."""

import json
from collections.abc import Iterable

from ema_lab.ablation.ablation import Ablation
from ema_lab.measured.analysis import Analyses, Settings
from ema_lab.specs.figure import ClassesFigure, ConfusionFigure, PrecisionRecallFigure
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.task import Analysis as Kind
from ema_lab.store.analysis import analysis_document, analysis_key
from ema_lab.store.store import RunStore


def needed_analyses(spec: ReportSpec) -> list[tuple[Kind, Settings]]:
    """Return the analyses of each run that a report's table and figures need; `for_task` comes first."""
    needed: list[tuple[Kind, Settings]] = []
    if spec.kind == "classes":
        needed.append(("classes", {"protocol": spec.compared_metric.protocol}))
    if spec.by_image:
        needed.append(("images", {"metric": spec.metric}))
    for figure in spec.figures:
        match figure:
            case PrecisionRecallFigure():
                needed.append(("curves", {"iou": figure.iou}))
            case ConfusionFigure():
                needed.append(("confusion", {"score": figure.score, "iou": figure.iou}))
            case ClassesFigure():
                needed.append(("classes", {"protocol": spec.task.metrics[figure.metric].protocol}))
            case _:
                pass
    return needed


def analysis_files(spec: ReportSpec, ablations: Iterable[Ablation], store: RunStore) -> dict[str, str]:
    """Return the content of a file of analyses by run id, with those that the report needs and no others."""
    needed = needed_analyses(spec)
    if not needed:
        return {}
    analyses, files = Analyses(store, spec.task), dict[str, str]()
    specs = {run.run_id: run for ablation in ablations for run in ablation.runs()}
    for run_id, record in store.records(specs).items():
        if record.status != "done":
            continue
        entries = {
            analysis_key(kind, settings): found
            for kind, settings in needed
            if (found := analyses.of(specs[run_id], record, kind, settings)) is not None
        }
        if entries:
            document = analysis_document(record, analyses.code, entries)
            files[run_id] = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return files
