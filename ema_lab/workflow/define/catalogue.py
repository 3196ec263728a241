"""Columns, figures and recipes that a report or an ablation may name, each with its meaning."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from ema_lab.registry.catalogue import TASKS
from ema_lab.specs.change import DEFAULT_RECIPES, named_recipe
from ema_lab.specs.columns import COLUMNS, DELTA, MEANINGS
from ema_lab.specs.definition import definitions
from ema_lab.specs.document import read_document
from ema_lab.specs.figure import Figure
from ema_lab.specs.meanings import key_meanings, summary
from ema_lab.specs.metric import COSTS
from ema_lab.specs.task import task_description

Rows = list[dict[str, Any]]


def columns() -> Rows:
    """Return every column that a table may have, with the tasks that have it and its meaning."""
    tasks = {name: task_description(name) for name in TASKS}
    metrics = dict.fromkeys(name for task in tasks.values() for name in task.metrics)
    rows = []
    for name in metrics:
        owners = [task for task, description in tasks.items() if name in description.metrics]
        header = tasks[owners[0]].metrics[name].header
        rows.append({"column": name, "of": ", ".join(owners), "meaning": f"{header}, mean over seeds"})
    rows += [{"column": name, "of": "every task", "meaning": _meaning(name)} for name in COLUMNS]
    meaning = "difference of any other metric to the baseline, such as delta_top5"
    return [*rows, {"column": f"{DELTA}METRIC", "of": "every task", "meaning": meaning}]


def _meaning(name: str) -> str:
    cost = COSTS.get(name.removeprefix(DELTA))
    if cost is None:
        return MEANINGS[name]
    unit = f" ({cost.unit})" if cost.unit else ""
    return (
        f"additional {cost.label} over the baseline{unit}"
        if name.startswith(DELTA)
        else f"{cost.label}{unit}"
    )


def figures() -> Rows:
    """Return every kind of figure with its meaning, and each of its own keys with its own."""
    rows = []
    for form in get_args(get_args(Figure)[0]):
        (kind,) = get_args(form.model_fields["kind"].annotation)
        rows.append({"figure": kind, "key": None, "meaning": summary(form)})
        for key, meaning in key_meanings(form).items():
            if key != "kind":
                rows.append({"figure": kind, "key": key, "meaning": meaning})
    return rows


def recipes() -> Rows:
    """Return every named recipe with its description, and the data sets or tasks whose default it is."""
    return list(_recipes())


def _recipes() -> Iterator[dict[str, Any]]:
    for name, path in definitions("ablations/recipes").items():
        keys = named_recipe(name)
        yield {
            "recipe": name,
            "epochs": keys.get("epochs"),
            "batch": keys.get("batch_size"),
            "optimizer": _short(keys.get("optimizer")),
            "default_of": ", ".join(data for data, default in DEFAULT_RECIPES.items() if default == name)
            or None,
            "about": " ".join(str(read_document(path).value.get("description", "")).split()),
        }


def _short(value: Any) -> str | None:
    return f"{value.get('name')} {value.get('lr'):g}" if isinstance(value, Mapping) else None


LISTS = {"columns": columns, "figures": figures, "recipes": recipes}
