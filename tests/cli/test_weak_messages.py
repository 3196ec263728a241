"""Messages that once said less than they knew: now each has the place, the cause once, and the remedy."""

import json
from pathlib import Path

import pytest
from tiny import TINY, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.data.load import load_splits
from ema_lab.errors import DataError
from ema_lab.execution.executor import execute
from ema_lab.specs.run import DataSpec
from ema_lab.store.store import RunStore

ABLATION = Path("ablations/tiny.yaml")
BROKEN_GATE = """\
from torch import nn


class Broken(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x):
        return x.foo()
"""


def said(command, old: str, new: str, *arguments: str) -> list[str]:
    """Return the lines on an edited ablation that is refused."""
    assert old in TINY
    ABLATION.write_text(TINY.replace(old, new))
    answer = command(*(arguments or ("plan", "tiny")))
    assert answer.code == 2
    return [
        line.removeprefix("ema-lab: ") for line in answer.err.splitlines() if line.startswith("ema-lab: ")
    ]


def test_a_misspelt_class_of_an_own_file_has_a_suggestion(command, folder):
    (folder / "my_gate.py").write_text(BROKEN_GATE)
    (line,) = said(command, "{name: se, reduction: 4}", "'my_gate:Brokn'")
    assert line.startswith("ablations/tiny.yaml:11: ")
    assert line.endswith("defines no class or function 'Brokn'; did you mean 'Broken'?")


@pytest.mark.parametrize(("old", "new", "line"), [
    ("{after: block_end}", "{after: blok_end}", 4),
    ("reduction: 4}}", "reduction: 4}, model.placement: {after: blok_end}}", 11),
])  # fmt: skip
def test_a_placement_that_matches_nothing_is_named_once_with_its_line(command, old, new, line):
    rows = "".join(
        f"  se{size}: {{model.attention: {{name: se, reduction: {size}}}}}\n"
        for size in (1, 2, 8, 3, 5, 6, 7)
    )
    ABLATION.write_text(TINY.replace(old, new) + rows * (line == 4))
    answer = command("plan", "tiny", "--check")
    (problem,) = answer.err.splitlines()
    assert answer.code == 2
    assert problem.startswith(f"ema-lab: ablations/tiny.yaml:{line}: se")
    assert "'blok_end' matches no submodule; did you mean 'block_end'? places: after_conv1" in problem
    assert (" and 3 more: " in problem) is (line == 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("plan tiny --workers x", "--workers must be a whole number"),
        ("run tiny --workers 0", "--workers must be 1 or more"),
        ("plan tiny --power --std x", "--std must be a number"),
        ("cost tiny --macs foo", "--macs must be one of matmul, fvcore, all, thop, got 'foo'"),
        ("gallery tiny --out o --score 2", "--score must be"),
    ],
)
def test_the_parser_has_the_words_of_all_other_messages(command, words, message):
    answer = command(*words.split())
    assert answer.code == 2
    assert answer.err.startswith(f"ema-lab: {message}")
    assert answer.err.endswith(f"; see ema-lab {words.split()[0]} --help\n")


def test_check_names_one_cause_once(command, folder):
    (folder / "broken.py").write_text(BROKEN_GATE)
    answer = command("check", "broken:Broken")
    assert answer.code == 1
    direct = [line for line in answer.out.splitlines() if "  AttributeError: 'Tensor'" in line]
    assert len(direct) == 1
    assert "(broken.py:9); 15 more checks fail of it" in direct[0]
    rows = json.loads(command("check", "broken:Broken", "--json").out)
    assert sum(row["detail"].startswith("AttributeError") for row in rows) == 16


def test_a_misspelt_module_of_this_folder_has_a_suggestion(command, folder):
    (folder / "my_gate.py").write_text(BROKEN_GATE)
    (line,) = said(command, "{name: se, reduction: 4}", "'my_gates:Broken'")
    assert line.endswith(
        "no Python module 'my_gates' on the import path or in this folder; did you mean 'my_gate'?"
    )


@pytest.mark.parametrize(
    ("new", "where", "fit"),
    [
        ("ema}", 11, "model.attention.groups: 1, 2, 4, 8, 16 fit every place"),
        ("{name: ema, groups: 5}}", 11, "model.attention.groups: 1, 2, 4, 8, 16 fit every place"),
        (
            "{name: ema, groups: 4}, axes: {model.attention.groups: [3]}}",
            11,
            "1, 2, 4, 8, 16 fit every place",
        ),
    ],
)
def test_groups_that_do_not_fit_have_their_line_and_the_ones_that_do(command, new, where, fit):
    (line,) = said(command, "{name: se, reduction: 4}}", new, "plan", "tiny", "--check")
    assert line.startswith(f"ablations/tiny.yaml:{where}: se")
    assert "(16 channels): EMA needs channels % groups == 0, got channels=16, groups=" in line
    assert line.endswith(fit)


