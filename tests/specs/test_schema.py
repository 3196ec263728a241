"""JSON Schemas for editors: each is built, points only at what it holds, and knows the keys in use."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ema_lab.specs.definition import definitions
from ema_lab.specs.schema import SCHEMAS, json_schema

FOLDERS = {
    "ablation": "ablations",
    "recipe": "ablations/recipes",
    "report": "reports",
    "published": "reports/published",
}
FILES = [(kind, name) for kind, folder in FOLDERS.items() for name in definitions(folder)]


def references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for item in schema.values():
            yield from references(item)
    elif isinstance(schema, list):
        for item in schema:
            yield from references(item)


@pytest.fixture(params=SCHEMAS)
def kind(request):
    return request.param


class TestEverySchema:
    def test_is_json_that_refuses_unknown_keys(self, kind):
        schema = json.loads(json.dumps(json_schema(kind)))
        assert schema["$schema"].startswith("https://json-schema.org/")
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False

    def test_points_only_at_what_it_holds(self, kind):
        schema = json_schema(kind)
        assert {reference.rpartition("/")[2] for reference in references(schema)} <= schema.get(
            "$defs", {}
        ).keys()

    def test_knows_every_key_of_its_form(self, kind):
        assert json_schema(kind)["properties"].keys() == SCHEMAS[kind].model_fields.keys()


def test_every_bundled_file_has_the_keys_of_its_schema():
    assert {kind for kind, _ in FILES} == FOLDERS.keys()
    unknown, missing = {}, {}
    schemas = {kind: json_schema(kind) for kind in FOLDERS}
    for kind, name in FILES:
        file = yaml.safe_load(definitions(FOLDERS[kind])[name].read_text(encoding="utf-8"))
        schema = schemas[kind]
        unknown[kind, name] = file.keys() - schema["properties"].keys()
        missing[kind, name] = set(schema.get("required", [])) - file.keys()
    assert {place: keys for place, keys in unknown.items() if keys} == {}
    assert {place: keys for place, keys in missing.items() if keys} == {}


def test_the_base_of_an_ablation_may_be_partial_but_has_no_seed():
    base = json_schema("ablation")["properties"]["base"]
    assert base["properties"].keys() == {"model", "data", "recipe"}
    assert "required" not in base


def test_options_of_a_backbone_stand_beside_its_name():
    model = json_schema("run")["$defs"]["ModelSpec"]
    assert model["additionalProperties"] is True
    assert "options" not in model["properties"]


def properties(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of a schema, at any depth, with its path."""
    if isinstance(schema, dict):
        for key, item in schema.get("properties", {}).items():
            yield f"{path}/{key}", item
        for key, item in schema.items():
            yield from properties(item, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from properties(item, f"{path}/{number}")


def test_every_property_of_every_schema_says_what_it_means(kind):
    found = dict(properties(json_schema(kind)))
    assert len(found) > 4
    assert [
        path for path, item in found.items() if not item.get("description", "").endswith((".", ")"))
    ] == []


def test_the_meaning_of_a_key_is_that_of_its_form():
    defs = json_schema("recipe")["$defs"]
    assert defs["SgdSpec"]["properties"]["lr"]["description"] == "Peak learning rate."
    assert defs["RecipeSpec"]["properties"]["epochs"]["description"].startswith("Number of passes")
