"""W&B's sweep files: every form is read, and each problem has its line."""

import pytest
import yaml
from pydantic import ValidationError

from ema_lab.errors import DefinitionError
from ema_lab.specs.early_stopping import HyperbandSpec
from ema_lab.specs.parameter import KEYS, ParameterSpec
from ema_lab.specs.schema import json_schema
from ema_lab.specs.sweep import SweepSpec, flat_parameters, load_sweep_file
from ema_lab.specs.task import task_description

HEAD = """\
name: s
method: random
metric: {name: val_top1, goal: maximize}
command: [ema-lab, trial, "${args_json}"]
parameters:
  base: {value: quickstart/se}
  seeds: {value: [0, 1]}
"""
RATE = "  recipe.optimizer.lr: {min: 0.01, max: 0.1}\n"


@pytest.fixture
def load(tmp_path):
    def read(text):
        (tmp_path / "s.yaml").write_text(text)
        document, spec = load_sweep_file(tmp_path / "s.yaml")
        try:
            spec.goal_for(task_description("classification"))
        except ValidationError as error:
            raise DefinitionError(document.problems(error, ("metric",))) from None
        return spec

    return read


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (f"{{min: 1, max: 1{'0' * 400}}}", "is too large for a number"),
        ("{distribution: q_uniform, min: 1.0e+16, max: 1.1e+16, q: 1.0}", "lr.q: is too small a step"),
    ],
)
def test_numbers_that_are_the_same_float_are_refused(load, rate, words):
    with pytest.raises(DefinitionError, match=words):
        load(HEAD + f"  recipe.optimizer.lr: {rate}\n")


READ_OTHERWISE = [
    ("08", "W&B reads '08': write 8"),
    ("010", "W&B reads 8: write 10"),
    ("-08", "W&B reads '-08': write -8"),
    ("08e5", "W&B reads the string '08e5': write 8.0e\\+5"),
    ("1e-4", "W&B reads the string '1e-4': write 1.0e-4"),
    ("2024-13-45", "W&B cannot read '2024-13-45': write it in quotes"),
    ("0x_", "W&B cannot read '0x_': write it in quotes"),
    ("=", "W&B cannot read '=': write it in quotes"),
]


def test_a_word_that_wandb_reads_otherwise_is_named_with_its_line_and_what_to_write(load):
    for word, words in READ_OTHERWISE:
        text = HEAD + f"  recipe.optimizer.lr:\n    values: [0.1, {word}]\n"
        with pytest.raises(DefinitionError, match=rf"s\.yaml:{text.count(chr(10))}: .*{words}"):
            load(text)


def test_a_merge_that_wandb_cannot_read_is_one_line(load):
    with pytest.raises(DefinitionError, match="W&B cannot read '<<'"):
        load(HEAD + RATE + "<<: 3\n")


def test_a_whole_file_is_read(load):
    text = HEAD + RATE + "run_cap: 9\nproject: p\nearly_terminate: {type: hyperband, max_iter: 27, s: 2}\n"
    spec = load(text)
    assert (spec.base, spec.seeds, spec.run_cap) == ("quickstart/se", (0, 1), 9)
    assert [(key, parameter.kind) for key, _, parameter in spec.searched()] == [
        ("recipe.optimizer.lr", "uniform")
    ]
    assert spec.early_terminate.first_band == 3
    assert spec.goal_for(task_description("classification")).name == "val_top1"


UNNAMED = [
    ({"value": 3}, "constant"),
    ({"value": None}, "constant"),
    ({"values": [1, "a", None, [1], {"x": 1}]}, "categorical"),
    ({"values": [1, 2], "probabilities": [0.25, 0.75]}, "categorical_w_probabilities"),
    ({"min": 1, "max": 3}, "int_uniform"),
    ({"min": 1.0, "max": 3.5}, "uniform"),
    ({"min": 0, "max": 0.5}, "uniform"),
    ({"distribution": "q_beta", "q": 0.1}, "q_beta"),
]


def test_the_distribution_that_is_not_said_is_the_one_wandb_chooses():
    for form, kind in UNNAMED:
        assert ParameterSpec.model_validate(form).kind == kind


