"""Expansion: which cells an ablation has, in which order, and what it refuses with which line."""

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.ablation.grid import matches
from ema_lab.errors import DefinitionError
from ema_lab.specs.definition import definitions
from ema_lab.specs.run import RunSpec

NONE_AND_EMA = """\
variants:
  none: {model.attention: none}
  ema: {model.attention: ema}
"""


def named(ablation):
    return [(cell.row, cell.seed) for cell in ablation.cells]


def problems(load, text, **options):
    """Return each problem as (line, message)."""
    with pytest.raises(DefinitionError) as caught:
        load(text, **options)
    assert all(problem.where.startswith(str(load.path)) for problem in caught.value.problems)
    return [(int(item.where.rpartition(":")[2]), item.message) for item in caught.value.problems]


class TestVariants:
    def test_cells_are_rows_then_axes_then_seeds_in_the_order_of_the_file(self, load):
        axes = "axes:\n  recipe.label_smoothing: [0.1, 0.0]\n  recipe.epochs: [3, 2]\n"
        rows = [
            f"{variant} [label_smoothing={smoothing}, epochs={epochs}]"
            for variant in ("none", "ema")
            for smoothing in (0.1, 0.0)
            for epochs in (3, 2)
        ]
        assert named(load(NONE_AND_EMA + axes)) == [(row, seed) for row in rows for seed in (0, 1)]

    def test_a_cell_has_the_values_of_its_row_and_axes(self, load):
        cell = load(NONE_AND_EMA + "axes: {recipe.epochs: [3, 2]}\n").cells[-1]
        assert (cell.variant, cell.axes, cell.own_axes, cell.seed) == ("ema", (("recipe.epochs", 2),), (), 1)
        assert (cell.spec.recipe.epochs, cell.spec.model.attention.name, cell.spec.seed) == (2, "ema", 1)

    def test_own_axes_cross_only_their_variant(self, load):
        text = (
            "variants:\n  none: {}\n  ema: {model.attention: ema, axes: {model.attention.groups: [4, 8]}}\n"
        )
        ablation = load(text)
        assert list(ablation.rows()) == ["none", "ema [groups=4]", "ema [groups=8]"]
        assert [cells[0].spec.model.attention.options for cells in ablation.rows().values()] == [
            {},
            {"groups": 4},
            {"groups": 8},
        ]

    def test_linked_factors_change_several_keys_under_one_label(self, load):
        small = "small: {model.backbone: resnet20, recipe.batch_size: 64}"
        large = "large: {model.backbone: resnet32, recipe.batch_size: 32}"
        ablation = load(f"{NONE_AND_EMA}axes:\n  size: {{{small}, {large}}}\n")
        found = {
            row: (c[0].spec.model.backbone, c[0].spec.recipe.batch_size) for row, c in ablation.rows().items()
        }
        assert found == {
            "none [size=small]": ("resnet20", 64),
            "none [size=large]": ("resnet32", 32),
            "ema [size=small]": ("resnet20", 64),
            "ema [size=large]": ("resnet32", 32),
        }

    def test_setting_attention_replaces_it_whole(self, load):
        head = "name: grid\nbase: {model: {backbone: resnet20, attention: {name: ema, groups: 8}}, "
        head += "data: {name: digits}, recipe: {use: digits-quick}}\nseeds: [0]\n"
        cells = load("variants:\n  same: {}\n  se: {model.attention: se}\n", head=head).cells
        assert [cell.spec.model.attention.resolved() for cell in cells] == [
            {"name": "ema", "groups": 8},
            {"name": "se"},
        ]

    def test_none_drops_the_placement_of_the_base(self, load):
        cells = load(f"{NONE_AND_EMA}axes: {{model.placement.stages: [[1], [2]]}}\n").cells
        assert len({cell.run_id for cell in cells if cell.variant == "none"}) == 2  # one per seed
        assert len({cell.run_id for cell in cells if cell.variant == "ema"}) == 4

    def test_cells_that_are_one_run_are_trained_once(self, load):
        text = "variants:\n  a: {model.attention: ema}\n  b: {model.attention: {name: ema, groups: 32}}\n"
        ablation = load(text)
        assert len(ablation.cells) == 4
        assert [run.seed for run in ablation.runs()] == [0, 1]

    def test_two_ablations_that_share_a_cell_share_the_run(self, load):
        one = {run.run_id for run in load(NONE_AND_EMA).runs()}
        other = {run.run_id for run in load("vary: {model.attention: [ema, se]}\n").runs()}
        assert len(one & other) == 4

    def test_a_variant_may_choose_another_recipe(self, load):
        text = "variants:\n  quick: {}\n  long: {recipe.use: cifar-200, recipe.normalise: dataset}\n"
        quick, _, long, _ = load(text).cells
        assert (quick.spec.recipe.epochs, long.spec.recipe.epochs) == (6, 200)
        assert long.spec.recipe.schedule.name == "multistep"

    def test_a_recipe_is_chosen_before_it_is_changed(self, load):
        text = "variants: {a: {recipe.epochs: 9}}\naxes: {recipe.use: [digits-quick, cifar-200]}\n"
        head_changes = "  recipe: {use: digits-quick, normalise: dataset}"
        head = load.head.replace("  recipe: {use: digits-quick}", head_changes)
        recipes = [cells[0].spec.recipe for cells in load(text, head=head).rows().values()]
        assert [recipe.epochs for recipe in recipes] == [9, 9]
        assert [recipe.batch_size for recipe in recipes] == [64, 128]
        assert {recipe.normalise for recipe in recipes} == {"dataset"}


