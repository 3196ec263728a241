"""Problems of definition files in plain words: what is wanted, never the validator's own terms."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from ema_lab.specs import messages
from ema_lab.specs.document import error_messages
from ema_lab.specs.schema import SCHEMAS

FOREIGN = re.compile(
    r"input|\btag\b|tuple|dictionary|discriminator|literal\[|function-|constrained|instance of|valid |Spec\b"
)
WRONG: tuple[Any, ...] = (
    3,
    -1,
    2.5,
    "q",
    "",
    True,
    None,
    [],
    ["q"],
    [1],
    {},
    {"q": 1},
    {"name": "q"},
    [{"kind": "q"}],
)


def forms(form: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """Yield a form and the forms of its keys, each once."""
    if form in seen:
        return
    seen.add(form)
    yield form
    waiting: list[Any] = [field.annotation for field in form.model_fields.values()]
    while waiting:
        part = waiting.pop()
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield from forms(part, seen)
        else:
            waiting += [*getattr(part, "__args__", ()), *getattr(part, "__metadata__", ())]


FORMS = [form for seen in [set()] for top in SCHEMAS.values() for form in forms(top, seen)]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_no_word_of_the_validator_reaches_a_user(form):
    foreign = []
    for value in WRONG:
        for tree in (value, dict.fromkeys(form.model_fields, value)):
            try:
                form.model_validate(tree)
            except ValidationError as error:
                foreign += [
                    text for _, text in error_messages(error) if FOREIGN.search(text.replace("'", ""))
                ]
    assert foreign == []


def test_the_forms_of_all_files_are_tried():
    assert {"RecipeSpec", "SgdSpec", "CurvesFigure", "ParameterSpec", "RowSpec", "SkipSpec"} <= {
        form.__name__ for form in FORMS
    }


def recipe(**keys: Any) -> dict[str, Any]:
    return {"epochs": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.1}, **keys}


PLAIN = [  # a recipe's key, its value, and the problem
    ("epochs", "ten", "epochs: must be a whole number, got 'ten'"),
    ("epochs", "10", "epochs: must be a whole number, got '10': write it without quotes"),
    ("epochs", 0, "epochs: must be 1 or more, got 0"),
    ("label_smoothing", 1.0, "label_smoothing: must be below 1, got 1.0"),
    ("optimizer", "sgd", "optimizer: must be a mapping of keys to values, got 'sgd'"),
    ("optimizer", {"lr": 0.1}, "optimizer.name: is missing: it names the optimizer, one of sgd, adamw"),
    (
        "optimizer",
        {"name": "sdg"},
        "optimizer.name: no optimizer is named 'sdg'; did you mean 'sgd'? known: sgd, adamw",
    ),
    (
        "optimizer",
        {"name": "sgd", "lr": "0.1"},
        "optimizer.lr: must be a number, got '0.1': write it without quotes",
    ),
    ("optimizer", {"name": "sgd"}, "optimizer.lr: is missing"),
    (
        "protocol",
        "best",
        "protocol: must be 'last', 'best-val' or 'best-test', got 'best'; did you mean 'best-val'?",
    ),
    (
        "normalise",
        "imagenet",
        "normalise: must be 'dataset', 'cifar10' or a mapping of keys to values, got 'imagenet'",
    ),
    ("normalise", {"mean": [0.5]}, "normalise.std: is missing"),
    ("normalise", {"mean": 0.5, "std": [1.0]}, "normalise.mean: must be a list, got 0.5"),
    (
        "schedule",
        {"name": "multistep", "milestones": 3},
        "schedule.milestones: must be a list, got 3: write [3]",
    ),
    ("schedule", {"name": "multistep", "milestones": []}, "schedule.milestones: must have an entry, got []"),
    (
        "schedule",
        {"name": "multistep", "milestones": ["a"]},
        "schedule.milestones.0: must be a whole number, got 'a'",
    ),
    ("augment", {"flip": "yes"}, "augment.flip: must be true or false, got 'yes'"),
]


@pytest.mark.parametrize(("key", "value", "expected"), PLAIN)
def test_a_problem_says_what_would_be_right(key, value, expected):
    with pytest.raises(ValidationError) as caught:
        SCHEMAS["recipe"].model_validate({"name": "r", "description": "d", "recipe": recipe(**{key: value})})
    assert [text for _, text in error_messages(caught.value)] == [f"recipe.{expected}"]


def test_text_that_is_a_number_in_yaml_is_quoted():
    with pytest.raises(ValidationError) as caught:
        SCHEMAS["report"].model_validate({"name": "r", "ablation": "a", "title": 3})
    assert [text for _, text in error_messages(caught.value)] == [
        "title: must be text, got 3: write it in quotes"
    ]


def test_a_long_value_is_shown_shortened():
    with pytest.raises(ValidationError) as caught:
        SCHEMAS["recipe"].model_validate(
            {"name": "r", "description": "d", "recipe": recipe(epochs="x" * 500)}
        )
    assert len(error_messages(caught.value)[0][1]) < 200


def test_every_form_of_a_text_has_words():
    sources = [path.read_text(encoding="utf-8") for path in Path(messages.__file__).parent.glob("*.py")]
    patterns = {found for text in sources for found in re.findall(r'pattern=r"([^"]+)"', text)}
    assert len(patterns) > 5
    assert patterns <= messages._FORMS.keys()
