"""Models of run specs: build the backbone, then insert attention, paired by construction."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ema_lab.errors import EmaLabError, SpecError, error_summary, user_location
from ema_lab.models.backbone import Backbone
from ema_lab.models.blocks import describe
from ema_lab.models.dropout import seed_dropout
from ema_lab.models.features import features_of, with_blocks_of
from ema_lab.models.initialisation import build_seeded, refuse_lazy
from ema_lab.models.insertion import clear, insert, next_child_name
from ema_lab.models.placement import Site, find_sites
from ema_lab.models.regularisation import regularise
from ema_lab.models.shapes import ShapesOnly
from ema_lab.models.start import freeze, rate_factors
from ema_lab.models.synchronised import check_synchronised
from ema_lab.models.trial_pass import UNKNOWN, output_of, shape_of
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DETECTOR_HEADS
from ema_lab.registry.signature import Signature
from ema_lab.specs.run import InsertionSpec, RunSpec
from ema_lab.wording import number_of

Build = Callable[[], Any]


def build_model(spec: RunSpec, *, device: str = "cpu") -> nn.Module:
    """Build the model of a run; on the `meta` device it has shapes but no weights.

    The model maps normalised images (B, C, H, W) to what the task predicts, such as logits (B, classes).
    For one seed, weights that two specs share (same qualified name and shape) start bit-equal.

    Raises:
        SpecError: If the backbone cannot take the data, or attention does not fit its placement.

    Example:
        >>> spec = ema_lab.load_ablation("quickstart").runs()[0]
        >>> ema_lab.build_model(spec)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    meta = build_backbone(spec, device="meta")
    placements = _resolve_placements(spec, meta)
    if device == "meta":
        model = meta.module
    else:
        model = build_seeded(lambda: build_backbone(spec, device=device).module, spec.seed)
    for insertion, sites in placements:
        for site, build in zip(sites, attention_builders(insertion, sites), strict=True):
            insert_built(model, insertion.attention.name, site, build, seed=spec.seed, device=device)
    seed_dropout(model, spec.seed)
    regularise(model, meta.blocks, spec.recipe, spec.seed)
    if spec.recipe.sync_batch_norm:
        check_synchronised(model)  # training on several devices synchronises it
    freeze(model, spec.model.frozen, spec.model.frozen_norms)
    rate_factors(model, spec.recipe.lr_factors)  # training reads them again
    if spec.recipe.memory_format == "channels_last":  # the maps of a convolution follow its weights
        model.to(memory_format=torch.channels_last)
    return model


def sites_of(spec: RunSpec) -> list[tuple[str, Site]]:
    """Return the attention's name and the site of every insertion in a run's model."""
    placements = _resolve_placements(spec, build_backbone(spec, device="meta"))
    return [(insertion.attention.name, site) for insertion, sites in placements for site in sites]


def check_model(spec: RunSpec) -> None:
    """Build the model without weights, to detect errors of shape before the first epoch.

    Raises:
        SpecError: As `build_model` does.
    """
    build_model(spec, device="meta")


def build_backbone(spec: RunSpec, *, device: str) -> Backbone:
    """Build a run's backbone without attention: with a detector on it, where the spec names one.

    Raises:
        SpecError: If the backbone or the detector cannot be built.
    """
    facts = spec.data.facts
    backbone = named_backbone(
        spec.model.backbone, facts.classes, facts.channels, options=spec.model.options, device=device
    )
    return backbone if spec.model.detector is None else _with_detector(spec, backbone, device)


