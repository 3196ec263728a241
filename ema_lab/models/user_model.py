"""Insertion of attention into a user's model, as a run inserts it into a backbone."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from ema_lab.errors import SpecError
from ema_lab.models.blocks import describe
from ema_lab.models.build import attention_builders, built_attention, insert_built
from ema_lab.models.insertion import refuse_site
from ema_lab.models.placement import Site, find_sites
from ema_lab.specs.document import error_messages
from ema_lab.specs.run import InsertionSpec

ImageSize = int | tuple[int, int]


def insert(
    model: nn.Module,
    attention: str | Mapping[str, Any],
    *,
    after: str | Sequence[str] | Mapping[str, Any] = "block_end",
    image_size: ImageSize = 32,
    channels: int = 3,
    seed: int = 0,
    **options: Any,
) -> nn.Module:
    """Insert attention into a model, in place, as an ablation inserts it into a backbone.

    One forward pass in evaluation mode finds the shapes. All checks precede the first insertion, so that an
    error leaves the model as it was. The model's own names stay: attention becomes the child `attention` of
    the submodule that it follows. For one seed, its weights start as they do in a run.

    Example:
        >>> from torchvision.models import resnet18
        >>> model = ema_lab.insert(resnet18(), "ema", after="layer*", groups=8)
        >>> [name for name, part in model.named_modules() if name.endswith("attention")]
        ['layer1.attention', 'layer2.attention', 'layer3.attention', 'layer4.attention']
        >>> model = ema_lab.insert(resnet18(), "se", after={"after": "block_end", "stages": [3, 4]})

    Args:
        model: Any module that takes images (B, channels, height, width).
        attention: Registered name, "package.module:Name", or a mapping with a name and options.
        after: A named place, a glob, or globs over submodule names; or a whole `placement:` as in YAML.
        image_size: Height and width of an image that the model takes; one number if they are equal.
        channels: Number of channels of the image.
        seed: Seed of the initial weights.
        options: Options of the attention module.

    Returns:
        The same model.

    Raises:
        SpecError: If a name, an option or the placement is wrong, or the model cannot carry the attention.
    """
    insertion = _insertion(attention, options, after)
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    with torch.random.fork_rng(devices=[]):
        sites = find_sites(describe(model), insertion.placement, (channels, *sides))
    name, builders = insertion.attention.name, attention_builders(insertion, sites)
    for site, build in zip(sites, builders, strict=True):
        refuse_site(model.get_submodule(site.name), site.name)
        built_attention(model, name, site, build, seed=seed, device="meta")
    on_meta = any(part.is_meta for part in model.parameters())
    for site, build in zip(sites, builders, strict=True):
        insert_built(model, name, site, build, seed=seed, device="meta" if on_meta else "cpu")
        _settle(model, site)
    return model


def _insertion(
    attention: str | Mapping[str, Any],
    options: Mapping[str, Any],
    after: str | Sequence[str] | Mapping[str, Any],
) -> InsertionSpec:
    """Check the request as a definition file is checked."""
    named: Any = {"name": attention} if isinstance(attention, str) else attention
    if isinstance(named, Mapping):
        named = {**named, **options}
    placement = after if isinstance(after, Mapping) else {"after": after}
    try:
        insertion = InsertionSpec.model_validate({"attention": named, "placement": placement})
    except ValidationError as error:
        raise SpecError("; ".join(message for _, message in error_messages(error))) from None
    if insertion.attention.name == "none":
        raise SpecError("attention: none inserts nothing")
    return insertion


def _settle(model: nn.Module, site: Site) -> None:
    """Give the last child of a site the model's device and precision, and the site's mode."""
    target = model.get_submodule(site.name)
    own = next(chain(model.parameters(), model.buffers()), None)
    *_, child = target.children()
    if own is not None and not own.is_meta:
        child.to(device=own.device, dtype=own.dtype if own.is_floating_point() else None)
    child.train(target.training)
