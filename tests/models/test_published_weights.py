"""Published weights by name, learning rates by pattern, and insertion that begins as the identity."""

import hashlib
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file

from ema_lab.errors import SpecError
from ema_lab.models import weights as module
from ema_lab.models.build import build_model
from ema_lab.models.start import rate_factors, start_weights
from ema_lab.specs.run import RunSpec
from ema_lab.specs.start import StartSpec, torchvision_url
from ema_lab.training.optimisation import build_optimizer, trained_groups

RESNET18 = "torchvision/ResNet18_Weights.IMAGENET1K_V1"
SE = {"name": "se", "reduction": 16}


def spec_of(make_spec, attention="none", backbone="resnet18", recipe=None, **model) -> RunSpec:
    return make_spec(attention, model={"backbone": backbone, **model}, recipe=recipe)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A network's weights at an address that ends as torchvision's do, and an empty folder of downloads."""
    torch.manual_seed(3)
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=False)  # as the old ones are
    digits = hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest()
    path = (tmp_path / "net.pth").rename(tmp_path / f"resnet18-{digits[:8]}.pth")
    for place in ("ema_lab.specs.start.torchvision_url", "ema_lab.models.weights.torchvision_url"):
        monkeypatch.setattr(place, lambda name: path.as_uri())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return state, path


def test_torchvisions_names_are_read_without_importing_it():
    names = [
        member
        for kind in ("ResNet18", "ResNet50", "MobileNet_V2")
        for member in getattr(torchvision.models, f"{kind}_Weights").__members__.values()
    ]
    assert len(names) >= 5
    for member in names:
        assert torchvision_url(f"{type(member).__name__}.{member.name}") == member.url
    assert torchvision_url("ResNet50_Weights.DEFAULT") == torchvision.models.ResNet50_Weights.DEFAULT.url
    assert StartSpec(weights=RESNET18).sha256 == "f37072fd"


def test_published_weights_are_downloaded_once_and_taken_around_new_modules(make_spec, published, tmp_path):
    state, path = published
    spec = spec_of(make_spec, SE, start={"weights": RESNET18})
    model = build_model(spec)
    table = start_weights(model, spec.model.start)
    outcome = {row.name: row.outcome for row in table}
    assert {name for name, one in outcome.items() if one == "shape"} == {"fc.weight", "fc.bias"}
    assert {one for name, one in outcome.items() if ".attention." in name} == {"new"}
    assert torch.equal(model.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    stored = tmp_path / "home" / "hub" / "checkpoints" / path.name
    assert stored.read_bytes() == path.read_bytes()
    path.unlink()
    again = start_weights(build_model(spec, device="meta"), spec.model.start)  # without a download
    assert [row.outcome for row in again] == [row.outcome for row in table]


def test_what_was_downloaded_is_checked(make_spec, published, tmp_path):
    spec = spec_of(make_spec, start={"weights": RESNET18})
    _, path = published
    stored = tmp_path / "home" / "hub" / "checkpoints" / path.name
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"another file")
    with pytest.raises(SpecError, match=r"has the SHA-256 \w{12}..., not"):
        start_weights(build_model(spec, device="meta"), spec.model.start)
    stored.unlink()
    path.write_bytes(b"damaged on the way")
    with pytest.raises(SpecError, match=r"cannot be downloaded \(invalid hash value") as caught:
        start_weights(build_model(spec, device="meta"), spec.model.start)
    assert "\n" not in str(caught.value)
    assert not stored.exists()


def test_timms_weights_are_those_of_the_hub(make_spec, tmp_path, monkeypatch):
    state = timm.create_model("resnet18", num_classes=1000).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    digits = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda *names: asked.append(names) or str(tmp_path / "model.safetensors"),
    )
    start = {"weights": "timm/resnet18.a1_in1k", "sha256": digits}
    spec = spec_of(make_spec, SE, "timm/resnet18", start=start)
    model = build_model(spec)
    table = start_weights(model, spec.model.start)
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    assert {row.name for row in table if row.outcome == "shape"} == {"fc.weight", "fc.bias"}
    assert torch.equal(model.conv1.weight, state["conv1.weight"])
    with pytest.raises(SpecError, match=r"timm has no weights 'resnet18\.nothing'"):
        module.fetched_weights("timm/resnet18.nothing", digits)


def test_the_hash_of_published_weights_is_part_of_the_run_id(make_spec):
    ids = {
        name: spec_of(make_spec, start={"weights": f"torchvision/ResNet50_Weights.{name}"}).run_id
        for name in ("IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT")
    }
    assert ids["IMAGENET1K_V1"] != ids["IMAGENET1K_V2"] == ids["DEFAULT"]
    spec = spec_of(make_spec, start={"weights": RESNET18, "sha256": "f37072fd"})
    assert spec.run_id == spec_of(make_spec, start={"weights": RESNET18}).run_id
    assert RunSpec.model_validate(spec.resolved()) == spec


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({}, "needs either `file` or `weights`"),
        ({"file": "a.pt", "weights": RESNET18}, "needs either `file` or `weights`"),
        ({"weights": "ResNet18_Weights.DEFAULT"}, "weights"),
        ({"weights": "torchvision/ResNet18_Weight.DEFAULT"}, "torchvision has no 'ResNet18_Weight'"),
        ({"weights": "torchvision/ResNet18_Weights.V3"}, "has IMAGENET1K_V1, DEFAULT, not 'V3'"),
        ({"weights": RESNET18, "sha256": "0" * 8}, "has the SHA-256 f37072fd..., not 00000000"),
        ({"weights": "timm/resnet18.a1_in1k"}, "needs the 64 digits of the SHA-256"),
        ({"weights": RESNET18, "names": "yolov5"}, "does not apply to torchvision"),
        ({"file": "a.pt", "sha256": "f37072fd"}, "needs all 64 digits"),
    ],
)
def test_weights_that_cannot_be_are_refused(make_spec, start, words):
    with pytest.raises(ValidationError, match=words):
        spec_of(make_spec, start=start)


def test_a_network_with_a_zero_start_gives_what_it_gave_and_learns_to_differ(make_spec):
    place = {"placement": {"after": "block_end"}}
    plain = build_model(spec_of(make_spec, backbone="resnet20")).eval()
    faded = build_model(
        spec_of(make_spec, {"name": "zero_start", "of": {"name": "ema", "groups": 4}}, "resnet20", **place)
    ).eval()
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(plain(x), faded(x))
    optimizer = torch.optim.SGD(faded.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        faded(x).square().sum().backward()
        optimizer.step()
    attention = faded.layer1[0].bn2.attention
    assert attention.gain.abs().min() > 0
    assert all(
        value.grad.abs().sum() > 0 for name, value in attention.inner.named_parameters() if "weight" in name
    )


def rates_of(spec: RunSpec) -> dict[str, float]:
    model = build_model(spec, device="meta")
    names = {id(value): name for name, value in model.named_parameters()}
    optimizer = build_optimizer(spec.recipe.optimizer, trained_groups(model, spec.recipe))
    found = {names[id(v)]: group["lr"] for group in optimizer.param_groups for v in group["params"]}
    assert found.keys() == set(names.values())
    return found


@pytest.mark.parametrize("decays", ["all", "matrices"])
def test_factors_scale_the_rates_of_what_they_match_but_not_of_attention_in_it(make_spec, decays):
    recipe = {"lr_factors": {"layer*": 0.1, "conv1": 0.5, "layer3.*.*.attention": 2.0}, "decays": decays}
    rates = rates_of(spec_of(make_spec, SE, "resnet20", recipe, placement={"after": "block_end"}))
    lr = 0.05
    assert rates["layer1.0.conv1.weight"] == rates["layer1.0.bn2.bias"] == pytest.approx(lr * 0.1)
    assert rates["conv1.weight"] == pytest.approx(lr * 0.5)
    assert rates["fc.weight"] == rates["layer1.0.bn2.attention.squeeze.weight"] == lr
    assert rates["layer3.0.bn2.attention.squeeze.weight"] == pytest.approx(lr * 2)


@pytest.mark.parametrize(
    ("factors", "model", "words"),
    [
        ({"layerr1": 0.1}, {}, "lr_factors: 'layerr1' matches no parameter; there are conv"),
        ({"layer*": 0.1, "layer1": 0.5}, {}, "'layer\\*' and 'layer1' both match layer1.0.conv1.weight"),
        ({"layer1": 0.1}, {"frozen": ["layer1"]}, "'layer1' changes nothing: all that it matches is frozen"),
    ],
)
def test_factors_that_cannot_be_are_one_line(make_spec, factors, model, words):
    with pytest.raises(SpecError, match=words) as caught:
        build_model(spec_of(make_spec, "none", "resnet20", {"lr_factors": factors}, **model), device="meta")
    assert "\n" not in str(caught.value)


def test_a_finished_file_of_safetensors_starts_a_model(make_spec, tmp_path):
    first = build_model(spec_of(make_spec, backbone="resnet20"))
    save_file(first.state_dict(), tmp_path / "net.safetensors")
    spec = make_spec(model={"start": {"file": str(tmp_path / "net.safetensors")}}, seed=4)
    model = build_model(spec)
    assert {row.outcome for row in start_weights(model, spec.model.start)} == {"taken"}
    assert torch.equal(model.conv1.weight, first.conv1.weight)
    assert not rate_factors(model, {})
    (tmp_path / "net.safetensors").write_bytes(b"no tensors")
    broken = make_spec(model={"start": {"file": str(tmp_path / "net.safetensors")}})
    with pytest.raises(SpecError, match="cannot be read"):
        start_weights(build_model(broken, device="meta"), broken.model.start)
    assert Path(tmp_path / "net.safetensors").exists()
