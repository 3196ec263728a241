"""Things with a name: modules, backbones, data sets, definition files and runs, listed and described."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ema_lab.errors import DefinitionError, SpecError, StoreError, UnknownNameError
from ema_lab.files import read_text
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS
from ema_lab.registry.registry import Registry, unknown_name
from ema_lab.registry.signature import REQUIRED
from ema_lab.specs.dataset import dataset_facts
from ema_lab.specs.definition import definitions, find_definition
from ema_lab.specs.document import read_document
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.folders import existing_store

REGISTRIES: dict[str, Registry] = {
    "attention": ATTENTIONS,
    "backbone": BACKBONES,
    "detector": DETECTOR_HEADS,
    "dataset": DATASETS,
}
FOLDERS = {
    "ablation": "ablations",
    "recipe": "ablations/recipes",
    "sweep": "sweeps",
    "report": "reports",
    "published": "reports/published",
}
KINDS = (*REGISTRIES, *FOLDERS, "run")
MAX_SHAPES = 6
MAX_ABOUT = 80  # characters of a description in a list


def list_things(kind: str | None = None, store: Path | str = DEFAULT_STORE) -> list[dict[str, Any]]:
    """Return kind, name and a short description of everything of a kind, as flat objects.

    Args:
        kind: One of `KINDS`, or its plural; None takes all but runs.
        store: Folder of the runs.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    kinds = [_kind(kind)] if kind else [*REGISTRIES, *FOLDERS]
    return [
        {"kind": each, "name": name, "about": about}
        for each in kinds
        for name, about in _descriptions(each, store)
    ]


def _descriptions(kind: str, store: Path | str) -> Iterator[tuple[str, str]]:
    if kind in REGISTRIES:
        yield from ((name, _about(kind, name)) for name in REGISTRIES[kind])
    elif kind in FOLDERS:
        yield from ((name, _description(path)) for name, path in definitions(FOLDERS[kind]).items())
    else:
        runs = existing_store(store)
        yield from ((run_id, _about_run(runs, run_id)) for run_id in runs.run_ids())


def _kind(name: str) -> str:
    kind = name.removesuffix("s")
    if kind not in KINDS:
        raise UnknownNameError(unknown_name("kind", name, KINDS))
    return kind


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
    except DefinitionError as error:  # a damaged file hides no other
        return f"cannot be read: {error.problems[0].message}"
    about = value.get("description", value.get("title"))
    text = "" if about is None else " ".join(str(about).split())
    return text if len(text) <= MAX_ABOUT else text[: MAX_ABOUT - 3] + "..."


def _about_run(runs: RunStore, run_id: str) -> str:
    """Return a run's state and spec in one line, or its damage."""
    facts = runs.facts(run_id)
    state = runs.state_of(run_id, facts)
    try:
        about = _about_spec(runs.spec(run_id))
    except StoreError as error:
        about = str(error)
    return "; ".join([f"{state}: {about}", *facts.damage])


def _about_spec(spec: RunSpec) -> str:
    return f"{spec.model.attention.name} in {spec.model.network} on {spec.data.name}, seed {spec.seed}"


def description(name: str, kind: str | None = None, store: Path | str = DEFAULT_STORE) -> str:
    """Return the full description of one thing: formula and options, a definition's text, a run's JSON.

    Args:
        name: A name, a path, "package.module:Name", or a run id (or an unambiguous prefix).
        kind: One of `KINDS`; None takes the first kind that has the name.
        store: Folder of the runs.

    Raises:
        UnknownNameError: If nothing has that name.
    """
    if kind is not None:
        return _text(_kind(kind), name, store)
    if kinds := kinds_of(name):
        return _text(kinds[0], name, store)
    if Path(name).is_file():
        return Path(name).read_text(encoding="utf-8")
    if ":" in name:
        return _signature_text(ATTENTIONS, name)
    if re.fullmatch(r"[0-9a-f]{4,16}", name):
        return _text("run", name, store)
    known = [each for registry in REGISTRIES.values() for each in registry]
    known += [each for folder in FOLDERS.values() for each in definitions(folder)]
    raise UnknownNameError(unknown_name("thing", name, known))


def kinds_of(name: str) -> list[str]:
    """Return the kinds that have this name; runs are not searched."""
    return [
        kind
        for kind in (*REGISTRIES, *FOLDERS)
        if (REGISTRIES[kind].knows(name) if kind in REGISTRIES else name in definitions(FOLDERS[kind]))
    ]


def _text(kind: str, name: str, store: Path | str) -> str:
    if kind in REGISTRIES:
        return _signature_text(REGISTRIES[kind], name)
    if kind in FOLDERS:
        return read_text(find_definition(FOLDERS[kind], name))
    return _run_text(existing_store(store), name)


def _run_text(runs: RunStore, name: str) -> str:
    run_id = runs.find(name)
    facts = runs.facts(run_id)
    attempts, errors = runs.readable_attempts(run_id)
    spec: dict[str, Any] | None = None
    try:
        spec = runs.spec(run_id).resolved()
    except StoreError as error:
        errors.append(error)
    damage = dict.fromkeys([*facts.damage, *map(str, errors)])
    content: dict[str, Any] = {
        "run_id": run_id,
        "state": runs.state_of(run_id, facts),
        "folder": str(runs.folder(run_id)),
        "spec": spec,
        "attempts": [attempt.model_dump(mode="json") for attempt in attempts],
        "record": facts.record.model_dump(mode="json") if facts.record else None,
    }
    if damage:
        content["damage"] = list(damage)
    return json.dumps(content, indent=1) + "\n"


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
    """Return lines with the stages, blocks and named places of a backbone, for placements."""
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
    facts = dataset_facts(name, {})
    images = f"{facts.train_images:,} training and {number_of(facts.test_images, 'test image')}"
    shape = " x ".join(map(str, facts.image_shape))
    return f"{number_of(facts.classes, 'class')}, {images}, {shape}; mean {facts.mean}, std {facts.std}"
