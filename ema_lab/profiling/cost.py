"""Cost of a model at hand, with the usual size of small images."""

from typing import Any

from torch import nn

from ema_lab.profiling.measure import measure_cost


def cost(model: nn.Module, *, image_size: int | tuple[int, int] = 32, channels: int = 3) -> dict[str, Any]:
    """Count a model's parameters and multiply-adds (MACs) for one image, as `measure_cost` does.

    Example:
        >>> counted = ema_lab.cost(ema_lab.build_attention("se", 64), image_size=8, channels=64)
        >>> counted["parameters"], counted["macs_matmul"]
        (512, 512)

    Args:
        model: A module that takes (1, channels, height, width).
        image_size: Height and width of the image in pixels; one number if they are equal.
        channels: Number of channels of the image.

    Raises:
        CostError: If the model cannot be copied or traced, or the two counts disagree.
    """
    return measure_cost(model, image_size=image_size, channels=channels)
