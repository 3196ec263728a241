"""Trained runs behind published numbers, limited to runs of exactly the published row's model."""

from collections.abc import Mapping
from pathlib import Path

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import DefinitionError, EmaLabError, Problem, SpecError
from ema_lab.measured.selection import Row, select_rows
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import KeyPath, read_document
from ema_lab.specs.published import PublishedSpec, RowSpec, TableSpec
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of


def linked_rows(published: PublishedSpec, path: Path, store: RunStore) -> dict[tuple[str, str], Row]:
    """Return the ablation row, with its finished runs, of each published row that names one.

    Args:
        published: The published numbers.
        path: Their file, for the lines of errors.
        store: The store with the runs.

    Raises:
        DefinitionError: If an ablation or its row does not exist, or trains another model than the published
            row.
    """
    document = read_document(path)
    problems: dict[Problem, None] = {}
    selected: dict[str, dict[str, Row]] = {}
    linked: dict[tuple[str, str], Row] = {}
    for key, table, name, row in published.rows():
        ablation = row.ablation or table.ablation
        if row.variant is None or ablation is None:
            continue
        location: KeyPath = ("tables", key, "rows", name)
        try:
            if ablation not in selected:
                selected[ablation] = {item.name: item for item in select_rows(load_ablation(ablation), store)}
            linked[key, name] = _same_model(table, row, row.variant, selected[ablation])
        except EmaLabError as error:
            message = str(error).splitlines()[0]
            problems[Problem(document.where((*location, "variant")), f"variant: {message}")] = None
    if problems:
        raise DefinitionError(list(problems))
    return linked


def _same_model(table: TableSpec, row: RowSpec, variant: str, rows: Mapping[str, Row]) -> Row:
    if variant not in rows:
        raise SpecError(unknown_name("row", variant, rows))
    ours, theirs = table.run(row, table.image_size), rows[variant].cells[0].cell.spec
    if ours is None or ours.model_key != theirs.model_key:
        facts = theirs.data.facts
        data = f"{number_of(facts.classes, 'class')}, {' x '.join(map(str, facts.image_shape))}"
        raise SpecError(f"is another model than this row's: {theirs.model.canonical} ({data})")
    return rows[variant]
