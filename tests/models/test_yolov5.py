"""The YOLOv5 networks of the paper's tables, with and without attention, against the authors' counts."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from materialise import materialised
from torch import Tensor, nn

from ema_lab.attention.ema import EMA
from ema_lab.models.build import build_model
from ema_lab.models.insertion import insert
from ema_lab.models.yolov5 import YOLOv5, small_objects, standard, yolov5
from ema_lab.models.yolov5_layers import C3
from ema_lab.profiling.measure import count_parameters, measure_cost
from ema_lab.tasks.detection.decode import decode

CBAM = {"name": "cbam", "bias": False, "norm": False}
BACKBONE_ENDS = {"after": ["stage4", "stage5"]}
NECK = {"after": ["top_down.*", "bottom_up.3", "bottom_up.4"]}
SMALL = {
    "none": ("none", 7_235_389, 7_225_885),
    "cbam": (CBAM, 7_276_545, 7_267_041),
    "sa": ({"name": "sa", "groups": 32}, 7_235_461, 7_225_957),
    "eca": ("eca", 7_235_399, 7_225_895),
    "ca": ("ca", 7_267_717, 7_258_213),
    "ema8": ({"name": "ema", "groups": 8}, 7_286_973, 7_277_469),
    "ema16": ({"name": "ema", "groups": 16}, 7_248_381, 7_238_877),
    "ema32": ("ema", 7_238_685, 7_229_181),
    "ema64": ({"name": "ema", "groups": 64}, 7_236_237, 7_226_733),
}
LARGE = {
    "none": ("none", "lateral", 90_963_540, 90_913_380),
    "cbam": (CBAM, "fused", 91_309_630, 91_259_470),
    "ca": ("ca", "fused", 91_278_630, 91_228_470),
    "ema32": ("ema", "fused", 91_179_620, 91_129_460),
    "ema16": ({"name": "ema", "groups": 16}, "fused", 91_212_900, 91_162_740),
    "ema8": ({"name": "ema", "groups": 8}, "fused", 91_345_460, 91_295_300),
}


def spec_of(make_spec, backbone, attention, placement, classes, options=None, image_size=32):
    model = {"backbone": backbone, "placement": placement, **(options or {})}
    data = {"name": "synthetic", "classes": classes, "image_size": image_size, "train_images": classes}
    if attention == "none":
        del model["placement"]
    return make_spec(attention, model=model, data=data)


def small(make_spec, name):
    return spec_of(make_spec, "yolov5s", SMALL[name][0], BACKBONE_ENDS, 80)


def large(make_spec, name):
    attention, skips, *_ = LARGE[name]
    options = {} if skips == "lateral" else {"skips": skips}
    return spec_of(make_spec, "yolov5x_p2", attention, NECK, 10, options)


@pytest.mark.parametrize("name", SMALL)
def test_yolov5s_has_the_parameters_of_the_authors(make_spec, name):
    counted = count_parameters(build_model(small(make_spec, name), device="meta"))
    assert (counted["parameters"], counted["parameters_fused"]) == SMALL[name][1:]


@pytest.mark.parametrize("name", LARGE)
def test_yolov5x_p2_has_the_parameters_of_the_authors(make_spec, name):
    counted = count_parameters(build_model(large(make_spec, name), device="meta"))
    assert (counted["parameters"], counted["parameters_fused"]) == LARGE[name][2:]


@pytest.mark.parametrize(
    ("name", "gflops", "fused"),
    [
        ("none", 16.5324632, 16.485),
        ("cbam", 16.6002344, 16.553),
        ("sa", 16.5333848, 16.486),
        ("eca", 16.5373784, 16.490),
        ("ca", 16.5776728, 16.530),
        ("ema8", 17.0936152, None),
        ("ema16", 16.818364, None),
        ("ema32", 16.6807384, 16.633),
        ("ema64", 16.6119256, None),
    ],
)
def test_yolov5s_has_the_operations_that_thop_counted(make_spec, name, gflops, fused):
    """As YOLOv5 prints them: at 32 x 32, scaled to 640 x 640, two operations for a multiply-add."""
    counted = measure_cost(materialised(build_model(small(make_spec, name), device="meta")), image_size=32)
    assert 2 * 400 * counted["macs_thop"] / 1e9 == pytest.approx(gflops, abs=5e-7)
    if fused is not None:
        assert round(2 * 400 * counted["macs_thop_fused"] / 1e9, 3) == fused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gflops"),
    [("none", 314.201076), ("cbam", 315.1203336), ("ca", 315.267188), ("ema32", 318.140916)],
)
def test_yolov5x_p2_has_the_operations_that_thop_counted(make_spec, name, gflops):
    macs = measure_cost(materialised(build_model(large(make_spec, name), device="meta")), image_size=32)[
        "macs_thop"
    ]
    assert 2 * 400 * macs / 1e9 == pytest.approx(gflops, abs=5e-7)


def test_heads_are_one_map_per_level(make_spec):
    model = build_model(spec_of(make_spec, "yolov5x_p2", "none", None, 10), device="meta")
    maps = model(torch.empty(2, 3, 64, 64, device="meta"))
    assert [tuple(found.shape) for found in maps] == [(2, 3, size, size, 15) for size in (16, 8, 4, 2)]


@pytest.mark.parametrize(
    ("name", "eighty", "twenty"),
    [
        ("yolov5n", 1_872_157, 1_790_977),
        ("yolov5s", 7_235_389, 7_073_569),
        ("yolov5m", 21_190_557, 20_948_097),
        ("yolov5l", 46_563_709, 46_240_609),
        ("yolov5x", 86_749_405, 86_345_665),
    ],
)
def test_every_size_has_the_published_parameters(name, eighty, twenty):
    with torch.device("meta"):
        models = [yolov5(classes, 3, architecture=name).module for classes in (80, 20)]
    assert [sum(p.numel() for p in model.parameters()) for model in models] == [eighty, twenty]


GOLDEN = Path(__file__).parents[1] / "tasks" / "detection" / "golden"
INDEX = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))["files"]
PAPER_NECK = [
    "top_down.4",
    "behind.top_down_3",
    "behind.top_down_2",
    "behind.bottom_up_3",
    "behind.bottom_up_4",
]


def golden_model(name: str) -> YOLOv5:
    """Build a golden network, attention included, with the golden weights."""
    entry = INDEX[name]
    p2, attention = len(entry["stride"]) == 4, "ema" in name
    layout = (small_objects if p2 else standard)(entry["depth"], entry["width"])
    quirks = ("fused", "before") if p2 and attention else ("lateral", "after")
    model = YOLOv5(layout, entry["nc"], 3, *quirks).double()
    if attention:
        for site in PAPER_NECK if p2 else ["stage4", "stage5"]:
            block = site.removeprefix("behind.").replace("down_", "down.").replace("up_", "up.")
            channels = model.get_submodule(block).join.norm.num_features
            insert(model, site, EMA(channels).double())
    load_golden(model, entry)
    return model


def golden_order(model: YOLOv5) -> list[nn.Module]:
    """Return the layers in the order of the reference's table."""
    low = model.layout.lowest
    order = [model.stem]
    for level in range(2, 6):
        order.append(getattr(model, f"down{level}"))
        if level == 5 and model.layout.focus:
            order.append(model.pool)
        order.append(getattr(model, f"stage{level}"))
    order += [] if model.layout.focus else [model.pool]
    for level in range(4, low - 1, -1):
        order += [model.lateral[str(level)], model.top_down[str(level)]]
        order += [model.behind[f"top_down_{level}"]] if f"top_down_{level}" in model.behind else []
    for level in range(low + 1, 6):
        order += [model.shrink[str(level)], model.bottom_up[str(level)]]
        order += [model.behind[f"bottom_up_{level}"]] if f"bottom_up_{level}" in model.behind else []
    return [*order, model.heads]


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Yield a layer's tensors in the reference's order: a C3's bottlenecks come after its other parts."""
    parts = [module.enter, module.bypass, module.join, *module.bottlenecks] if isinstance(module, C3) else []
    parts += [module.norm, module.mix, module.local] if isinstance(module, EMA) else []
    parts += [module.attention] if hasattr(module, "attention") else []
    for part in parts:
        yield from tensors_of(part)
    if not parts:
        yield from module.state_dict(keep_vars=True).values()


