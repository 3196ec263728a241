"""ema-lab audit: claims of a small made-up paper against counts of real models and made-up runs."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import fake_outcome

PAPER = """\
name: paper
title: A paper
year: 2024
source: Table 1
caveats:
  borrowed: From another paper & 100 % "different".
  all_rows: Nobody says how often.
left_out:
  - what: The last row.
    reason: It is empty.
tables:
  small:
    title: Small images
    setting: 8 x 8
    classes: 10
    image_size: 8
    base: {backbone: resnet20, placement: {after: block_end}}
    baseline: plain
    ablation: tiny
    caveats: [all_rows]
    rows:
      plain:
        claims: {parameters: 0.27M, flops: 2.5M, top1: 90.0}
        variant: none
      gated:
        claims: {parameters: 269722, top1: 92.0, top5: 99.0}
        model: {attention: {name: se, reduction: 4}}
        variant: se
        setting: 9 epochs
        source: Table 2
        caveats: [borrowed]
      unknown:
        claims: {parameters: 1.5M}
        model: null
  large:
    title: Large images
    setting: 224 x 224
    classes: 1000
    image_size: 224
    rows:
      lone:
        claims: {parameters: 25.6M}
        model: {backbone: resnet50}
"""
FILE = Path("reports/published/paper.yaml")
SMALL = ("audit", "paper", "--table", "small")


@pytest.fixture(autouse=True)
def paper(folder):
    FILE.parent.mkdir(parents=True)
    FILE.write_text(PAPER)


def verdicts(answer):
    return {(row["row"], row["quantity"]): row for row in json.loads(answer.out)}


def outcome(spec, **top1):
    """Return an outcome whose top-1 is that of its module, a hundredth more for each seed."""
    found = fake_outcome(spec)
    score = top1[spec.model.attention.name] + spec.seed / 100
    return replace(found, metrics={**found.metrics, "top1": score})


def test_without_runs_only_counts_have_a_verdict(command):
    answer = command(*SMALL, "--json")
    rows = verdicts(answer)
    assert answer.code == 0
    assert {key: row["verdict"] for key, row in rows.items()} == {
        ("plain", "parameters"): "agrees",
        ("plain", "flops"): "agrees",
        ("plain", "top1"): "not run",
        ("gated", "parameters"): "disagrees",
        ("gated", "top1"): "not run",
        ("gated", "top5"): "not run",
        ("unknown", "parameters"): "not run",
    }
    assert rows["plain", "parameters"]["computed"] == 269_722
    gated = rows["gated", "parameters"]
    assert gated["computed"] - 269_722 == gated["difference"] > 0
    assert (gated["source"], gated["setting"], gated["caveats"]) == (
        "Table 2",
        "9 epochs",
        "all_rows borrowed",
    )
    assert rows["unknown", "parameters"]["computed"] is None


def test_a_store_that_cannot_be_written_costs_no_verdict(command, monkeypatch):
    def read_only(*_args, **_kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    expected = command(*SMALL).out
    shutil.rmtree("runs")
    monkeypatch.setattr("ema_lab.store.cost_cache.write_json", read_only)
    answer = command(*SMALL)
    assert (answer.code, answer.out) == (0, expected)
    assert answer.err.count("warning: measurements are not kept: the store runs cannot be written") == 1


def test_words_go_to_standard_error(command):
    answer = command(*SMALL)
    assert "7 published numbers: agrees 2, disagrees 1, not run 4" in answer.err
    assert "left out: The last row. It is empty." in answer.err


def test_runs_are_compared_with_their_interval(command, trained):
    run_ids = trained(train=lambda spec, job: outcome(spec, none=90.0, se=95.0))
    rows = verdicts(command(*SMALL, "--json"))
    plain, gated = rows["plain", "top1"], rows["gated", "top1"]
    assert (plain["verdict"], plain["n"], plain["trained"]) == ("agrees", 2, 90.005)
    assert plain["trained_low"] < 90.0 < plain["trained_high"]
    assert (gated["verdict"], gated["reason"]) == ("disagrees", "trained is 3.0 (3.3 %) more")
    assert sorted(f"{plain['run_ids']} {gated['run_ids']}".split()) == sorted(run_ids)
    assert rows["gated", "top5"]["verdict"] == "not run"


def test_few_and_scattered_seeds_decide_nothing(command, trained):
    trained(keep=lambda spec: spec.model.attention.name == "none" or spec.seed == 0)
    rows = verdicts(command(*SMALL, "--json"))
    assert rows["gated", "top1"]["verdict"] == "inconclusive"
    assert (rows["gated", "top1"]["n"], rows["gated", "top1"]["trained_low"]) == (1, None)
    assert rows["gated", "top1"]["reason"] == "one seed has no interval"
    assert rows["plain", "top1"]["reason"].startswith("a difference of ")
    text = command(*SMALL).out
    assert "92.0 (n=1 of 2)" in text
    assert "by our own recipe (1 epoch, last epoch), test split" in text


def test_the_table_says_what_its_signs_mean(command):
    text = command("audit", str(FILE)).out
    assert "A paper: Small images" in text
    assert "A paper: Large images" in text
    assert '¹ From another paper & 100 % "different".' in text
    assert "Nobody says how often." in text
    assert "Parameters: all parameters, rounded" in text


def test_every_format_holds_the_same_numbers(command, folder):
    printed = command(*SMALL, "--out", "out", "--format", "csv")
    records = json.loads(Path("out/audit.json").read_text())
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "audit.csv",
        "audit.json",
        "audit.md",
        "audit.tex",
    ]
    assert printed.out == Path("out/audit.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(printed.out)))
    assert rows == [{k: "" if v is None else str(v) for k, v in record.items()} for record in records]
    markdown = Path("out/audit.md").read_text()
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if "|" in line
    ]
    assert [row[2] for row in cells[2:]] == [record["claimed"] for record in records]
    for form, file in (("markdown", "audit.md"), ("latex", "audit.tex"), ("json", "audit.json")):
        assert command(*SMALL, "--format", form).out == Path("out", file).read_text()


@pytest.mark.system
def test_pdflatex_compiles_the_audit(command, trained):
    assert shutil.which("pdflatex"), "pdflatex is not installed; `make test-system` installs it"
    trained()
    command("audit", "paper", "--out", ".")
    packages = r"\usepackage{booktabs,threeparttable,siunitx,multirow}"
    Path("main.tex").write_text(
        rf"\documentclass{{article}}{packages}\begin{{document}}\input{{audit}}\end{{document}}"
    )
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    log = Path("main.log").read_text(errors="replace")
    assert "Missing character" not in log
    assert "Undefined control sequence" not in log


WRONG = {
    "other model": ("reduction: 4}}", "reduction: 8}}", 28, "is another model than this row's"),
    "other image size": ("image_size: 8", "image_size: 16", 24, "(10 classes, 3 x 8 x 8)"),
    "unknown variant": ("variant: se", "variant: see", 28, "no row is named 'see'; did you mean 'se'?"),
    "unknown ablation": ("ablation: tiny", "ablation: tinny", 24, "no ablation is named 'tinny'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_runs_of_something_else_are_refused_with_the_line(command, tree, case):
    old, new, line, message = WRONG[case]
    FILE.write_text(PAPER.replace(old, new))
    before = tree()
    answer = command(*SMALL, "--out", "out")
    assert (answer.code, answer.out) == (2, "")
    assert f"ema-lab: {FILE}:{line}: variant: " in answer.err
    assert message in answer.err
    assert tree() == before


def test_an_unknown_table_or_file_is_reported(command):
    assert (
        "no table is named 'smal'; did you mean 'small'?" in command("audit", "paper", "--table", "smal").err
    )
    answer = command("audit", "papre")
    assert answer.code == 2
    assert "no file of published numbers is named 'papre'; did you mean 'paper'?" in answer.err


def test_a_model_that_cannot_be_built_is_reported(command):
    FILE.write_text(
        PAPER.replace("{name: se, reduction: 4}", "{name: ema, groups: 7}").replace("variant: se", "")
    )
    answer = command(*SMALL)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"ema-lab: {FILE}:27: gated: ema after ")
    assert "groups=7" in answer.err


def test_a_new_file_of_claims_can_be_audited_as_it_is(command):
    written = command("new", "published", "paper2026")
    assert (written.code, written.out) == (0, "reports/published/paper2026.yaml\n")
    answer = command("audit", "reports/published/paper2026.yaml", "--json")
    assert {row["verdict"] for row in json.loads(answer.out)} == {"agrees", "not run"}


def test_files_of_claims_are_listed_and_shown(command):
    rows = json.loads(command("list", "published", "--json").out)
    assert {row["name"] for row in rows} == {"ema_icassp2023", "paper"}
    assert command("show", "published", "paper").out == PAPER
