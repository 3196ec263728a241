"""JSON Schemas of the definition files, for completion and checks in editors."""

from typing import Any

from ema_lab.specs.ablation import AblationSpec
from ema_lab.specs.change import RecipeFile
from ema_lab.specs.engine import RaySpec, SlurmSpec
from ema_lab.specs.meanings import forms_of, key_meanings
from ema_lab.specs.published import PublishedSpec
from ema_lab.specs.report import ReportSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import Spec
from ema_lab.specs.sweep import SweepSpec

SCHEMAS: dict[str, type[Spec]] = {
    "ablation": AblationSpec,
    "recipe": RecipeFile,
    "report": ReportSpec,
    "sweep": SweepSpec,
    "published": PublishedSpec,
    "run": RunSpec,
    "slurm": SlurmSpec,
    "ray": RaySpec,
}


def _described(form: type[Spec]) -> dict[str, Any]:
    """Return the JSON Schema of a form in which each property has its meaning, which editors show."""
    schema = form.model_json_schema()
    parts = {part.__name__: part for part in forms_of(form)}
    for name, definition in {form.__name__: schema, **schema.get("$defs", {})}.items():
        for key, meaning in key_meanings(parts[name]).items() if name in parts else ():
            definition["properties"][key].setdefault("description", meaning)
    return schema


def json_schema(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of one kind of file. `base` of an ablation is a partial run spec."""
    schema = _described(SCHEMAS[kind])
    if kind == "ablation":
        run = _described(RunSpec)
        schema.setdefault("$defs", {}).update(run.pop("$defs"))
        loose = {"description": run["properties"]["recipe"]["description"]}
        partial = {key: loose if key == "recipe" else value for key, value in run["properties"].items()}
        partial.pop("seed")
        schema["properties"]["base"] = {
            "type": "object",
            "description": key_meanings(AblationSpec)["base"],
            "properties": partial,
            "additionalProperties": False,
        }
        schema["$defs"]["ModelSpec"].pop("required", None)
    if "ModelSpec" in schema.get("$defs", {}):
        schema["$defs"]["ModelSpec"]["additionalProperties"] = True  # options of the backbone
        schema["$defs"]["ModelSpec"]["properties"].pop("options", None)
    if "DataSpec" in schema.get("$defs", {}):
        schema["$defs"]["DataSpec"]["additionalProperties"] = True  # options of the data set
        schema["$defs"]["DataSpec"]["properties"].pop("options", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