class TestOneAtATime:
    def test_vary_has_the_base_and_a_row_per_value(self, load):
        text = "vary:\n  recipe.optimizer.lr: [0.2, 0.3]\n  model.attention: [se, {name: ema, groups: 8}]\n"
        ablation = load(text)
        assert list(ablation.rows()) == [
            "base",
            "lr=0.2",
            "lr=0.3",
            "attention=se",
            "attention=ema groups=8",
        ]
        assert ablation.baseline == "base"

    def test_a_value_equal_to_the_base_is_the_base(self, load):
        text = "vary:\n  recipe.optimizer.lr: [0.1, 0.2]\n  recipe.label_smoothing: [0.0, 0.1]\n"
        assert list(load(text).rows()) == ["base", "lr=0.2", "label_smoothing=0.1"]

    def test_keys_with_the_same_last_word_get_different_labels(self, load):
        text = "vary:\n  model.attention.name: [se]\n  recipe.schedule.name: [constant]\n"
        assert list(load(text).rows()) == ["base", "model.attention.name=se", "recipe.schedule.name=constant"]

    def test_without_has_the_full_row_and_one_per_label(self, load):
        text = "without:\n  augmentation: {recipe.augment.crop_padding: 0}\n  momentum: "
        text += "{recipe.optimizer.momentum: 0.0, recipe.optimizer.nesterov: false}\n"
        ablation = load(text)
        assert list(ablation.rows()) == ["full", "augmentation", "momentum"]
        assert ablation.baseline == "full"
        assert ablation.cells[-1].spec.recipe.optimizer.momentum == 0

    def test_both_cross_the_axes(self, load):
        ablation = load("without: {crop: {recipe.augment.crop_padding: 0}}\naxes: {recipe.epochs: [2, 3]}\n")
        assert list(ablation.rows()) == [
            "full [epochs=2]",
            "full [epochs=3]",
            "crop [epochs=2]",
            "crop [epochs=3]",
        ]


