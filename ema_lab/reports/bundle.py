"""A report with all that it rests on, in one zip file, and the check of such a file.

Inside: `report/` (tables, page, figures), the definitions, modules of one's own, `runs/` (a store of specs,
records, attempts and curves; no weights), `bundle.json` (versions, devices, commits), `requirements.txt`,
`SHA256SUMS` and `reproduce.sh`. Equal records give equal bytes.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from ema_lab.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.errors import EmaLabError, StoreError
from ema_lab.experiments.ablation import Ablation
from ema_lab.experiments.store import RunStore
from ema_lab.files import whole
from ema_lab.registry import Registry
from ema_lab.reports.build import build_report, report_ablations
from ema_lab.reports.check import differences
from ema_lab.reports.figures.build import report_figures
from ema_lab.reports.files import report_files
from ema_lab.reports.page.source import report_page
from ema_lab.signature import source_file, split_target
from ema_lab.specs.definition import definitions, find_definition
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.specs.run import RunSpec

KEPT = ("spec.json", "record.json", "curve.csv")  # of a run's folder, besides its attempts
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
REPORT, SUMS, FACTS = "report", "SHA256SUMS", "bundle.json"
NOT_PINNED = ("python", "ema-lab")
REPRODUCE = """\
#!/bin/sh
# Trains every run of this report again, below ./again, and compares its tables with those in report/.
set -eu
cd "$(dirname "$0")"
python3 -m venv .venv
.venv/bin/pip install "ema-lab=={version}" -r requirements.txt
{runs}
.venv/bin/ema-lab report reports/{name}.yaml --store again --out again/report
.venv/bin/ema-lab report reports/{name}.yaml --store again --out report --check
"""


def write_bundle(spec: ReportSpec, path: Path, store: RunStore, definition: Path) -> list[str]:
    """Write a report's bundle, whole or not at all; return the names of its files.

    Args:
        spec: The report.
        path: The zip file.
        store: Where its records are.
        definition: The report's own file.

    Raises:
        EmaLabError: If the report cannot be built.
        StoreError: If the file cannot be written.
    """
    files = bundle_files(spec, store, definition)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    files[SUMS] = sums.encode()
    try:
        with whole(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(files.items()):
                entry = zipfile.ZipInfo(name, DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
                archive.writestr(entry, content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}") from None
    return sorted(files)


def bundle_files(spec: ReportSpec, store: RunStore, definition: Path) -> dict[str, bytes]:
    """Return the content of every file of a bundle, by name."""
    ablations = report_ablations(spec, store)
    specs = {run.run_id: run for ablation in ablations for run in ablation.runs()}
    records = store.records(specs)
    facts = _facts(spec, [record.environment for record in records.values()])
    texts = {
        **{f"{REPORT}/{name}": text for name, text in _report(spec, store).items()},
        FACTS: json.dumps(facts, indent=1, sort_keys=True) + "\n",
        "requirements.txt": "".join(f"{line}\n" for line in _requirements(facts["versions"])),
        "reproduce.sh": _reproduce(spec, ablations),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files |= _figures(spec, store)
    files |= {name: path.read_bytes() for name, path in _definitions(spec, ablations, definition).items()}
    files |= {name: path.read_bytes() for name, path in _own_modules(specs.values())}
    return files | dict(_runs(store, specs))


def _report(spec: ReportSpec, store: RunStore) -> dict[str, str]:
    report = build_report(spec, store)
    return {**report_files(report), "index.html": report_page(spec, report, store)}


def _figures(spec: ReportSpec, store: RunStore) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [path for figure in report_figures(spec, store) for path in figure.write(Path(folder))]
        return {f"{REPORT}/figures/{path.name}": path.read_bytes() for path in paths}


def _facts(spec: ReportSpec, environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def distinct(key: str) -> list[Any]:
        values = [environment[key] for environment in environments if environment.get(key) is not None]
        return sorted({json.dumps(value, sort_keys=True): value for value in values}.values(), key=str)

    return {
        "report": spec.name,
        "ema_lab": version("ema-lab"),
        "runs": len(environments),
        **{key: distinct(key) for key in ("versions", "device", "precision", "num_threads", "commit")},
    }


def _requirements(versions: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the versions that runs were trained with, the last where they differ."""
    pins = {name: number for found in versions for name, number in found.items() if name not in NOT_PINNED}
    return [f"{name}=={number}" for name, number in sorted(pins.items())]