def golden_values(rule: str, shape: list[int], draws: np.random.RandomState) -> np.ndarray:
    match rule:
        case "conv":
            return draws.randn(*shape) * 1.5 / np.sqrt(np.prod(shape[1:]))
        case "scale" | "var":
            return 0.5 + draws.rand(*shape)
        case "bias" | "mean":
            return 0.2 * draws.randn(*shape)
    return np.zeros(shape)


def load_golden(model: YOLOv5, entry) -> None:
    own = [tensor for layer in golden_order(model) for tensor in tensors_of(layer)]
    listed = [item for item in enumerate(entry["state"]) if item[1][2] != "keep"]
    assert len(own) == len(listed)
    for (number, (name, shape, rule, total)), tensor in zip(listed, own, strict=True):
        assert list(tensor.shape) == shape, name
        made = golden_values(rule, shape, np.random.RandomState(1000 * entry["seed"] + number))
        assert float(np.sum(made)) == pytest.approx(total, abs=1e-4), name
        with torch.no_grad():
            tensor.copy_(torch.as_tensor(made))


MODELS = [name for name, entry in INDEX.items() if entry["kind"] == "model"]


@pytest.mark.parametrize("name", MODELS)
def test_heads_and_gradients_are_those_of_the_authors_network(name):
    golden, entry = np.load(GOLDEN / name), INDEX[name]
    model = golden_model(name)
    images = (torch.from_numpy(golden["input_uint8"]).double() / 255).requires_grad_()
    with torch.no_grad():
        found = model.eval()(images)
    for number, raw in enumerate(found):
        torch.testing.assert_close(raw, torch.from_numpy(golden[f"eval_head{number}"]), rtol=0, atol=1e-10)
    anchors = [sizes / stride for sizes, stride in zip(model.anchors.double(), model.strides, strict=True)]
    boxes = decode(found, anchors, model.strides)
    torch.testing.assert_close(boxes, torch.from_numpy(golden["decoded"]), rtol=1e-10, atol=1e-10)
    loss = torch.zeros((), dtype=torch.float64)
    for number, raw in enumerate(model.train()(images)):
        torch.testing.assert_close(raw, torch.from_numpy(golden[f"train_head{number}"]), rtol=0, atol=1e-10)
        draws = np.random.RandomState(500 + entry["seed"] + number).randn(*raw.shape).astype(np.float32)
        loss = loss + (raw * torch.from_numpy(draws)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(float(golden["loss"]), rel=1e-10)
    step = images.grad[:, :, ::4, ::4]
    torch.testing.assert_close(step, torch.from_numpy(golden["grad_input_step4"]), rtol=1e-9, atol=1e-9)
    tensors = [tensor for layer in golden_order(model) for tensor in tensors_of(layer)]
    gradients = [tensor.grad for tensor in tensors if isinstance(tensor, nn.Parameter)]
    length = golden["param_grad_l2"]
    np.testing.assert_allclose([grad.norm().item() for grad in gradients], length, rtol=1e-9)
    apart = np.array([grad.sum().item() for grad in gradients]) - golden["param_grad_sum"]
    assert np.abs(apart / length).max() < 1e-9
    running = [tensor for tensor in tensors if not isinstance(tensor, nn.Parameter) and tensor.ndim]
    np.testing.assert_allclose(
        [tensor.sum().item() for tensor in running], golden["buffer_after_sum"], rtol=1e-10, atol=1e-10
    )
    assert sum(gradient.numel() for gradient in gradients) == entry["parameters"]
