"""Messages that once said less than they knew: now each has the place, the cause once, and the remedy."""

import json
from pathlib import Path

import pytest
from tiny import TINY

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