def _reproduce(spec: ReportSpec, ablations: Iterable[Ablation]) -> str:
    runs = [f".venv/bin/ema-lab run ablations/{ablation.name}.yaml --store again" for ablation in ablations]
    return REPRODUCE.format(version=version("ema-lab"), runs="\n".join(runs), name=spec.name)


def _definitions(spec: ReportSpec, ablations: Iterable[Ablation], definition: Path) -> dict[str, Path]:
    """Return the definitions by their place in the bundle, where the report finds them by name."""
    found = {f"reports/{spec.name}.yaml": definition}
    if spec.published:
        path = find_definition("reports/published", spec.published)
        found[f"reports/published/{path.name}"] = path
    found |= {f"ablations/{ablation.name}.yaml": ablation.path for ablation in ablations}
    recipes = definitions("ablations/recipes")
    return found | {f"ablations/recipes/{path.name}": path for path in recipes.values()}


def _own_modules(specs: Iterable[RunSpec]) -> Iterator[tuple[str, Path]]:
    """Yield the source of what runs name as `package.module:Class`, if it lies below the current folder."""
    names: dict[tuple[str, str], Registry] = {}
    for spec in specs:
        insertions = (spec.model.attention, *(item.attention for item in spec.model.also))
        names |= {("attention", name): ATTENTIONS for item in insertions for name in item.names}
        names |= {("backbone", spec.model.backbone): BACKBONES, ("data", spec.data.name): DATASETS}
    for (_, name), table in names.items():
        if ":" not in name:
            continue
        path = source_file(split_target(table[name].target)[0]).resolve()
        if path.is_relative_to(Path.cwd()):
            yield path.relative_to(Path.cwd()).as_posix(), path


def _runs(store: RunStore, specs: Mapping[str, RunSpec]) -> Iterator[tuple[str, bytes]]:
    for run_id in specs:
        folder = store.folder(run_id)
        paths = [*(folder / name for name in KEPT), *sorted(folder.glob("attempts/*.json"))]
        for path in paths:
            if path.is_file():
                yield f"runs/{run_id}/{path.relative_to(folder).as_posix()}", path.read_bytes()


def verify_bundle(path: Path) -> Iterator[str]:
    """Yield a line for every file that is not what was bundled and every cell that its records do not give.

    Args:
        path: A bundle, or the folder that one was unpacked into.

    Raises:
        StoreError: If it is no bundle.
    """
    with _unpacked(path) as folder:
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            name = str(facts["report"])
            sums = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError, KeyError, TypeError):
            raise StoreError(f"{path} is no bundle: {FACTS} or {SUMS} is not there") from None
        yield from _changed_files(folder, sums)
        if facts["ema_lab"] != version("ema-lab"):
            yield f"made with ema-lab {facts['ema_lab']}, checked with {version('ema-lab')}"
        with chdir(folder):
            yield from _changed_cells(name)


def _changed_files(folder: Path, sums: Sequence[str]) -> Iterator[str]:
    for line in sums:
        digest, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file():
            yield f"{name} is not there"
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            yield f"{name} was changed"


def _changed_cells(name: str) -> Iterator[str]:
    """Build the report again from the bundle's own records and definitions; the caller is in its folder."""
    try:
        report = build_report(load_report(Path("reports", f"{name}.yaml")), RunStore("runs"))
    except EmaLabError as error:
        yield f"the report cannot be built again: {error}"
        return
    for file, text in report_files(report).items():
        yield from map(str, differences(Path(REPORT, file), text))


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    if PurePosixPath(entry).is_absolute() or ".." in PurePosixPath(entry).parts:
                        raise StoreError(f"{path} is no bundle: it holds {entry!r}")
                archive.extractall(folder)
        except (OSError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path} cannot be read: {error}") from None
        yield Path(folder).resolve()
