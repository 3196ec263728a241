"""Forms of sweep files against the verdicts of W&B's own package, recorded in `wandb_forms.json`.

Forms that W&B accepts are accepted with the same meaning, or refused with the unsupported key named.
"""

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError
from search_fakes import FIRST_LINE, LR, run

from ema_lab.errors import DefinitionError
from ema_lab.search.distribution import Parameter
from ema_lab.search.objective import read_objectives
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.sweep import load_sweep
from ema_lab.specs.early_stopping import HyperbandSpec
from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.strict import canonical_json
from ema_lab.specs.sweep import load_sweep_file

WANDB = json.loads((Path(__file__).parent / "wandb_forms.json").read_text(encoding="utf-8"))
DEEPER = {"log_uniform", "inv_log_uniform", "q_log_uniform"}  # accepted here; W&B calls them deprecated
FILE = """\
name: sweep
method: random
metric: {name: val_top1, goal: maximize}
command: [ema-lab, trial, "${args_json}"]
parameters:
  base: {value: quickstart/se}
  seeds: {value: [0]}
  recipe.optimizer.lr: {min: 0.01, max: 0.1}
"""
NOT_SUPPORTED = {  # what W&B accepts and ema-lab does not, and the words that say so
    '{"method": "custom"}': "custom needs a program of your own at W&B",
    '{"metric": {"name": "val_top1"}}': "W&B minimizes by default",
}
MORE = {'{"metric": {"goal": "maximize"}}'}  # accepted here: the metric's name has a default
BY_WORDS = {'{"distribution":"beta","a":0}': "must be above 0"}  # of which W&B draws nothing but NaN


def ids(case):
    return json.dumps(case["form"])


def test_bands_are_those_at_which_wandb_stops_runs():
    for case in WANDB["early_terminate"]:
        form = {"type": "hyperband", **case["form"]}
        if (
            not case["accepted"] or case["bands"] is None
        ):  # its schema lets through what its search cannot use
            with pytest.raises(ValidationError, match=r"min_iter|max_iter|s\n|eta"):
                HyperbandSpec.model_validate(form)
        else:
            assert list(HyperbandSpec.model_validate(form).bands_up_to(1000)) == case["bands"]


def test_a_parameter_is_what_wandb_takes_it_for():
    for case in WANDB["parameters"]:
        form = case["form"]
        words = BY_WORDS.get(json.dumps(form, separators=(",", ":")))
        if words or (not case["accepted"] and form.get("distribution") not in DEEPER):
            with pytest.raises(ValidationError, match=words):
                ParameterSpec.model_validate(form)
            continue
        spec = ParameterSpec.model_validate(form)
        if case["accepted"]:
            theirs = case["type"].replace("_v2", "values").replace("single_value", "constant")
            assert spec.kind.replace("_", "") == theirs.replace("_", "")


def test_listed_values_are_drawn_as_often_as_by_wandb():
    for case in [one for one in WANDB["parameters"] if "shares" in one]:
        spec = ParameterSpec.model_validate(case["form"]).without_repeats(in_grid=False)
        one, count = Parameter("x", spec), 2001
        drawn = Counter(canonical_json(one.at((number + 0.5) / count)) for number in range(count))
        shares: Counter[str] = Counter()
        for value, share in case["shares"].items():  # 1 and 1.0 are one run here
            shares[canonical_json(json.loads(value))] += share
        assert drawn.keys() == {value for value, share in shares.items() if share}
        for value, number in drawn.items():
            assert number / count == pytest.approx(shares[value], abs=0.002)


def test_a_grid_has_each_listed_value_once_in_wandbs_order():
    for case in [one for one in WANDB["parameters"] if one.get("grid")]:
        spec = ParameterSpec.model_validate(case["form"]).without_repeats(in_grid=True)
        cells = map(canonical_json, Parameter("x", spec).grid())
        assert list(cells) == list(dict.fromkeys(map(canonical_json, case["grid"])))


def test_a_key_of_the_file_is_accepted_as_by_wandb(tmp_path):
    for case in WANDB["files"]:
        tree = "".join(f"{key}: {json.dumps(value)}\n" for key, value in case["form"].items())
        kept = [line for line in FILE.splitlines() if line.partition(":")[0] not in case["form"]]
        path = tmp_path / "sweep.yaml"
        path.write_text("\n".join(kept) + "\n" + tree)
        words = NOT_SUPPORTED.get(ids(case))
        if (case["accepted"] or ids(case) in MORE) and words is None:
            assert load_sweep_file(path)[1].name == "sweep"
            continue
        with pytest.raises(DefinitionError, match=words) as error:
            load_sweep(path)
        assert all("sweep.yaml:" in str(problem) for problem in error.value.problems)


def test_what_changes_nothing_is_said_with_its_line(write):
    lines = "early_terminate: {type: hyperband, min_iter: 1, s: 2}\ncontroller: {type: cloud}\n"
    sweep = write("  recipe.optimizer.lr: {values: [0.1, 0.2, 0.1]}\n", more=lines)
    assert sweep.remarks() == [
        f"{sweep.path}:{FIRST_LINE + 1}: early_terminate.s changes nothing: s counts bands below max_iter, "
        "which is missing",
        f"{sweep.path}:{FIRST_LINE}: parameters.recipe.optimizer.lr.values repeats 0.1: "
        "each is drawn more often, as at W&B",
        f"{sweep.path}:{FIRST_LINE + 2}: controller has no effect offline, only with --chooser wandb",
    ]
    text = sweep.path.read_text().replace("min_iter: 1, s: 2", "min_iter: 1, max_iter: 5, s: 1")
    sweep.path.write_text(text)
    words = "early_terminate.min_iter changes nothing: max_iter and s define the bands"
    assert any(line.endswith(words) for line in load_sweep(sweep.path).remarks())


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_search_tries_repeated_values(write, make, method):
    sweep = write("  recipe.optimizer.lr: {values: [0.2, 0.2, 0.1]}\n", method=method)
    study = run(*make(sweep, limit=6 if method == "random" else None))
    tried = [one.choice["recipe.optimizer.lr"] for one in study.trials()]
    assert tried == [0.2, 0.1] if method == "grid" else set(tried) <= {0.1, 0.2}
    assert len(tried) == (2 if method == "grid" else 6)
    assert all(sweep.values_of(sweep.runs(one.choice)[0]) == one.choice for one in study.trials())


def test_the_line_of_a_value_is_that_in_the_file_where_an_earlier_one_is_repeated(write):
    values = "  model.attention.groups:\n    values:\n    - 4\n    - 4\n    - four\n"
    with pytest.raises(DefinitionError, match=rf"sweep.yaml:{FIRST_LINE + 4}: model.attention.groups: "):
        write(values)


def test_fractions_of_eta_reach_the_pruner(write):
    sweep = write(LR, more="early_terminate: {type: hyperband, min_iter: 1, eta: 1.5}\n")
    pruner = choose_strategy(sweep, read_objectives(sweep, ())).optuna_pruner()
    assert (pruner.bands, pruner.eta) == ((1, 2, 3, 5), 1.5)
