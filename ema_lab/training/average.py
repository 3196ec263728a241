"""Average of a model's weights over its optimizer steps."""

from copy import deepcopy

import torch
from torch import nn

from ema_lab.specs.recipe import AverageSpec
from ema_lab.training.plan import average_decay


class WeightAverage(nn.Module):
    """Copy of a model whose weights and running statistics slowly follow the model's, as in YOLOv5.

    torch's AveragedModel takes the first update as it is, and averages counts of batches as if they were
    weights. Here the average starts at the initial weights, and whole numbers stay as they were.
    """

    count: torch.Tensor

    def __init__(self, model: nn.Module, spec: AverageSpec) -> None:
        super().__init__()
        self.module = deepcopy(model).requires_grad_(False)
        self.spec = spec
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards a model after an optimizer step."""
        self.count += 1
        decay = average_decay(int(self.count), self.spec.decay, self.spec.ramp)
        current = model.state_dict()
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                value.mul_(decay).add_(current[name].detach(), alpha=1 - decay)
