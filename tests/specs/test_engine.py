"""Engine files: read strictly, each problem with its line; times as Slurm writes them."""

import pytest

from ema_lab.errors import DefinitionError
from ema_lab.specs.engine import RaySpec, SlurmSpec, load_engine


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "cluster.yaml"
        path.write_text(text, encoding="utf-8")
        return load_engine(path)

    return load


def test_a_slurm_file_is_read(load):
    options = load(
        "engine: slurm\npartition: gpu\ntime: 04:30:01\ngpus_per_task: 1\ncpus_per_task: 8\nmem_gb: 32\n"
        "array_parallelism: 16\nruns_per_job: 2\nsetup: [module load cuda]\n"
        "additional: {account: vision, qos: low}\ngrace_seconds: 120\n"
    )
    assert isinstance(options, SlurmSpec)
    assert (options.time, options.mem_gb, options.setup) == (271, 32, ("module load cuda",))
    assert options.additional == {"account": "vision", "qos": "low"}
    assert (options.device, options.threads) == ("cuda", None)


def test_a_ray_file_is_read(load):
    options = load("engine: ray\naddress: 10.0.0.1:6379\nnum_gpus: 0.25\n")
    assert options == RaySpec(engine="ray", address="10.0.0.1:6379", num_gpus=0.25)
    assert (options.device, options.threads) == ("cuda", None)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("00:30:00", 30), ("00:00:30", 1), ("2-01:00:00", 2940), ("12:00:00", 720)],
)
def test_times_are_minutes_rounded_up(load, text, minutes):
    assert load(f"engine: slurm\ntime: {text}\n").time == minutes


def test_without_a_gpu_a_run_has_the_threads_of_its_cores(load):
    assert load("engine: slurm\n").device == load("engine: ray\n").device == "cpu"
    assert load("engine: slurm\ncpus_per_task: 6\n").threads == 6
    assert load("engine: ray\nnum_cpus: 0.5\n").threads == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("partition: gpu\n", 1, "engine: is missing; set it to slurm or ray"),
        ("\nengine: slrm\n", 2, "no engine is named 'slrm'; did you mean 'slurm'?"),
        ("engine: slurm\npartitio: gpu\n", 2, "no key is named 'partitio'; did you mean 'partition'?"),
        ("engine: slurm\ntime: 1h\n", 2, "time: must be minutes, hh:mm:ss or days-hh:mm:ss, got '1h'"),
        ("engine: slurm\ntime: 0\n", 2, "must be 1 or more, got 0"),
        ("engine: slurm\nmem_gb: true\n", 2, "mem_gb: "),
        (
            "engine: slurm\nadditional: {job_name: x}\n",
            2,
            "additional: the engine sets 'job_name' itself: remove it",
        ),
        ("engine: ray\naddress: ray://head:10001\n", 2, "address: "),
        (
            "engine: ray\nnum_gpus: 1.5\n",
            2,
            "num_gpus: must be a fraction of one GPU or a whole number of GPUs, got 1.5",
        ),
        ("engine: ray\n\nmax_retries: -1\n", 3, "max_retries: "),
    ],
)
def test_a_problem_has_its_line(load, text, line, words):
    with pytest.raises(DefinitionError) as caught:
        load(text)
    (problem,) = caught.value.problems
    assert problem.where.endswith(f"cluster.yaml:{line}")
    assert words in problem.message


def test_all_problems_are_reported_at_once(load):
    with pytest.raises(DefinitionError) as caught:
        load("engine: slurm\ntime: 1h\nmemory: 3\nruns_per_job: 0\n")
    assert len(caught.value.problems) == 3
