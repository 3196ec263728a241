"""Every convolutional backbone by name: all blocks are detected, and none moves between releases.

`data/blocks.json` holds stage sizes and a hash of blocks and places, for each network that was complete
before the rules were last extended. Attention must not move under an old run id.
"""

import hashlib
import json
import warnings
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from test_blocks import OTHERS, RESIDUAL, SUMMED_INSIDE, WITHOUT_ADDITIONS
from torch import Tensor

from ema_lab.models.blocks import describe
from ema_lab.models.build import named_backbone
from ema_lab.models.shapes import ShapesOnly
from ema_lab.registry.catalogue import BACKBONES

GOLDEN = json.loads((Path(__file__).parent / "data" / "blocks.json").read_text())
SOME_OF_TIMM = [
    "convnext_atto", "cspdarknet53", "densenet121", "dla34", "efficientnet_b0", "gernet_s", "ghostnet_100",
    "mobilenetv3_small_050", "mobilenetv4_conv_small", "nf_regnet_b0", "regnetx_002", "res2net50_14w_8s",
    "resnet18", "resnetblur18", "resnetv2_50", "rexnet_100", "skresnet18", "vgg11",
]  # fmt: skip
EACH_KIND = [  # of block: test_blocks.py holds that they have all
    name for name in [*RESIDUAL, *WITHOUT_ADDITIONS, *SUMMED_INSIDE, *OTHERS] if name.startswith("timm/")
]
LATER = {  # added, or given places, since then
    *("alexnet", "googlenet", "inception_v3", "regnet_y_128gf", "squeezenet1_0", "squeezenet1_1"),
    *(name for name in BACKBONES if name.startswith("yolov5") and name not in GOLDEN),
}
TRANSFORMERS = {  # files of timm whose networks are attention or MLP over tokens, or mostly so
    *("beit", "cait", "coat", "convit", "cpubone", "crossvit", "csatv2", "davit", "deepseek_vit", "deit"),
    *(
        "efficientformer",
        "efficientformer_v2",
        "efficientvim",
        "efficientvit_mit",
        "efficientvit_msra",
        "eva",
    ),
    *(
        "focalnet",
        "gcvit",
        "gemma4_vit",
        "hiera",
        "hieradet_sam2",
        "iformer",
        "levit",
        "lowformer",
        "maxxvit",
    ),
    *("metaformer", "mlp_mixer", "mvitv2", "naflexvit", "nest", "nextvit", "pit", "pvt_v2", "qwen3_vit"),
    *(
        "sequencer",
        "shvit",
        "swiftformer",
        "swin_transformer",
        "swin_transformer_v2",
        "swin_transformer_v2_cr",
    ),
    *("tiny_vit", "tnt", "twins", "visformer", "vitamin", "vision_transformer", "vision_transformer_hybrid"),
    *("vision_transformer_relpos", "vision_transformer_sam", "volo", "xcit"),
}


def summary(described):
    sizes = " ".join(map(str, described.stage_sizes))
    blocks = [(b.name, b.stage, b.number, dict(b.places), list(b.parts)) for b in described.blocks]
    return f"{sizes}: {hashlib.sha256(json.dumps(blocks).encode()).hexdigest()[:16]}"


def networks_of_timm():
    return [f"timm/{name}" for name in timm.list_models() if _file(name) not in TRANSFORMERS]


def _file(name):
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


@pytest.mark.slow
def test_blocks_and_places_are_where_they_were(on_meta):
    names = [*BACKBONES, *(f"timm/{name}" for name in SOME_OF_TIMM), *EACH_KIND]
    assert [name for name in names if name not in GOLDEN and name not in LATER] == []
    found = {name: summary(on_meta(name)) for name in names if name in GOLDEN}
    assert {name: place for name, place in found.items() if place != GOLDEN[name]} == {}


