"""The YOLOv5 networks of the paper's tables, with and without attention, against the authors' counts."""

import pytest

from ema_lab.cost.measure import count_parameters, measure_cost
from ema_lab.models.build import build_model

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


def pooling(cells):
    """Return what thop counts of average pooling: an operation per window element and one more."""
    return sum(outputs * (window + 1) for outputs, window in cells)


# Channels, height and width where attention is, for an image of 32 x 32.
AT_SMALL = ((256, 2), (512, 1))
AT_LARGE = ((640, 2), (320, 4), (320, 8), (320, 4), (640, 2))


def pooled(name, places):
    """Return thop's operations of the pooling layers, which its authors wrote as modules."""
    cells = []
    for channels, size in places:
        strips = [(channels * size, size)] * 2
        whole = (channels, size * size)
        cells += {"cbam": [whole], "sa": [(channels // 2, size * size)], "eca": [whole], "ca": strips}.get(
            name, [*strips, whole, whole] if name.startswith("ema") else []
        )
    return pooling(cells)


@pytest.mark.parametrize(
    ("name", "gflops"),
    [
        ("none", 16.5324632),
        ("cbam", 16.6002344),
        ("sa", 16.5333848),
        ("eca", 16.5373784),
        ("ca", 16.5776728),
        ("ema8", 17.0936152),
        ("ema16", 16.818364),
        ("ema32", 16.6807384),
        ("ema64", 16.6119256),
    ],
)
def test_yolov5s_has_the_operations_that_thop_counted(make_spec, name, gflops):
    """As YOLOv5 prints them: at 32 x 32, scaled to 640 x 640, two operations for a multiply-add."""
    macs = measure_cost(build_model(small(make_spec, name)), image_size=32)["macs_thop"]
    assert 2 * 400 * (macs + pooled(name, AT_SMALL)) / 1e9 == pytest.approx(gflops, abs=5e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "gflops"),
    [("none", 314.201076), ("cbam", 315.1203336), ("ca", 315.267188), ("ema32", 318.140916)],
)
def test_yolov5x_p2_has_the_operations_that_thop_counted(make_spec, name, gflops):
    macs = measure_cost(build_model(large(make_spec, name)), image_size=32)["macs_thop"]
    assert 2 * 400 * (macs + pooled(name, AT_LARGE)) / 1e9 == pytest.approx(gflops, abs=5e-7)


def test_heads_are_one_map_per_level(make_spec):
    import torch

    model = build_model(spec_of(make_spec, "yolov5x_p2", "none", None, 10), device="meta")
    maps = model(torch.empty(2, 3, 64, 64, device="meta"))
    assert [tuple(found.shape) for found in maps] == [(2, 45, size, size) for size in (16, 8, 4, 2)]
