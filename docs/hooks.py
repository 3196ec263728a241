"""Reference pages of the documentation, generated from the package's own catalogues, schemas and help.

MkDocs calls `on_files`. Each function of `PAGES` returns one page as Markdown.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import typer

from ema_lab.cli.main import app
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS, TASKS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import REQUIRED, Option
from ema_lab.specs.columns import COMPARISONS, COUNTS, DELTA, IMAGE_COLUMNS, LATENCIES
from ema_lab.specs.dataset import dataset_facts
from ema_lab.specs.definition import definitions
from ema_lab.specs.document import read_document
from ema_lab.specs.metric import COSTS
from ema_lab.specs.parameter import KEYS
from ema_lab.specs.schema import SCHEMAS, json_schema
from ema_lab.specs.task import task_description

Schema = Mapping[str, Any]
WIDTH = 96  # of the help, in characters
DIRECTIONS = {1: "higher", -1: "lower"}


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to the site."""
    from mkdocs.structure.files import File

    for path, page in PAGES.items():
        files.append(File.generated(config, path, content=page()))
    return files


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def filled_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table without its empty columns, or nothing without rows."""
    filled = [number for number in range(len(header)) if any(row[number] for row in rows)]
    return table([header[n] for n in filled], [[row[n] for n in filled] for row in rows]) if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    """Return inline code, or nothing for an empty text."""
    return f"`{text}`" if str(text) else ""


def fence(text: str, language: str = "text") -> str:
    """Return a block of code."""
    return f"```{language}\n{text.rstrip()}\n```\n"


def split_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return the prose of a docstring and the meanings of its `Attributes:`."""
    prose, _, attributes = inspect.cleandoc(text).partition("\nAttributes:\n")
    items = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", attributes, re.MULTILINE | re.DOTALL)
    return prose.strip(), {name: " ".join(meaning.split()) for name, meaning in items}


def type_text(schema: Schema) -> str:
    """Return the type of a JSON Schema property in words."""
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return ", ".join(code(value) for value in schema["enum"])
    if "$ref" in schema:
        return f"[{(name := schema['$ref'].rpartition('/')[2])}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(type_text(choice) for choice in choices))
    if schema.get("type") == "array":
        items = schema.get("items") or {}
        return f"list of {type_text(items)}" if items else "list"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"mapping to {type_text(schema['additionalProperties'])}"
    if isinstance(schema.get("type"), list):
        return " or ".join(type_text({"type": name}) for name in schema["type"])
    names = {"object": "mapping", "integer": "whole number", "string": "text", "boolean": "`true`, `false`"}
    return names.get(schema.get("type", ""), schema.get("type", "any"))


def keys_table(schema: Schema) -> str:
    """Return the table of an object's keys: type, default and meaning."""
    _, meanings = split_docstring(schema.get("description", ""))
    required = schema.get("required", ())
    rows = [
        (
            code(key),
            type_text(value),
            "required" if key in required else _default(value),
            value.get("description", "") or meanings.get(key, ""),
        )
        for key, value in schema.get("properties", {}).items()
    ]
    return filled_table(("Key", "Type", "Default", "Meaning"), rows)


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, Mapping):
        return ""  # its own table says so
    return code(str(value).lower() if isinstance(value, bool) else value)


def schema_sections(schema: Schema, level: int = 3) -> Iterator[str]:
    """Yield prose and keys of a schema, then of each schema that it refers to."""
    yield split_docstring(schema.get("description", ""))[0] + "\n"
    yield keys_table(schema)
    for name, part in sorted(schema.get("$defs", {}).items()):
        if "properties" in part:
            yield f"{'#' * level} {name}\n"
            yield from schema_sections(part, level)


def page(title: str, lead: str, parts: Iterable[str]) -> str:
    """Return a page from its title, first paragraph and parts."""
    return "\n".join([f"# {title}\n", f"{lead}\n", *parts])


def commands() -> str:
    """Return the help of every command."""
    root = typer.main.get_command(app)
    lead = "The help of every command, as `ema-lab COMMAND --help` prints it."
    return page("Command line", lead, _helps(root, "ema-lab"))