def test_every_convolutional_classifier_of_torchvision_is_offered():
    known = torchvision.models.list_models(module=torchvision.models)
    transformers = {name for name in known if name.startswith(("vit_", "swin_", "maxvit_"))}
    assert set(known) - transformers - set(BACKBONES) == set()


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 96)])
@pytest.mark.parametrize("channels", [1, 3])
def test_auxiliary_heads_are_left_out(name, size, channels):
    module = named_backbone(name, 10, channels, device="meta").module
    for training in (True, False):
        scores = module.train(training)(torch.empty(2, channels, size, size, device="meta"))
        assert isinstance(scores, Tensor)
        assert scores.shape == (2, 10)


@pytest.mark.parametrize(
    ("chosen", "least"),  # files of one odd network weigh more among one of each file; all take minutes
    [
        pytest.param("one of each file and kind", 0.9, marks=pytest.mark.slow),
        pytest.param("all", 0.95, marks=pytest.mark.system),
    ],
)
def test_nearly_every_network_of_timm_has_all_of_its_blocks_and_stages(chosen, least):
    names, faults, moved = networks_of_timm(), {}, []
    if chosen != "all":
        one_of_file = {_file(name.removeprefix("timm/")): name for name in names}
        names = list(dict.fromkeys([*EACH_KIND, *one_of_file.values()]))
    for name in names:
        described = named_backbone(name, 10, 3, device="meta")
        if name in GOLDEN and summary(described) != GOLDEN[name]:
            moved.append(name)
        if fault := fault_of(described):
            faults[name] = fault
    share = 1 - len(faults) / len(names)
    print(f"{share:.1%} of {len(names)} networks have all blocks and stages; the others:")
    print("\n".join(f"{name}: {fault}" for name, fault in faults.items()))
    assert moved == []
    assert {name: fault for name, fault in faults.items() if name in EACH_KIND} == {}
    assert share >= least


def fault_of(described):
    """Return the fault of a network's blocks in a forward pass, or "".

    Each block must run once and end in (B, C, H, W). A stage must start where the resolution changes.
    """
    if not described.blocks:
        return described.note or "no block is known"
    place = next(place for place in described.places if place.startswith("block_end"))
    heights, ends = {}, []
    for block in described.blocks:
        record(
            described.module, block.name, lambda out, name=block.name: heights.setdefault(name, out.shape[2])
        )
        record(described.module, block.places[place], ends.append)
    size = described.module.pretrained_cfg["input_size"]
    with torch.no_grad(), ShapesOnly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        described.module.eval()(torch.empty(1, *size, device="meta"))
    if len(ends) != len(described.blocks) or any(out.dim() != 4 for out in ends):
        return f"{len(ends)} calls of {len(described.blocks)} ends"
    return "" if "parallel" in described.note else miscounted(described.blocks, heights)


def record(module, name, note):
    def hook(_module, _inputs, output):
        note(output if isinstance(output, Tensor) else output[0])

    module.get_submodule(name).register_forward_hook(hook)


def miscounted(blocks, heights):
    stage, height = 0, None
    for block in blocks:
        stage, height = (stage + (heights[block.name] != height)), heights[block.name]
        if stage != block.stage:
            return f"{block.name} is in stage {block.stage}, but in the {stage}th resolution"
    return ""


def test_a_share_of_blocks_is_never_taken_for_all():
    class Unknown(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Conv2d(8, 8, 1), torch.nn.Conv2d(8, 8, 1)

        def forward(self, x):
            return self.b(self.a(x))

    known = torchvision.models.resnet.BasicBlock
    network = torch.nn.Sequential(known(8, 8), known(8, 8), Unknown())
    described = describe(network)
    assert described.blocks == ()
    note = "2 of 3 blocks are known; Unknown is not: name the place by a pattern such as '*'"
    assert described.note == note
    trailing = torch.nn.Sequential(
        torch.nn.Sequential(known(8, 8)), torch.nn.ModuleList([Unknown(), Unknown()])
    )
    assert describe(trailing).note.startswith("1 of 3 blocks is known; Unknown is not: ")
    assert describe(torch.nn.Sequential(known(8, 8), torch.nn.Conv2d(8, 8, 1))).places == (
        *("after_conv1", "after_conv2", "block_end"), "stage_end",
    )  # fmt: skip
