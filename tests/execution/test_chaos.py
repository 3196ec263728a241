"""A small, seeded version of benchmarks/chaos.py: processes are killed and stopped, disks are full."""

import json
import subprocess
import sys
from pathlib import Path

from killed_workers import chaos


def test_no_cell_is_lost_or_done_twice():
    program = Path(__file__).with_name("killed_workers.py")
    done = subprocess.run([sys.executable, program], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["finished"], found["lost"], found["duplicated"], found["at once"]) == (30, 0, 0, 0)
    assert found["attempts"] > 30  # some were killed, some failed


def test_two_workers_at_one_cell_are_seen():
    lines = ["begin 1 7", "begin 1 8", "end 1 7", "end 1 8", "begin 2 7", "raise 2 7", "begin 2 8", "end 2 8"]
    assert chaos.overlaps([line.split() for line in lines]) == 1
    killed = ["begin 1 7", "begin 1 8", "end 1 8", "begin 1 9", "end 1 9"]
    assert chaos.overlaps([line.split() for line in killed]) == 0
