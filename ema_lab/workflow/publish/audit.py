"""Audit of published numbers from Python: the same as the command `ema-lab audit`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ema_lab.audit.audit import Evidence, Finding, Key, audit, audit_records
from ema_lab.audit.runs import linked_rows
from ema_lab.audit.table import audit_tables, summary_line
from ema_lab.errors import DefinitionError, Problem, SpecError, UnknownNameError
from ema_lab.measured.selection import Row
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import read_document
from ema_lab.specs.published import PublishedSpec
from ema_lab.specs.published_file import load_published
from ema_lab.specs.run import ModelSpec, RunSpec
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import render_csv, render_markdown, render_text
from ema_lab.tables.table import Table
from ema_lab.workflow.events import CountingStarted, Remark
from ema_lab.workflow.execution import DEFAULT_STORE, Watch, ignore
from ema_lab.workflow.folders import existing_store, make_folder

Format = Literal["text", "markdown", "latex", "csv", "json"]
SUFFIXES: Mapping[Format, str] = {"markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}
Counts = dict[str, int]


@dataclass(frozen=True)
class Audit:
    """Published numbers with one finding each.

    Attributes:
        published: The audited tables of the file.
        findings: Findings in the order of the file.
        runs: Rows of ablations with their runs, by (table, row).
        files: Files that were written.
    """

    published: PublishedSpec
    findings: tuple[Finding, ...]
    runs: Mapping[Key, Row]
    files: tuple[Path, ...] = ()

    @property
    def tables(self) -> list[Table]:
        """One table per table of the paper."""
        return audit_tables(self.published, self.findings, self.runs)

    @property
    def summary(self) -> str:
        """Number of findings per verdict, as one line of text."""
        return summary_line(self.findings)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat object per finding with unrounded numbers."""
        return audit_records(self.published, list(self.findings))

    def render(self, form: Format) -> str:
        """Return the audit as text of a format."""
        match form:
            case "csv":
                return render_csv(self.records())
            case "json":
                return json.dumps(self.records(), indent=1, allow_nan=False) + "\n"
        renderers = {"text": render_text, "markdown": render_markdown, "latex": render_latex}
        return "\n\n".join(map(renderers[form], self.tables))


def audit_claims(
    published: str | Path,
    *,
    tables: Sequence[str] = (),
    out: Path | None = None,
    store: Path | str = DEFAULT_STORE,
    watch: Watch = ignore,
) -> Audit:
    """Compare published numbers with computed costs and, where runs exist, with trained ones.

    Counted multiply-adds are kept in the store if it can be written.

    Example:
        >>> found = ema_lab.audit_claims("ema_icassp2023", tables=["cifar100"])
        >>> {row["verdict"] for row in found.records()} >= {"agrees"}
        True

    Args:
        published: A path, or the name of a file of published numbers.
        tables: Keys of the tables to audit; all if empty.
        out: Folder for audit.md, audit.tex, audit.csv and audit.json.
        store: Folder of the runs.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        EmaLabError: If there is no such file, table or store, or a model does not fit.
    """
    path = find_definition("reports/published", str(published))
    whole = load_published(path)
    chosen = _only(whole, tables)
    runs = linked_rows(whole, path, existing_store(store))  # of all tables: one correction per file
    parameters = _parameters(chosen, path)
    if out is not None:
        make_folder(out)  # before the slow part, whose result would be lost
    costs = _costs(chosen, parameters, Path(store), watch)
    findings = audit(whole, Evidence(costs, runs))
    result = Audit(chosen, tuple(each for each in findings if each.table in chosen.tables), runs)
    return result if out is None else replace(result, files=_write(result, out))


def _write(result: Audit, folder: Path) -> tuple[Path, ...]:
    texts = {folder / f"audit.{suffix}": result.render(form) for form, suffix in SUFFIXES.items()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return tuple(texts)


def _only(published: PublishedSpec, names: Sequence[str]) -> PublishedSpec:
    """Return the file with only the named tables."""
    for name in names:
        if name not in published.tables:
            raise UnknownNameError(unknown_name("table", name, published.tables))
    kept = {key: table for key, table in published.tables.items() if not names or key in names}
    return published.model_copy(update={"tables": kept})


def _parameters(published: PublishedSpec, path: Path) -> dict[Key, Counts]:
    """Count the parameters of each row's model, built without weights.

    Raises:
        DefinitionError: With the line of each model that does not fit.
    """
    document = read_document(path)
    counts: dict[Key, Counts] = {}
    problems, bare_norms = [], Counts()
    for key, table, name, row in published.rows():
        spec = table.run(row)
        if spec is None:
            continue
        try:
            counts[key, name] = _model_parameters(spec, bare_norms)
        except SpecError as error:
            where = document.where(("tables", key, "rows", name, "model"))
            problems.append(Problem(where, f"{name}: {error}"))
    if problems:
        raise DefinitionError(problems)
    return counts


def _model_parameters(spec: RunSpec, bare_norms: Counts) -> Counts:
    """Count one model's parameters. `bare_norms` caches the norm parameters of bare backbones."""
    from ema_lab.models.build import build_model
    from ema_lab.profiling.measure import count_parameters

    def norms(counts: Mapping[str, int]) -> int:
        return counts["parameters"] - counts["parameters_without_norm"]

    counted = count_parameters(build_model(spec, device="meta"))
    inserted = ("attention", "placement", "also", "start", "frozen", "frozen_norms")
    tree = {key: value for key, value in spec.model.resolved().items() if key not in inserted}
    model = ModelSpec.model_validate(tree)
    bare = spec.model_copy(update={"model": model})
    key = f"{model.canonical} {spec.data.canonical}"
    if key not in bare_norms:
        bare_norms[key] = norms(count_parameters(build_model(bare, device="meta")))
    own_norms = norms(counted) - bare_norms[key]
    return {**counted, "parameters_without_own_norm": counted["parameters"] - own_norms}


def _costs(
    published: PublishedSpec, parameters: Mapping[Key, Counts], store: Path, watch: Watch
) -> dict[Key, Counts]:
    """Add multiply-adds for one image where a row claims them, counted now or cached in the store."""
    from ema_lab.one_run.measurement import run_cost
    from ema_lab.store.cost_cache import CostCache
    from ema_lab.training.environment import versions

    claimed = {
        (key, name): table.run(row) for key, table, name, row in published.rows() if row.claims.operations
    }
    specs = {key: spec for key, spec in claimed.items() if spec is not None}
    if specs:
        watch(CountingStarted(len(specs)))
    cache = CostCache(store, versions())
    costs = dict(parameters)
    for key, spec in specs.items():
        counted = cache.get((spec,), {"what": "count"}, partial(run_cost, spec))
        scaled = published.tables[key[0]].scaled
        macs = {
            name: scaled(n) for name, n in counted.items() if name.startswith("macs") and isinstance(n, int)
        }
        costs[key] = macs | parameters[key]
    for loss in cache.losses:
        watch(Remark("", loss))
    return costs
