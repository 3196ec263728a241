"""A file of published numbers: digits are kept, and every problem comes with its line."""

import pytest

from ema_lab.errors import DefinitionError
from ema_lab.specs.published_file import load_published

TEXT = """\
name: paper
title: A paper
arxiv: 2305.13560
year: 2023
source: Table 2
caveats:
  borrowed: Taken from elsewhere.
tables:
  one:
    title: CIFAR-100
    setting: 200 epochs
    classes: 100
    image_size: 32
    base: {backbone: resnet20}
    baseline: plain
    caveats: [borrowed]
    rows:
      plain:
        claims: {parameters: 0.270M, top1: 68.30, flops: 41}
      gated:
        claims:
          parameters: "0.28M"
          top5: 90
        model:
          attention: {name: se, reduction: 4}
"""


@pytest.fixture
def load(tmp_path):
    def read(*changes):
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "paper.yaml"
        path.write_text(text)
        return load_published(path)

    return read


def test_printed_digits_are_kept(load):
    rows = load().tables["one"].rows
    texts = {name: {k: v.text for k, v in row.claims.numbers.items()} for name, row in rows.items()}
    assert texts == {
        "plain": {"parameters": "0.270M", "top1": "68.30", "flops": "41"},
        "gated": {"parameters": "0.28M", "top5": "90"},
    }


def test_an_unquoted_arxiv_id_keeps_its_zero(load):
    assert load().arxiv == "2305.13560"


def test_a_row_changes_the_base_of_its_table(load):
    table = load().tables["one"]
    assert table.model(table.rows["plain"]).resolved() == {"backbone": "resnet20"}
    assert table.model(table.rows["gated"]).attention.options == {"reduction": 4}
    facts = table.run(table.rows["gated"]).data.facts
    assert (facts.classes, facts.channels, facts.image_size) == (100, 3, 32)


def test_a_row_may_have_no_model(load):
    table = load(
        ("        model:\n          attention: {name: se, reduction: 4}", "        model: null")
    ).tables["one"]
    assert table.model(table.rows["gated"]) is table.run(table.rows["gated"]) is None


WRONG = {
    "no number": (("68.30", "about 68"), [(19, "top1: must be a number as printed"), (19, "got 'about 68'")]),
    "nothing claimed": (
        ("{parameters: 0.270M, top1: 68.30, flops: 41}", "{}"),
        [(19, "must have one of parameters")],
    ),
    "unknown quantity": (("top5: 90", "top6: 90"), [(23, "no key is named 'top6'; did you mean 'top5'?")]),
    "truth value": (("top5: 90", "top5: true"), [(23, "must be a number as printed")]),
    "unknown option": (("reduction: 4", "reductoin: 4"), [(25, "did you mean 'reduction'?")]),
    "unknown module": (("name: se", "name: sse"), [(25, "no attention is named 'sse'")]),
    "unknown backbone": (("resnet20", "resnet21"), [(14, "no backbone is named 'resnet21'")]),
    "unknown row": (("baseline: plain", "baseline: plan"), [(15, "no row is named 'plan'")]),
    "unknown caveat": (("[borrowed]", "[borrowed, old]"), [(16, "no caveat is named 'old'")]),
    "unused caveat": (
        ("    caveats: [borrowed]\n", ""),
        [(7, "caveats.borrowed: no table or row uses it: remove it or list it under a row's caveats")],
    ),
    "no ablation": (
        ("        model:\n", "        variant: se\n        model:\n"),
        [(24, "variant: needs an ablation")],
    ),
    "no variant": (
        ("        model:\n", "        ablation: quickstart\n        model:\n"),
        [(24, "ablation: changes nothing without a variant")],
    ),
    "path through a word": (
        ("attention: {name: se, reduction: 4}", "placement: {stages: [1]}\n          placement.stages.x: 4"),
        [(24, "model: stages is [1], which has no key 'x'")],
    ),
    "no tables": (("tables:", "tables: {}\nrest:"), [(8, "tables")]),
    "another name": (("name: paper", "name: pamphlet"), [(1, "must equal the file's name")]),
    "bad arXiv id": (("2305.13560", "13560"), [(3, "arxiv")]),
    "wrong convention": (
        ("    baseline: plain", "    convention: {flops_per_mac: 3}\n    baseline: plain"),
        [(15, "convention.flops_per_mac: must be 1 or 2, got 3")],
    ),
}


def test_a_problem_is_an_error_with_its_line(load, tmp_path):
    for case in WRONG:
        change, expected = WRONG[case]
        with pytest.raises(DefinitionError) as caught:
            load(change)
        for line, fragment in expected:
            assert any(
                problem.where == f"{tmp_path / 'paper.yaml'}:{line}" and fragment in problem.message
                for problem in caught.value.problems
            ), str(caught.value)


def test_problems_of_form_and_of_models_come_at_once(load):
    with pytest.raises(DefinitionError) as caught:
        load(("year: 2023", "year: soon"), ("68.30", "much"), ("reduction: 4", "reduction: none"))
    lines = [problem.where.rpartition(":")[2] for problem in caught.value.problems]
    assert sorted(lines, key=int) == ["4", "19", "25"]


@pytest.mark.parametrize(
    "change",
    [
        ("    rows:\n      plain:", "    rows: 3\n    more:\n      plain:"),
        ("  one:\n    title", "  one: 3\n  two:\n    title"),
        ("      gated:\n        claims:", "      gated: 3\n      third:\n        claims:"),
        ("    base: {backbone: resnet20}", "    base: resnet20"),
        ("tables:", "tables: 3\nmore:"),
    ],
)
def test_a_file_of_another_form_is_a_list_of_problems(load, change):
    with pytest.raises(DefinitionError):
        load(change)
