"""A small, seeded version of benchmarks/chaos.py: processes are killed and stopped, disks are full."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.fixture(scope="module")
def chaos():
    spec = importlib.util.spec_from_file_location("chaos", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module
    spec.loader.exec_module(module)
    return module


def test_no_cell_is_lost_or_done_twice(chaos):
    found = chaos.measure("ema-lab", cells=30, workers=3, seed=1)
    assert (found["finished"], found["lost"], found["duplicated"], found["at once"]) == (30, 0, 0, 0)
    assert found["attempts"] > 30  # some were killed, some failed


def test_two_workers_at_one_cell_are_seen(chaos):
    lines = ["begin 1 7", "begin 1 8", "end 1 7", "end 1 8", "begin 2 7", "raise 2 7", "begin 2 8", "end 2 8"]
    assert chaos.overlaps([line.split() for line in lines]) == 1
    killed = ["begin 1 7", "begin 1 8", "end 1 8", "begin 1 9", "end 1 9"]
    assert chaos.overlaps([line.split() for line in killed]) == 0