class TestBaseline:
    def test_it_has_the_same_axis_values_and_seed(self, load):
        ablation = load(NONE_AND_EMA + "baseline: none\naxes: {recipe.epochs: [2, 3]}\n")
        for cell in ablation.cells:
            baseline = ablation.baseline_of(cell)
            assert (baseline.variant, baseline.axes, baseline.seed) == ("none", cell.axes, cell.seed)

    def test_own_axes_are_compared_with_the_one_baseline(self, load):
        text = "baseline: none\nvariants:\n  none: {}\n"
        text += "  ema: {model.attention: ema, axes: {model.attention.groups: [4, 8]}}\n"
        ablation = load(text)
        assert {ablation.baseline_of(cell).row for cell in ablation.cells} == {"none"}

    def test_there_is_none_where_the_file_names_none(self, load):
        ablation = load(NONE_AND_EMA)
        assert {ablation.baseline_of(cell) for cell in ablation.cells} == {None}

    def test_there_is_none_where_it_is_skipped(self, load):
        text = f"{NONE_AND_EMA}baseline: none\nskip: [{{when: {{variant: none, seed: 1}}, reason: slow}}]\n"
        ablation = load(text)
        assert [ablation.baseline_of(cell) is None for cell in ablation.cells] == [False, False, True]


class TestSkip:
    @pytest.mark.parametrize(
        ("when", "left"),
        [
            ("{variant: ema}", [("none", 0), ("none", 1)]),
            ("{seed: [1]}", [("none", 0), ("ema", 0)]),
            ("{variant: ema, seed: 0}", [("none", 0), ("none", 1), ("ema", 1)]),
            ("{model.attention: ema}", [("none", 0), ("none", 1)]),
            ("{model.attention: none}", [("ema", 0), ("ema", 1)]),
            ("{model.attention.name: none, recipe.precision: fp32}", [("ema", 0), ("ema", 1)]),
            ("{model.backbone: resnet20, recipe.optimizer: sgd, seed: 1}", [("none", 0), ("ema", 0)]),
            ("{data.name: digits, recipe.optimizer.lr: 0.1, seed: 1}", [("none", 0), ("ema", 0)]),
            ("{model.attention.name: [ema, se]}", [("none", 0), ("none", 1)]),
        ],
    )
    def test_the_cells_that_meet_every_condition_are_left_out(self, load, when, left):
        ablation = load(f"{NONE_AND_EMA}skip: [{{when: {when}, reason: a day per run}}]\n")
        assert named(ablation) == left
        assert {one.reason for one in ablation.skipped} == {"a day per run"}
        assert len(ablation.cells) + len(ablation.skipped) == 4

    def test_an_axis_value_can_be_a_condition(self, load):
        text = f"{NONE_AND_EMA}axes: {{recipe.epochs: [2, 3]}}\n"
        text += "skip: [{when: {variant: ema, recipe.epochs: 3}, reason: long}]\n"
        assert {one.cell.row for one in load(text).skipped} == {"ema [epochs=3]"}

    @pytest.mark.parametrize(
        "when", ["{variant: emma}", "{seed: '0'}", "{recipe.epoch: 6}", "{variant: ema, seed: 7}"]
    )
    def test_a_condition_that_matches_nothing_is_an_error(self, load, when):
        text = f"{NONE_AND_EMA}skip:\n  - {{when: {{seed: 1}}, reason: x}}\n  - {{when: {when}, reason: x}}\n"
        [(line, message)] = problems(load, text)
        assert line == load.first_line + 5
        assert "matches no cell" in message

    def test_skipping_everything_is_an_error(self, load):
        [(_, message)] = problems(load, f"{NONE_AND_EMA}skip: [{{when: {{seed: [0, 1]}}, reason: x}}]\n")
        assert "every cell is skipped" in message

    def test_a_reason_is_required(self, load):
        [(line, message)] = problems(load, f"{NONE_AND_EMA}skip:\n  - {{when: {{seed: 1}}}}\n")
        assert (line, message) == (load.first_line + 4, "skip.0.reason: is missing")