def test_a_changed_key_is_named_once(command):
    answer = command("plan", "tiny", "--set", "recipe.epoch=1")
    assert answer.err.startswith(
        "ema-lab: --set recipe.epoch: no key is named 'epoch'; did you mean 'epochs'?"
    )


SETTINGS = ("--set", "recipe.epochs=2", "--set", "data.train_images=16")


def test_runs_with_other_settings_are_hinted_at_with_the_command(command, folder):
    execute(
        load_ablation("tiny", {"recipe.epochs": 2, "data.train_images": 16}).runs(),
        train=lambda spec, job: fake_outcome(spec),
        store=RunStore("runs"),
    )
    options = "--set data.train_images=16 --set recipe.epochs=2"
    for name in ("report", "status", "plan"):
        (hint,) = [
            line for line in command(name, "tiny").err.splitlines() if line.startswith("hint: the store")
        ]
        assert (
            hint == f"hint: the store has 4 runs of tiny with other settings: ema-lab {name} tiny {options}"
        )
        assert "hint: the store" not in command(name, "tiny", *SETTINGS).err
    execute(
        load_ablation("tiny").runs()[:1], train=lambda spec, job: fake_outcome(spec), store=RunStore("runs")
    )
    assert "hint: the store" not in command("status", "tiny").err


def test_a_setting_left_at_its_default_is_named_with_the_default(command, folder):
    execute(load_ablation("tiny").runs(), train=lambda spec, job: fake_outcome(spec), store=RunStore("runs"))
    ABLATION.write_text(TINY.replace("recipe: {", "recipe: {label_smoothing: 0.1, "))
    assert "ema-lab status tiny --set recipe.label_smoothing=0" in command("status", "tiny").err


def test_a_folder_that_is_not_divided_says_how_to_divide_it(command, folder):
    for name in ("cat", "dog"):
        (folder / "data" / "pets" / name).mkdir(parents=True)
        (folder / "data" / "pets" / name / "1.jpg").write_bytes(b"")
    answer = command("new", "dataset", "pets", "--from", "data/pets")
    rule = "divide them into data/pets/train/CLASS and data/pets/val/CLASS"
    assert (
        answer.err
        == f"ema-lab: data/pets has its classes (cat, dog) in one part, without train and val: {rule}\n"
    )
    facts = {"classes": 2, "train_images": 1, "test_images": 1, "image_size": 8}
    with pytest.raises(DataError, match=rule):
        load_splits(DataSpec(name="imagefolder", folder="pets", **facts), Path("data"))


def test_runs_with_other_settings_are_listed_with_their_rows(command, folder):
    changed = load_ablation("tiny", {"recipe.epochs": 2}).runs()
    execute(changed, train=lambda spec, job: fake_outcome(spec), store=RunStore("runs"))
    rows = json.loads(command("list", "runs", "--json").out)
    assert {(row["ablation"], row["row"], row["seed"]) for row in rows} == {
        ("tiny", f"{row} (other settings)", seed) for row in ("none", "se") for seed in (0, 1)
    }
    assert len(json.loads(command("list", "runs", "--only", "row=se", "--json").out)) == 2
    assert "none (other settings) seed 0 of tiny: done" in command("log", changed[0].run_id).out
    assert command("store", "export", "--out", "all.jsonl").code == 0
    exported = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert {row["row"] for row in exported} == {"none (other settings)", "se (other settings)"}


def test_a_misspelt_tracker_is_refused_even_if_nothing_is_left_to_train(command, trained):
    trained()
    answer = command("run", "tiny", "--track", "tensorbord")
    assert answer.code == 2
    assert "no tracker is named 'tensorbord'; did you mean 'tensorboard'?" in answer.err
    assert "trained" not in answer.err


def test_failed_is_one_word_for_a_run_everywhere(command, trained):
    def train(spec, job):
        raise RuntimeError("boom")

    trained(train=train)
    assert {row["status"] for row in json.loads(command("list", "runs", "--json").out)} == {"failed"}
    assert "tiny: 4 failed" in command("status", "tiny").err
    remedy = "remedy: `ema-lab log RUN` shows the traceback: mend what raised it"
    assert remedy in command("status", "tiny").err
