"""Any classifier of timm (`pip install 'ema-lab[timm]'`) as `timm/NAME`, unmodified."""

import importlib.util
import warnings

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe
from ema_lab.registry.registry import unknown_name


def timm_cnn(classes: int, channels: int, architecture: str) -> Backbone:
    """Network of timm by its name there, without pretrained weights.

    Blocks are known of nearly all of its convolutional networks; in others, such as transformers,
    patterns over submodule names work.
    """
    if importlib.util.find_spec("timm") is None:
        raise SpecError(f"timm/{architecture} needs timm: pip install 'ema-lab[timm]'")
    if "." in architecture:
        plain = architecture.partition(".")[0]
        raise SpecError(f"timm/{architecture} names pretrained weights; a network is named timm/{plain}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optional parts, at its import
        import timm

        known = timm.list_models()
        if architecture not in known:
            raise SpecError(_unknown(architecture, known))
        return describe(timm.create_model(architecture, num_classes=classes, in_chans=channels))


def _unknown(architecture: str, known: list[str]) -> str:
    message = unknown_name("network of timm", architecture, known)
    return f"{message.partition('known: ')[0]}timm.list_models() lists all {len(known)}"