class TestSelection:
    def test_only_keeps_the_cells_that_meet_every_condition(self, load):
        ablation = load(NONE_AND_EMA).only({"variant": ["ema"], "seed": [1]})
        assert named(ablation) == [("ema", 1)]

    def test_only_that_leaves_nothing_says_what_there_is(self, load):
        with pytest.raises(ValueError, match="no cell of grid has variant=emma; variants: none, ema"):
            load(NONE_AND_EMA).only({"variant": ["emma"]})

    def test_first_seeds_keeps_the_order_of_the_file(self, load):
        ablation = load("seeds: [5, 3, 4]\n" + NONE_AND_EMA, head=load.head.replace("seeds: [0, 1]\n", ""))
        assert named(ablation.first_seeds(2)) == [("none", 5), ("none", 3), ("ema", 5), ("ema", 3)]

    @pytest.mark.parametrize("count", [0, -1, 3])
    def test_more_seeds_than_there_are_is_an_error(self, load, count):
        with pytest.raises(ValueError, match="grid has 2 seeds"):
            load(NONE_AND_EMA).first_seeds(count)


REFUSED = {
    "an axis that does not apply to a variant": (
        f"{NONE_AND_EMA}axes:\n  model.attention.groups:\n    - 4\n    - 8\n",
        [(12, "model.attention.groups: no key is named 'groups'"), (13, "model.attention.groups")],
    ),
    "an unknown name": (
        "variants:\n  a:\n    model.attention: emma\n",
        [(9, "no attention is named 'emma'; did you mean 'ema'?")],
    ),
    "an unknown option": (
        "variants:\n  a:\n    model.attention:\n      name: ema\n      grups: 8\n",
        [(11, "model.attention.grups: no key is named 'grups'; did you mean 'groups'?")],
    ),
    "an unknown key": ("variants:\n  a: {}\n  b: {mdel.x: 1}\n", [(9, "did you mean 'model'?")]),
    "an unknown recipe": ("variants:\n  a: {recipe.use: cifar}\n", [(8, "no recipe is named 'cifar'")]),
    "a key below a number": (
        "variants:\n  a: {recipe.epochs.x: 1}\n",
        [(8, "epochs is 6, which has no key 'x'")],
    ),
    "a seed in a variant": ("variants:\n  a: {seed: 7}\n", [(8, "seeds are listed under 'seeds'")]),
    "seeds as an axis": (
        "variants: {a: {}}\naxes:\n  seed: [1, 2]\n",
        [(9, "seeds are listed under 'seeds'")],
    ),
    "null as attention": ("vary:\n  model.attention: [se, null]\n", [(8, "not null")]),
    "a key that a later one replaces": (
        "variants:\n  a:\n    model.attention.groups: 8\n    model.attention: ema\n",
        [(9, "model.attention.groups: is replaced by model.attention")],
    ),
    "a variant that an axis overrides": (
        "variants: {a: {recipe.epochs: 3}}\naxes: {recipe.epochs: [2]}\n",
        [(7, "recipe.epochs: is replaced by recipe.epochs")],
    ),
    "an empty axis": (f"{NONE_AND_EMA}axes:\n  recipe.epochs: []\n", [(11, "needs at least one value")]),
    "an empty axis of a variant": (
        "variants:\n  a:\n    axes:\n      recipe.epochs: []\n",
        [(10, "needs at least one value")],
    ),
    "an axis that is a number": (
        "variants:\n  a:\n    axes:\n      recipe.epochs: 3\n",
        [(10, "must be a list or a mapping of keys to values, got 3")],
    ),
    "axes that are a list": (
        "variants:\n  a:\n    axes: [1]\n",
        [(9, "must be a mapping of keys to values, got [1]")],
    ),
    "nothing to vary": ("vary:\n  recipe.epochs: []\n", [(8, "needs at least one value")]),
    "a value that stands twice": ("vary:\n  recipe.epochs: [2, 3, 2]\n", [(8, "a value is listed twice")]),
    "an axis value that stands twice": (
        f"{NONE_AND_EMA}axes:\n  recipe.label_smoothing: [0, 0.0]\n",
        [(11, "a value is listed twice")],
    ),
    "no row": ("variants: {}\n", [(7, "variants: must have at least one entry")]),
    "no kind of rows": (
        "axes: {recipe.epochs: [2]}\n",
        [(1, "needs exactly one of variants, vary, without")],
    ),
    "two kinds of rows": (
        f"{NONE_AND_EMA}vary: {{recipe.epochs: [2]}}\n",
        [(10, "needs exactly one of variants, vary, without, got variants and vary")],
    ),
    "a baseline that is no variant": (
        f"{NONE_AND_EMA}baseline: non\n",
        [(10, "must be one of the variants none, ema, got 'non'")],
    ),
    "a baseline with axes of its own": (
        "baseline: a\nvariants: {a: {axes: {recipe.epochs: [2, 3]}}}\n",
        [(7, "the baseline cannot have axes of its own")],
    ),
    "a baseline beside vary": (
        "baseline: base\nvary: {recipe.epochs: [2]}\n",
        [(7, "is fixed: it is 'base' with vary")],
    ),
    "best-val without a validation split": (
        "variants:\n  a: {}\n  b: {recipe.protocol: best-val}\n",
        [(9, "recipe.protocol: best-val needs a validation split")],
    ),
}


