"""Reader of report files that leaves out wrong columns and figures, and names each of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ema_lab.errors import Problem
from ema_lab.specs.document import read_document, require_file_name
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.specs.strict import merged

PARTS = ("columns", "figures")


def read_report(path: Path) -> tuple[ReportSpec, list[Problem]]:
    """Read a report file without its wrong columns and figures, and return the problem of each.

    Raises:
        DefinitionError: If anything else of the file is wrong, or no column is right.
    """
    document = read_document(path)
    value, problems = dict(document.value), list[Problem]()
    places = {key: list(range(len(value[key]))) for key in PARTS if isinstance(value.get(key), list)}
    while True:
        try:
            report = ReportSpec.model_validate(value)
        except ValidationError as error:
            items = [_in_file(item, places) for item in error.errors(include_url=False)]
            wrong = {item["loc"][:2] for item in items}
            columns = {("columns", number) for number in places.get("columns", ())}
            parts = columns | {("figures", number) for number in places.get("figures", ())}
            if not wrong <= parts or (columns and columns <= wrong):
                load_report(path)  # raises every problem of the file
                raise
            problems += document.problems(merged(error.title, items))
            for key in places:
                places[key] = [number for number in places[key] if (key, number) not in wrong]
                value[key] = [document.value[key][number] for number in places[key]]
        else:
            require_file_name(document, report.name)
            return report.read_from(document, places), problems


def _in_file(item: ErrorDetails, places: Mapping[str, Sequence[int]]) -> ErrorDetails:
    """Return an error with its place in the file, of which earlier items may have been left out."""
    match item["loc"]:
        case (str(key), int(number), *rest) if key in places:
            return {**item, "loc": (key, places[key][number], *rest)}
    return item
