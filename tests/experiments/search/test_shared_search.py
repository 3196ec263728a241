"""Searches that several processes share, some of them killed: nothing is lost, nothing is tried twice."""

from dataclasses import replace

import pytest
from search_fakes import GROUPS, LR
from search_workers import DyingTrain, assert_tried_exactly_once, work_together

TEN = "  recipe.optimizer.lr: {values: [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]}\n"
SIXTY = GROUPS + TEN + "  model.attention.local_branch: {values: [true, false]}\n"


@pytest.fixture
def dying(make, tmp_path):
    """Return what tries trials of a sweep, and is killed once."""

    def maker(sweep, **options):
        _, trier = make(sweep, **options)
        return replace(trier, train=DyingTrain(tmp_path / "log"))

    return maker


def test_eight_processes_try_a_grid_once_though_one_is_killed(write, dying):
    trier = dying(write(SIXTY, method="grid"))
    assert work_together([trier] * 8) == [-9, *[0] * 7]
    assert_tried_exactly_once(trier, 60)


def test_processes_keep_the_number_of_random_trials_though_one_is_killed(write, dying):
    trier = dying(write(LR), limit=20)
    assert work_together([trier] * 4) == [-9, 0, 0, 0]
    assert_tried_exactly_once(trier, 20)
