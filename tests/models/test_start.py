"""Start weights from a file: which tensors are taken, by which names, what is refused; frozen parameters."""

import csv
import hashlib
import pickle
from collections import Counter
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.models.start import freeze, start_weights
from ema_lab.specs.run import RunSpec
from ema_lab.specs.start import StartSpec
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine
from ema_lab.training.run import train

ENDS = {"after": ["stage4", "stage5"]}


def spec_of(backbone="yolov5n", attention="none", *, classes=2, **model) -> RunSpec:
    tree = {
        "model": {"backbone": backbone, "attention": attention, **model},
        "data": {"name": "synthetic_scenes", "classes": classes, "train_images": 100, "test_images": 2},
        "recipe": {"epochs": 1, "batch_size": 50, "optimizer": {"name": "sgd", "lr": 1e-9}},
        "seed": 0,
    }
    return RunSpec.model_validate(tree)


def saved(path: Path, state) -> dict[str, str]:
    torch.save(state, path)
    return {"file": str(path)}


def published(spec: RunSpec) -> dict[str, torch.Tensor]:
    """A state dict with v6.0's names, as its authors would save it, with values 0, 1, 2, ... by tensor."""
    model = build_model(spec, device="meta")
    names = model.published_names(shifted=False)
    state = {names[name]: value for name, value in model.state_dict().items() if name in names}
    last = max(int(name.split(".")[1]) for name in state)
    filled = {
        name: torch.full(value.shape, n % 100, dtype=value.dtype)
        for n, (name, value) in enumerate(state.items())
    }
    return filled | {f"model.{last}.anchors": torch.zeros(model.anchors.shape)}


def outcomes(spec: RunSpec) -> Counter:
    table = start_weights(build_model(spec, device="meta"), spec.model.start)
    return Counter(one.outcome for one in table)


@pytest.fixture(scope="module")
def yolov5s(tmp_path_factory):
    """A file with the names and shapes of the published yolov5s.pt."""
    state = published(spec_of("yolov5s", classes=80))
    assert len(state) == 349
    return saved(tmp_path_factory.mktemp("weights") / "yolov5s.pt", state)


def test_the_papers_157_of_349_tensors_are_taken_by_number(yolov5s):
    start = {**yolov5s, "names": "yolov5-index"}
    spec = spec_of("yolov5s", "ema", classes=80, placement=ENDS, start=start)
    table = start_weights(build_model(spec, device="meta"), spec.model.start)
    taken = [one for one in table if one.outcome == "taken"]
    assert len(taken) == 157
    number = Counter(int(one.in_file.split(".")[1]) for one in taken)
    assert sum(count for layer, count in number.items() if layer <= 6) == 150
    assert sum(torch.Size(one.shape).numel() for one in taken) == pytest.approx(1.29e6, rel=0.01)


def test_every_tensor_but_the_modules_is_taken_by_layer(yolov5s):
    start = {**yolov5s, "names": "yolov5"}
    spec = spec_of("yolov5s", "ema", classes=80, placement=ENDS, start=start)
    assert outcomes(spec) == {"taken": 348, "new": 2 * 6 + 1}  # EMA's and the anchors
    assert (
        outcomes(spec_of("yolov5s", classes=80, start={**yolov5s, "names": "yolov5-index"}))["taken"] == 348
    )


def test_heads_of_other_classes_are_not_taken(yolov5s):
    start = {**yolov5s, "names": "yolov5"}
    table = start_weights(build_model(spec_of("yolov5s", start=start), device="meta"), StartSpec(**start))
    assert {one.name for one in table if one.outcome == "shape"} == {
        f"heads.{head}.{kind}" for head in range(3) for kind in ("weight", "bias")
    }


@pytest.mark.parametrize(("backbone", "attention"), [("yolov5n", "eca"), ("yolov5n_p2", "none")])
def test_numbers_of_layers_are_those_of_the_authors(backbone, attention):
    """In the network with attention after two stages SPPF is layer 11, and the heads are layer 26."""
    model = build_model(
        spec_of(backbone, attention, placement=ENDS) if attention != "none" else spec_of(backbone)
    )
    names = model.published_names(shifted=True)
    last, pool = ("model.31.m.0.bias", "model.8.cv1.conv.weight")
    if attention != "none":
        last, pool = ("model.26.m.0.bias", "model.11.cv1.conv.weight")
    assert (names["heads.0.bias"], names["pool.reduce.conv.weight"]) == (last, pool)
    stem = "stem.mix.conv.weight" if "p2" in backbone else "stem.conv.weight"
    assert names[stem] == ("model.0.conv.conv.weight" if "p2" in backbone else "model.0.conv.weight")
    assert names["stage2.bottlenecks.0.expand.norm.running_var"] == "model.2.m.0.cv2.bn.running_var"


