"""Bundle: a report and everything that it is built from, in one zip file.

Inside: `report/` (tables, page, figures), the definitions, the user's own modules, `runs/` (a store of specs,
records, attempts, curves, tables of start weights and what the report derives from predictions; neither
predictions nor weights), `bundle.json` (versions, devices, commits), `wheels/` (this package),
`requirements.txt`, `SHA256SUMS` and `reproduce.sh`. The report is built from the bundle's own files, so that
`ema-lab verify` can rebuild it. Equal records give equal bytes.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError, StoreError
from ema_lab.files import atomic_write, read_bytes
from ema_lab.measured.selection import measure, rows_of
from ema_lab.reports.analyses import analysis_files
from ema_lab.reports.bundle.reproduce import reproduce_script, requirements
from ema_lab.reports.bundle.wheel import build_wheel, zipped
from ema_lab.reports.files import all_files
from ema_lab.reports.report import (
    build_report,
    chosen,
    latencies,
    report_ablations,
    with_baseline,
    with_task,
)
from ema_lab.specs.columns import LATENCIES
from ema_lab.specs.definition import BUNDLED, definitions, find_definition
from ema_lab.specs.figure import TradeoffFigure
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.specs.run import RunSpec
from ema_lab.store.imports import INSTALLED
from ema_lab.store.layout import ANALYSIS, ATTEMPTS, COSTS, CURVE, LOG, RECORD, SPEC, START
from ema_lab.store.source import Sources
from ema_lab.store.store import RunStore

KEPT = (SPEC, RECORD, CURVE, START)  # files of a run's folder, besides its attempts
ENVIRONMENT = ("versions", "device", "instruction_set", "precision", "num_threads", "commit")
REPORT, RUNS, SUMS, FACTS, WHEELS = "report", "runs", "SHA256SUMS", "bundle.json", "wheels"


def write_bundle(spec: ReportSpec, path: Path, store: RunStore, definition: Path) -> list[str]:
    """Write a report's bundle atomically; return the names of its files.

    Args:
        spec: The report.
        path: Zip file to write.
        store: Store of the records.
        definition: Definition file of the report.

    Raises:
        EmaLabError: If the report cannot be built.
        StoreError: If the file cannot be written.
    """
    files = bundle_files(spec, store, definition)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    files[SUMS] = sums.encode()
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(zipped(files))
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    return sorted(files)


def bundle_files(spec: ReportSpec, store: RunStore, definition: Path) -> dict[str, bytes]:
    """Return the content of every file of a bundle by name, without the checksums."""
    ablations = report_ablations(spec, store)
    specs = {run.run_id: run for ablation in ablations for run in ablation.runs()}
    _require_hashes(spec, ablations)
    members = [
        *_definitions(spec, ablations, definition),
        *_own_modules(specs.values()),
        *_runs(store, specs),
        *_timings(spec, ablations, store),
    ]
    files = {name: path.read_bytes() for name, path in members}
    analyses = {} if spec.kind == "claims" else analysis_files(with_task(spec, ablations), ablations, store)
    files |= {f"{RUNS}/{run_id}/{ANALYSIS}": text.encode() for run_id, text in analyses.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(content)
        with chdir(folder):
            built = built_files(spec.name, version("ema-lab"))
    files |= {name: text if isinstance(text, bytes) else text.encode() for name, text in built.items()}
    name, wheel = build_wheel()
    return files | {f"{WHEELS}/{name}": wheel}


def built_files(name: str, made_with: str) -> dict[str, str | bytes]:
    """Return the derived files of the bundle in the current folder.

    Args:
        name: Name of the report.
        made_with: Version of ema-lab that made the bundle.

    Raises:
        EmaLabError: If the report cannot be built.
    """
    spec, store = load_report(Path("reports", f"{name}.yaml")), RunStore(RUNS)
    ablations = report_ablations(spec, store)
    run_ids = dict.fromkeys(run.run_id for ablation in ablations for run in ablation.runs())
    facts = _facts(name, made_with, [record.environment for record in store.records(run_ids).values()])
    report = all_files(spec, build_report(spec, store), store)
    return {
        **{f"{REPORT}/{file}": content for file, content in report.items()},
        FACTS: json.dumps(facts, indent=1, sort_keys=True) + "\n",
        "requirements.txt": requirements(facts),
        "reproduce.sh": reproduce_script(facts, [ablation.path.as_posix() for ablation in ablations]),
    }


def _facts(name: str, made_with: str, environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def distinct(key: str) -> list[Any]:
        values = [environment[key] for environment in environments if environment.get(key) is not None]
        return sorted({json.dumps(value, sort_keys=True): value for value in values}.values(), key=str)

    return {
        "report": name,
        "ema_lab": made_with,
        "runs": len(environments),
        **{key: distinct(key) for key in ENVIRONMENT},
    }


def _definitions(
    spec: ReportSpec, ablations: Iterable[Ablation], definition: Path
) -> Iterator[tuple[str, Path]]:
    """Yield the definitions by their path in the bundle, where the report finds them."""
    yield f"reports/{spec.name}.yaml", definition
    paths = [ablation.path for ablation in ablations]
    if spec.published:
        paths.append(find_definition("reports/published", spec.published))
    paths += definitions("ablations/recipes").values()
    for path in paths:
        yield _archive_name(spec, path), path


def _archive_name(spec: ReportSpec, path: Path) -> str:
    if path.is_relative_to(BUNDLED):
        return path.relative_to(BUNDLED).as_posix()
    if path.is_absolute() or ".." in path.parts:
        rule = "not below the current folder; move the file there and name it by a relative path"
        raise SpecError(f"report {spec.name}: {path}: {rule}")
    return path.as_posix()


def _require_hashes(spec: ReportSpec, ablations: Iterable[Ablation]) -> None:
    """Check that definitions name the SHA-256 of start weights, which the bundle leaves out.

    Raises:
        SpecError: If a definition does not.
    """
    for ablation in ablations:
        text = ablation.path.read_text(encoding="utf-8")
        for start in (run.model.start for run in ablation.runs() if run.model.start):
            if start.sha256 not in text:
                beside = "file" if start.weights is None else "weights"
                rule = f"write `sha256: {start.sha256}` beside `{beside}`: a bundle does not hold the weights"
                raise SpecError(f"report {spec.name}: {ablation.path}: start: {start.source}: {rule}")


def _own_modules(specs: Iterable[RunSpec]) -> Iterator[tuple[str, Path]]:
    """Yield the user's files that runs depend on, if they are below the current folder."""
    sources, here = Sources(), Path.cwd()
    dependencies = {source for spec in specs for files in sources.files(spec).values() for source in files}
    for path in sorted({source.path.resolve() for source in dependencies if not source.in_package}):
        if path.is_relative_to(here) and not INSTALLED.intersection(path.parts):
            yield path.relative_to(here).as_posix(), path


