"""Names of the classes of known data sets, for tables and figures, without loading any data."""

from ema_lab.registry.signature import read_literal
from ema_lab.specs.run import DataSpec

_DIGITS = tuple(str(number) for number in range(10))
_COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
NAMES = {
    "digits": _DIGITS,
    "digit_scenes": _DIGITS,
    "coco": _COCO,
    "cifar10": (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
    "fashion_mnist": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ),
}  # fmt: skip
LITERALS = {  # names in the data set's own source, read without importing it
    "trees": ("ema_lab.data.detection.trees", "NAMES"),
    "visdrone": ("ema_lab.data.detection.visdrone", "NAMES"),
    "voc": ("ema_lab.data.detection.folders", "VOC_NAMES"),
}


def class_names(data: DataSpec) -> tuple[str, ...]:
    """Return a name for each class: the data set's own names, or its option `names`, or numbers from 0."""
    count = data.facts.classes
    known = read_literal(*LITERALS[data.name])[1] if data.name in LITERALS else NAMES.get(data.name, ())
    names = tuple(map(str, data.options.get("names") or known))
    return names if len(names) == count else tuple(map(str, range(count)))
