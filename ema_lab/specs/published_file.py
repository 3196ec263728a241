"""Loader of files of published numbers, which checks schema, models and references together."""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.document import Document, KeyPath, error_messages, read_document, require_file_name
from ema_lab.specs.published import PublishedSpec, RowSpec, TableSpec


def load_published(path: Path) -> PublishedSpec:
    """Read and check a file of published numbers, without importing torch.

    Raises:
        DefinitionError: With one line per problem.
    """
    document = read_document(path)
    value = _with_printed_digits(document)
    try:
        published = PublishedSpec.model_validate(value)
    except ValidationError as error:
        problems = document.problems(error)
        problems += _problems_of_valid_parts(document, value, [item["loc"] for item in error.errors()])
        raise DefinitionError(problems) from None
    if problems := _model_problems(document, published) + _reference_problems(document, published):
        raise DefinitionError(problems)
    require_file_name(document, published.name)
    return published


def _with_printed_digits(document: Document) -> dict[str, Any]:
    """Return the file's value with claims and arXiv id as text, so that 80.60 keeps its last zero."""
    value: dict[str, Any] = copy.deepcopy(document.value)
    texts = yaml.load(document.path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    for key_path in document.lines:
        if key_path == ("arxiv",) or (key_path[4:5] == ("claims",) and len(key_path) == 6):
            mapping: Any = value
            text_mapping: Any = texts
            for part in key_path[:-1]:
                mapping, text_mapping = mapping[part], text_mapping[part]
            if type(mapping[key_path[-1]]) in {int, float}:
                mapping[key_path[-1]] = text_mapping[key_path[-1]]
    return value


def _problems_of_valid_parts(
    document: Document, value: Mapping[str, Any], wrong: Iterable[KeyPath]
) -> list[Problem]:
    """Return the model problems of the tables and rows that match the schema."""
    tables = value.get("tables")
    if not isinstance(tables, dict):
        return []
    tables = {key: {**table} if isinstance(table, dict) else table for key, table in tables.items()}
    for key_path in wrong:
        match key_path:
            case ("tables", key, "rows", name, *_) if isinstance(tables.get(key, {}).get("rows"), dict):
                tables[key]["rows"] = {k: row for k, row in tables[key]["rows"].items() if k != name}
            case ("tables", key, *_):
                tables.pop(key, None)
    kept = {"name": "x", "title": "x", "year": 2000, "source": "x"}
    kept["tables"] = {key: table for key, table in tables.items() if table["rows"]}
    try:
        return _model_problems(document, PublishedSpec.model_validate(kept))
    except ValidationError:  # no valid table is left
        return []


def _model_problems(document: Document, published: PublishedSpec) -> list[Problem]:
    problems: dict[Problem, None] = {}
    for key, table, name, row in published.rows():
        key_path: KeyPath = ("tables", key, "rows", name)
        try:
            table.model(row)
        except ValidationError as error:
            for loc, message in error_messages(error, ("model",)):
                problems[Problem(_model_line(document, key_path, loc), message)] = None
        except SpecError as error:
            problems[Problem(document.where((*key_path, "model")), f"model: {error}")] = None
    return list(problems)


def _model_line(document: Document, key_path: KeyPath, loc: KeyPath) -> str:
    """Return "file:line" of the key that set a part of a row's model, in the row or the table's base."""
    changes = [part for part in document.lines if part[:-1] == (*key_path, "model")]
    for change in reversed(changes):
        keys = tuple(str(change[-1]).split("."))
        if loc[: len(keys)] == keys:
            return document.where((*change, *loc[len(keys) :]))
        if keys[: len(loc)] == loc:
            return document.where(change)
    base: KeyPath = (*key_path[:2], "base")
    return document.where((*base, *loc)) if base in document.lines else document.where(key_path)


def _reference_problems(document: Document, published: PublishedSpec) -> list[Problem]:
    """Return the problems of unknown names and of unused caveats."""
    problems = []
    used: set[str] = set()

    def check(key_path: KeyPath, kind: str, name: str | None, known: Mapping[str, Any]) -> None:
        if name is not None and name not in known:
            problems.append(Problem(document.where(key_path), unknown_name(kind, name, known)))

    def check_part(key_path: KeyPath, part: TableSpec | RowSpec, rows: Mapping[str, Any]) -> None:
        check((*key_path, "baseline"), "row", part.baseline, rows)
        for number, caveat in enumerate(part.caveats):
            check((*key_path, "caveats", number), "caveat", caveat, published.caveats)
        used.update(part.caveats)

    for key, table in published.tables.items():
        check_part(("tables", key), table, table.rows)
        for name, row in table.rows.items():
            key_path: KeyPath = ("tables", key, "rows", name)
            check_part(key_path, row, table.rows)
            if row.variant is not None and row.ablation is None and table.ablation is None:
                message = "variant: needs an ablation, here or in the table"
                problems.append(Problem(document.where((*key_path, "variant")), message))
            if row.ablation is not None and row.variant is None:
                message = "ablation: changes nothing without a variant"
                problems.append(Problem(document.where((*key_path, "ablation")), message))
    for caveat in published.caveats:
        if caveat not in used:
            where = document.where(("caveats", caveat))
            problems.append(
                Problem(
                    where,
                    f"caveats.{caveat}: no table or row uses it: remove it or list it under a row's caveats",
                )
            )
    return problems
