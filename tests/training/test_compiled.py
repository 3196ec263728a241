"""Compiled training: the first batch decides, nothing is left behind, evaluation stays eager."""

import copy
import os
import shutil
import time
import warnings
from contextlib import suppress

import pytest
import torch
from torch import nn

from ema_lab.attention import build_attention
from ema_lab.errors import CompileError, SpecError
from ema_lab.models.insertion import insert
from ema_lab.store.job import RunJob, RunPaused
from ema_lab.tasks.task import check_run, load_task
from ema_lab.training import compiled as module
from ema_lab.training.compiled import CompiledModel, check_compiler, compiler_cache
from ema_lab.training.machine import Machine
from ema_lab.training.run import train

torch_compile = torch.compile


def small(gate=None):
    """Return a small network; `gate` is applied to its features by a forward hook."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        model.append(nn.Dropout(0.5)).append(nn.Linear(4, 10))
    if gate is not None:
        model[2].register_forward_hook(lambda module, inputs, out: out * gate)
    return model.train()


@pytest.fixture
def batch():
    images = torch.linspace(-1, 1, 8 * 3 * 6 * 6).reshape(8, 3, 6, 6)
    return images, torch.arange(8), torch.arange(8)


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    """Start as a process that has compiled nothing."""
    monkeypatch.setattr(module, "_REUSE", module._Reuse())


@pytest.fixture
def spec(make_spec):
    return make_spec(recipe={"compile": "default"})


@pytest.fixture
def task(spec):
    return load_task(spec.data)


@pytest.fixture
def without_compiler(monkeypatch):
    """Let torch trace the model as ever, and run what it traced without compiling it."""
    monkeypatch.setattr(torch, "compile", lambda model, **_: torch_compile(model, backend="eager"))


def seed():
    torch.default_generator.manual_seed(3)


def replaced(monkeypatch, make):
    """Let torch.compile return another model than it was given."""

    def wrong(model, **_):
        torch._dynamo.utils.counters["stats"]["unique_graphs"] += 1
        return make(model)

    monkeypatch.setattr(torch, "compile", wrong)


def test_the_first_batch_leaves_no_trace(spec, task, batch, without_compiler):
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        compiled = CompiledModel(spec, model, task)
        found = compiled.for_batch(batch, seed)
        drawn = torch.rand(3)
        seed()
        assert torch.equal(torch.rand(3), drawn)
        assert found is not model
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(value.grad is None for value in model.parameters())
    assert compiled.seconds > 0
    assert compiled.facts() == {"mode": "default", "seconds": compiled.seconds, "graphs": 1}


def test_batches_of_another_size_are_eager(spec, task, batch, without_compiler):
    model = small()
    compiled = CompiledModel(spec, model, task)
    with torch.random.fork_rng(devices=[]):
        whole = compiled.for_batch(batch, seed)
    seconds = compiled.seconds
    assert compiled.for_batch(tuple(part[:5] for part in batch), seed) is model
    assert compiled.for_batch(batch, seed) is whole
    assert compiled.seconds == seconds


def without_its_hook(model):
    """Return a model of the same parameters whose hook is not called."""

    def call(images):
        hooks = dict(model[2]._forward_hooks)
        model[2]._forward_hooks.clear()
        found = model(images)
        model[2]._forward_hooks.update(hooks)
        return found

    return call


@pytest.mark.parametrize(
    ("gate", "make", "message"),
    [
        (0.5, without_its_hook, "the loss is .* apart, more than 0.01"),
        (1.0, lambda model: model[:4], "cannot be compiled here"),
    ],
)
def test_a_model_that_computes_something_else_is_refused(spec, task, batch, monkeypatch, gate, make, message):
    replaced(monkeypatch, make)
    compiled = CompiledModel(spec, small(gate), task)
    with torch.random.fork_rng(devices=[]), pytest.raises(CompileError, match=message):
        compiled.for_batch(batch, seed)


def test_rounding_in_bf16_is_no_difference(make_spec, task, batch, monkeypatch):
    spec = make_spec(recipe={"compile": "default", "precision": "bf16"})
    model = small(0.5)

    def in_fp32(model):  # as far from bf16 as a compiled model may be
        def call(images):
            with torch.autocast("cpu", enabled=False):
                return model(images)

        return call

    replaced(monkeypatch, in_fp32)
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16):
        CompiledModel(spec, model, task).for_batch(batch, seed)
        replaced(monkeypatch, without_its_hook)
        with pytest.raises(CompileError, match="is wrong on the first batch"):
            CompiledModel(spec, model, task).for_batch(batch, seed)


def in_float64(model, factor=1.0):
    """Return a model that computes in float64 with the parameters of an fp32 one."""
    double = copy.deepcopy(model).double()

    def call(images):
        parameters = {name: factor * value.double() for name, value in model.named_parameters()}
        return torch.func.functional_call(double, parameters, images.double()).float()

    return call


def test_rounding_in_fp32_is_judged_in_float64(spec, task, batch, monkeypatch):
    """As where a deep network amplifies rounding: with no distance allowed, any rounding is a suspect."""
    monkeypatch.setattr(module, "LIMIT", 0.0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    replaced(monkeypatch, in_float64)
    CompiledModel(spec, model, task).for_batch(batch, seed)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == torch.float32 for value in model.parameters())
    replaced(monkeypatch, lambda model: in_float64(model, 1.001))
    with pytest.raises(CompileError, match="is wrong on the first batch"):
        CompiledModel(spec, model, task).for_batch(batch, seed)


def test_a_model_without_float64_or_far_from_it_is_judged_in_fp32(spec, task, batch, monkeypatch):
    """Rounding explains no difference of a tenth: the float64 pass then computes something else."""

    class OnlyFp32(nn.Module):
        def __init__(self, far):
            super().__init__()
            self.far = far
            self.linear = nn.Linear(3 * 6 * 6, 10)

        def forward(self, x):
            if x.dtype == torch.float64 and not self.far:
                raise TypeError("no float64 here")
            return self.linear(x.flatten(1) * (2 if x.dtype == torch.float64 else 1))

    for far in (False, True):
        replaced(monkeypatch, lambda model: lambda images: model(1.05 * images))
        with pytest.raises(CompileError, match=r"apart, more than 0\.01"):
            CompiledModel(spec, OnlyFp32(far).train(), task).for_batch(batch, seed)


class Half(nn.Module):
    """Gate that changes nothing at first, as those whose scale starts at 0 or 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(4, 1, 1))
        self.is_there = True

    def forward(self, x):
        return x * (1 + self.scale) if self.is_there else x


