"""Defaults never change: a run id leaves out what is at its default, so that another one renames nothing.

`defaults.yaml` holds every default of the forms of definition files, of the options of what ema-lab
ships, and what each shipped name stands for. A new entry is added there; one that is there stays.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_core import PydanticUndefined

import ema_lab.specs
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import REQUIRED, split_target
from ema_lab.specs.strict import Spec

GOLDEN = yaml.safe_load(Path(__file__).with_name("defaults.yaml").read_text(encoding="utf-8"))


def plain(value: Any) -> Any:
    """Return a default as YAML writes it, with its type: 0, 0.0 and False are three."""
    if isinstance(value, Spec):
        return plain(value.model_dump(exclude_defaults=True))  # the form's own defaults are listed once
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def form_defaults() -> dict[str, dict[str, Any]]:
    """Return the defaults of every form, by class and field; a field that must be given is left out."""
    for module in pkgutil.iter_modules(ema_lab.specs.__path__):
        importlib.import_module(f"ema_lab.specs.{module.name}")
    waiting, found = [Spec], {}
    while waiting:
        form = waiting.pop()
        waiting += form.__subclasses__()
        if form.__module__.startswith("ema_lab.specs."):
            defaults = {
                name: plain(field.get_default(call_default_factory=True, validated_data={}))
                for name, field in form.model_fields.items()
            }
            found[form.__name__] = {k: v for k, v in defaults.items() if v is not PydanticUndefined}
    return {name: defaults for name, defaults in sorted(found.items()) if defaults}


def names_of(registry: Registry) -> dict[str, dict[str, Any]]:
    """Return what each shipped name stands for: its code, what it fixes, the defaults of its options."""
    found = {}
    for name, entry in sorted(registry._table.items()):
        options = {key: option.default for key, option in registry.options(name).items()}
        found[name] = {
            "code": split_target(entry.target)[1],
            **({"fixed": dict(entry.fixed)} if entry.fixed else {}),
            **{key: plain(value) for key, value in options.items() if value is not REQUIRED},
        }
    return found


def current() -> dict[str, dict[str, Any]]:
    tables = {
        registry.kind: names_of(registry) for registry in (ATTENTIONS, BACKBONES, DETECTOR_HEADS, DATASETS)
    }
    return {"forms": form_defaults(), **tables}


def flat(tree: Any, *above: str) -> dict[str, str]:
    """Return `a.b.c: repr` of every leaf."""
    if isinstance(tree, dict) and tree:
        return {key: text for name, item in tree.items() for key, text in flat(item, *above, name).items()}
    return {".".join(above): repr(tree)}


@pytest.mark.parametrize("kind", ["forms", "attention", "backbone", "detector", "data set"])
def test_every_default_is_what_it_has_always_been(kind):
    golden, now = flat(GOLDEN[kind]), flat(current()[kind])
    assert {key: now.get(key) for key in golden} == golden
    new = {key: text for key, text in now.items() if key not in golden}
    assert new == {}, f"new defaults: write them into {Path(__file__).with_name('defaults.yaml').name}"


def test_a_changed_default_of_an_optimiser_is_found():
    assert GOLDEN["forms"]["AdamWSpec"] == {"weight_decay": 0.01, "beta1": 0.9, "beta2": 0.999}
    assert flat({"a": 0}) != flat({"a": False}) != flat({"a": 0.0})
