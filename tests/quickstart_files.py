"""Checks what `make quickstart` wrote. Not collected by default: CI names this file after the quickstart."""

import csv
from pathlib import Path

import pytest

OUT = Path(__file__).parents[1] / "out" / "quickstart"


@pytest.fixture
def rows() -> list[dict[str, str]]:
    with (OUT / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_variant_has_all_its_seeds(rows):
    assert [row["variant"] for row in rows] == [
        "none",
        "se",
        "cbam",
        "ca",
        "ema [groups=4]",
        "ema [groups=8]",
        "ema-no-local",
    ]
    assert {row["n"] for row in rows} == {"3"}


def test_the_models_learn_to_read_digits(rows):
    assert all(float(row["top1"]) > 94 for row in rows)


def test_costs_are_those_of_the_models(rows):
    assert rows[0]["parameters"] == "269434"  # ResNet-20 with one input channel
    assert all(float(row["macs"]) >= float(rows[0]["macs"]) for row in rows)


def test_markdown_and_latex_show_the_same_rows(rows):
    for name in ("table.md", "table.tex"):
        text = (OUT / name).read_text(encoding="utf-8")
        assert all(row["variant"].split()[0] in text for row in rows)
