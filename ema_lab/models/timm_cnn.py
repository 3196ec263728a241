"""Classifiers of timm (`pip install 'ema-lab[timm]'`), unmodified, under the names `timm/NAME`."""

import importlib.util
import warnings

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe
from ema_lab.registry.registry import unknown_name


def timm_cnn(classes: int, channels: int, architecture: str) -> Backbone:
    """Network of timm, by timm's own name, without pretrained weights.

    Nearly all of timm's convolutional networks have known blocks. In others, such as transformers,
    attention is placed by patterns over submodule names.

    Raises:
        SpecError: If timm is not installed, or has no network of this name.
    """
    if importlib.util.find_spec("timm") is None:
        raise SpecError(f"timm/{architecture} needs timm: pip install 'ema-lab[timm]'")
    if "." in architecture:
        plain = architecture.partition(".")[0]
        raise SpecError(f"timm/{architecture} names pretrained weights; a network is named timm/{plain}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of timm's optional parts, at its import
        import timm

        known = timm.list_models()
        if architecture not in known:
            raise SpecError(_unknown(architecture, known))
        return describe(timm.create_model(architecture, num_classes=classes, in_chans=channels))


def _unknown(architecture: str, known: list[str]) -> str:
    message = unknown_name("network of timm", architecture, known)
    return f"{message.partition('known: ')[0]}timm.list_models() lists all {len(known)}"
