"""From claims, costs and rows of runs to findings and tables, without building a model."""

from dataclasses import replace

import pytest

from ema_lab.audit.audit import Evidence, audit, audit_records
from ema_lab.audit.table import audit_tables, summary_line
from ema_lab.audit.verdict import Kind
from ema_lab.specs.published import PublishedSpec
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import render_markdown, render_text

ROWS = {
    "plain": {"claims": {"parameters": "1.20M", "flops": "16.5G", "top1": "91.0"}, "caveats": ["old"]},
    "gated": {
        "claims": {"parameters": "1.3M", "flops": "16.50G", "top1": "95.0"},
        "caveats": ["copied", "old"],
    },
    "other": {"claims": {"top5": "99.0"}, "baseline": "gated"},
}
COSTS = {
    ("one", "plain"): {"parameters": 1_204_999, "macs_thop": 8_266_231_600},
    ("one", "gated"): {"parameters": 1_250_000, "macs_thop": 8_288_869_200},
}


def paper(**table):
    """Return a paper of one table."""
    own = {"title": "Small", "setting": "9 epochs", "classes": 10, "image_size": 32, "baseline": "plain"}
    own |= {"convention": {"macs": "macs_thop", "flops_per_mac": 2}, "rows": ROWS, **table}
    caveats = {"old": "An old row.", "copied": "A copied row.", "all": "Said of all."}
    head = {"name": "paper", "title": "Paper", "year": 2024, "source": "Table 1", "caveats": caveats}
    return PublishedSpec.model_validate({**head, "tables": {"one": own}})


@pytest.fixture
def runs(study):
    """Rows of a study: plain 90, 91, 92 and gated 91, 93, 95."""
    plain, gated = study().rows
    return {("one", "plain"): plain, ("one", "gated"): gated}


def found(published, costs=COSTS, runs=()):
    findings = audit(published, Evidence(costs, dict(runs)))
    return {(finding.row, finding.quantity): finding for finding in findings}


def test_findings_come_in_the_order_of_the_file():
    assert list(found(paper())) == [
        ("plain", "parameters"),
        ("plain", "flops"),
        ("plain", "top1"),
        ("gated", "parameters"),
        ("gated", "flops"),
        ("gated", "top1"),
        ("other", "top5"),
    ]


def test_operations_are_counted_as_the_table_is_assumed_to():
    finding = found(paper())["plain", "flops"]
    assert finding.computed == 16_532_463_200
    assert finding.verdict.kind is Kind.AGREES
    alone = found(paper(convention={"macs": "macs_thop"}))["plain", "flops"]
    assert str(alone.verdict) == "agrees under another convention: 2 per multiply-add"


def test_a_row_is_compared_with_its_baseline():
    assert found(paper())["gated", "flops"].verdict.kind is Kind.NEARLY_AGREES
    assert found(paper(baseline=None))["gated", "flops"].verdict.kind is Kind.DISAGREES
    rows = {**ROWS, "gated": {**ROWS["gated"], "baseline": "other"}}
    assert found(paper(rows=rows))["gated", "flops"].verdict.kind is Kind.DISAGREES


def test_trained_rows_have_their_interval(runs):
    plain, gated = (found(paper(), runs=runs)[name, "top1"] for name in ("plain", "gated"))
    assert (plain.trained.mean, plain.trained.count) == (91.0, 3)
    low, _ = plain.trained.replication.interval
    assert low == pytest.approx(91 - 4.302653 * (1 + 1 / 3) ** 0.5)  # of a claim of one seed
    assert plain.verdict.kind is gated.verdict.kind is Kind.INCONCLUSIVE
    assert len(plain.run_ids) == 3
    wide = found(paper(relevant=6.0), runs=runs)
    assert wide["plain", "top1"].verdict.kind is Kind.AGREES
    assert wide["gated", "top1"].verdict.kind is Kind.INCONCLUSIVE


def test_seeds_behind_claims_are_keys_of_the_table_and_of_a_row(runs):
    rows = {**ROWS, "gated": {**ROWS["gated"], "seeds": 4}}
    findings = found(paper(rows=rows, seeds=2), runs=runs)
    counts = {name: findings[name, "top1"].trained.replication.earlier_seeds for name in ("plain", "gated")}
    assert counts == {"plain": 2, "gated": 4}
    published = paper(rows=rows, seeds=2)
    (table,) = audit_tables(published, list(findings.values()), runs)
    assert any("counts as the mean of 2 or 4 seeds (`seeds` of the file)" in note for note in table.notes)
    assert any("Holm-corrected over 2 trained numbers of the file" in note for note in table.notes)
    record = next(r for r in audit_records(published, list(findings.values())) if r["p_difference"])
    assert (record["claim_seeds"], record["family"], record["degrees_of_freedom"]) == (2, 2, 2)
    assert record["p_difference_raw"] <= record["p_difference"]


def test_a_metric_that_no_run_has_is_not_run(runs):
    rows = {**ROWS, "plain": {"claims": {"top5": "99.0"}}}
    finding = found(paper(rows=rows), runs=runs)["plain", "top5"]
    assert (finding.verdict.kind, finding.trained) == (Kind.NOT_RUN, None)


def test_records_are_flat_and_unrounded(runs):
    published = paper(caveats=["all"])
    records = audit_records(published, list(found(published, runs=runs).values()))
    assert len({tuple(record) for record in records}) == 1
    record = next(r for r in records if (r["row"], r["quantity"]) == ("gated", "top1"))
    assert record["claimed"] == "95.0"
    assert (record["trained"], record["n"], record["difference"]) == (93.0, 3, -2.0)
    assert record["caveats"] == "all copied old"
    assert record["source"] == "Table 1"


def test_a_table_numbers_its_caveats_at_the_first_line_of_each_row():
    published = paper(caveats=["all"])
    (table,) = audit_tables(published, list(found(published).values()), {})
    assert table.footnotes == ("An old row.", "A copied row.")
    assert [row.footnotes for row in table.rows] == [(1,), (), (), (2, 1), (), (), ()]
    assert "Said of all." in table.notes
    assert [column.key for column in table.columns] == ["claimed", "computed", "verdict"]
    assert "Parameters¹" in render_text(table)


def test_stale_and_missing_runs_are_seen(study):
    _, gated = study({"none": [90.0, 91.0, 92.0], "se": [91.0, None, 95.0]}).rows
    stale = replace(gated, cells=tuple(replace(cell, stale=("models",)) for cell in gated.cells))
    runs = {("one", "gated"): stale}
    published = paper()
    findings = found(published, runs=runs)
    (table,) = audit_tables(published, list(findings.values()), runs)
    for text in (render_text(table), render_markdown(table)):
        assert "(n=2 of 3) ‡" in text
        assert "‡: the source has changed since these runs." in text
    assert r"$\ddagger$" in render_latex(table)
    assert findings["gated", "top1"].stale == ("models",)


def test_the_best_test_epoch_is_named(study):
    _, gated = study(protocol="best-test").rows
    runs = {("one", "gated"): gated}
    published = paper()
    (table,) = audit_tables(published, list(found(published, runs=runs).values()), runs)
    assert any("BEST TEST EPOCH" in note for note in table.notes)


def test_the_summary_counts_each_kind():
    assert summary_line(found(paper()).values()) == (
        "7 published numbers: agrees 3, nearly agrees 1, not run 3"
    )