def test_what_would_be_ignored_is_refused_with_its_line(load):
    for text, expected in REFUSED.values():
        found = problems(load, text)
        assert [line for line, _ in found] == [line for line, _ in expected]
        for (_, message), (_, words) in zip(found, expected, strict=True):
            assert words in message


def test_all_problems_of_a_file_come_in_one_error_with_their_lines(load):
    head = """\
name: grid
base:
  model:
    backbone: resnet20
    placement: {stage: [1]}
  data:
    name: digits
    val_images: 5000
  recipe:
    epochs: 0
    optimizer: {name: sgd, lr: 0, momentu: 0.9}
seeds: [0]
"""
    found = problems(load, "variants:\n  a: {model.attention: emma}\n  b: {recipe.epoch: 3}\n", head=head)
    words = {
        (5, "'stage'; did you mean 'stages'"),
        (8, "must leave training images, got 5000 of 1437"),
        (10, "recipe.epochs"),
        (9, "recipe.batch_size: is missing"),
        (11, "lr"),
        (11, "'momentu'; did you mean 'momentum'"),
        (14, "'emma'; did you mean 'ema'"),
        (15, "'epoch'; did you mean 'epochs'"),
    }
    assert [
        word for word in words if not any(line == word[0] and word[1] in text for line, text in found)
    ] == []
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("seeds: []", "must have an entry"),
        ("seeds: [0, 0]", "a seed is listed twice"),
        ("seeds: [true]", "whole number, got True"),
        ("seeds: [-1]", "must be 0 or more"),
        ("seeds: 0", "must be a number of seeds, such as 3, or a list of them, such as [0, 1, 2], got 0"),
        ("seeds: many", "or a list of them, such as [0, 1, 2], got 'many'"),
        ("sedes: [0]", "did you mean 'seeds'?"),
    ],
)
def test_seeds_are_distinct_natural_numbers(load, line, words):
    found = problems(load, NONE_AND_EMA, head=load.head.replace("seeds: [0, 1]", line))
    assert any(words in message and number in (1, 6) for number, message in found)


def test_a_seed_in_the_base_is_refused(load):
    [(line, message)] = problems(load, NONE_AND_EMA, head=load.head.replace("  data:", "  seed: 3\n  data:"))
    assert (line, message) == (4, "base.seed: seeds are listed under 'seeds'")