def _helps(command: Any, path: str, parent: Any = None) -> Iterator[str]:
    width = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = command.make_context(
        path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True, **width
    )
    if parent is not None:
        yield f"{'#' * min(path.count(' ') + 1, 3)} {path}\n"
        yield fence(command.get_help(context))
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _helps(below, f"{path} {name}", context)


def files() -> str:
    """Return the keys of every kind of file but sweeps."""
    lead = (
        "Keys of every kind of file. `ema-lab schema --out schemas` writes the same as JSON Schema, with "
        "which an editor completes and checks them. Sweeps have a [page of their own](sweeps.md)."
    )
    parts: list[str] = []
    seen: set[str] = set()
    for kind in SCHEMAS:
        if kind == "sweep":
            continue
        schema = json_schema(kind)
        new = {name: part for name, part in schema.get("$defs", {}).items() if name not in seen}
        seen |= new.keys()
        parts += [f"## {kind}\n", *schema_sections({**schema, "$defs": new})]
    return page("Files", lead, parts)


def columns() -> str:
    """Return the columns of tables, the metrics of each task, and the costs."""
    lead = "Names for `columns`, `metric`, `cost` and `rank` of a [report](../reports.md)."
    parts: list[str] = []
    for title, meanings in (
        ("Comparisons with the baseline", COMPARISONS),
        ("Images", IMAGE_COLUMNS),
        ("Latencies", LATENCIES),
        ("Counts", COUNTS),
    ):
        parts += [f"## {title}\n", table(("Column", "Meaning"), [(code(k), v) for k, v in meanings.items()])]
    named = code(f"{DELTA}NAME")
    parts.append(f"{named} is the difference of any metric or cost to the baseline.\n")
    parts.append("## Costs\n")
    rows = [(code(name), cost.label, cost.unit, code(f"{DELTA}{name}")) for name, cost in COSTS.items()]
    parts.append(table(("Column", "Header", "Unit", "Difference"), rows))
    for name in TASKS:
        task = task_description(name)
        parts.append(f"## Metrics of {name}\n")
        parts.append(f"The primary metric is {code(task.primary)}.\n")
        rows = [
            (code(key), metric.label, metric.unit, DIRECTIONS[metric.sign], code(f"{DELTA}{key}"))
            for key, metric in task.metrics.items()
        ]
        parts.append(table(("Column", "Header", "Unit", "Better", "Difference"), rows))
    return page("Columns", lead, parts)


def figures() -> str:
    """Return every kind of figure with its keys."""
    parts = json_schema("report")["$defs"]
    found = {name: part for name, part in parts.items() if name.endswith("Figure")}
    kinds = {part["properties"]["kind"]["const"]: part for part in found.values()}
    sections: list[str] = []
    for kind, part in kinds.items():
        prose, _ = split_docstring(part.get("description", ""))
        sections += [f"## {kind}\n", prose + "\n", keys_table(part)]
    return page("Figures", "Kinds for `figures` of a [report](../reports.md).", sections)


def recipes() -> str:
    """Return the named recipes."""
    lead = (
        "Named recipes, for `recipe: {use: NAME}`. Keys beside `use` replace the recipe's own: "
        "[Recipes](../ablations.md#recipes). Every key is listed under [Files](files.md#recipespec)."
    )
    parts: list[str] = []
    for name, path in definitions("ablations/recipes").items():
        value = read_document(path).value
        text = path.read_text(encoding="utf-8")
        parts += [f"## {name}\n", " ".join(value.get("description", "").split()) + "\n"]
        parts.append(fence(text[text.index("recipe:") :], "yaml"))
    return page("Recipes", lead, parts)


def sweeps() -> str:
    """Return the keys of sweep files, the distributions and their keys."""
    lead = "Keys of a [sweep](../searches.md). The format is that of Weights & Biases."
    parts = list(schema_sections(json_schema("sweep"), level=2))
    rows = [
        (code(name), ", ".join(map(code, sorted(needed))), ", ".join(map(code, sorted(optional))))
        for name, (needed, optional) in KEYS.items()
    ]
    parts += ["## Distributions\n", table(("Distribution", "Required keys", "Optional keys"), rows)]
    return page("Sweep files", lead, parts)