def test_a_gate_that_is_left_out_is_missed_by_its_gradient(spec, task, batch, monkeypatch):
    model = small()
    model[2] = nn.Sequential(model[2], Half())

    def without(model):
        def call(images):
            model[2][1].is_there = False
            try:
                return model(images)
            finally:
                model[2][1].is_there = True

        return call

    replaced(monkeypatch, without)
    with torch.random.fork_rng(devices=[]), pytest.raises(CompileError, match=r"2.1.scale has no gradient"):
        CompiledModel(spec, model, task).for_batch(batch, seed)


def test_a_model_that_torch_finds_nothing_in_is_refused(spec, task, batch, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    with torch.random.fork_rng(devices=[]), pytest.raises(CompileError, match="changes nothing"):
        CompiledModel(spec, small(), task).for_batch(batch, seed)


def test_code_of_one_variant_is_never_used_for_the_next(make_spec, spec, task, batch, without_compiler):
    """torch's guards do not see that a forward hook is missing from the model that it compiled first."""
    with torch.random.fork_rng(devices=[]):
        losses = []
        for name, gate in (("none", None), ("se", 0.5)):
            variant = make_spec(name, recipe={"compile": "default"})
            model = small(gate)
            compiled = CompiledModel(variant, model, task).for_batch(batch, seed)
            losses.append(task.loss(compiled, batch, spec.recipe).loss.item())
            seed()
            assert losses[-1] == pytest.approx(task.loss(model, batch, spec.recipe).loss.item(), rel=1e-5)
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)


