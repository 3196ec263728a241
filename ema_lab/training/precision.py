"""Precision contexts of a recipe."""

import torch

from ema_lab.specs.recipe import RecipeSpec


def training_precision(recipe: RecipeSpec, device: torch.device) -> torch.autocast:
    """Return the context in which losses are computed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")


def evaluation_precision(recipe: RecipeSpec, device: torch.device) -> torch.autocast:
    """Return the context in which predictions are computed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.evaluated_in == "bf16")
