"""Detectors of the ultralytics package, with a small package of the same interface in its place."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ema_lab.ablation.grid import Cell
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model, sites_of
from ema_lab.one_run.measurement import Timing, run_latency
from ema_lab.profiling.measure import measure_cost
from ema_lab.specs.detection import SuppressionForm
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob
from ema_lab.tasks.task import check_run
from ema_lab.training.machine import Machine
from ema_lab.training.run import train
from ema_lab.workflow.look.gallery_options import GalleryOptions
from ema_lab.workflow.look.scene_gallery import SceneGallery
from ema_lab.workflow.look.shown_models import UntrainedModels

STAND_IN = '''
import torch
from torch import nn


class Head(nn.Module):
    """Boxes and classes for each cell, decoded in evaluation; `ends` gives (B, P, 6)."""

    strides = torch.empty(0)  # as the package's classes hold tensors

    def __init__(self, nc, width, kind):
        super().__init__()
        self.nc, self.kind, self.f = nc, kind, [2]
        self.no = 5 + nc if kind == "five" else 4 + nc
        self.stride = torch.tensor([8.0])
        self.conv = nn.Conv2d(width, 2 * self.no if kind == "five" else self.no, 1)
        if kind == "five":
            self.register_buffer("anchors", torch.tensor([[[1.0, 1.0], [2.0, 2.0]]]))

    def forward(self, x):
        raw = self.conv(x)
        if self.kind == "five":
            b, _, h, w = raw.shape
            raw = [raw.view(b, 2, self.no, h, w).permute(0, 1, 3, 4, 2)]
            return raw if self.training else (raw[0].flatten(1, 3), raw)
        if self.training:
            return {"boxes": raw[:, :4], "scores": raw[:, 4:]}
        boxes = raw[:, :4].sigmoid().flatten(2) * 20 + 1
        scores = raw[:, 4:].sigmoid().flatten(2)
        if self.kind == "ends":
            score, number = scores.max(1)
            return torch.cat([boxes, score[:, None], number[:, None].float()], 1).transpose(1, 2), raw
        return torch.cat([boxes, scores], 1), {"feats": [raw]}


class DetectionModel(nn.Module):
    def __init__(self, cfg, ch=3, nc=80, verbose=True):
        super().__init__()
        if cfg not in ("v8.yaml", "v5.yaml", "v10.yaml"):
            raise FileNotFoundError(cfg)
        kind = {"v5.yaml": "five", "v10.yaml": "ends"}.get(cfg, "split")
        self.model = nn.Sequential(
            nn.Conv2d(ch, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 16, 3, 2, 1), Head(nc, 16, kind)
        )

    def _apply(self, change, *more):
        super()._apply(change, *more)
        head = self.model[-1]
        head.stride, head.strides = change(head.stride), change(head.strides)
        return self

    def forward(self, x):
        for layer in self.model:
            x = layer(x)
        return x
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package called ultralytics on the path, in the place of the real one."""
    folder = tmp_path / "site" / "ultralytics" / "nn"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        (path / "__init__.py").write_text("")
    (folder / "tasks.py").write_text(STAND_IN)
    for name in [one for one in sys.modules if one.partition(".")[0] == "ultralytics"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "site")


def spec_of(name, attention="none", start=None, **recipe) -> RunSpec:
    more = {} if attention == "none" else {"placement": {"after": "network.model.2"}}
    more |= {} if start is None else {"start": start}
    return RunSpec.model_validate(
        {
            "model": {"backbone": f"ultralytics/{name}", "attention": attention, **more},
            "data": {"name": "synthetic_scenes", "train_images": 8, "test_images": 4},
            "recipe": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.01}, **recipe},
            "seed": 0,
        }
    )


@pytest.mark.parametrize("name", ["v5", "v8", "v10"])
def test_attention_is_inserted_and_counted(package, name):
    assert [site.name for _, site in sites_of(spec_of(name, "eca"))] == ["network.model.2"]
    plain, inserted = (
        measure_cost(build_model(spec_of(name, one)), image_size=64) for one in ("none", "eca")
    )
    assert inserted["parameters"] == plain["parameters"] + 3
    assert inserted["macs"] > plain["macs"] > 0


