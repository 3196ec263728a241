"""Groups of options that several commands share. Each group is declared once, as a dataclass.

A command takes a group as one parameter. `expanded` replaces that parameter by the group's options, in the
same place of the help, and hands the command an instance of the group.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import Any, TypeVar, cast, get_type_hints

from ema_lab.cli.options import (
    Attempts,
    AttentionKernel,
    Csv,
    Data,
    Device,
    Json,
    LoaderWorkers,
    NumThreads,
    Only,
    Seeds,
    Set,
    Store,
    Track,
    Workers,
)
from ema_lab.cli.output import print_rows
from ema_lab.errors import SpecError
from ema_lab.store.store import MAX_ATTEMPTS
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE, ExecutionOptions
from ema_lab.workflow.selection import CellChoice, read_seeds

T = TypeVar("T")


def expanded(command: Callable[..., T]) -> Callable[..., T]:
    """Return a command whose groups are replaced by their options, for registration with typer."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    @wraps(command)
    def call(**values: Any) -> T:
        for name, kind in groups.items():
            values[name] = cast(Any, kind)(**{field.name: values.pop(field.name) for field in fields(kind)})
        return command(**values)

    parameters = list(_parameters(command, hints))
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _parameters(command: Callable[..., Any], hints: Mapping[str, Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a command with the options of its groups in their places."""
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if not is_dataclass(kind):
            yield parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        annotations = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=annotations[field.name],
            )


def execution_options(*groups: Any, **more: Any) -> ExecutionOptions:
    """Return the settings of execution in some groups of options, whose names are the same."""
    settings = {key: value for group in groups for key, value in vars(group).items()}
    return cast(ExecutionOptions, {**settings, **more})


@dataclass(frozen=True)
class OutputOptions:
    """Form of rows on standard output: a table, JSON, or CSV."""

    as_json: Json = False
    as_csv: Csv = False

    @property
    def is_text(self) -> bool:
        """Whether a person reads the rows."""
        return not (self.as_json or self.as_csv)

    def print(self, rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str] | None = None) -> None:
        """Print rows in the chosen form.

        Raises:
            SpecError: If two forms are chosen.
        """
        if self.as_json and self.as_csv:
            raise SpecError("--json and --csv are two forms of one output: leave one of them out")
        print_rows(rows, as_json=self.as_json, as_csv=self.as_csv, labels=labels)


@dataclass(frozen=True)
class RowOptions:
    """Choice of rows, and changes of the base that all of them share."""

    only: Only = None
    changes: Set = None


@dataclass(frozen=True)
class CellOptions:
    """Choice of cells, and changes of the base that all of them share."""

    only: Only = None
    seeds: Seeds = None
    changes: Set = None

    def choice(self) -> CellChoice:
        """Return the arguments of `ema_lab.workflow.selection.selected`.

        Raises:
            SpecError: If --seeds is neither a number nor a list.
        """
        return {"only": self.only, "seeds": read_seeds("--seeds", self.seeds), "changes": self.changes}


@dataclass(frozen=True)
class MachineOptions:
    """Processes, threads, device and kernel of the runs, and their live mirror."""

    workers: Workers = None
    threads: NumThreads = None
    device: Device = "auto"
    loader_workers: LoaderWorkers = None
    track: Track = None
    attention_kernel: AttentionKernel = None


@dataclass(frozen=True)
class FolderOptions:
    """Folders of runs and data, and the attempts after which a run is left alone."""

    max_attempts: Attempts = MAX_ATTEMPTS
    store: Store = DEFAULT_STORE
    data: Data = DEFAULT_DATA