def test_torch_guards_hooks_within_a_variant_too(spec, task, batch, without_compiler, monkeypatch):
    """Without torch's guards on hooks, the second model runs the code of the first, without its hook."""
    monkeypatch.setattr(torch._dynamo.config, "skip_nnmodule_hook_guards", True)  # torch's default
    with torch.random.fork_rng(devices=[]):
        for gate in (None, 0.5):
            compiled = CompiledModel(spec, small(gate), task)
            compiled.for_batch(batch, seed)
            assert compiled.graphs == 1


@pytest.mark.parametrize("before", [None, "/of an earlier run"])
def test_compiled_code_is_kept_in_the_store(make_spec, spec, tmp_path, monkeypatch, before):
    monkeypatch.delenv(module.CACHE_VARIABLE, raising=False)
    if before:
        monkeypatch.setenv(module.CACHE_VARIABLE, before)
    for recipe, folder, expected in (
        (spec.recipe, tmp_path, str(tmp_path)),
        (make_spec().recipe, tmp_path, before),
        (spec.recipe, None, before),
    ):
        with compiler_cache(recipe, folder):
            assert os.environ.get(module.CACHE_VARIABLE) == expected
        assert os.environ.get(module.CACHE_VARIABLE) == before


def test_a_folder_of_unusable_code_is_worked_around_with_a_warning(spec, task, batch, tmp_path, monkeypatch):
    """As if a file of the folder were damaged, or the folder could not be written."""

    def fails_in_the_folder(model, **_):
        if os.environ[module.CACHE_VARIABLE] == str(tmp_path):
            raise OSError("Read-only file system")
        return torch_compile(model, backend="eager")

    monkeypatch.setattr(torch, "compile", fails_in_the_folder)
    compiled, model = CompiledModel(spec, small(), task), small()
    with torch.random.fork_rng(devices=[]), compiler_cache(spec.recipe, tmp_path):
        with pytest.warns(
            RuntimeWarning, match=rf"{tmp_path} cannot be used \(OSError: Read-only.*: remove it"
        ):
            assert compiled.for_batch(batch, seed) is not model
        assert os.environ[module.CACHE_VARIABLE] == str(tmp_path)
        assert compiled.graphs == 1
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_no_folder_helps_is_refused_without_a_warning(spec, task, batch, tmp_path, monkeypatch):
    replaced(monkeypatch, lambda model: model[:4])
    with torch.random.fork_rng(devices=[]), compiler_cache(spec.recipe, tmp_path), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CompileError, match="cannot be compiled here"):
            CompiledModel(spec, small(), task).for_batch(batch, seed)


def test_torch_knows_the_settings_of_every_mode():
    for mode in ("default", "reduce-overhead", "max-autotune"):
        torch.compile(small(), dynamic=False, options=module._options(mode))  # refuses what it does not know


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match="no-such-compiler is not installed here: install it"):
        check_compiler(torch.device("cpu"))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="needs Triton on CUDA"):
        check_compiler(torch.device("cuda", 0))


def test_captured_gradients_cannot_add_up(make_spec):
    for mode in ("reduce-overhead", "max-autotune"):
        with pytest.raises(ValueError, match=rf"{mode} captures CUDA graphs"):
            make_spec(recipe={"compile": mode, "nominal_batch": 16})
    assert make_spec(recipe={"compile": "default", "nominal_batch": 16}).recipe.compile == "default"


def test_detectors_with_losses_of_their_own_are_refused(make_spec):
    spec = make_spec(
        task="detection",
        model={"backbone": "resnet18", "detector": "fcos"},
        recipe={"compile": "default", "detection": {}},
    )
    with pytest.raises(SpecError, match=r"recipe\.compile: .* computes its own losses"):
        check_run(spec)


