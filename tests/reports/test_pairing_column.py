"""The column `pairing`: what the pairing of seeds gains."""

import numpy as np
import pytest
from made_up import fill, report

from ema_lab.statistics.pairing import pairing_ratio
from ema_lab.tables.render import flat_records

SEEDS = [0, 1, 2, 3]
STUDY = f"seeds: {SEEDS}\nbaseline: none\nvariants:\n" + "".join(
    f"  {name}: {{model.attention: {name}}}\n" for name in ("none", "se", "ca", "ema")
)
VALUES = {
    "none": [90.0, 91.0, 89.5, 90.2],
    "se": [90.4, 91.7, 89.6, None],
    "ca": [90.4, 91.7, None, None],
}
VALUES["ema"] = [value + 0.5 for value in VALUES["none"]]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairing")
    store = fill(folder, "s", STUDY, lambda cell: VALUES[cell.variant][cell.seed])
    return report(folder, store, ablation="s", columns=["delta", "pairing"]).tables[0]


def test_it_is_over_common_seeds(table):
    cells = {row.key: row.cells[1] for row in table.rows}
    expected = pairing_ratio(VALUES["se"][:3], VALUES["none"][:3])
    assert cells["se"].value == pytest.approx(expected.ratio)
    assert (cells["se"].low, cells["se"].high) == pytest.approx((expected.low, expected.high))
    assert cells["se"].n == 3
    assert cells["se"].text == f"{expected.ratio:.2f} [{expected.low:.2f}, {expected.high:.2f}]"
    assert cells["none"].text == "baseline"
    assert cells["ca"].plain_text == "untested (needs three pairs)"
    assert cells["ema"].value == pytest.approx(0, abs=1e-12)


def test_data_and_caption_have_it(table):
    [record] = [record for record in flat_records(table) if record["variant"] == "se"]
    unpaired = np.var(VALUES["se"][:3], ddof=1) + np.var(VALUES["none"][:3], ddof=1)
    paired = np.var(np.subtract(VALUES["se"][:3], VALUES["none"][:3]), ddof=1)
    assert record["pairing"] == pytest.approx(paired / unpaired)
    assert record["pairing_low"] < record["pairing"] < record["pairing_high"]
    assert "Pairing (Top-1): variance of paired over unpaired differences to 'none'" in " ".join(table.notes)
