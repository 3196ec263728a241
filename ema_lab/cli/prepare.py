"""Command `prepare`: make the resized copies of an ablation's images before the first run."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import RowOptions, expanded
from ema_lab.cli.options import AblationName, Data, Json
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.progress import CountDisplay
from ema_lab.execution.threads import MOST_PROCESSES
from ema_lab.store.disk import size_text
from ema_lab.wording import number_of
from ema_lab.workflow.events import Event, ImagesPrepared
from ema_lab.workflow.execution import DEFAULT_DATA
from ema_lab.workflow.train.prepare import prepare as make_copies


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(prepare))


def prepare(
    ablation: AblationName,
    chosen: RowOptions,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            max=MOST_PROCESSES,
            help="Processes that resize; by default one for each core.",
        ),
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            "--shards",
            metavar="FOLDER",
            help="Also write all images, resized, as tar shards into a new folder below --data.",
        ),
    ] = None,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Make the resized images that runs read, in advance.

    With `data.shorter_side`, runs read resized copies of images in files. Without this command the first
    epoch makes them. The command makes the copies of all images that the runs read, for training and test.
    Ctrl-C loses none: finished copies are kept.

    --shards is for file systems that are slow with many small files. It prints the lines of a definition that
    reads them, with the same pixels.

    Example: ema-lab prepare ablations/X.yaml --data /scratch/data --workers 16
    """
    with CountDisplay("resizing images") as bar:
        result = make_copies(
            ablation,
            only=chosen.only,
            changes=chosen.changes,
            workers=workers,
            data=data,
            shards=shards,
            watch=_ImageDisplay(bar),
        )
    rows = result.rows()
    print_rows(rows if as_json else [_cells(row) for row in rows], as_json=as_json)
    counts = f"{number_of(result.made, 'copy')} made, {result.kept:,} kept"
    small = f"{number_of(result.small, 'image')} small enough without a copy"
    say(f"{result.ablation.name}: {counts}, {small}; {size_text(result.size)} in all")
    if result.shards is not None:
        say(f"{result.shards.folder}: {size_text(result.shards_size)} of shards")
        for line in () if as_json else result.shards.lines():
            put(line)


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "reads"}


class _ImageDisplay(Display):
    """Display that also moves a bar over the images."""

    def __init__(self, bar: CountDisplay) -> None:
        super().__init__()
        self._bar = bar

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, ImagesPrepared):
            text = f"{event.number:,} of {number_of(event.total, 'image')} {event.work}"
            self._bar.count(event.number, event.total, text)
