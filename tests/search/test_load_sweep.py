"""Sweep files: their base, their runs, and refusals."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_fakes import FIRST_LINE, GROUPS, LR, run

from ema_lab.errors import DefinitionError, SpecError
from ema_lab.search.distribution import Parameter
from ema_lab.search.feasibility import check_examples
from ema_lab.search.sweep import load_sweep
from ema_lab.specs.parameter import ParameterSpec


def problems(error):
    return [str(problem) for problem in error.value.problems]


def test_a_run_is_the_base_with_constants_and_values(write):
    sweep = write(GROUPS + LR)
    spec = sweep.run({"model.attention.groups": 8, "recipe.optimizer.lr": 0.01}, 3)
    tree = spec.resolved()
    assert tree["model"]["attention"] == {"name": "ema", "groups": 8}
    assert tree["data"]["val_images"] == 100
    assert (tree["recipe"]["optimizer"]["lr"], tree["seed"]) == (0.01, 3)


def test_a_run_is_that_of_an_ablation_with_the_same_cell(write):
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.2]}\n")
    tree = sweep.base.spec.resolved()
    tree["data"]["val_images"] = 100
    same = type(sweep.base.spec).model_validate(tree)
    assert sweep.run({"recipe.optimizer.lr": 0.1}, 0).run_id == same.run_id


def test_values_are_found_again_in_a_run_and_other_runs_are_not_its_own(write):
    sweep = write(GROUPS + LR + "  model.placement.after: {values: [block_end, stage_end]}\n")
    values = {"model.attention.groups": 2, "recipe.optimizer.lr": 0.5, "model.placement.after": "stage_end"}
    assert sweep.values_of(sweep.run(values, 0)) == values
    assert sweep.values_of(sweep.base.spec) is None


def test_values_are_found_again_where_the_base_is_a_row_with_axes(write, tmp_path):
    write(GROUPS)
    path = tmp_path / "base.yaml"
    axes = "  ema: {model.attention: {name: ema}, axes: {model.attention.groups: [4, 8]}}"
    path.write_text(path.read_text().replace("  ema: {model.attention: {name: ema, groups: 4}}", axes))
    sweep_path = tmp_path / "sweep.yaml"
    sweep_path.write_text(sweep_path.read_text().replace(f"{path}/ema", f'"{path}/ema [groups=8]"'))
    sweep = load_sweep(sweep_path)
    for groups in (2, 4, 8):
        assert sweep.values_of(sweep.run({"model.attention.groups": groups}, 0)) == {
            "model.attention.groups": groups
        }


def test_a_listed_module_is_found_again_however_it_is_written(write):
    sweep = write(
        "  model.attention: {values: [none, ema, {name: se, reduction: 8}, {name: se, reduction: 16}]}\n"
    )
    for choice in ("none", "ema", {"name": "se", "reduction": 8}, {"name": "se", "reduction": 16}):
        values = {"model.attention": choice}
        assert sweep.values_of(sweep.run(values, 0)) == values


def test_a_value_that_does_not_fit_is_named_with_its_line(write):
    with pytest.raises(DefinitionError) as error:
        write("  model.attention.groups: {values: [4, four]}\n")
    assert f"sweep.yaml:{FIRST_LINE}: model.attention.groups: " in problems(error)[0]
    assert problems(error)[0].endswith("got 'four'")


def test_two_values_that_do_not_go_together_are_named(write):
    with pytest.raises(DefinitionError) as error:
        write("  model.attention: {values: [ema, se]}\n" + GROUPS)
    (line,) = problems(error)
    assert "groups" in line
    assert line.endswith('(with model.attention="se")')


def test_a_problem_is_reported_once_however_many_combinations_have_it(write):
    rates = LR + LR.replace("optimizer.lr", "optimizer.weight_decay")
    with pytest.raises(DefinitionError) as error:
        write(rates + "  recipe.label_smothing: {values: [0.0, 0.1]}\n" + GROUPS)
    (line,) = problems(error)
    assert line.startswith(f"{error.value.problems[0].where}: recipe.label_smothing: ")
    assert "with" not in line
    with pytest.raises(DefinitionError) as error:
        write(rates + "  model.attention.groups: {values: [4, four, five]}\n")
    assert [line[-6:] for line in problems(error)] == ["'four'", "'five'"]


class TestModels:
    """Values for which no model can be built."""

    @staticmethod
    def check(spec):
        groups = spec.model.attention.options.get("groups", 1)
        if 16 % groups or (groups == 8 and spec.model.placement.stages == (1,)):
            raise SpecError(f"16 channels in {groups} groups")

    def lines(self, sweep):
        with pytest.raises(DefinitionError) as error:
            check_examples(sweep, self.check)
        return [line.rpartition("/")[2] for line in problems(error)]

    @pytest.mark.parametrize("method", ["grid", "random"])
    def test_are_named_with_their_line(self, write, method):
        more = "  model.attention.local_branch: {values: [true, false]}\n  recipe.epochs: {values: [1, 2]}\n"
        sweep = write(more + "  model.attention.groups: {values: [4, 7, 5]}\n", method=method)
        where = f"sweep.yaml:{FIRST_LINE + 2}"
        assert self.lines(sweep) == [
            f"{where}: model.attention.groups=7: 16 channels in 7 groups",
            f"{where}: model.attention.groups=5: 16 channels in 5 groups",
        ]

    def test_are_named_together_where_each_fits_alone(self, write):
        stages = "  model.placement.stages: {values: [[1, 2], [1]]}\n"
        lines = self.lines(write("  model.attention.groups: {values: [4, 8]}\n" + stages, method="grid"))
        place = f"sweep.yaml:{FIRST_LINE + 1}"
        assert lines == [
            f"{place}: model.attention.groups=8, model.placement.stages=[1]: 16 channels in 8 groups"
        ]

    def test_that_are_mappings_are_json(self, write):
        (line,) = self.lines(write("  model.attention: {values: [none, {name: ema, groups: 7}]}\n"))
        assert 'model.attention={"groups":7,"name":"ema"}: 16 channels' in line

    def test_that_are_constants_are_named_too(self, write):
        (line,) = self.lines(write("  model.attention.groups: {value: 7}\n" + LR))
        assert line.startswith(f"sweep.yaml:{FIRST_LINE}: model.attention.groups=7: ")

    def test_of_the_base_are_reported_at_its_line(self, write, tmp_path):
        sweep = write(LR)
        other = tmp_path / "base.yaml"
        other.write_text(other.read_text().replace("groups: 4", "groups: 7"))
        (line,) = self.lines(load_sweep(sweep.path))
        assert line.endswith("ema: 16 channels in 7 groups")

    def test_that_fit_pass(self, write):
        seen = []

        def check(spec):
            self.check(spec)
            seen.append(spec.model.attention.options["groups"])

        check_examples(write(LR + "  model.attention.groups: {values: [2, 4]}\n"), check)
        assert set(seen) == {2, 4}


def test_an_option_at_its_default_is_found_again(write):
    sweep = write(GROUPS + "  model.attention.local_branch: {values: [true, false]}\n")
    for local in (True, False):
        values = {"model.attention.groups": 4, "model.attention.local_branch": local}
        assert sweep.values_of(sweep.run(values, 0)) == values


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("  model.attention.heads: {values: [1, 2]}\n", "heads"),
        ("  seed: {values: [1, 2]}\n", "seeds are listed"),
        ("  recipe.use: {values: [digits-quick, cifar-200]}\n", "recipe.use: changes nothing"),
        ("  data.val_images: {value: 0}\n" + LR, "appears twice"),
        ("  recipe.protocol: {values: [last, best-test]}\n", "must not choose by test data"),
        ("  recipe.optimizer.lr: {min: -1.0, max: 1.0}\n", "lr: "),
    ],
)
def test_what_a_search_cannot_have_is_refused(write, parameters, words):
    with pytest.raises(DefinitionError) as error:
        write(parameters)
    assert any(words in line for line in problems(error))


def test_a_search_without_validation_images_is_refused(write, tmp_path):
    path = tmp_path / "sweep.yaml"
    with pytest.raises(DefinitionError):
        write("  seed: {values: [1, 2]}\n")
    path.write_text(
        path.read_text()
        .replace("data.val_images: {value: 100}", LR.strip())
        .replace("  seed: {values: [1, 2]}\n", "")
    )
    with pytest.raises(DefinitionError, match=r"add data.val_images: \{value: N\}"):
        load_sweep(path)


@pytest.mark.parametrize("base", ["nowhere/ema", "BASE/emma"])
def test_a_base_that_is_not_there_is_refused_with_its_line(write, tmp_path, base):
    write(LR)
    path = tmp_path / "sweep.yaml"
    path.write_text(
        path.read_text().replace(f"{tmp_path}/base.yaml/ema", base.replace("BASE", f"{tmp_path}/base.yaml"))
    )
    with pytest.raises(DefinitionError, match=r"sweep.yaml:6: parameters.base: "):
        load_sweep(path)


def test_a_grid_has_every_combination_once(write):
    sweep = write(GROUPS + "  recipe.epochs: {min: 2, max: 4}\n", method="grid")
    cells = list(sweep.grid())
    assert len(cells) == sweep.grid_size == 9
    assert len({sweep.run(values, 0).run_id for values in cells}) == 9


def test_a_grid_over_a_rounded_range_trains_what_lies_in_it(write, make):
    text = "  recipe.batch_size: {distribution: q_uniform, min: 30, max: 70, q: 20}\n"
    sweep = write(
        text + LR.replace("distribution: log_uniform_values, min: 0.001, max: 1.0", "value: 0.1"),
        method="grid",
    )
    study = run(*make(sweep))
    assert [one.choice for one in study.trials()] == [{"recipe.batch_size": size} for size in (30, 50)]
    assert [sweep.values_of(one) for one in sweep.examples()] == [one.choice for one in study.trials()]


def test_a_value_of_a_rounded_range_that_does_not_fit_is_reported_with_its_line(write):
    with pytest.raises(DefinitionError) as error:
        write("  recipe.batch_size: {distribution: q_uniform, min: 2, max: 6}\n", method="grid")
    where = f"sweep.yaml:{FIRST_LINE}: recipe.batch_size: "
    assert all(where in line for line in problems(error))
    assert problems(error)[0].endswith("must be a whole number, got 2.0")


def test_a_grid_over_a_rounded_range_of_one_value_is_that_one(write):
    sweep = write("  recipe.batch_size: {distribution: q_uniform, min: 30, max: 40, q: 20}\n", method="grid")
    assert (sweep.grid_size, sweep.examples()[0].recipe.batch_size) == (1, 30)


def test_another_space_is_another_study(write):
    first = write(LR).fingerprint("top1:max")
    assert write(LR).fingerprint("top1:max") == first
    assert write(LR).fingerprint("loss:min") != first
    assert write(LR, seeds="[0, 1]").fingerprint("top1:max") != first
    assert write(GROUPS + LR).fingerprint("top1:max") != first


def test_another_base_must_take_the_parameters(write):
    from ema_lab.search.sweep import base_cell

    sweep = write(LR)
    none = base_cell(sweep.spec.base.replace("/ema", "/none"))
    assert sweep.on(none).run({"recipe.optimizer.lr": 0.1}, 0).model.attention.name == "none"
    with pytest.raises(DefinitionError, match=r"sweep.yaml:9: model.attention"):
        write(GROUPS).on(none)


@given(u=st.floats(0, 1), low=st.floats(1e-4, 1), factor=st.floats(1.01, 1e3))
def test_values_of_a_range_stay_in_it(u, low, factor):
    form = {"distribution": "log_uniform_values", "min": low, "max": low * factor}
    one = Parameter("x", ParameterSpec.model_validate(form))
    assert low * (1 - 1e-9) <= one.at(u) <= low * factor * (1 + 1e-9)


def test_loading_needs_neither_torch_nor_optuna():
    code = (
        "import sys; from ema_lab.search.sweep import load_sweep; load_sweep('ema_design');"
        "print([name for name in ('torch', 'optuna') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_changes_nothing_offline_is_said_with_its_line(write):
    stop = "early_terminate: {type: hyperband, min_iter: 1, strict: STRICT}\n"
    metric = "{name: val_top1, goal: maximize"
    sweep = write(LR, more=stop.replace("STRICT", "false"))
    assert sweep.remarks() == []
    text = sweep.path.read_text().replace(metric, metric + ", impute: worst, impute_while_running: 'false'")
    sweep.path.write_text(text.replace("strict: false", "strict: true"))
    assert load_sweep(sweep.path).remarks() == [
        f"{sweep.path}:{line}: {key} has no effect offline, only with --chooser wandb"
        for line, key in [(3, "metric.impute"), (FIRST_LINE + 1, "early_terminate.strict")]
    ]
