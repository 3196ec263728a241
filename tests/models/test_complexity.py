"""Parameters and multiply-adds of the papers' models, compared with measurements of the authors' code."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from materialise import materialised

from ema_lab.attention import build_attention
from ema_lab.models.build import build_model, named_backbone
from ema_lab.models.placement import find_sites
from ema_lab.profiling.measure import count_parameters, measure_cost

MEASURED = json.loads((Path(__file__).parent / "data" / "complexity.json").read_text())
MODULES = {
    "none": "none",
    "SE16": {"name": "se", "reduction": 16},
    "CBAM": {"name": "cbam", "reduction": 16},
    "CBAM16": {"name": "cbam", "reduction": 16},
    "BAM": "bam",
    "SA64": {"name": "sa", "groups": 64},
    "SA32": {"name": "sa", "groups": 32},
    "ECA3": {"name": "eca", "kernel_size": 3},
    "ECAad": "eca",
    "NAM": "nam",
    "CA32": {"name": "ca", "reduction": 32},
    "CA16": {"name": "ca", "reduction": 16},
    "Triplet": "triplet",
    "SimAM": "simam",
    "GAM4": {"name": "gam", "reduction": 4},
    **{f"EMA{groups}": {"name": "ema", "groups": groups} for groups in (4, 8, 16, 32, 64)},
}
AFTER = {  # `relu2` is one module that each block calls three times: its norm has the same channels
    "bn3": {"after": "block_end"},
    "relu2": {"after": "**.bn2"},
    "stage_end": {"after": "stage_end"},
}
BLOCKS = {
    "all": {},
    "": {},
    "first": {"blocks": "first"},
    "last": {"blocks": "last"},
    "notfirst": {"blocks": list(range(2, 24))},
}
AFTER_DEPTHWISE = {"after": "after_depthwise", "min_channels": 33}  # only the blocks that expand
WIDE = {**AFTER_DEPTHWISE, "min_channels": 145}
MOBILENET = {
    "baseline d-li14": ("none", {}),
    "official mbv2_ca (CA repo)": ("ca", AFTER_DEPTHWISE),
    "SE r16 nobias": ({"name": "se", "reduction": 16}, AFTER_DEPTHWISE),
    "SE r24 nobias": ({"name": "se", "reduction": 24}, AFTER_DEPTHWISE),
    "SE r24 bias": ({"name": "se", "reduction": 24, "bias": True}, AFTER_DEPTHWISE),
    "CBAM r16": ({"name": "cbam", "reduction": 16}, AFTER_DEPTHWISE),
    "CBAM r24": ({"name": "cbam", "reduction": 24}, AFTER_DEPTHWISE),
    "EMA f8 dw all": ({"name": "ema", "groups": 8}, AFTER_DEPTHWISE),
    "baseline timm mobilenetv2_100": ("none", {}),
    "CA r32 dw": ({"name": "ca", "reduction": 32}, AFTER_DEPTHWISE),
    "SE r32 nobias": ({"name": "se", "reduction": 32}, AFTER_DEPTHWISE),
    "EMA f32 out (c%32==0)": ("ema", {"after": "block_end", "min_channels": 32}),
    "EMA f8 out": ({"name": "ema", "groups": 8}, {"after": "block_end", "min_channels": 24}),
    "timm + EMA f32 mid>144": ("ema", WIDE),
    "EMA f32 dw mid>384": ("ema", {**AFTER_DEPTHWISE, "min_channels": 385}),
    **{f"EMA f{groups} dw mid>144": ({"name": "ema", "groups": groups}, WIDE) for groups in (8, 16, 32, 64)},
}


def resnet_placement(row):
    if row["place"] == "NAMrepo":
        return {"after": "layer?", "stages": [1, 2, 3]} if row["att"] == "BAM" else AFTER["bn3"]
    placement = {**AFTER[row["place"]], **BLOCKS[row["which"]]}
    if isinstance(row["stages"], list):
        placement["stages"] = row["stages"]
    if placement.get("blocks") and row["depth"] == 50 and isinstance(placement["blocks"], list):
        placement["blocks"] = list(range(2, 7))
    return placement


def is_of_the_paper(row):
    """Return whether a row of ResNet-50 is in the paper's table."""
    key = (row["depth"], row["place"], row["stages"], row["which"])
    return key == (50, "bn3", "all", "all") and row["att"] in {"none", "CBAM16", "CA32", "EMA32"}


def row_name(row):
    return " ".join(str(row[key]) for key in ("depth", "att", "place", "stages", "which"))


@cache
def without_attention(name, classes, stem):
    """Build a backbone without weights, once for all rows."""
    options = {"stem": stem} if stem else {}
    return named_backbone(name, classes, 3, options=options, device="meta")


SITES = {}


def modules_of(spec):
    """Yield the name, the options, the channels and the height of the maps of each inserted module."""
    model, facts = spec.model, spec.data.facts
    backbone = without_attention(model.backbone, facts.classes, model.options.get("stem"))
    for insertion in model.insertions:
        key = (model.backbone, facts.image_shape, insertion.placement.model_dump_json())
        if key not in SITES:
            SITES[key] = find_sites(backbone, insertion.placement, facts.image_shape)
        for site in SITES[key]:
            options = json.dumps(dict(insertion.attention.options))
            yield insertion.attention.name, options, site.channels, site.height


@cache
def of_one(name, options, channels):
    """Return the parameter counts of one attention module."""
    with torch.device("meta"):
        return count_parameters(build_attention(name, channels, **json.loads(options)))


