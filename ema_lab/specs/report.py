"""The form of a report file: which ablation becomes which table."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, Strict, ValidationError

from ema_lab.errors import DefinitionError, Problem
from ema_lab.specs.document import Document, read_document
from ema_lab.specs.figure import Figure
from ema_lab.specs.strict import Spec

Column = Literal["top1", "top5", "loss", "delta", "parameters", "macs"]


class ReportSpec(Spec):
    """A table with one row per variant, from the records of one ablation.

    `metric` is what `delta` compares; `names` renames rows for print.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: str = ""
    ablation: str
    columns: Annotated[tuple[Column, ...], Strict(False), Field(min_length=1)] = (
        "top1",
        "delta",
        "parameters",
        "macs",
    )
    metric: Literal["top1", "top5", "loss"] = "top1"
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    names: dict[str, str] = {}
    figures: Annotated[tuple[Figure, ...], Strict(False)] = ()


def load_report(path: Path) -> ReportSpec:
    """Read and check a report file.

    Raises:
        DefinitionError: With a line per problem.
    """
    document = read_document(path)
    try:
        report = ReportSpec.model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, report.name)
    return report


def require_file_name(document: Document, name: str) -> None:
    """Refuse a `name:` that differs from the file's, so that a name finds its file."""
    if name != document.path.stem:
        message = f"name: must equal the file's name {document.path.stem!r}, got {name!r}"
        raise DefinitionError([Problem(document.where(("name",)), message)])
