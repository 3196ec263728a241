"""Dropout and stochastic depth by the recipe: rates of a backbone's layers, and residual branches to drop.

Masks are those of `dropout`: a hash of the seed, the layer's name, the step and the position.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn

from ema_lab.errors import SpecError
from ema_lab.models.backbone import Block
from ema_lab.models.dropout import SeededDropout
from ema_lab.models.insertion import CHILD, drop_after, replace_submodule
from ema_lab.randomness import hash_counters
from ema_lab.specs.recipe import RecipeSpec

# Blocks whose output is a shortcut plus what their `block_end` gives, and the attribute that says if so.
SHORTCUTS: Mapping[str, Callable[[nn.Module], bool]] = {
    "ema_lab.models.cifar_resnet.BasicBlock": lambda block: True,
    "torchvision.models.mnasnet._InvertedResidual": lambda block: bool(block.apply_residual),
    "torchvision.models.mobilenetv2.InvertedResidual": lambda block: bool(block.use_res_connect),
    "torchvision.models.mobilenetv3.InvertedResidual": lambda block: bool(block.use_res_connect),
    "torchvision.models.regnet.ResBottleneckBlock": lambda block: True,
    "torchvision.models.resnet.BasicBlock": lambda block: True,
    "torchvision.models.resnet.Bottleneck": lambda block: True,
}


def regularise(model: nn.Module, blocks: Sequence[Block], recipe: RecipeSpec, seed: int) -> None:
    """Set a model's dropout and stochastic depth to the recipe's rates.

    Args:
        model: The model, whose dropout layers are seeded and whose attention is inserted.
        blocks: Blocks of its backbone.
        recipe: The recipe.
        seed: The run's seed.

    Raises:
        SpecError: If the backbone has no layer of the kind.
    """
    if recipe.dropout is not None:
        _set_dropout(model, recipe.dropout)
    if recipe.drop_path is not None:
        _set_drop_path(model, blocks, recipe.drop_path, seed)


def _set_dropout(model: nn.Module, rate: float) -> None:
    layers = [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, SeededDropout)
        and layer.per in ("element", "channel")
        and not any(CHILD.fullmatch(part) for part in name.split("."))
    ]
    if not layers:
        raise SpecError("recipe.dropout: the backbone has no dropout layer; leave it out")
    for layer in layers:
        layer.p = rate


def _set_drop_path(model: nn.Module, blocks: Sequence[Block], rate: float, seed: int) -> None:
    """Drop residual branches with a probability that rises linearly from 0 at the first block.

    The block i of n has the rate i / n times `rate`, as in timm's and torchvision's EfficientNets.
    """
    found = False
    for number, block in enumerate(blocks):
        p = rate * number / len(blocks)
        if own := list(_own_layers(model, block)):
            for name, layer in own:
                if isinstance(layer, SeededDropout):
                    layer.p = p
                else:
                    replace_submodule(model, name, _drop(p, seed, name))
        elif rate and _has_shortcut(model.get_submodule(block.name)):
            name = block.places["block_end"]
            drop_after(model, name, _drop(p, seed, name))
        else:
            continue
        found = True
    if not found:
        rule = "the backbone has no residual branch that can be dropped" if rate else "0 changes nothing"
        raise SpecError(f"recipe.drop_path: {rule}; leave it out")


def _drop(p: float, seed: int, name: str) -> SeededDropout:
    return SeededDropout(p, "image", hash_counters(seed, "drop path", name))


def _own_layers(model: nn.Module, block: Block) -> Iterator[tuple[str, nn.Module]]:
    """Yield a block's own layers of stochastic depth; timm has an identity where the rate is 0."""
    for below, layer in model.get_submodule(block.name).named_modules():
        name, last = f"{block.name}.{below}", below.rpartition(".")[2]
        is_seeded = isinstance(layer, SeededDropout) and layer.per in ("image", "batch")
        if is_seeded or (isinstance(layer, nn.Identity) and last.startswith("drop_path")):
            yield name, layer


def _has_shortcut(block: nn.Module) -> bool:
    for kind in type(block).__mro__:  # a carrier of attention is a subclass
        if check := SHORTCUTS.get(f"{kind.__module__}.{kind.__qualname__}"):
            return check(block)
    return False