def test_ten_thousand_cells_expand(load):
    lr = ", ".join(str(number / 1000) for number in range(1, 101))
    head = load.head.replace("[0, 1]", str(list(range(25))))
    text = f"{NONE_AND_EMA}  se: {{model.attention: se}}\n  ca: {{model.attention: ca}}\n"
    ablation = load(f"{text}axes: {{recipe.optimizer.lr: [{lr}]}}\n", head=head)
    assert len(ablation.cells) == len(ablation.runs()) == 10_000


def test_every_bundled_ablation_has_distinct_rows_with_all_their_seeds_and_a_baseline():
    for name in definitions("ablations"):
        ablation = load_ablation(name)
        skipped = {(one.cell.row, one.cell.seed) for one in ablation.skipped}
        seeds = {cell.seed for cell in ablation.cells}
        for row, cells in ablation.rows().items():
            missing = seeds - {cell.seed for cell in cells}
            assert {(row, seed) for seed in missing} <= skipped
            assert len({cell.run_id for cell in cells}) == len(cells)
        assert any(ablation.baseline_of(cell) is not None for cell in ablation.cells)


def test_a_chosen_recipe_over_one_that_is_written_out_is_refused(load):
    written_out = "recipe: {epochs: 1, batch_size: 8, optimizer: {name: sgd, lr: 0.1}}"
    load.path.write_text(
        load.head.replace("recipe: {use: digits-quick}", written_out) + "vary: {recipe.use: [cifar-200]}\n"
    )
    with pytest.raises(DefinitionError, match=r"grid\.yaml:7: recipe\.use: changes nothing"):
        load_ablation(load.path)


def test_problems_of_form_and_content_come_together(load):
    found = problems(load, "sedes: [1]\nvariants:\n  a: {model.attention: see}\n")
    assert [line for line, _ in found] == [7, 9]


class TestEqualityInConditions:
    """`when` and `--only` compare as run ids do: 1 is 1.0, and true is not 1."""

    @pytest.mark.parametrize(
        ("key", "value", "others"),
        [
            ("model.attention.local_branch", False, [0, 0.0, [0, 1], True, "false"]),
            ("recipe.epochs", 1, [True, [True, False], 0, "1"]),
            ("recipe.label_smoothing", 0.0, [False, [False]]),
            ("seed", 1, [True, False]),
        ],
    )
    def test_a_truth_value_is_no_number(self, load, key, value, others):
        ema = "  ema: {model.attention: {name: ema, local_branch: false}, recipe.epochs: 1}"
        cell = load(f"variants:\n  none: {{model.attention: none}}\n{ema}\n").cells[-1]
        assert cell.variant == "ema"
        assert matches(cell, key, value)
        assert matches(cell, key, [value])
        assert not any(matches(cell, key, other) for other in others)

    def test_whole_numbers_are_equal_however_they_are_written(self, load):
        cell = load(NONE_AND_EMA + "axes: {recipe.epochs: [3]}\n").cells[0]
        assert matches(cell, "recipe.epochs", 3.0)

    def test_a_condition_on_0_does_not_skip_what_is_false(self, load):
        ema = "  ema: {model.attention: {name: ema, local_branch: false}}\n"
        skip = "skip: [{when: {model.attention.local_branch: 0}, reason: slow}]\n"
        [(_, message)] = problems(load, f"variants:\n  none: {{model.attention: none}}\n{ema}{skip}")
        assert "matches no" in message


