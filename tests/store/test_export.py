"""Records in one file: a flat object or a row for each run."""

import json
from pathlib import Path

from ema_lab.store.record import RunRecord
from ema_lab.store.upkeep.export import export


def test_writes_a_flat_object_per_record(runs, last):
    assert export(runs, Path("all.jsonl")) == (3, [])
    rows = {row["run_id"]: row for row in map(json.loads, Path("all.jsonl").read_text().splitlines())}
    row, record = rows[last], runs.record(last)
    assert not any(isinstance(value, dict | list) for value in row.values())
    assert row["metrics.top1"] == record.metrics["top1"]
    assert row["spec.model.backbone"] == "resnet20"
    assert row["environment.versions.torch"] == record.environment["versions"]["torch"]
    assert row["cost.parameters"] == record.cost["parameters"]
    assert row["source.training"] == record.source["training"]


def test_writes_parquet_with_the_same_content(runs):
    import pyarrow.parquet

    assert export(runs, Path("all.parquet")) == export(runs, Path("all.jsonl")) == (3, [])
    table = pyarrow.parquet.read_table("all.parquet").to_pylist()
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if value is not None} for row in table]
    assert kept == [{key: value for key, value in row.items() if value is not None} for row in lines]


def test_a_column_of_several_types_is_text(runs, last):
    import pyarrow.parquet

    for number, run_id in enumerate(runs.run_ids()):
        record = runs.record(run_id)
        cost = {"mixed": [1, "a", True][number], "number": [1, 2.5, None][number]}
        runs.write(RunRecord.model_validate({**record.model_dump(), "cost": cost}))
    export(runs, Path("all.parquet"))
    columns = pyarrow.parquet.read_table("all.parquet").to_pydict()
    assert columns["cost.mixed"] == ["1", "a", "true"]
    assert columns["cost.number"] == [1.0, 2.5, None]
