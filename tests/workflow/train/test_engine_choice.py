"""An engine is chosen by its name, by its file, or by both."""

import pytest

from ema_lab.errors import SpecError
from ema_lab.execution.engines import ray, slurm
from ema_lab.execution.engines.ray import RayEngine
from ema_lab.specs.engine import RaySpec
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
    monkeypatch.setattr(slurm, "check_slurm", lambda: None)
    monkeypatch.setattr(ray, "import_ray", lambda: None)


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

    def test_a_run_on_several_devices_gets_the_resources_of_each(self, config):
        of_slurm = choose_engine(None, config(SLURM), None, 2)
        assert (of_slurm.engine.options.cpus_per_task, of_slurm.options.threads) == (8, 4)
        of_ray = choose_engine("ray", None, None, 3)
        assert (of_ray.engine.options.num_cpus, of_ray.options.threads) == (3, 1)
        with pytest.raises(SpecError, match=r"--devices 2 needs whole GPUs, got num_gpus: 0.5"):
            choose_engine("ray", config(RAY), None, 2)

    def test_a_run_on_several_machines_gets_the_resources_on_each(self, config):
        from ema_lab.one_run.node import join_run

        for chosen in (
            choose_engine(None, config(SLURM), None, 2, 3),
            choose_engine("ray", None, None, 2, 3),
        ):
            assert (chosen.engine.nodes, chosen.engine.join) == (3, join_run)
        assert choose_engine(None, config(SLURM), None, 2, 3).engine.options.cpus_per_task == 8
        assert choose_engine(None, config(SLURM), None, 2).engine.join is None

    def test_an_engine_has_defaults(self):
        chosen = choose_engine("ray", None, None)
        assert (chosen.options.threads, chosen.engine) == (1, RayEngine(RaySpec(engine="ray")))