class TestRecipe:
    """A recipe in full, by name with overrides, or left to the data set."""

    def head(self, load, line):
        return load.head.replace("  recipe: {use: digits-quick}\n", line)

    def specs(self, load, line, text=NONE_AND_EMA):
        return [cell.spec for cell in load(text, head=self.head(load, line)).cells]

    def test_a_name_alone_is_the_named_recipe(self, load):
        named_only = self.specs(load, "  recipe: digits-quick\n")
        assert [spec.run_id for spec in named_only] == [cell.run_id for cell in load(NONE_AND_EMA).cells]

    def test_a_file_without_one_takes_that_of_its_data_set_and_says_so(self, load):
        ablation = load(NONE_AND_EMA, head=self.head(load, ""))
        assert ablation.recipes == {"digits": "digits-quick"}
        assert [cell.run_id for cell in ablation.cells] == [cell.run_id for cell in load(NONE_AND_EMA).cells]
        assert load(NONE_AND_EMA).recipes == {}

    def test_each_data_set_has_its_own(self, load):
        data = "axes: {data.name: [digits, fashion_mnist]}\n"
        ablation = load(NONE_AND_EMA + data, head=self.head(load, ""))
        assert ablation.recipes == {"digits": "digits-quick", "fashion_mnist": "fashion-quick"}
        assert {(cell.spec.data.name, cell.spec.recipe.epochs) for cell in ablation.cells} == {
            ("digits", 6),
            ("fashion_mnist", 4),
        }

    def test_rows_change_the_recipe_of_the_data_set(self, load):
        text = (
            "variants:\n  a: {recipe.optimizer.lr: 0.02}\n  b: {data.name: fashion_mnist, recipe.epochs: 2}\n"
        )
        a, _, b, _ = self.specs(load, "", text)
        assert (a.recipe.epochs, a.recipe.optimizer.lr) == (6, 0.02)
        assert (b.recipe.epochs, b.recipe.augment.flip) == (2, True)

    def test_a_recipe_that_a_row_names_needs_no_default(self, load):
        ablation = load(
            "variants:\n  a: {recipe.use: fashion-quick}\n  b: {recipe: plain-30}\n", head=self.head(load, "")
        )
        assert ablation.recipes == {}
        assert [cell.spec.recipe.epochs for cell in ablation.cells] == [4, 4, 30, 30]

    def test_without_any_default_it_is_missing_once_at_the_base(self, load, monkeypatch):
        monkeypatch.setattr("ema_lab.specs.change.DEFAULT_RECIPES", {})
        found = problems(load, NONE_AND_EMA, head=self.head(load, ""))
        assert [line for line, _ in found] == [2]
        assert found[0][1].startswith(
            "recipe: is missing; write recipe: {use: NAME}, where NAME is one of cifar-200, "
        )

    def test_a_mapping_beside_use_that_drops_the_name_is_explained(self, load):
        recipe = "  recipe:\n    use: digits-quick\n    optimizer: {lr: 0.05}\n"
        found = problems(load, NONE_AND_EMA, head=self.head(load, recipe))
        rule = "would replace the whole optimizer of digits-quick; beside `use`, write optimizer.lr: 0.05"
        assert found == [(7, f"recipe.optimizer: {rule}")]


def test_a_number_of_seeds_counts_from_zero(load):
    ablation = load(NONE_AND_EMA, head=load.head.replace("seeds: [0, 1]", "seeds: 3"))
    assert [cell.seed for cell in ablation.cells] == [0, 1, 2, 0, 1, 2]


def test_the_spec_of_every_cell_is_as_if_it_were_read_alone():
    for cell in load_ablation("ema_groups").cells:
        alone = RunSpec.model_validate(cell.spec.resolved())
        assert (alone, alone.run_id, alone.model_fields_set) == (
            cell.spec,
            cell.run_id,
            cell.spec.model_fields_set,
        )
        assert cell.spec.seed == cell.seed


def test_rows_gather_cells_that_stand_apart():
    ablation = load_ablation("quickstart")
    more = ablation.with_seeds(dict.fromkeys(ablation.rows(), 5))
    expected = {
        row: [cell.seed for cell in more.cells if cell.row == row] for row in dict.fromkeys(ablation.rows())
    }
    assert {row: [cell.seed for cell in cells] for row, cells in more.rows().items()} == expected
    assert all(len(seeds) == 5 for seeds in expected.values())
