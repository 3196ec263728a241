"""A report of the kind claims: a paper's numbers beside finished runs, without building a model."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import fake_outcome

PAPER = """\
name: paper
title: A paper
year: 2024
source: Table 1
tables:
  small/images:
    title: Small images
    setting: 8 x 8
    classes: 10
    image_size: 8
    base: {backbone: resnet20, placement: {after: block_end}}
    baseline: plain
    ablation: tiny
    convention: {macs: macs}
    rows:
      plain: {claims: {parameters: 1000, flops: 2.0M, top1: 90.5}, variant: none}
      gated:
        claims: {parameters: 1.3K, top1: 99.0}
        model: {attention: {name: se, reduction: 4}}
        variant: se
  other:
    title: Not run
    setting: 8 x 8
    classes: 10
    image_size: 8
    rows:
      lone: {claims: {top1: 70.0}, model: {backbone: resnet20}}
"""


@pytest.fixture
def claims(folder):
    Path("reports/published").mkdir()
    Path("reports/published/paper.yaml").write_text(PAPER)
    Path("reports/claims.yaml").write_text("name: claims\nkind: claims\npublished: paper\n")


def test_each_number_has_its_verdict_from_the_records(command, claims, trained):
    def outcome(spec, job):
        found = fake_outcome(spec)
        score = found.metrics["top1"] - 0.99 * spec.seed  # two seeds that differ by 0.01
        return replace(found, metrics={**found.metrics, "top1": score})

    run_ids = trained(train=outcome)
    answer = command("report", "claims", "--out", "out")
    assert answer.code == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == sorted(
        [f"{stem}.{kind}" for stem in ("small-images", "other") for kind in ("md", "tex", "csv", "html")]
        + ["report.json", "index.html"]
    )
    table, other = json.loads(Path("out/report.json").read_text())["tables"]
    rows = {(row["group"], row["key"]): [cell["text"] for cell in row["cells"]] for row in table["rows"]}
    assert rows["plain", "parameters"][:2] == ["1000", "1,000"]
    assert rows["plain", "parameters"][-1] == "agrees"
    assert rows["plain", "flops"][-1] == "agrees"
    assert rows["gated", "parameters"][-1].startswith("disagrees")
    assert rows["gated", "top1"][-1].startswith("disagrees")
    assert rows["gated", "top1"][2].startswith("92.0 [")
    [cell] = [row["cells"][2] for row in table["rows"] if (row["group"], row["key"]) == ("gated", "top1")]
    assert cell["run_ids"] == run_ids[2:]
    assert [cell["text"] for cell in other["rows"][0]["cells"]][-1] == "not run"
    assert command("report", "claims", "--out", "out", "--check").code == 0


def test_it_needs_no_torch(command, claims, trained, folder):
    trained()
    program = (
        "import sys\nfrom ema_lab.cli.main import run\n"
        "assert run(['report', 'claims']) == 0\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_has_no_meaning_for_it_is_refused(command, claims):
    Path("reports/claims.yaml").write_text("name: claims\nkind: claims\npublished: paper\ndigits: 3\n")
    answer = command("report", "claims")
    assert answer.code == 2
    assert "reports/claims.yaml:4: digits: changes nothing" in answer.err
    Path("reports/claims.yaml").write_text("name: claims\nkind: claims\npublished: papar\n")
    assert "did you mean 'paper'?" in command("report", "claims").err


def test_a_report_may_show_some_of_the_tables(command, claims, trained):
    trained()
    report = Path("reports/claims.yaml")
    report.write_text(report.read_text() + "tables: [other]\n")
    answer = command("report", "claims", "--out", "out")
    assert answer.code == 0
    assert {path.stem for path in Path("out").glob("*.md")} == {"other"}
    report.write_text(report.read_text().replace("[other]", "[others]"))
    answer = command("report", "claims", "--out", "out")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "tables.0: no table is named 'others'" in answer.err
