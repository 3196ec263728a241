"""Choice of cells and changes of the base, as the command line and Python write them."""

import pytest

from ema_lab.errors import DefinitionError, SpecError
from ema_lab.workflow.selection import conditions, read_changes, read_seeds, selected

TEXT = """\
variants:
  none: {model.attention: none}
  "se, small": {model.attention: {name: se, reduction: 4}}
  ema: {model.attention: ema, axes: {model.attention.groups: [4, 8]}}
"""


@pytest.fixture
def ablation(load):
    return load(TEXT)


@pytest.mark.parametrize(
    ("only", "rows"),
    [
        (["variant=ema"], ["ema [groups=4]", "ema [groups=8]"]),
        (["variant=none,ema"], ["none", "ema [groups=4]", "ema [groups=8]"]),
        (["variant=none", "variant=ema"], ["none", "ema [groups=4]", "ema [groups=8]"]),
        (["variant=ema [groups=4]"], ["ema [groups=4]"]),
        (["row=ema [groups=8]"], ["ema [groups=8]"]),
        (["ema [groups=8]", "none"], ["none", "ema [groups=8]"]),
        (["se, small"], ["se, small"]),
        (["variant=se, small"], ["se, small"]),
        (["model.attention.groups=4"], ["ema [groups=4]"]),
        ({"variant": ["none", "ema [groups=4]"]}, ["none", "ema [groups=4]"]),
    ],
)
def test_a_row_may_be_named_as_tables_print_it(ablation, only, rows):
    assert list(selected(ablation, only).rows()) == rows


@pytest.mark.parametrize(
    ("only", "message"),
    [
        (
            ["varian=ema"],
            "no key is named 'varian'; did you mean 'variant'? known: variant, row, seed, model.att",
        ),
        ({"varian": "ema"}, "no key is named 'varian'; did you mean 'variant'?"),
        (["variant=emma"], "no cell of grid has variant=emma; variants: none, se, small, ema"),
        (
            ["emma"],
            "--only takes KEY=VALUE, such as variant=ema or seed=0, or a row, got 'emma'; rows: none, ",
        ),
    ],
)
def test_a_condition_that_chooses_nothing_says_what_there_is(ablation, only, message):
    with pytest.raises(SpecError) as caught:
        selected(ablation, only)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "values"),
    [("1e-1", [0.1]), ("no", ["no"]), ("3,4", [3, 4]), ("true", [True]), ("null", [None]), ("[", ["["])],
)
def test_only_reads_values_as_a_definition_file_does(ablation, text, values):
    assert conditions([f"seed={text}"], ablation) == {"seed": values}


@pytest.mark.parametrize(
    ("text", "seeds"), [(None, None), ("3", 3), ("0,2", [0, 2]), ("2,", [2]), (" 1, 0", [1, 0])]
)
def test_a_number_is_how_many_seeds_and_a_list_is_which(text, seeds):
    assert read_seeds("--seeds", text) == seeds


@pytest.mark.parametrize("text", ["", ",", "x", "-1", "1,1", "1.5", "0;1"])
def test_other_texts_are_no_seeds(text):
    with pytest.raises(SpecError, match="--seeds takes a number of seeds, such as 3, or different seeds"):
        read_seeds("--seeds", text)


def test_seeds_are_chosen_by_number_or_by_value(load):
    ablation = load(TEXT, head=load.head.replace("[0, 1]", "[4, 5, 7]"))
    assert {cell.seed for cell in selected(ablation, seeds=2).cells} == {4, 5}
    assert {cell.seed for cell in selected(ablation, seeds=[7]).cells} == {7}
    with pytest.raises(SpecError, match="grid has the seeds 4, 5, 7, got 3"):
        selected(ablation, seeds=[4, 3])


def test_set_changes_the_base_of_every_cell(ablation):
    changed = selected(ablation, changes=["recipe.epochs=1", "model.placement={stages: [3]}"])
    assert {cell.spec.recipe.epochs for cell in changed.cells} == {1}
    assert {cell.spec.model.placement.stages for cell in changed.cells if cell.variant == "ema"} == {(3,)}
    assert changed.changes == {"recipe.epochs": 1, "model.placement": {"stages": [3]}}
    assert not {cell.run_id for cell in changed.cells} & {cell.run_id for cell in ablation.cells}
    assert changed.only({"variant": ["ema"]}).changes == changed.changes


def test_set_to_what_the_file_says_changes_no_run(ablation):
    same = selected(ablation, changes={"recipe.epochs": ablation.cells[0].spec.recipe.epochs})
    assert [cell.run_id for cell in same.cells] == [cell.run_id for cell in ablation.cells]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["recipe.epochs"], "--set takes KEY=VALUE, such as recipe.epochs=1, got 'recipe.epochs'"),
        (["a=1", "a=2"], "--set a is given twice"),
        (["recipe.epochs=[1"], "--set recipe.epochs: is not YAML"),
        (["recipe.epochs=ten"], "--set recipe.epochs: must be a whole number, got 'ten'"),
        (
            ["recipe.epoch=1"],
            "--set recipe.epoch: no key is named 'epoch'; did you mean 'epochs'?",
        ),
        (["model.attention.groups=8"], "model.attention.groups: is replaced by model.attention (/"),
        (["seed=3"], "--set seed: seeds are listed under 'seeds'"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_with_its_name(ablation, changes, message):
    with pytest.raises((SpecError, DefinitionError)) as caught:
        selected(ablation, changes=changes)
    assert message in str(caught.value)


def test_values_by_key_are_taken_as_they_are():
    assert read_changes({"recipe.epochs": 1}) == {"recipe.epochs": 1}
    assert read_changes(None) == {}
