"""Commands about what exists: list, show, new, schema."""

import json
import keyword
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ema_lab.cli.options import Json, Store
from ema_lab.cli.output import make_folder, print_rows, put, say
from ema_lab.errors import DefinitionError, SpecError, StoreError, UnknownNameError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.registry.registry import Registry, unknown_name
from ema_lab.registry.signature import REQUIRED
from ema_lab.specs.definition import definitions, find_definition
from ema_lab.specs.document import read_document
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.status import existing_store
from ema_lab.workflow.template import TEMPLATES

REGISTRIES: dict[str, Registry] = {"attention": ATTENTIONS, "backbone": BACKBONES, "dataset": DATASETS}
FOLDERS = {
    "ablation": "ablations",
    "recipe": "ablations/recipes",
    "sweep": "sweeps",
    "report": "reports",
    "published": "reports/published",
}
KINDS = (*REGISTRIES, *FOLDERS, "run")

MAX_SHAPES = 6


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("list")(list_)
    app.command()(show)
    app.command()(new)
    app.command()(schema)


def _kind(word: str) -> str:
    kind = word.removesuffix("s")
    if kind not in KINDS:
        raise UnknownNameError(unknown_name("kind", word, KINDS))
    return kind


def list_(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}; all by default.")] = None,
    store: Store = DEFAULT_STORE,
    as_json: Json = False,
) -> None:
    """List what can be named: modules, backbones, data sets, definitions, runs.

    Example: ema-lab list attentions
    """
    rows: list[dict[str, Any]] = []
    for one in [_kind(kind)] if kind else [*REGISTRIES, *FOLDERS]:
        if one in REGISTRIES:
            rows += [{"kind": one, "name": name, "about": _about(one, name)} for name in REGISTRIES[one]]
        elif one in FOLDERS:
            found = definitions(FOLDERS[one]).items()
            rows += [{"kind": one, "name": name, "about": _description(path)} for name, path in found]
        else:
            rows += _runs(store)
    print_rows(rows, as_json=as_json)


def _about(kind: str, name: str) -> str:
    entry = REGISTRIES[kind][name]
    try:
        signature = REGISTRIES[kind].signature(name)
    except SpecError as error:
        if not entry.distribution:
            raise
        return f"cannot be read: {error} (from {entry.distribution})"  # one bad package hides no other
    text = signature.module_doc if kind == "attention" else signature.doc
    about = text.splitlines()[0].rstrip(".") if text else ""
    return f"{about} (from {entry.distribution})".strip() if entry.distribution else about


def _description(path: Path) -> str:
    try:
        value = read_document(path).value
    except DefinitionError as error:  # one odd file hides no other
        return f"cannot be read: {error.problems[0].message}"
    given = value.get("description", value.get("title"))
    text = "" if given is None else " ".join(str(given).split())
    return text if len(text) <= 80 else text[:77] + "..."


def _runs(store: Path) -> list[dict[str, Any]]:

    runs = existing_store(store)
    return [{"kind": "run", "name": run_id, "about": _about_run(runs, run_id)} for run_id in runs.run_ids()]


def _about_run(runs: Any, run_id: str) -> str:
    """Return a run's state and spec in one line, or what is damaged of it."""
    facts = runs.facts(run_id)
    state = runs.state_of(run_id, facts)
    try:
        words = _run_words(runs.spec(run_id))
    except StoreError as error:
        words = str(error)
    return "; ".join([f"{state}: {words}", *facts.damage])


def _run_words(spec: Any) -> str:
    return f"{spec.model.attention.name} in {spec.model.backbone} on {spec.data.name}, seed {spec.seed}"


