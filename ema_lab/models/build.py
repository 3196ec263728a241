"""From a run spec to a model: backbone, then insertion, paired by construction."""

from functools import partial

import torch
from torch import nn

from ema_lab.catalogue import ATTENTIONS, BACKBONES
from ema_lab.errors import SpecError
from ema_lab.models.backbone import Backbone
from ema_lab.models.initialisation import build_named
from ema_lab.models.insertion import insert, next_child_name
from ema_lab.models.placement import Site, find_sites
from ema_lab.specs.run import InsertionSpec, RunSpec


def build_model(spec: RunSpec, *, device: str = "cpu") -> nn.Module:
    """Build the model of a run; on the `meta` device it has shapes but no weights.

    For one seed, weights that two specs share (same qualified name and shape) start bit-equal.

    Raises:
        SpecError: If the backbone cannot take the data, or attention does not fit where it is placed.
    """
    meta = _backbone(spec, "meta")
    facts = spec.data.facts
    image_shape = (facts.channels, facts.image_size, facts.image_size)
    placed = [(item, find_sites(meta, item.placement, image_shape)) for item in spec.model.insertions]
    if device == "meta":
        model = meta.module
    else:
        model = build_named(lambda: _backbone(spec, device).module, spec.seed)
    for item, sites in placed:
        for site in sites:
            _insert(model, item, site, seed=spec.seed, device=device)
    return model


def sites_of(spec: RunSpec) -> list[tuple[str, Site]]:
    """Return the name of the attention and the site of every insertion of a run's model."""
    meta = _backbone(spec, "meta")
    facts = spec.data.facts
    image_shape = (facts.channels, facts.image_size, facts.image_size)
    return [
        (item.attention.name, site)
        for item in spec.model.insertions
        for site in find_sites(meta, item.placement, image_shape)
    ]


def check_model(spec: RunSpec) -> None:
    """Build the model without weights, so that what does not fit is found before the first epoch."""
    build_model(spec, device="meta")


def _backbone(spec: RunSpec, device: str) -> Backbone:
    facts = spec.data.facts
    with torch.device(device):
        backbone: Backbone = BACKBONES.build(
            spec.model.backbone, facts.classes, facts.channels, **spec.model.options
        )
    return backbone


def _insert(model: nn.Module, item: InsertionSpec, site: Site, *, seed: int, device: str) -> None:
    name = item.attention.name
    build = partial(ATTENTIONS.build, name, site.channels, **item.attention.options)
    prefix = f"{site.name}.{next_child_name(model.get_submodule(site.name))}"
    try:
        with torch.device(device):
            attention = build() if device == "meta" else build_named(build, seed, prefix)
    except Exception as error:  # a user's own module may raise anything
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise SpecError(f"{name} after {site.name} ({site.channels} channels): {kind}{error}") from None
    if not isinstance(attention, nn.Module):
        raise SpecError(f"{name} is a {type(attention).__name__}, not an nn.Module")
    if device == "meta":
        _check_shape(name, attention, site)
    insert(model, site.name, attention)


def _check_shape(name: str, attention: nn.Module, site: Site) -> None:
    """Refuse a module that changes the shape: an addition after it may hide that by broadcasting."""
    x = torch.empty(2, site.channels, site.height, site.width, device="meta")
    try:
        with torch.no_grad():
            out = attention(x)
    except Exception:  # what needs values cannot be checked without them
        return
    shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if shape != tuple(x.shape):
        raise SpecError(f"{name} after {site.name} must keep (B, C, H, W) = {tuple(x.shape)}, got {shape}")