EXAMPLES = {"min": 1, "max": 2, "value": 1, "values": [1, 2], "probabilities": [0.5, 0.5]}


def test_every_distribution_can_be_named():
    for name in KEYS:
        form = {"distribution": name, **{key: EXAMPLES[key] for key in KEYS[name][0]}}
        assert ParameterSpec.model_validate(form).kind == name


WRONG_PARAMETERS = [
    ("  recipe.optimizer.lr: {values: [1e-4, 0.1]}", 8, "write 1.0e-4"),
    ("  recipe.optimizer.lr: {value: 2.5e3}", 8, "write 2.5e+3"),
    ("  model.stem: {values: [no, cifar]}", 8, "in quotes"),
    ("  recipe.optimizer.lr: {min: 0.1, max: 0.01}", 8, "must be above min"),
    ("  recipe.optimizer.lr: {min: 0.1}", 8, "needs max"),
    ("  recipe.optimizer.lr: {distribution: normal, min: 1}", 8, "does not apply to normal"),
    ("  recipe.optimizer.lr: {distribution: gauss}", 8, "gauss"),
    ("  recipe.optimizer.lr: {distribution: log_uniform_values, min: 0, max: 1}", 8, "above 0"),
    ("  recipe.optimizer.lr: {distribution: int_uniform, min: 0.5, max: 2}", 8, "whole number"),
    ("  recipe.epochs: {distribution: int_uniform, min: 3.0, max: 9.0}", 8, "whole number"),
    ("  recipe.optimizer.lr: {distribution: log_uniform, min: 1, max: 1000}", 8, "log_uniform_values"),
    ("  recipe.optimizer.lr: {distribution: log_uniform, min: -1000, max: 1}", 8, "log_uniform_values"),
    ("  x.y: {distribution: q_log_uniform, min: 1, max: 1000}", 8, "write q_log_uniform_values"),
    ("  x.y: {distribution: inv_log_uniform, min: -1000, max: 1000}", 8, "inv_log_uniform_values"),
    ("  x.y: {distribution: log_normal, mu: 0, sigma: 500}", 8, "of the value's logarithm"),
    ("  x.y: {distribution: q_log_normal, mu: 800}", 8, "mu: "),
    ("  recipe.optimizer.lr: {values: [1, 2], probabilities: [0.5]}", 8, "one number per value"),
    ("  recipe.optimizer.lr: {values: [1, 2], probabilities: [0.5, 0.6]}", 8, "add up to 1"),
    ("  recipe.optimizer.lr: {mim: 1, max: 2}", 8, "did you mean"),
    ("  recipe:\n    parameters:\n      x: {values: [{a: 1}, 2]}", 10, "flat dotted key"),
    (
        "  model.x:\n    parameters:\n      x: {values: [1, 2]}",
        8,
        "only model, data, recipe can be groups",
    ),
    ("  recipe.epochs: {value: 3}", 5, "more than one value"),
    (
        f"{RATE}  recipe: {{parameters: {{optimizer: {{parameters: {{lr: {{value: 1}}}}}}}}}}",
        9,
        "set twice",
    ),
    (f"{RATE}  recipe: {{parameters: {{optimizer.lr: {{value: 1}}}}}}", 9, "optimizer.lr is set twice"),
    (f"  recipe.optimizer: {{values: [{{lr: 1}}, {{}}]}}\n{RATE}", 9, "by recipe.optimizer and by"),
    (f"{RATE}  recipe.optimizer: {{values: [{{}}, {{lr: 1}}]}}", 9, "and by recipe.optimizer"),
]


def test_a_wrong_parameter_is_an_error_with_its_line(load, tmp_path):
    for line, number, words in WRONG_PARAMETERS:
        with pytest.raises(DefinitionError) as error:
            load(f"{HEAD}{line}\n")
        assert words in str(error.value)
        assert f"s.yaml:{number}: " in str(error.value)


