"""Numerical precision: TF32 off, and the autocast contexts of a recipe."""

import torch

from ema_lab.specs.recipe import RecipeSpec


def exact_arithmetic() -> None:
    """Turn TF32 off, so that fp32 is true fp32, in training and in evaluation alike."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def training_precision(recipe: RecipeSpec, device: torch.device) -> torch.autocast:
    """Return the autocast context of the training loss."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def evaluation_precision(recipe: RecipeSpec, device: torch.device) -> torch.autocast:
    """Return the autocast context of predictions."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.evaluated_in == "bf16")
