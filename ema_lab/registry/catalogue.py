"""Registries of the attention modules, backbones, data sets and tasks that ema-lab ships.

Adding a module takes one file and one line here. Installed packages add names by entry points:

    [project.entry-points."ema_lab.attention"]
    my_gate = "my_package.gates:MyGate"

    [project.entry-points."ema_lab.tasks"]
    my_task = "my_package.metrics:TASK"
"""

from ema_lab.registry.registry import Entry, Registry

ATTENTIONS = Registry(
    "attention",
    {
        "bam": "ema_lab.attention.bam:BAM",
        "ca": "ema_lab.attention.ca:CA",
        "cbam": "ema_lab.attention.cbam:CBAM",
        "eca": "ema_lab.attention.eca:ECA",
        "ema": "ema_lab.attention.ema:EMA",
        "gam": "ema_lab.attention.gam:GAM",
        "gc": "ema_lab.attention.gc:GC",
        "frozen": "ema_lab.attention.frozen:frozen",
        "ge": "ema_lab.attention.ge:GE",
        "identity": "ema_lab.attention.identity:Identity",
        "matched": "ema_lab.models.matched:Matched",
        "nam": "ema_lab.attention.nam:NAM",
        "none": "ema_lab.attention.none:NoAttention",
        "random_gate": "ema_lab.attention.random_gate:RandomGate",
        "sa": "ema_lab.attention.sa:SA",
        "se": "ema_lab.attention.se:SE",
        "simam": "ema_lab.attention.simam:SimAM",
        "triplet": "ema_lab.attention.triplet:Triplet",
        "zero_start": "ema_lab.attention.zero_start:ZeroStart",
    },
    group="ema_lab.attention",
    takes_channels=True,
)

_TORCHVISION_RESNETS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
)  # fmt: skip
_TORCHVISION_CNNS = (
    "alexnet", "googlenet", "inception_v3", "regnet_y_128gf", "squeezenet1_0", "squeezenet1_1",
    "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    "densenet121", "densenet161", "densenet169", "densenet201",
    *(f"efficientnet_b{number}" for number in range(8)),
    "efficientnet_v2_s", "efficientnet_v2_m", "efficientnet_v2_l",
    "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3",
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    *(f"regnet_{kind}_{size}" for kind in "xy"
      for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
)  # fmt: skip
DETECTORS = tuple(f"yolov5{size}{heads}" for heads in ("", "_p2") for size in "nsmlx")
_MODELS = "ema_lab.models"
BACKBONES = Registry(
    "backbone",
    {
        f"resnet{depth}": Entry(f"{_MODELS}.cifar_resnet:cifar_resnet", {"depth": depth})
        for depth in (20, 32, 44, 56, 110)
    }
    | {
        name: Entry(f"{_MODELS}.torchvision_cnn:torchvision_resnet", {"architecture": name})
        for name in _TORCHVISION_RESNETS
    }
    | {
        name: Entry(f"{_MODELS}.torchvision_cnn:torchvision_cnn", {"architecture": name})
        for name in _TORCHVISION_CNNS
    }
    | {name: Entry(f"{_MODELS}.yolov5:yolov5", {"architecture": name}) for name in DETECTORS},
    group="ema_lab.backbones",
    families={
        "timm/": (f"{_MODELS}.timm_cnn:timm_cnn", "architecture"),
        "ultralytics/": (f"{_MODELS}.ultralytics_detector:ultralytics_detector", "architecture"),
    },
    leading=2,
)

DETECTOR_HEADS = Registry(  # detectors on the feature maps of any backbone
    "detector",
    {name: f"{_MODELS}.torchvision_detectors:{name}" for name in ("fasterrcnn", "fcos", "retinanet")},
    group="ema_lab.detectors",
    leading=2,
)

DATASETS = Registry(
    "data set",
    {
        "cifar10": "ema_lab.data.cifar:cifar10",
        "cifar100": "ema_lab.data.cifar:cifar100",
        "coco": "ema_lab.data.detection.folders:coco",
        "csv": Entry("ema_lab.data.own_images:own_images", {"form": "lists"}),
        "digit_scenes": "ema_lab.data.detection.digit_scenes:digit_scenes",
        "digits": "ema_lab.data.digits:digits",
        "fashion_mnist": "ema_lab.data.fashion_mnist:fashion_mnist",
        "imagefolder": Entry("ema_lab.data.own_images:own_images", {"form": "folders"}),
        "imagenet": "ema_lab.data.imagenet:imagenet",
        "shards": Entry("ema_lab.data.own_images:own_images", {"form": "shards"}),
        "synthetic": "ema_lab.data.synthetic:synthetic",
        "synthetic_scenes": "ema_lab.data.detection.synthetic_scenes:synthetic_scenes",
        "trees": "ema_lab.data.detection.trees:trees",
        "visdrone": "ema_lab.data.detection.folders:visdrone",
        "voc": "ema_lab.data.detection.folders:voc",
        "yolo": "ema_lab.data.detection.folders:yolo",
    },
    group="ema_lab.datasets",
)

TASKS = Registry(
    "task",
    {  # the literal that describes each
        "classification": "ema_lab.tasks.classification.metrics:TASK",
        "detection": "ema_lab.tasks.detection.metrics:TASK",
    },
    group="ema_lab.tasks",
)