def test_a_classifiers_weights_start_a_detectors_backbone(tmp_path):
    classifier = build_model(
        RunSpec.model_validate(
            {
                "model": {"backbone": "shufflenet_v2_x0_5"},
                "data": {"name": "synthetic"},
                "recipe": {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
                "seed": 5,
            }
        )
    )
    start = {**saved(tmp_path / "net.pt", classifier.state_dict()), "prefix": "backbone.body."}
    spec = spec_of("shufflenet_v2_x0_5", detector={"name": "fcos", "neck": 64}, start=start)
    model = build_model(spec)
    table = start_weights(model, spec.model.start)
    taken = [one.name for one in table if one.outcome == "taken"]
    assert taken == [name for name in model.state_dict() if name.startswith("backbone.body.")]
    assert torch.equal(model.backbone.body.conv1[0].weight, classifier.conv1[0].weight)


@pytest.mark.slow
def test_a_finished_runs_checkpoint_starts_another(tmp_path):
    machine = Machine(data_root=tmp_path, device="cpu", num_threads=1)
    first = spec_of()
    (tmp_path / "first").mkdir()
    train(first, RunJob(tmp_path / "first"), machine)
    start = {
        "file": "first/last.ckpt",
        "sha256": hashlib.sha256((tmp_path / "first/last.ckpt").read_bytes()).hexdigest(),
    }
    second = spec_of(attention="eca", placement=ENDS, start=start, frozen=["stem", "stage2"])
    (tmp_path / "second").mkdir()
    outcome = train(second, RunJob(tmp_path / "second"), machine)  # found in the data folder
    assert outcome.environment["start"]["tensors_taken"] == outcome.environment["start"]["tensors"] - 2
    rows = list(csv.DictReader((tmp_path / "second/start.csv").read_text().splitlines()))
    assert {row["run_id"] for row in rows} == {second.run_id}
    assert Counter(row["outcome"] for row in rows) == {"taken": len(rows) - 2, "new": 2}
    states = [
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("first", "second")
    ]
    assert torch.equal(states[0]["model.stem.conv.weight"], states[1]["model.stem.conv.weight"])


def test_the_path_is_not_part_of_the_run_id_but_the_content_is(tmp_path):
    state = build_model(spec_of()).state_dict()
    here, there = (saved(tmp_path / name, state) for name in ("a.pt", "b.pt"))
    (tmp_path / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    first, second = spec_of(start=here), spec_of(start=there)
    assert first.run_id == second.run_id != spec_of().run_id
    assert RunSpec.model_validate(first.resolved()).run_id == first.run_id
    assert spec_of(start={**here, "names": "yolov5"}).run_id != first.run_id
    assert spec_of(frozen=["stem"]).run_id != spec_of().run_id


class Pickled:
    """What the published checkpoints hold: a whole object, whose class runs when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("was_run"),))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Pickled(), "only state dicts are read"),
        ([1, 2], "holds no tensors by name, but a list"),
        ({"other.weight": torch.zeros(2)}, "no tensor of .* fits by name and shape"),
    ],
)
def test_a_file_that_is_no_state_dict_is_one_line_and_runs_no_code(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "file.pt", pickle_module=pickle)
    spec = spec_of(start={"file": "file.pt"})
    with pytest.raises(SpecError, match=words) as caught:
        start_weights(build_model(spec, device="meta"), spec.model.start)
    assert "\n" not in str(caught.value)
    assert not Path("was_run").exists()


def test_another_file_of_the_name_is_refused(tmp_path):
    spec = spec_of(start=saved(tmp_path / "a.pt", {"a": torch.zeros(1)}))
    saved(tmp_path / "a.pt", {"a": torch.ones(1)})
    with pytest.raises(SpecError, match=r"has the SHA-256 \w{12}..., not \w{12}"):
        start_weights(build_model(spec, device="meta"), spec.model.start)
    (tmp_path / "a.pt").unlink()
    with pytest.raises(SpecError, match="there is no file"):
        start_weights(build_model(spec, device="meta"), spec.model.start, [tmp_path / "elsewhere"])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"file": "nowhere.pt"}, "nowhere.pt cannot be read .* name a file, or give its sha256"),
        ({"file": "x.pt", "sha256": "abc"}, "sha256"),
        (
            {"file": "x.pt", "sha256": "0" * 64, "names": "yolov5", "prefix": "a."},
            "changes nothing with names",
        ),
        ({"file": "x.pt", "sha256": "0" * 64, "name": "yolov5"}, "did you mean 'names'"),
    ],
)
def test_a_start_that_cannot_be_is_refused(start, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(start=start)


def test_published_names_are_for_yolov5_alone(tmp_path):
    start = {**saved(tmp_path / "a.pt", {"a": torch.zeros(1)}), "names": "yolov5"}
    spec = spec_of("shufflenet_v2_x0_5", detector="fcos", start=start)
    with pytest.raises(SpecError, match="names: yolov5 is for YOLOv5's networks, not a"):
        start_weights(build_model(spec, device="meta"), spec.model.start)


def test_frozen_parts_leave_attention_to_be_trained():
    spec = spec_of(attention="eca", placement=ENDS, frozen=["stem", "stage*", "heads.*.bias"])
    model = build_model(spec, device="meta")
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert {"stem.conv.weight", "stage4.join.conv.weight", "heads.0.bias"} <= frozen
    assert {"stage4.attention.conv.weight", "heads.0.weight"}.isdisjoint(frozen)
    again = build_model(spec_of(attention="eca", placement=ENDS, frozen=["stage4.**"]), device="meta")
    assert not again.stage4.attention.conv.weight.requires_grad


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.mark.parametrize(
    "make", [lambda model: model, deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_norms_of_frozen_parts_keep_their_statistics_only_on_demand(make):
    def trained(**model):
        """Return which running statistics move, of a model that is put into training mode twice."""
        spec = spec_of(
            attention="bam", placement=ENDS, frozen=["stem", "stage4", "stage5.join.conv"], **model
        )
        network = make(build_model(spec)).train().train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network(torch.rand(2, 3, 64, 64))
        assert network.stem.conv.training
        after = network.state_dict()
        names = [name for name in after if name.endswith(STATISTICS)]
        return {name for name in names if not torch.equal(before[name], after[name])}, set(names)

    moved, every = trained()
    assert moved == every
    moved, every = trained(frozen_norms="evaluation")
    fixed = {name for name in every if name.startswith(("stem.", "stage4.")) and ".attention." not in name}
    assert fixed
    assert any(name.startswith("stage4.attention.") for name in every)
    assert moved == every - fixed


def test_a_frozen_norm_normalises_by_its_statistics():
    frozen = {"frozen": ["stem"], "frozen_norms": "evaluation"}
    model, images = build_model(spec_of(**frozen)), torch.rand(2, 3, 64, 64)
    assert torch.equal(model.train().stem(images), model.eval().stem(images))


@pytest.mark.parametrize(
    ("frozen", "words"),
    [
        ({}, "changes nothing without `frozen`"),
        ({"frozen": ["heads"]}, "changes nothing: no norm with running statistics is frozen by heads"),
        ({"frozen": ["stem.norm.weight"]}, "changes nothing: no norm with running statistics"),
    ],
)
def test_norms_of_no_frozen_part_are_refused(frozen, words):
    with pytest.raises((SpecError, ValidationError), match=words):
        build_model(spec_of(**frozen, frozen_norms="evaluation"), device="meta")


def test_the_mode_of_frozen_norms_is_part_of_the_run_id():
    ids = [spec_of(frozen=["stem"], **more).run_id for more in ({}, {"frozen_norms": "training"})]
    other = spec_of(frozen=["stem"], frozen_norms="evaluation")
    assert ids[0] == ids[1] != other.run_id
    assert RunSpec.model_validate(other.resolved()).run_id == other.run_id


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["stagee4"], "'stagee4' matches no parameter; there are stem.conv"),
        (["**"], "leaves no parameter to train"),
    ],
)
def test_frozen_patterns_that_cannot_be_are_one_line(patterns, words):
    with pytest.raises(SpecError, match=words) as caught:
        freeze(build_model(spec_of(), device="meta"), patterns)
    assert "\n" not in str(caught.value)