def attention() -> str:
    """Return every attention module with formula and options."""
    lead = "Modules for `model.attention`. `ema-lab show attention NAME` prints the same."
    parts: list[str] = []
    for name in ATTENTIONS:
        signature = ATTENTIONS.signature(name)
        title, _, more = signature.module_doc.partition("\n")
        doc = re.sub(r"\n\s*Args:\n.*", "", signature.doc, flags=re.DOTALL).strip()
        parts += [f"## {name}\n", title + "\n", fence("\n\n".join(filter(None, (more.strip(), doc))))]
        parts.append(options_table(ATTENTIONS.options(name).values()))
    return page("Attention modules", lead, parts)


def options_table(options: Iterable[Option]) -> str:
    """Return the table of a module's options."""
    rows = [
        (
            code(option.name),
            code(re.sub(r"Literal\[(.*?)\]", r"\1", option.type_text)),
            "required" if option.default is REQUIRED else code(repr(option.default)),
            option.meaning,
        )
        for option in options
    ]
    return filled_table(("Option", "Type", "Default", "Meaning"), rows) or "No options.\n"


def placements() -> str:
    """Return the stages, blocks and named places of every backbone; equal ones share a section."""
    from ema_lab.models.build import named_backbone

    lead = (
        "Named places of every backbone, for `placement: {after: PLACE}`: how many submodules a place "
        "names, and which. `ema-lab show NAME` prints the same of one backbone; "
        "[Placements](../ablations.md#placements) explains them. Patterns over submodule names work in all."
    )
    shared: dict[tuple[str, ...], list[tuple[str, Any]]] = {}
    for name in BACKBONES:
        backbone = named_backbone(name, classes=10, channels=3, device="meta")
        shared.setdefault((*backbone.places, backbone.note), []).append((name, backbone))
    parts: list[str] = []
    for (*places, note), members in shared.items():
        parts.append(f"## {', '.join(_families(name for name, _ in members))}\n")
        if note:
            parts.append(f"{note[0].upper()}{note[1:]}.\n")
        rows = [
            (code(name), ", ".join(map(str, each.stage_sizes)), *(_place(each, place) for place in places))
            for name, each in members
        ]
        header = ("Backbone", "Blocks per stage", *(code(place) for place in places))
        parts.append(table(header, rows))
    families = ", ".join(code(f"{prefix}NAME") for prefix in BACKBONES._families)
    parts += ["## Families\n", f"{families}: any model of the package, which has to be installed.\n"]
    for title, registry in (("Detectors on a backbone's stages", DETECTOR_HEADS),):
        parts += [f"## {title}\n", *_entries(registry)]
    return page("Backbones and placements", lead, parts)


def _families(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(re.split(r"(?<!v)\d|_", name)[0] for name in names))


def _place(backbone: Any, place: str) -> str:
    names = backbone.where(place)
    shapes = list(dict.fromkeys(re.sub(r"\d+(?=[^.]*\.)", "*", name) for name in names))
    return f"{len(names)}: {', '.join(map(code, shapes[:3]))}{', ...' if len(shapes) > 3 else ''}"


def _entries(registry: Registry) -> Iterator[str]:
    for name in registry:
        yield f"### {name}\n"
        yield registry.signature(name).doc.partition("\n\n")[0] + "\n"
        yield options_table(registry.options(name).values())


def data() -> str:
    """Return every data set with its facts and options."""
    lead = "Data sets for `data: {name: NAME}`, with the options that stand beside `name`."
    parts: list[str] = []
    for name in DATASETS:
        doc = re.sub(r"\n\s*(Args|Returns|Raises):\n.*", "", DATASETS.signature(name).doc, flags=re.DOTALL)
        parts += [f"## {name}\n", doc.strip() + "\n", *([] if " classes" in doc else _facts(name))]
        parts.append(options_table(DATASETS.options(name).values()))
    return page("Data sets", lead, parts)


def _facts(name: str) -> Iterator[str]:
    if any(option.default is REQUIRED for option in DATASETS.options(name).values()):
        return
    facts = dataset_facts(name, {})
    yield (
        f"{facts.classes:,} classes, {facts.train_images:,} training images, {facts.test_images:,} test "
        f"images of {' x '.join(map(str, facts.image_shape))}.\n"
    )


PAGES: Mapping[str, Callable[[], str]] = {
    f"reference/{function.__name__}.md": function
    for function in (commands, files, columns, figures, recipes, sweeps, attention, placements, data)
}