def check_parameters(spec, row):
    """Compare the counts of a backbone and of its modules, one by one, with those of a whole network."""
    model, facts = spec.model, spec.data.facts
    backbone = without_attention(model.backbone, facts.classes, model.options.get("stem"))
    counts = [count_parameters(backbone.module)]
    counts += [of_one(name, options, channels) for name, options, channels, _ in modules_of(spec)]
    assert_measured({key: sum(one[key] for one in counts) for key in counts[0]}, row)


def assert_measured(counted, row):
    assert counted["parameters"] == counted["parameters_trainable"] == row["params"]
    assert counted["parameters_without_norm"] == row["params"] - row["norm_params"]


def resnet_spec(make_spec, row):
    model = {"backbone": f"resnet{row['depth']}", "stem": "cifar", "placement": resnet_placement(row)}
    return make_spec(MODULES[row["att"]], model=model, data={"name": "cifar100"})


def test_every_resnet_has_its_measured_parameters(make_spec):
    for row in MEASURED["resnet_cifar"]:
        check_parameters(resnet_spec(make_spec, row), row)


def test_a_whole_network_has_the_parameters_of_its_parts(make_spec):
    rows = {(row["depth"], row["place"]): row for row in MEASURED["resnet_cifar"] if row["att"] != "none"}
    assert len(rows) == 7
    for row in rows.values():
        assert_measured(count_parameters(build_model(resnet_spec(make_spec, row), device="meta")), row)


KEYS = ("macs_matmul", "macs", "macs_all")


@cache
def macs_without_attention(name, classes, stem, image_size):
    """Count the multiply-adds of a backbone, once for all rows."""
    options = {"stem": stem} if stem else {}
    network = named_backbone(name, classes, 3, options=options).module
    return measure_cost(network, image_size=image_size)


@cache
def macs_of_one(name, options, channels, size):
    """Count the multiply-adds of one attention module on one size of maps."""
    module = build_attention(name, channels, **json.loads(options))
    return measure_cost(module, image_size=size, channels=channels)


def by_parts(spec):
    """Add the counts of a backbone and of its modules, one by one."""
    model, facts = spec.model, spec.data.facts
    stem = model.options.get("stem")
    counts = [macs_without_attention(model.backbone, facts.classes, stem, facts.image_size)]
    counts += [macs_of_one(*module) for module in modules_of(spec)]
    assert [cost["uncounted"] for cost in counts if cost["uncounted"]] == []
    return {key: sum(cost[key] for cost in counts) for key in KEYS}


def whole(spec):
    """Count the multiply-adds of a whole network."""
    cost = measure_cost(materialised(build_model(spec, device="meta")), image_size=spec.data.facts.image_size)
    assert cost["uncounted"] == {}
    return {key: cost[key] for key in KEYS}


def assert_macs(cost, total, products, by_operator):
    """Compare counts with fvcore's, whose `adaptive_avg_pool2d` depends on the spelling of pooling."""
    assert cost["macs_matmul"] == products
    assert cost["macs"] == total - by_operator.get("adaptive_avg_pool2d", 0)
    assert cost["macs_all"] > cost["macs"]


# For the other rows only parameters were measured.
WITH_MACS = [row for row in MEASURED["resnet_cifar"] if "fvcore_total_macs" in row]


@pytest.mark.slow
def test_every_resnet_has_its_measured_macs(make_spec):
    for row in WITH_MACS:
        total, products = row["fvcore_total_macs"], row["fvcore_conv_linear_matmul_macs"]
        cost = by_parts(resnet_spec(make_spec, row))
        assert_macs(cost, total, products, row["fvcore_by_operator"])


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[pytest.mark.slow] * (row["att"] not in {"none", "EMA32"}))
        for row in filter(is_of_the_paper, WITH_MACS)
    ],
    ids=row_name,
)
def test_a_whole_network_has_the_macs_of_its_parts(make_spec, row):
    spec = resnet_spec(make_spec, row)
    assert whole(spec) == by_parts(spec)


def test_every_mobilenet_has_its_measured_parameters(make_spec):
    for name in MOBILENET:
        for backbone in ["mobilenet_v2", "timm/mobilenetv2_100"]:
            (row,) = (row for row in MEASURED["mobilenetv2"] if row["name"] == name)
            attention, placement = MOBILENET[name]
            model = {"backbone": backbone, "placement": placement}
            spec = make_spec(
                attention, model=model, data={"image_size": 224, "classes": 1000, "train_images": 1000}
            )
            check_parameters(spec, row)


@pytest.mark.slow
def test_every_mobilenet_has_its_measured_macs(make_spec):
    for name, (attention, placement) in MOBILENET.items():
        (row,) = (row for row in MEASURED["mobilenetv2"] if row["name"] == name)
        backbone = "timm/mobilenetv2_100" if "timm" in name else "mobilenet_v2"
        data = {"image_size": 224, "classes": 1000, "train_images": 1000}
        spec = make_spec(attention, model={"backbone": backbone, "placement": placement}, data=data)
        cost = by_parts(spec)
        assert_macs(cost, row["fvcore_total"], row["fvcore_core"], row["by_op"])
        if name == "EMA f32 dw mid>144":
            assert whole(spec) == cost


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("baseline d-li14", 3_504_872),
        ("SE r24 bias", 3_888_208),
        ("CBAM r24", 3_889_808),
        ("official mbv2_ca (CA repo)", 3_950_648),
        ("EMA f32 dw mid>144", 3_549_272),
    ],
)
def test_the_measured_mobilenets_are_those_of_the_paper(name, parameters):
    (row,) = (row for row in MEASURED["mobilenetv2"] if row["name"] == name)
    assert row["params"] == parameters
