"""Commands about definitions: list, show, new, schema."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ema_lab.cli.groups import OutputOptions, expanded
from ema_lab.cli.kind_help import KindHelp
from ema_lab.cli.options import MOST, Data, Json, LoaderWorkers, Store, refuse_without
from ema_lab.cli.output import print_rows, put, say
from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.wording import number_of
from ema_lab.workflow.define.catalogue import LISTS
from ema_lab.workflow.define.definitions import KINDS, description, kinds_of, list_things
from ema_lab.workflow.define.template import TEMPLATES, new_file
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.folders import make_folder
from ema_lab.workflow.look.runs import KEYS as RUN_KEYS
from ema_lab.workflow.look.runs import list_runs

MOST_PIXELS = 10_000


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("list")(expanded(list_))
    app.command()(show)
    app.command(cls=KindHelp)(new)
    app.command()(schema)


def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; all by default.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="KEY=VALUE",
            help=f"Of runs, only these: {', '.join(RUN_KEYS)}, such as status=failed; may be repeated.",
        ),
    ] = None,
    store: Store = DEFAULT_STORE,
    *,
    output: OutputOptions,
) -> None:
    """List everything that has a name.

    Modules, backbones, data sets, definitions, runs.

    Runs have their ablations and rows, state, metric and date, as far as the definitions in this folder and
    the bundled ones name them.

    Examples: ema-lab list attentions; ema-lab list runs --only ablation=quickstart,status=failed
    """
    if kind in ("run", "runs"):
        output.print(list_runs(store, only))
        return
    refuse_without("the kind runs", {"--only": bool(only)})
    output.print(list_things(kind, store))


def show(
    kind_or_name: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="Kind and name.")],
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """Show one thing: options, text, spec or record.

    A module's formula and options, a definition's text, a run's spec and record.

    `show columns`, `show figures` and `show recipes` list what a report or an ablation may name.

    Examples: ema-lab show attention ema; ema-lab show cifar-200; ema-lab show columns; ema-lab show run 3f2a
    """
    if name is None and kind_or_name in LISTS:
        print_rows(LISTS[kind_or_name](), as_json=as_json)
        return
    kind, name = (None, kind_or_name) if name is None else (kind_or_name, name)
    if as_json:
        raise SpecError(f"--json is for the lists {', '.join(LISTS)}")
    put(description(name, kind, store), end="")
    if kind is None and (others := kinds_of(name)[1:]):
        say(*(f"{name} is also a {other}: ema-lab show {other} {name}" for other in others))


def new(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(TEMPLATES)}.")],
    name: Annotated[
        str, typer.Argument(help="Name of the file: letters, digits, _ and, for a YAML file, -.")
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Of a dataset: measure the images of a folder below --data, once, and write their facts.",
        ),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", min=1, max=MOST_PIXELS, help="With --from: side of the images; 224."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample", min=1, max=MOST, help="With --from: images to read of each split; all by default."
        ),
    ] = None,
    loader_workers: LoaderWorkers = None,
    data: Data = DEFAULT_DATA,
) -> None:
    """Write a file to start from.

    YAML in the folder of its kind, or NAME.py with code that works as it is. `ema-lab new KIND --help` says
    what a file of the kind holds.

    Example: ema-lab new ablation my-study
    """
    if source is None:
        given = {"--image-size": image_size is not None, "--sample": sample is not None}
        refuse_without("--from FOLDER", given)
        file = new_file(kind, name)
    elif kind != "dataset":
        raise SpecError(f"--from measures images, so it is for `new dataset`, not for `new {kind}`")
    else:
        from ema_lab.cli.progress import CountDisplay
        from ema_lab.workflow.define.measured_dataset import measured_dataset

        def seen(number: int, total: int) -> None:
            bar.count(number, total, f"{number:,} of {number_of(total, 'image')} read")

        with CountDisplay("reading images") as bar:
            file = measured_dataset(
                name,
                source,
                data=data,
                image_size=image_size,
                sample=sample,
                workers=loader_workers or 0,
                seen=seen,
            )
    put(file.path)
    if file.remark:
        say(file.remark)
    say(f"next: {file.use}")


def schema(
    kind: Annotated[
        str | None,
        typer.Argument(help="ablation, recipe, report, sweep, published, run, slurm or ray; all by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for KIND.schema.json files.")] = None,
) -> None:
    """Print the JSON Schema of definition files.

    --out writes a file of each kind, for an editor.

    Example: ema-lab schema --out schemas
    """
    from ema_lab.specs.schema import SCHEMAS, json_schema

    if kind is not None and kind not in SCHEMAS:
        raise UnknownNameError(unknown_name("schema", kind, SCHEMAS))
    chosen = {name: json_schema(name) for name in ([kind] if kind else SCHEMAS)}
    if out is None:
        put(json.dumps(chosen[kind] if kind else chosen, indent=1))
        return
    make_folder(out)
    for name, value in chosen.items():
        path = out / f"{name}.schema.json"
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        put(path)
