"""The contract of detection data sets: the shipped ones fulfil it, and each rule is broken once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ema_lab.contract.check import run_checks
from ema_lab.contract.scenes import CHECKS, SceneCase
from ema_lab.data.detection.scenes import ScenesInMemory, SceneSplits, Truth


def failed(case: SceneCase) -> dict[str, str]:
    return {one.name: one.detail for one in run_checks(CHECKS, case) if one.outcome == "failed"}


@pytest.mark.parametrize(
    ("target", "options"),
    [("synthetic_scenes", {}), ("digit_scenes", {"train_images": 60, "test_images": 40})],
)
def test_shipped_scenes_fulfil_the_contract(tmp_path, target, options):
    assert failed(SceneCase(target, tmp_path, options)) == {}


def _part(box, cls=0, pixels=None):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8) if pixels is None else pixels
    return ScenesInMemory([image], [Truth.of([box], [cls])])


@pytest.mark.parametrize(
    ("part", "check", "words"),
    [
        (_part([0, 0, 65, 9]), "boxes fit", "leaves the image of 64 x 64"),
        (_part([0, 0, np.inf, 9]), "boxes fit", "is not finite"),
        (_part([3, 3, 3, 9]), "boxes fit", "no width or height"),
        (_part([0, 0, 9, 9], cls=2), "boxes fit", "a class is not from 0 to 1"),
        (_part([0, 0, 9, 9], pixels=torch.zeros(3, 64, 64)), "images are bytes", "not torch.uint8"),
        (_part([0, 0, 9, 9]), "every class is in both parts", "no box of class b"),
    ],
)
def test_what_breaks_a_rule_is_named(tmp_path, monkeypatch, part, check, words):
    splits = SceneSplits(part, part, ("a", "b"))
    monkeypatch.setattr(SceneCase, "load", lambda case: splits)
    found = failed(SceneCase("synthetic_scenes", tmp_path, {"train_images": 1, "test_images": 1}))
    assert words in found[check]


def test_what_changes_from_load_to_load_is_found(tmp_path, monkeypatch):
    base = SceneCase("synthetic_scenes", tmp_path).load()
    other = replace(base, names=("x", "y"))
    answers = iter([base, other])
    monkeypatch.setattr(SceneCase, "load", lambda case: next(answers))
    found = failed(SceneCase("synthetic_scenes", tmp_path))
    assert "gives other images or boxes" in found["is the same every time"]