def test_a_variant_is_compiled_once_for_its_seeds(make_spec, task, batch, without_compiler):
    def graphs(seed_of_run, model, epochs=2):
        spec = make_spec(seed=seed_of_run, recipe={"compile": "default", "epochs": epochs})
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        compiled = CompiledModel(spec, model, task)
        compiled.for_batch(batch, seed)
        assert compiled.graphs == 1
        return torch._dynamo.utils.counters["stats"]["unique_graphs"] - before

    class Seeded(nn.Module):
        def __init__(self, key):
            super().__init__()
            self.key = key

        def forward(self, x):
            return x * (1 + self.key)

    with torch.random.fork_rng(devices=[]):
        assert [graphs(number, small()) for number in range(3)] == [1, 0, 0]
        assert graphs(0, small(), epochs=3) == 1
        # Of code that fits no other seed, torch keeps few versions and would then run eager without a word.
        assert [graphs(number, small().append(Seeded(number))) for number in range(10)] == [1] * 10


def test_a_compiled_run_trains_as_an_eager_one(make_spec, tmp_path, without_compiler):
    losses = {}
    for mode in ("off", "default"):
        spec = make_spec(recipe={"compile": mode, "epochs": 1}, data={"train_images": 20})
        folder = tmp_path / spec.run_id
        folder.mkdir()
        outcome = train(spec, RunJob(folder), Machine(tmp_path, "cpu", num_threads=1))
        header, row = (line.split(",") for line in (folder / "curve.csv").read_text().splitlines()[-2:])
        losses[mode] = float(row[header.index("train_loss")])
        facts = outcome.environment.get("compile")
        assert (facts is None) == (mode == "off")
    assert losses["default"] == pytest.approx(losses["off"], rel=1e-3)
    assert (facts["mode"], facts["graphs"]) == ("default", 1)
    train_seconds = float(row[header.index("train_seconds")])
    assert facts["seconds"] > 0
    assert facts["seconds"] + train_seconds < outcome.wall_seconds


def test_compilation_before_a_stop_within_an_epoch_is_no_training(make_spec, tmp_path, monkeypatch):
    clock, late = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + late[0])

    def slowly_compiled(model, **_):
        late[0] += 1000
        return torch_compile(model, backend="eager")

    monkeypatch.setattr(torch, "compile", slowly_compiled)
    spec = make_spec(recipe={"compile": "default", "epochs": 1}, data={"train_images": 20})
    machine = Machine(tmp_path, "cpu", num_threads=1, stop_at=0.0, profile=True)
    attempts, outcome = 0, None
    while outcome is None:
        attempts += 1
        with suppress(RunPaused):
            outcome = train(spec, RunJob(tmp_path), machine)
    assert attempts > 2
    assert outcome.environment["compile"]["seconds"] == pytest.approx(1000 * attempts, abs=100)
    header, row = (line.split(",") for line in (tmp_path / "curve.csv").read_text().splitlines()[-2:])
    assert 0 < float(row[header.index("train_seconds")]) < 100
    forward = (tmp_path / "profile.txt").read_text().splitlines()[2].split()
    assert forward[0] == "forward"
    assert 0 <= float(forward[1]) < 100


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_inductor_compiles_attention_after_a_model_without(make_spec, tmp_path, task, batch):
    """With torch's own compiler, in one process: without attention, then with it, as most files' rows."""
    losses = {}
    for name, mode in (("none", "default"), ("se", "reduce-overhead")):
        spec = make_spec(name, recipe={"compile": mode})
        model = small()
        if name == "se":
            insert(model, "1", build_attention("se", 4, reduction=2))
        with torch.random.fork_rng(devices=[]), compiler_cache(spec.recipe, tmp_path):
            compiled = CompiledModel(spec, model, task).for_batch(batch, seed)
            losses[name] = task.loss(compiled, batch, spec.recipe).loss.item()
            seed()
            assert losses[name] == pytest.approx(task.loss(model, batch, spec.recipe).loss.item(), rel=1e-4)
    assert losses["none"] != pytest.approx(losses["se"], rel=1e-3)
    assert any(tmp_path.iterdir())
