"""From a run spec to a model: backbone, then insertion, paired by construction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ema_lab.errors import EmaLabError, SpecError, error_summary, user_location
from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe
from ema_lab.models.dropout import seed_dropout
from ema_lab.models.initialisation import build_named, refuse_lazy
from ema_lab.models.insertion import clear, insert, next_child_name
from ema_lab.models.placement import Site, find_sites
from ema_lab.models.trial import output_of, shape_of
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES
from ema_lab.registry.signature import Signature
from ema_lab.specs.run import InsertionSpec, RunSpec

Build = Callable[[], Any]


def build_model(spec: RunSpec, *, device: str = "cpu") -> nn.Module:
    """Build the model of a run; on the `meta` device it has shapes but no weights.

    For one seed, weights that two specs share (same qualified name and shape) start bit-equal.

    Raises:
        SpecError: If the backbone cannot take the data, or attention does not fit where it is placed.
    """
    meta = build_backbone(spec, device="meta")
    placed = _placed(spec, meta)
    if device == "meta":
        model = meta.module
    else:
        model = build_named(lambda: build_backbone(spec, device=device).module, spec.seed)
    for item, sites in placed:
        for site, build in zip(sites, _builders(item, sites), strict=True):
            _insert(model, item.attention.name, site, build, seed=spec.seed, device=device)
    seed_dropout(model, spec.seed)
    return model


def sites_of(spec: RunSpec) -> list[tuple[str, Site]]:
    """Return the name of the attention and the site of every insertion of a run's model."""
    placed = _placed(spec, build_backbone(spec, device="meta"))
    return [(item.attention.name, site) for item, sites in placed for site in sites]


def check_model(spec: RunSpec) -> None:
    """Build the model without weights, so that what does not fit is found before the first epoch."""
    build_model(spec, device="meta")


def build_backbone(spec: RunSpec, *, device: str) -> Backbone:
    """Build a run's backbone alone, with the blocks that are known of it.

    Raises:
        SpecError: If it cannot be built.
    """
    facts = spec.data.facts
    return named_backbone(
        spec.model.backbone, facts.classes, facts.channels, options=spec.model.options, device=device
    )


def named_backbone(
    name: str,
    classes: int,
    channels: int,
    *,
    options: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Backbone:
    """Build a backbone by its name, for a number of classes and of image channels.

    Raises:
        SpecError: If it cannot be built.
    """
    build = partial(BACKBONES.build, name, classes, channels, **(options or {}))
    try:
        built = _on_meta(build) if device == "meta" else build()
    except EmaLabError:
        raise
    except Exception as error:  # a user's own code may raise anything
        raise SpecError(f"backbone {name}: {_reason(error, BACKBONES.signature(name))}") from None
    if isinstance(built, nn.Module):
        built = describe(built)
    if not isinstance(built, Backbone):
        raise SpecError(f"backbone {name} is a {type(built).__name__}, not an nn.Module")
    try:
        refuse_lazy(built.module)
    except SpecError as error:
        raise SpecError(f"backbone {name}: {error}") from None
    return built


def _on_meta(build: Build) -> Any:
    """Build without weights; where the code computes with tensors to do so, build it, then forget them."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # it may only need values; if not, the same error comes again
        with torch.random.fork_rng(devices=[]):
            built = build()
        module = built.module if isinstance(built, Backbone) else built
        if isinstance(module, nn.Module):
            module.to("meta")
        return built


def _placed(spec: RunSpec, backbone: Backbone) -> list[tuple[InsertionSpec, list[Site]]]:
    image_shape = spec.data.facts.image_shape
    placed = [(item, find_sites(backbone, item.placement, image_shape)) for item in spec.model.insertions]
    names = [site.name for _, sites in placed for site in sites]
    for cleared in (site.name for _, sites in placed for site in sites if site.replaces):
        if lost := [name for name in names if name.startswith(f"{cleared}.")]:
            raise SpecError(f"placement: {lost[0]!r} is inside {cleared!r}, which `replace` takes out")
    return placed


def _builders(item: InsertionSpec, sites: Sequence[Site]) -> Sequence[Build]:
    """Return what builds the module of each site.

    A module whose sites depend on each other offers `across(sites, **options)`, which returns them.
    """
    name, options = item.attention.name, item.attention.options
    across = getattr(ATTENTIONS[name].load(), "across", None)
    if across is None:
        return [partial(ATTENTIONS.build, name, site.channels, **options) for site in sites]
    try:
        builders: Sequence[Build] = across(sites, **options)
    except Exception as error:  # a user's own code may raise anything
        raise SpecError(f"{name}: {_reason(error, ATTENTIONS.signature(name))}") from None
    return builders


def _insert(model: nn.Module, name: str, site: Site, build: Build, *, seed: int, device: str) -> None:
    if site.replaces:
        clear(model, site.name)
    what = f"{name} after {site.name} ({site.channels} channels)"
    prefix = f"{site.name}.{next_child_name(model.get_submodule(site.name))}"

    def construct() -> Any:
        module = build()
        refuse_lazy(module)
        return module

    try:
        if device == "meta":
            attention = _on_meta(construct)
        else:
            with torch.device(device):
                attention = build_named(construct, seed, prefix)
    except Exception as error:  # a user's own module may raise anything
        raise SpecError(f"{what}: {_reason(error, ATTENTIONS.signature(name))}") from None
    if not isinstance(attention, nn.Module):
        raise SpecError(f"{name} is a {type(attention).__name__}, not an nn.Module")
    if device == "meta":
        _check_shape(what, attention, site, construct)
    insert(model, site.name, attention)


def _reason(error: Exception, signature: Signature) -> str:
    """Return the words of an error that states a rule; locate any other in the code that it is about."""
    if isinstance(error, ValueError) and not user_location(error):
        return str(error)
    if user_location(error) or not isinstance(error, TypeError):
        return error_summary(error)
    return f"{error} ({signature.short_location})"  # its parameters are not those of the call


def _check_shape(what: str, attention: nn.Module, site: Site, build: Build) -> None:
    """Refuse a module that changes the shape: an addition after it may hide that by broadcasting."""
    wanted = (2, site.channels, site.height, site.width)
    shape = shape_of(output_of(what, attention, wanted, with_values=build))
    if shape != wanted:
        raise SpecError(f"{what} must keep (B, C, H, W) = {wanted}, got {shape}")
