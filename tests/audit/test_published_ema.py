"""Audit of the bundled published numbers: complete, with the expected verdicts.

The expected verdicts are those of the summary of what reproduces (measured on the authors' own models);
here every one is computed from a file without verdicts and from models built by this package.
"""

import json
from functools import cache
from pathlib import Path

import pytest

from ema_lab.audit.verdict import Kind
from ema_lab.cli.main import run
from ema_lab.specs.published_file import load_published
from ema_lab.specs.task import task_description

FILES = sorted(Path(__file__).parents[2].glob("reports/published/*.yaml"))
EMA = next(path for path in FILES if path.stem == "ema_icassp2023")
EXACT = (Kind.AGREES, None)
WITHOUT_NORM = (Kind.OTHER_CONVENTION, "without norms")
TENS = (Kind.OTHER_CONVENTION, "rounded to 10M")
FUSED = (Kind.OTHER_CONVENTION, "norms fused; or truncated")
TRUNCATED = (Kind.OTHER_CONVENTION, "truncated")
EXPECTED = {
    "cifar100": {
        "parameters": {
            "ResNet50": EXACT,
            "ResNet50+CBAM": EXACT,
            "ResNet50+SA": EXACT,
            "ResNet50+ECA": EXACT,
            "ResNet50+NAM": (Kind.OTHER_CONVENTION, "without the module's own norms"),
            "ResNet50+CA": WITHOUT_NORM,
            "ResNet50+EMA": WITHOUT_NORM,
            "ResNet50+SE": EXACT,
            "ResNet50+BAM": EXACT,
            "ResNet50+TAM": EXACT,
            "ResNet50+GAM": (Kind.DISAGREES, "computed is 377.3M (252 %) more"),
            "ResNet101": EXACT,
            "ResNet101+CA": WITHOUT_NORM,
            "ResNet101+EMA": WITHOUT_NORM,
        },
    },
    "imagenet": {
        "parameters": {
            "MobileNetV2": EXACT,
            "MobileNetV2+SE": EXACT,
            "MobileNetV2+CBAM": EXACT,
            "MobileNetV2+CA": EXACT,
            "MobileNetV2+EMA": EXACT,
        },
        "flops": {  # 300, 300, 300 and 310 are whole tens; 306 is not
            "MobileNetV2": TENS,
            "MobileNetV2+SE": TENS,
            "MobileNetV2+CBAM": TENS,
            "MobileNetV2+CA": TENS,
            "MobileNetV2+EMA": (Kind.DISAGREES, "computed is 130M (42 %) more"),
        },
    },
    "imagenet_d_li14": {
        "parameters": {"MobileNetV2": TRUNCATED},
        "flops": {
            "MobileNetV2": (Kind.NEARLY_AGREES, "computed is 0.02M (0.0052 %) less"),
            "MobileNetV2+EMA": (Kind.DISAGREES, "computed is 134M (44 %) more"),
        },
    },
    "coco": {
        "parameters": {
            "YOLOv5s": FUSED,
            "YOLOv5s+CBAM": FUSED,
            "YOLOv5s+SA": FUSED,
            "YOLOv5s+ECA": FUSED,
            "YOLOv5s+CA": FUSED,
            "YOLOv5s+EMA": (
                Kind.OTHER_CONVENTION,
                "all parameters, rounded; not that of most rows of the column (norms fused; or truncated)",
            ),
        },
        "flops": {
            "YOLOv5s": EXACT,
            "YOLOv5s+CBAM": EXACT,
            "YOLOv5s+SA": EXACT,
            "YOLOv5s+ECA": EXACT,
            "YOLOv5s+CA": (
                Kind.NEARLY_AGREES,
                "computed is 0.08G (0.47 %) more; what it adds to YOLOv5s agrees",
            ),
            "YOLOv5s+EMA": (Kind.DISAGREES, "computed is 0.15G (0.91 %) more"),
        },
    },
    "visdrone": {
        "parameters": {
            "YOLOv5x": EXACT,
            "YOLOv5x+CBAM": EXACT,
            "YOLOv5x+CA": EXACT,
            "YOLOv5x+EMA": EXACT,
        },
        "flops": {
            "YOLOv5x": EXACT,
            "YOLOv5x+CBAM": EXACT,
            "YOLOv5x+CA": (Kind.OTHER_CONVENTION, "with norms, as fvcore; or truncated"),
            "YOLOv5x+EMA": (Kind.DISAGREES, "computed is 3.1G (1.0 %) more"),
        },
    },
}
SLOW = (
    "cifar100",
    "imagenet",
    "coco",
    "visdrone",
)  # their models' operations are counted, not their parameters alone


@pytest.fixture(scope="module")
def records_of(tmp_path_factory):
    """Return a function that audits a table, without any runs."""

    @cache
    def audited(table):
        out = tmp_path_factory.mktemp("audit")
        (out / "runs").mkdir(exist_ok=True)
        words = ("--table", table, "--store", str(out / "runs"), "--out", str(out))
        assert run(["audit", str(EMA), *words]) == 0
        return json.loads((out / "audit.json").read_text())

    return audited


def verdicts(records, table):
    """Return (verdict, reason) by counted quantity and row."""
    return {
        quantity: {
            record["row"]: (record["verdict"], record["reason"])
            for record in records
            if (record["table"], record["quantity"]) == (table, quantity)
        }
        for quantity in EXPECTED[table]
    }


@pytest.mark.parametrize(
    "table", [pytest.param(table, marks=[pytest.mark.slow] * (table in SLOW)) for table in EXPECTED]
)
def test_the_audit_of_the_ema_paper_says_what_reproduces(records_of, table):
    assert verdicts(records_of(table), table) == EXPECTED[table]


@pytest.mark.slow
def test_without_runs_no_accuracy_has_a_verdict(records_of):
    records = records_of("cifar100")
    trained = [record for record in records if record["quantity"] not in {"parameters", "flops"}]
    assert {record["quantity"] for record in trained} == {"top1", "top5"}
    assert {record["verdict"] for record in trained} == {"not run"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_claims_loads(path):
    published = load_published(path)
    assert all(row.claims.numbers for _, _, _, row in published.rows())
    assert all(item.reason for item in published.left_out)


def test_every_published_number_of_the_ema_paper_is_there():
    """Rows x numbers of the README's tables: 14 x 3, 5 x 4 less three, 2 x 4 less one, 6 x 4, 4 x 4."""
    rows = load_published(EMA).rows()
    counts: dict[str, int] = {}
    for table, _, _, row in rows:
        counts[table] = counts.get(table, 0) + len(row.claims.numbers)
    assert counts == {"cifar100": 42, "imagenet": 17, "imagenet_d_li14": 7, "coco": 24, "visdrone": 16}


def test_the_ema_papers_rows_are_linked_to_the_ablations_that_train_them():
    linked = {(table, name) for table, _, name, row in load_published(EMA).rows() if row.variant}
    assert len(linked) == 14 + 5 + 2 + 6 + 4


def test_metrics_of_detectors_name_their_protocol():
    """COCO's numbers are COCO's; those of VisDrone are of YOLOv5's own validation."""
    tables = load_published(EMA).tables
    labels = {
        key: {task_description(tables[key].task).metrics[name].header for name in row.claims.metrics}
        for key in ("coco", "visdrone")
        for row in tables[key].rows.values()
    }
    assert labels == {
        "coco": {"mAP50 (coco, %)", "mAP50:95 (coco, %)"},
        "visdrone": {"mAP50 (ultralytics-v6, %)", "mAP50:95 (ultralytics-v6, %)"},
    }
