"""--engine and --engine-config: which engine they mean, and what is said where it cannot start."""

import sys
from pathlib import Path

import pytest

from ema_lab.execution.engines.ray import RayEngine
from ema_lab.specs.engine import RaySpec
from ema_lab.workflow import engine as engines
from ema_lab.workflow.engine import choose_engine

SLURM = "engine: slurm\ncpus_per_task: 4\narray_parallelism: 8\n"
RAY = "engine: ray\nnum_gpus: 0.5\n"


@pytest.fixture
def config(tmp_path):
    def config(text):
        path = tmp_path / "cluster.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return config


@pytest.fixture
def installed(monkeypatch):
    """Pretend that submitit, Slurm and Ray are here."""
    monkeypatch.setattr(engines, "check_slurm", lambda: None)
    monkeypatch.setattr(engines, "import_ray", lambda: None)


@pytest.mark.parametrize("name", [None, "local"])
def test_by_default_runs_are_trained_here(name):
    assert choose_engine(name, None, 3) is None


@pytest.mark.usefixtures("installed")
class TestChoice:
    @pytest.mark.parametrize("name", [None, "slurm"])
    def test_a_file_says_which_engine_it_is_for(self, config, name):
        chosen = choose_engine(name, config(SLURM), None)
        assert (chosen.options.engine, chosen.options.threads) == ("slurm", 4)
        assert chosen.engine.options.array_parallelism == 8

    def test_workers_are_jobs_at_one_time_on_slurm(self, config):
        assert choose_engine(None, config(SLURM), 2).engine.options.array_parallelism == 2

    def test_workers_are_tasks_at_one_time_on_ray(self, config):
        options = RaySpec(engine="ray", num_gpus=0.5)
        assert choose_engine("ray", config(RAY), 6).engine == RayEngine(options, 6)

    def test_an_engine_has_defaults(self):
        chosen = choose_engine("ray", None, None)
        assert (chosen.options.threads, chosen.engine) == (1, RayEngine(RaySpec(engine="ray")))


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
