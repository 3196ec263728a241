import pytest

from ema_lab.models.placement import glob_matches


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("layer*.*.bn2", "layer1.0.bn2", True),
        ("layer*.*.bn2", "layer1.0.downsample.bn2", False),
        ("layer*", "layer1.0", False),
        ("**.bn2", "layer1.0.downsample.bn2", True),
        ("layer?.0", "layer12.0", False),
        ("layer1.0", "layer1x0", False),
        ("conv1", "layer1.0.conv1", False),
    ],
)
def test_stars_stay_inside_one_part_of_a_name(pattern, name, expected):
    assert glob_matches(pattern, name) is expected