def _with_detector(spec: RunSpec, backbone: Backbone, device: str) -> Backbone:
    """Put the detector that a spec names on the stages of its backbone."""
    facts, detector = spec.data.facts, spec.model.detector
    assert detector is not None
    subject = f"detector {detector.name} on {spec.model.backbone}"
    try:
        features = features_of(backbone, facts.image_shape)
        build = partial(DETECTOR_HEADS.build, detector.name, features, facts.classes, **detector.options)
        module = _built(subject, build, DETECTOR_HEADS.signature(detector.name), device)
        if not isinstance(module, nn.Module):
            raise SpecError(f"is a {type(module).__name__}, not an nn.Module")
        refuse_lazy(module)
        return with_blocks_of(module, features, backbone)
    except SpecError as error:
        known = str(error).startswith(subject)
        raise SpecError(str(error) if known else f"{subject}: {error}") from None


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
        SpecError: If the backbone cannot be built.
    """
    build = partial(BACKBONES.build, name, classes, channels, **(options or {}))
    built = _built(f"backbone {name}", build, BACKBONES.signature(name), device)
    if isinstance(built, nn.Module):
        built = describe(built)
    if not isinstance(built, Backbone):
        raise SpecError(f"backbone {name} is a {type(built).__name__}, not an nn.Module")
    try:
        refuse_lazy(built.module)
    except SpecError as error:
        raise SpecError(f"backbone {name}: {error}") from None
    return built


def _built(subject: str, build: Build, signature: Signature, device: str) -> Any:
    try:
        return _build_on_meta(build) if device == "meta" else build()
    except EmaLabError:
        raise
    except Exception as error:  # a user's own code may raise anything
        raise SpecError(f"{subject}: {_reason(error, signature)}") from None


def _build_on_meta(build: Build) -> Any:
    """Build without weights. Code that needs values runs on the CPU, and its weights are dropped."""
    try:
        with torch.device("meta"), ShapesOnly():
            return build()
    except Exception:  # the code may only need values; any other error is raised again below
        with torch.random.fork_rng(devices=[]):
            built = build()
        module = built.module if isinstance(built, Backbone) else built
        if isinstance(module, nn.Module):
            module.to("meta")
        return built


def _resolve_placements(spec: RunSpec, backbone: Backbone) -> list[tuple[InsertionSpec, list[Site]]]:
    """Return the sites of each insertion; refuse a site inside a submodule that another one replaces."""
    image_shape = spec.data.facts.image_shape
    placements = [
        (insertion, find_sites(backbone, insertion.placement, image_shape))
        for insertion in spec.model.insertions
    ]
    names = [site.name for _, sites in placements for site in sites]
    for cleared in (site.name for _, sites in placements for site in sites if site.replaces):
        if lost := [name for name in names if name.startswith(f"{cleared}.")]:
            raise SpecError(f"placement: {lost[0]!r} is inside {cleared!r}, which `replace` takes out")
    return placements


def attention_builders(insertion: InsertionSpec, sites: Sequence[Site]) -> Sequence[Build]:
    """Return a builder of the attention module of each site.

    A module whose sites depend on each other has a classmethod `across(sites, **options)` that returns the
    builders.
    """
    name, options = insertion.attention.name, insertion.attention.options
    across = getattr(ATTENTIONS[name].load(), "across", None)
    if across is None:
        return [partial(ATTENTIONS.build, name, site.channels, **options) for site in sites]
    try:
        builders: Sequence[Build] = across(sites, **options)
    except Exception as error:  # a user's own code may raise anything
        raise SpecError(f"{name}: {_reason(error, ATTENTIONS.signature(name))}") from None
    return builders


def insert_built(model: nn.Module, name: str, site: Site, build: Build, *, seed: int, device: str) -> None:
    """Build attention for a site of a model and insert it.

    Raises:
        SpecError: As `built_attention` and `insert` do.
    """
    if site.replaces:
        clear(model, site.name)
    insert(model, site.name, built_attention(model, name, site, build, seed=seed, device=device))


def built_attention(
    model: nn.Module, name: str, site: Site, build: Build, *, seed: int, device: str
) -> nn.Module:
    """Build the attention of a site, with weights that depend on the seed and its name in the model.

    On the `meta` device the module has no weights, and its output shape is checked.

    Raises:
        SpecError: If the module cannot be built, or changes the shape.
    """
    subject = f"{name} after {site.name} ({number_of(site.channels, 'channel')})"
    prefix = f"{site.name}.{next_child_name(model.get_submodule(site.name))}"

    def construct() -> Any:
        module = build()
        refuse_lazy(module)
        return module

    try:
        if device == "meta":
            attention = _build_on_meta(construct)
        else:
            with torch.device(device):
                attention = build_seeded(construct, seed, prefix)
    except Exception as error:  # a user's own module may raise anything
        raise SpecError(f"{subject}: {_reason(error, ATTENTIONS.signature(name))}") from None
    if not isinstance(attention, nn.Module):
        raise SpecError(f"{name} is a {type(attention).__name__}, not an nn.Module")
    if device == "meta":
        _check_shape(subject, attention, site, construct)
    return attention


def _reason(error: Exception, signature: Signature) -> str:
    """Return an error's message, with the line of code unless the message itself states a rule."""
    if isinstance(error, ValueError) and not user_location(error):
        return str(error)
    if user_location(error) or not isinstance(error, TypeError):
        return error_summary(error)
    return f"{error} ({signature.short_location})"  # the call does not match the parameters


def _check_shape(subject: str, attention: nn.Module, site: Site, build: Build) -> None:
    """Refuse a module that changes the shape; broadcasting in a later addition could hide the change."""
    expected = (2, site.channels, site.height, site.width)
    output = output_of(subject, attention, expected, with_values=build)
    if output is not UNKNOWN and shape_of(output) != expected:
        raise SpecError(f"{subject} must keep (B, C, H, W) = {expected}, got {shape_of(output)}")