def _runs(store: RunStore, specs: Mapping[str, RunSpec]) -> Iterator[tuple[str, Path]]:
    done = {run_id for run_id, record in store.records(specs).items() if record.status == "done"}
    for run_id in specs:
        folder = store.folder(run_id)
        names = KEPT if run_id in done else (*KEPT, LOG)  # the log has the cause of the failure
        for path in (*(folder / name for name in names), *sorted(folder.glob(f"{ATTEMPTS}/*.json"))):
            if path.is_file():
                yield f"{RUNS}/{run_id}/{path.relative_to(folder).as_posix()}", path


def _timings(spec: ReportSpec, ablations: Iterable[Ablation], store: RunStore) -> Iterator[tuple[str, Path]]:
    """Yield the cached latencies that the report shows."""
    in_figures = any(
        isinstance(figure, TradeoffFigure) and figure.cost == "latency" for figure in spec.figures
    )
    if not (in_figures or (spec.kind != "claims" and set(LATENCIES).intersection(spec.columns))):
        return
    for ablation in (with_baseline(spec, ablation) for ablation in ablations):
        timed = latencies(ablation, rows_of(ablation, chosen(spec, measure(ablation, store))), store)
        if timed is None:
            continue
        for path in sorted((store.root / COSTS).glob("*.json")):
            with suppress(ValueError, KeyError, TypeError):  # the report skips unreadable entries, too
                entry = json.loads(read_bytes(path))
                if entry["facts"]["how"] == timed.how and entry["measured"] in timed.measured.values():
                    yield f"{RUNS}/{COSTS}/{path.name}", path