def show(
    kind_or_name: Annotated[str, typer.Argument(metavar="[KIND] NAME", help="What to show.")],
    name: Annotated[str | None, typer.Argument(hidden=True)] = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show one thing: a module's formula and options, a definition's text, a run's spec and record.

    Examples: ema-lab show attention ema; ema-lab show cifar-200; ema-lab show run 3f2a
    """
    if name is not None:
        put(_text(_kind(kind_or_name), name, store), end="")
        return
    name = kind_or_name
    for kind in (*REGISTRIES, *FOLDERS):
        known = REGISTRIES[kind].knows if kind in REGISTRIES else definitions(FOLDERS[kind]).__contains__
        if known(name):
            put(_text(kind, name, store), end="")
            return
    if Path(name).is_file():
        put(Path(name).read_text(encoding="utf-8"), end="")
    elif ":" in name:
        put(_signature_text(ATTENTIONS, name), end="")
    elif re.fullmatch(r"[0-9a-f]{4,16}", name):
        put(_text("run", name, store), end="")
    else:
        every = [one for kind in REGISTRIES for one in REGISTRIES[kind]]
        every += [one for kind in FOLDERS for one in definitions(FOLDERS[kind])]
        raise UnknownNameError(unknown_name("thing", name, every))


def _text(kind: str, name: str, store: Path) -> str:
    if kind in REGISTRIES:
        return _signature_text(REGISTRIES[kind], name)
    if kind in FOLDERS:
        return find_definition(FOLDERS[kind], name).read_text(encoding="utf-8")

    runs = existing_store(store)
    run_id = runs.find(name)
    facts = runs.facts(run_id)
    attempts = runs.attempts(run_id) if facts.done else facts.attempts
    shown: dict[str, Any] = {
        "run_id": run_id,
        "state": runs.state_of(run_id, facts),
        "folder": str(runs.folder(run_id)),
        "spec": runs.spec(run_id).resolved(),
        "attempts": [attempt.model_dump(mode="json") for attempt in attempts],
        "record": facts.record.model_dump(mode="json") if facts.record else None,
    }
    if facts.damage:
        shown["damage"] = list(facts.damage)
    return json.dumps(shown, indent=1) + "\n"


def _signature_text(registry: Registry, name: str) -> str:
    signature = registry.signature(name)
    doc = re.sub(r"\n\s*Args:\n.*", "", signature.doc, flags=re.DOTALL).strip()
    distribution = registry[name].distribution
    lines = [f"{registry.kind} {name}" + (f" (from {distribution})" if distribution else ""), ""]
    if registry.kind == "attention" and signature.module_doc:
        lines += [signature.module_doc, ""]
    lines += [doc, ""] if doc else []
    if registry.kind == "data set":
        lines += [_facts(name), ""]
    if registry is BACKBONES:
        shipped = ":" not in name and not distribution  # `show` runs no code of others
        lines += [*(_places(name) if shipped else [f"Places: ema-lab check {name} lists them"]), ""]
    options = registry.options(name)
    lines.append("Options:" if options else "No options.")
    for option in options.values():
        default = "required" if option.default is REQUIRED else f"default {option.default!r}"
        lines.append(f"  {option.name}: {option.type_text} ({default})")
        lines += [f"      {option.meaning}"] if option.meaning else []
    return "\n".join(lines) + "\n"


def _places(name: str) -> list[str]:
    """Return what a placement can name in a backbone: stages, blocks, places."""
    from ema_lab.models.build import named_backbone

    backbone = named_backbone(name, classes=10, channels=3, device="meta")
    if not backbone.blocks:
        return [f"Places: none is known of; {backbone.note or 'patterns over submodule names work'}"]
    sizes = backbone.stage_sizes
    lines = [f"Note: {backbone.note}"] if backbone.note else []
    lines += [f"Stages: {len(sizes)}, of {', '.join(map(str, sizes))} blocks", "Places:"]
    width = max(map(len, backbone.places))
    for place in backbone.places:
        names = backbone.where(place)
        shapes = list(dict.fromkeys(re.sub(r"\d+(?=[^.]*\.)", "*", name) for name in names))
        more = ", ..." if len(shapes) > MAX_SHAPES else ""
        lines.append(f"  {place:{width}}  {len(names):3} x {', '.join(shapes[:MAX_SHAPES])}{more}")
    return lines


def _facts(name: str) -> str:
    from ema_lab.specs.dataset import dataset_facts

    facts = dataset_facts(name, {})
    return (
        f"{facts.classes} classes, {facts.train_images:,} training and {facts.test_images:,} test images, "
        f"{' x '.join(map(str, facts.image_shape))}; mean {facts.mean}, std {facts.std}"
    )


def new(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(TEMPLATES)}.")],
    name: Annotated[str, typer.Argument(help="Its name: letters, digits, _ and, for a YAML file, -.")],
) -> None:
    """Write a file to start from: YAML in the folder of its kind, or NAME.py with code that works as it is.

    Example: ema-lab new ablation my-study
    """
    if kind not in TEMPLATES:
        raise UnknownNameError(unknown_name("kind of file", kind, TEMPLATES))
    template = TEMPLATES[kind]
    pattern = r"[A-Za-z][A-Za-z0-9_-]*" if template.folder else r"_*[a-z][a-z0-9_]*"
    if not re.fullmatch(pattern, name) or (not template.folder and keyword.iskeyword(name)):
        article = "an" if kind[0] == "a" else "a"
        raise SpecError(
            f"{name!r} is no name for {article} {kind} file; something like {template.example!r} is"
        )
    path = Path(template.folder) / f"{name}.yaml" if template.folder else Path(f"{name}.py")
    if path.exists():
        raise SpecError(f"{path} exists already; nothing was written")
    words = {"name": name, "title": "".join(part.capitalize() for part in name.split("_"))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(template.text.format(**words), encoding="utf-8")
    put(path)
    say(f"next: {template.use.format(**words)}")


def schema(
    kind: Annotated[
        str | None,
        typer.Argument(help="ablation, recipe, report, sweep, published, run, slurm or ray; all by default."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for KIND.schema.json files.")] = None,
) -> None:
    """Print the JSON Schema of definition files, or write them for an editor.

    Example: ema-lab schema --out schemas
    """
    from ema_lab.specs.schema import SCHEMAS, json_schema

    if kind is not None and kind not in SCHEMAS:
        raise UnknownNameError(unknown_name("schema", kind, SCHEMAS))
    chosen = {one: json_schema(one) for one in ([kind] if kind else SCHEMAS)}
    if out is None:
        put(json.dumps(chosen[kind] if kind else chosen, indent=1))
        return
    make_folder(out)
    for one, value in chosen.items():
        path = out / f"{one}.schema.json"
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        put(path)
