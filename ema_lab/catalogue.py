"""What ema-lab ships, by name. Adding a module is one file and one line here.

Installed packages add names by entry points, such as these lines of a pyproject.toml:

    [project.entry-points."ema_lab.attention"]
    my_gate = "my_package.gates:MyGate"
"""

from ema_lab.registry import Entry, Registry

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
        "ge": "ema_lab.attention.ge:GE",
        "identity": "ema_lab.attention.identity:Identity",
        "nam": "ema_lab.attention.nam:NAM",
        "none": "ema_lab.attention.none:NoAttention",
        "random_gate": "ema_lab.attention.random_gate:RandomGate",
        "sa": "ema_lab.attention.sa:SA",
        "se": "ema_lab.attention.se:SE",
        "simam": "ema_lab.attention.simam:SimAM",
        "triplet": "ema_lab.attention.triplet:Triplet",
    },
    group="ema_lab.attention",
)

_CIFAR_RESNET = "ema_lab.models.cifar_resnet:cifar_resnet"
_RESNET = "ema_lab.models.resnet:resnet"
BACKBONES = Registry(
    "backbone",
    {f"resnet{depth}": Entry(_CIFAR_RESNET, {"depth": depth}) for depth in (20, 32, 44, 56, 110)}
    | {f"resnet{depth}": Entry(_RESNET, {"depth": depth}) for depth in (18, 34, 50, 101, 152)},
    group="ema_lab.backbones",
)

DATASETS = Registry(
    "data set",
    {
        "cifar10": "ema_lab.data.cifar:cifar10",
        "cifar100": "ema_lab.data.cifar:cifar100",
        "digits": "ema_lab.data.digits:digits",
        "fashion_mnist": "ema_lab.data.fashion_mnist:fashion_mnist",
        "imagenet": "ema_lab.data.imagenet:imagenet",
        "synthetic": "ema_lab.data.synthetic:synthetic",
    },
    group="ema_lab.datasets",
)
