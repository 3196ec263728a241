"""The command about published numbers: audit."""

import json
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.options import Json, Store
from ema_lab.cli.output import make_folder, put, say
from ema_lab.errors import DefinitionError, Problem, SpecError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import read_document
from ema_lab.specs.published import PublishedSpec
from ema_lab.specs.run import ModelSpec, RunSpec
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.status import existing_store

Key = tuple[str, str]


class Format(StrEnum):
    """Formats in which an audit is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


SUFFIXES = {
    Format.MARKDOWN: "md",
    Format.LATEX: "tex",
    Format.CSV: "csv",
    Format.JSON: "json",
}


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(audit)


def audit(
    name: Annotated[
        str, typer.Argument(metavar="FILE", help="A path, or a name as `ema-lab list published` prints it.")
    ],
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table of the file; may be repeated.")
    ] = None,
    store: Store = DEFAULT_STORE,
    form: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TEXT,
    as_json: Json = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for audit.md, audit.tex, audit.csv and audit.json.")
    ] = None,
) -> None:
    """Compare published numbers with computed costs and, where runs exist, with trained ones.

    Each number gets one verdict, by rule:

    agrees: the count, rounded, is what is printed; or the runs' 95 % t interval contains the claim, and so
    many seeds would have shown a difference of the table's `relevant` points with a probability of 80 %.

    agrees under another convention: another way to count gives what is printed: norm parameters, or those
    of the module's own norms, not counted; norms folded into convolutions; multiply-adds of convolutions,
    linear layers and matrix products alone, as fvcore or as thop counts them; two operations for each;
    truncated, or rounded to tens. Only one of these at a time differs from what the table is assumed to do.
    Also: the assumed convention fits, but not the one that fits most rows of the column.

    nearly agrees: operations within 0.1 %, or within 1 % where what the row adds to its baseline agrees to
    the printed digits. Parameters never nearly agree.

    disagrees: none of these; by how much. inconclusive: the runs contradict nothing, but could not have
    shown a relevant difference; or there is a single one. not run: nothing to compare with.

    Example: ema-lab audit ema_icassp2023 --table cifar100
    """
    from ema_lab.audit.audit import Evidence, audit_records
    from ema_lab.audit.audit import audit as findings_of
    from ema_lab.audit.runs import linked_rows
    from ema_lab.audit.table import audit_tables, summary_line
    from ema_lab.specs.published_file import load_published

    path = find_definition("reports/published", name)
    published = _only(load_published(path), table)
    runs = linked_rows(published, path, existing_store(store))
    parameters = _parameters(published, path)
    if out is not None:
        make_folder(out)
    costs = _with_operations(published, parameters, store)
    findings = findings_of(published, Evidence(costs, runs))
    texts = _texts(audit_tables(published, findings, runs), audit_records(published, findings))
    put(texts[Format.JSON if as_json else form], end="")
    say(summary_line(findings), *(f"left out: {item.what} {item.reason}" for item in published.left_out))
    if out is not None:
        _write(out, texts)


def _write(out: Path, texts: Mapping[Format, str]) -> None:
    for form, suffix in SUFFIXES.items():
        (out / f"audit.{suffix}").write_text(texts[form], encoding="utf-8")
        say(str(out / f"audit.{suffix}"))


def _only(published: PublishedSpec, names: list[str] | None) -> PublishedSpec:
    """Return the file with only the named tables."""
    for name in names or ():
        if name not in published.tables:
            raise UnknownNameError(unknown_name("table", name, published.tables))
    kept = {key: table for key, table in published.tables.items() if not names or key in names}
    return published.model_copy(update={"tables": kept})


def _texts(tables: list[Any], records: list[dict[str, Any]]) -> dict[Format, str]:
    from ema_lab.tables import render
    from ema_lab.tables.latex import render_latex

    return {
        Format.TEXT: "\n\n".join(map(render.render_text, tables)),
        Format.MARKDOWN: "\n\n".join(map(render.render_markdown, tables)),
        Format.LATEX: "\n\n".join(map(render_latex, tables)),
        Format.CSV: render.render_csv(records),
        Format.JSON: json.dumps(records, indent=1, allow_nan=False) + "\n",
    }


def _parameters(published: PublishedSpec, path: Path) -> dict[Key, dict[str, int]]:
    """Count the parameters of each row's model, built without weights.

    Raises:
        DefinitionError: With the line of each model that does not fit.
    """
    document = read_document(path)
    counts: dict[Key, dict[str, int]] = {}
    problems, bare = [], dict[str, int]()
    for key, table, name, row in published.rows():
        spec = table.run(row)
        if spec is None:
            continue
        try:
            counts[key, name] = _model_parameters(spec, bare)
        except SpecError as error:
            where = document.where(("tables", key, "rows", name, "model"))
            problems.append(Problem(where, f"{name}: {error}"))
    if problems:
        raise DefinitionError(problems)
    return counts


def _model_parameters(spec: RunSpec, bare: dict[str, int]) -> dict[str, int]:
    """Count one model's parameters; `bare` keeps the norm parameters of bare backbones."""
    from ema_lab.cost.measure import count_parameters
    from ema_lab.models.build import build_model

    def norms(counts: Mapping[str, int]) -> int:
        return counts["parameters"] - counts["parameters_without_norm"]

    counted = count_parameters(build_model(spec, device="meta"))
    model = ModelSpec.model_validate({"backbone": spec.model.backbone, **spec.model.options})
    plain = spec.model_copy(update={"model": model})
    key = f"{model.canonical} {spec.data.canonical}"
    if key not in bare:
        bare[key] = norms(count_parameters(build_model(plain, device="meta")))
    own = norms(counted) - bare[key]
    return {**counted, "parameters_without_own_norm": counted["parameters"] - own}


def _with_operations(
    published: PublishedSpec, parameters: Mapping[Key, dict[str, int]], store: Path
) -> dict[Key, dict[str, int]]:
    """Add multiply-adds for one image where a row claims them, counted now or kept in the store."""
    from ema_lab.one_run.measurement import run_cost
    from ema_lab.store.cost_cache import CostCache
    from ema_lab.training.environment import versions

    claimed = {
        (key, name): table.run(row) for key, table, name, row in published.rows() if row.claims.operations
    }
    specs = {place: spec for place, spec in claimed.items() if spec is not None}
    if specs:
        say(f"counting the multiply-adds of {len(specs)} models, one image each")
    cache = CostCache(store, versions())
    costs = dict(parameters)
    for place, spec in specs.items():
        counted = cache.get((spec,), {"what": "count"}, partial(run_cost, spec))
        scaled = published.tables[place[0]].scaled
        macs = {k: scaled(n) for k, n in counted.items() if k.startswith("macs") and isinstance(n, int)}
        costs[place] = macs | parameters[place]
    return costs