@pytest.mark.parametrize("name", ["v8", "v10"])
def test_latency_is_measured_with_suppression(package, name):
    timing = Timing("inference", 2, 8, torch.device("cpu"))
    assert run_latency(spec_of(name, "eca"), spec_of(name), timing)["ratio"] > 0
    found = build_model(spec_of(name)).eval().detections(torch.rand(2, 3, 64, 64), SuppressionForm())
    assert [rows.shape[1] for rows in found] == [6, 6]


def test_overlapping_boxes_are_suppressed_by_the_settings(package):
    class Fixed(nn.Module):
        def forward(self, x):
            boxes = torch.tensor([[10.0, 10, 8, 8], [10, 10, 8, 8], [40, 40, 8, 8]])
            scores = torch.tensor([[0.9, 0.2], [0.8, 0.1], [0.3, 0.7]])
            return torch.cat([boxes, scores], 1).T[None]

    model = build_model(spec_of("v8")).eval()
    model.network = Fixed()
    images = torch.rand(1, 3, 64, 64)

    def numbers(**settings):
        rows = model.detections(images, SuppressionForm(**settings))[0]
        return [(round(score, 1), int(cls)) for score, cls in rows[:, 4:].tolist()]

    assert numbers() == [(0.9, 0), (0.7, 1), (0.3, 0), (0.2, 1)]
    assert numbers(multi_label=False) == [(0.9, 0), (0.7, 1)]
    assert numbers(agnostic=True) == [(0.9, 0), (0.7, 1)]
    assert numbers(confidence=0.5, most=1) == [(0.9, 0)]


@pytest.mark.parametrize("name", ["v8", "v10"])
def test_heads_that_our_loss_does_not_fit_are_refused_in_one_line(package, name):
    with pytest.raises(
        SpecError, match=r"\(Head\) cannot be trained here: .*; it can be counted, timed and drawn untrained"
    ) as caught:
        check_run(spec_of(name))
    assert "\n" not in str(caught.value)


def test_heads_that_our_loss_fits_are_trained(package, tmp_path):
    spec = spec_of("v5", "eca", detection={"anchors": "published"})
    check_run(spec)
    model = build_model(spec)
    assert (model.strides, model.anchors.tolist()) == ((8,), [[[8, 8], [16, 16]]])
    job = RunJob(tmp_path / "run")
    job.folder.mkdir()
    outcome = train(spec, job, Machine(data_root=tmp_path, device="cpu", num_threads=1))
    assert 0 <= outcome.metrics["map"] <= 100


def test_untrained_detectors_are_drawn_with_their_start_weights_named(package, tmp_path):
    network = build_model(spec_of("v8")).network
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    start = {"file": str(tmp_path / "weights.pt"), "prefix": "network."}
    cells = {
        name: Cell(name, (), (), spec.seed, spec)
        for name, spec in {"eca": spec_of("v8", "eca"), "mine": spec_of("v8", start=start)}.items()
    }
    models = UntrainedModels(tmp_path)
    found = SceneGallery(cells, models, tmp_path, GalleryOptions((0, 1), untrained=True), (0.1, 0.5))
    truth, *rows = found.panels()
    assert [row.name for row in rows] == ["eca (untrained)", "mine (start weights)"]
    assert all(box.kind == "truth" for boxes in truth.boxes for box in boxes)
    assert any(box.kind == "false alarm" for row in rows for boxes in row.boxes for box in boxes)
    assert found.layer == "network.model.2"
    tensors = len(network.state_dict())
    assert list(models.remarks(cells)) == [
        "Untrained, all weights drawn, so that maps show chance: eca.",
        "Start weights only, the rest drawn, not trained here: "
        f"mine ({tmp_path / 'weights.pt'}, {tensors} of {tensors} tensors).",
    ]


def test_a_name_that_the_package_lacks_is_one_line(package):
    with pytest.raises(SpecError, match=r"ultralytics has no file v99\.yaml of a detector"):
        build_model(spec_of("v99"), device="meta")


def test_without_the_package_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    from ema_lab.models.ultralytics_detector import ultralytics_detector

    with pytest.raises(
        SpecError, match=r"needs the package ultralytics \(AGPL-3.0\), which ema-lab does not install"
    ):
        ultralytics_detector(2, 3, "yolov8n")


def test_nothing_depends_on_the_package():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert "ultralytics" not in text.replace('"ultralytics.*"', "")
