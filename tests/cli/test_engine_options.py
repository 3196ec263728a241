"""--engine and --engine-config: what is said where they are wrong or the engine cannot start."""

import sys
from pathlib import Path

import pytest

from ema_lab.execution.engines import ray, slurm

SLURM = "engine: slurm\ncpus_per_task: 4\narray_parallelism: 8\n"


@pytest.fixture
def installed(monkeypatch):
    """Pretend that submitit, Slurm and Ray are here."""
    monkeypatch.setattr(slurm, "check_slurm", lambda: None)
    monkeypatch.setattr(ray, "import_ray", lambda: None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--engine", "slrm"], "ema-lab: no engine is named 'slrm'; did you mean 'slurm'?"),
        (["--engine", "ray", "--engine-config", "slurm.yaml"], "--engine is ray, but slurm.yaml holds"),
        (["--engine", "local", "--engine-config", "slurm.yaml"], "--engine is local, but slurm.yaml holds"),
        (["--engine-config", "absent.yaml"], "absent.yaml: cannot be read: No such file"),
        (["--engine-config", "bad.yaml"], "bad.yaml:2: time: must be minutes"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(command, options, words):
    Path("slurm.yaml").write_text(SLURM)
    Path("bad.yaml").write_text("engine: slurm\ntime: soon\n")
    answer = command("run", "tiny", *options)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(("name", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_what_is_not_installed_is_named_with_its_extra(command, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    answer = command("run", "tiny", "--engine", name)
    assert answer.code == 2
    assert f"pip install 'ema-lab[{name}]'" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.usefixtures("installed")
def test_a_smoke_run_stays_here(command):
    answer = command("run", "tiny", "--engine", "slurm", "--smoke")
    assert answer.code == 2
    assert "--smoke trains on this machine" in answer.err