WRONG_FILES = [
    ("goal: maximize", "goal: minimize", "must be maximize"),
    (", goal: maximize", "", "W&B minimizes by default"),
    ("val_top1", "top1", "write val_top1"),
    ("val_top1", "accuracy", "write val_accuracy"),
    ("val_top1", "val_accuracy", "must be one of val_top1"),
    ("method: random", "method: grid", "a grid needs"),
    ("method: random", "method: anneal", "anneal"),
    ("ema-lab, trial", "python, train.py", "must be ['ema-lab', 'trial'"),
    ("value: quickstart/se", "value: quickstart", "ABLATION/VARIANT"),
    ("value: [0, 1]", "value: [0, 0]", "different seeds"),
    ("value: [0, 1]", "value: [-1]", "from 0"),
    ("seeds: {value: [0, 1]}", "model.x: {value: 1}", "needs seeds"),
    ("base: {value: quickstart/se}", "base: {values: [a/b, c/d]}", "must be {value: ...}"),
    ("name: s", "name: t", "must equal the file's name"),
    (
        "metric: {name: val_top1, goal: maximize}",
        "early_terminate: {type: hyperband, min_iter: 1}",
        "is ",
    ),
    ("name: s", "name: s\nearly_terminate: {type: hyperband}", "needs min_iter"),
    ("name: s", "name: s\nearly_terminate: {type: hyperband, max_iter: 9}", "needs s, the number"),
    ("name: s", "name: s\nearly_terminate: {type: hyperband, max_iter: 2, s: 1}", "1 or more"),
    ("name: s", "name: s\nrun_cap: 0", "run_cap"),
    ("name: s", "name: s\nmethods: x", "did you mean"),
]


def test_a_wrong_file_is_an_error_with_a_line(load):
    for old, new, words in WRONG_FILES:
        assert old in HEAD
        with pytest.raises(DefinitionError) as error:
            load(HEAD.replace(old, new) + RATE)
        assert words in str(error.value)
        assert "s.yaml:" in str(error.value)


@pytest.mark.parametrize(
    "form",
    [
        "min: 1, max: 1000000",
        "distribution: q_uniform, min: 1, max: 1.0e+300",
        "distribution: q_uniform, min: 0, max: 9, q: 1.0e-5",
    ],
)
def test_a_grid_without_end_is_an_error_with_its_line(load, form):
    grid = HEAD.replace("random", "grid")
    with pytest.raises(DefinitionError, match=r"s.yaml:8: .* at most 100,000"):
        load(f"{grid}  recipe.epochs: {{{form}}}\n")


def test_nested_parameters_are_dotted_keys_and_so_is_what_wandb_makes_of_them(load):
    text = (
        HEAD
        + "  recipe:\n    parameters:\n      optimizer:\n        parameters:\n"
        + "          lr: {min: 0.1, max: 1.0}\n"
    )
    assert [key for key, _, _ in load(text).searched()] == ["recipe.optimizer.lr"]
    handed = {"recipe": {"optimizer": {"lr": 0.5}}, "model.attention": {"name": "se"}, "base": "a/b"}
    assert flat_parameters(handed) == {
        "recipe.optimizer.lr": 0.5,
        "model.attention": {"name": "se"},
        "base": "a/b",
    }


BANDS = [
    ({"min_iter": 1, "eta": 2}, (1, 2, 4, 8)),
    ({"min_iter": 3}, (3, 9)),
    ({"min_iter": 10}, ()),
    ({"max_iter": 4, "s": 2, "eta": 2}, (1, 2)),
    ({"max_iter": 14, "s": 2}, (1, 4)),
    ({"max_iter": 27, "s": 99}, (1, 3, 9)),
    ({"max_iter": 81, "s": 3}, (3, 9)),
]


def test_bands_are_wandbs():
    for form, bands in BANDS:
        assert HyperbandSpec(type="hyperband", **form).bands_up_to(9) == bands


def test_a_part_of_what_another_key_chooses_may_be_searched(load):
    text = (
        HEAD
        + "  model.attention: {values: [se, {name: cbam}]}\n  model.attention.reduction: {values: [4, 8]}\n"
    )
    assert len(list(load(text).searched())) == 2


def test_a_file_is_the_same_to_wandbs_reader(load):
    text = HEAD + RATE
    load(text)
    assert SweepSpec.model_validate(yaml.safe_load(text)).method == "random"


def test_the_schema_is_there():
    schema = json_schema("sweep")
    assert {"method", "parameters", "command"} <= schema["properties"].keys()
