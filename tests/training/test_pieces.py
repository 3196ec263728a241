"""Batches in pieces where memory runs out: the same gradients, and a record that says so."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import ema_lab.tasks.classification.task as classification
import ema_lab.tasks.detection.task as detection
from ema_lab.measured.selection import environment_differences
from ema_lab.models.dropout import seed_dropout
from ema_lab.store.job import RunJob, RunPaused
from ema_lab.tasks.task import load_task
from ema_lab.training import module as training_module
from ema_lab.training.environment import with_earlier
from ema_lab.training.machine import Machine
from ema_lab.training.pieces import Pieces
from ema_lab.training.run import train
from ema_lab.training.step import Step

TASKS = {"classification": classification.Classification, "detection": detection.Detection}


@pytest.fixture
def machine(tmp_path):
    return Machine(data_root=tmp_path, device="cpu", num_threads=1)


@pytest.fixture
def memory(monkeypatch):
    """Return a function that lets a task's losses of more images than fit run out of memory."""

    def holds(task: str, images: int, from_call: int = 0) -> None:
        kind, calls = TASKS[task], []
        loss = kind.loss

        def limited(self, model, batch, recipe):
            result = loss(self, model, batch, recipe)  # the failed pass moves running statistics
            calls.append(len(batch[-1]))
            if model.training and calls[-1] > images and len(calls) > from_call:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return result

        monkeypatch.setattr(kind, "loss", limited)

    return holds


def job(path):
    path.mkdir()
    return RunJob(path)


def same_weights(first, second):
    one, other = (torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (first, second))
    return all(torch.equal(value, other[name]) for name, value in one.items())


BOTH = pytest.mark.parametrize("task", ["classification", pytest.param("detection", marks=pytest.mark.slow)])


@BOTH
def test_a_batch_that_does_not_fit_is_computed_in_pieces(
    make_spec, tmp_path, machine, memory, monkeypatch, caplog, task
):
    spec = make_spec(task=task)

    class InFour(Pieces):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.count = 4

    with monkeypatch.context() as patch:
        patch.setattr(training_module, "Pieces", InFour)
        expected = train(spec, job(tmp_path / "in four from the start"), machine)
    memory(task, 2)
    outcome = train(spec, job(tmp_path / "run"), machine)
    assert [record.message for record in caplog.records if "memory" in record.message] == [
        "out of memory: batches of 8 images are computed in 2 pieces",
        "out of memory: batches of 8 images are computed in 4 pieces",
    ]
    assert outcome.environment["pieces"] == 4
    assert outcome.metrics == expected.metrics
    assert same_weights(tmp_path / "in four from the start", tmp_path / "run")


def test_a_resumed_run_keeps_its_pieces(make_spec, tmp_path, machine, memory):
    memory("classification", 4)
    spec = make_spec()
    whole = train(spec, job(tmp_path / "whole"), machine)
    stopped = job(tmp_path / "stopped")
    with pytest.raises(RunPaused):
        train(spec, stopped, replace(machine, stop_at=0.0))
    resumed = train(spec, stopped, machine)
    assert whole.environment["pieces"] == resumed.environment["pieces"] == 2
    assert "earlier" not in resumed.environment
    assert same_weights(tmp_path / "whole", stopped.folder)


@pytest.mark.parametrize(("images", "from_call"), [(4, 3), (1, 0)], ids=["a later batch", "single images"])
def test_memory_that_cannot_suffice_ends_the_attempt(make_spec, tmp_path, machine, memory, images, from_call):
    memory("classification", images, from_call)
    with pytest.raises(torch.OutOfMemoryError):
        train(make_spec(), job(tmp_path / "run"), machine)


def test_a_run_with_enough_memory_says_nothing_of_pieces(make_spec, tmp_path, machine):
    assert "pieces" not in train(make_spec(), job(tmp_path / "run"), machine).environment


def step_of(spec, pieces):
    """Return the gradients of a batch without batch norms, computed in some pieces."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(10), nn.Dropout(0.3)).double()
    images = torch.rand(7, 3, 16, 16, dtype=torch.float64)
    model(images)
    seed_dropout(model, 0)
    step = Step(spec, model, load_task(spec.data), 4)
    cut = Pieces(model, step.task, allowed=True)
    cut.count = pieces
    step.begin(3)
    batch = (images, torch.arange(7), torch.arange(7))
    for first, piece in cut.of(batch):
        step.begin_piece(first, len(piece[-1]))
        step.add_gradients(step.loss(piece), 3, share=len(piece[-1]) / 7)
    return [value.grad for value in model.parameters()]


@pytest.mark.parametrize("recipe", [{}, {"reduction": "sum"}, {"nominal_batch": 16}], ids=str)
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_the_gradients_of_pieces_add_up_to_those_of_the_batch(make_spec, recipe, pieces):
    spec = make_spec(recipe=recipe)
    for whole, added in zip(step_of(spec, 1), step_of(spec, pieces), strict=True):
        torch.testing.assert_close(added, whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
def test_pieces_hold_each_image_once_with_its_targets(make_spec, task):
    learned = load_task(make_spec(task=task).data)
    images, targets = learned.made_up_batch(7)
    cut = Pieces(nn.Identity(), learned, allowed=True)
    cut.count = 3
    parts = list(cut.of((images, targets, torch.arange(7))))
    assert [first for first, _ in parts] == [0, 2, 4]
    assert torch.equal(torch.cat([piece[0] for _, piece in parts]), images)
    assert torch.cat([piece[2] for _, piece in parts]).tolist() == list(range(7))
    found = [piece[1] for _, piece in parts]
    if task == "detection":
        found = [
            rows + torch.tensor([first, 0, 0, 0, 0, 0]) for (first, _), rows in zip(parts, found, strict=True)
        ]
    assert torch.equal(torch.cat(found), targets)


def test_a_pair_of_other_pieces_is_not_clean():
    cut = {"pieces": 2}
    assert environment_differences([{}, cut]) == ["pieces"]
    assert environment_differences([cut, cut]) == []
    assert with_earlier({**cut, "precision": "fp32"}, [{"precision": "fp32"}])["earlier"] == [{"pieces": 1}]
