"""Backbones without weights, built once."""

from collections.abc import Callable
from functools import cache

import pytest

from ema_lab.models.backbone import Backbone
from ema_lab.models.build import named_backbone


@pytest.fixture(scope="session")
def on_meta() -> Callable[[str], Backbone]:
    """Return a function that builds a backbone of 10 classes and 3 channels without weights; change none."""
    return cache(lambda name: named_backbone(name, 10, 3, device="meta"))
