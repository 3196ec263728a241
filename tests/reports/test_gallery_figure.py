"""Gallery figure: the full colour range, and images visible below their maps."""

import numpy as np

from ema_lab.reports.figures.gallery import Panel, draw_gallery, gate_range

IMAGES = np.linspace(0, 1, 2 * 64).reshape(2, 8, 8, 1)
GATE = np.linspace(0.3, 0.6, 2 * 16).reshape(2, 4, 4)
CAM = np.linspace(0, 1, 2 * 64).reshape(2, 8, 8)


def drawn():
    panels = [Panel("se", GATE, CAM), Panel("ema", GATE + 0.2, CAM), Panel("none", None, CAM)]
    return draw_gallery(IMAGES, ["#0", "#1"], panels)


def test_all_gates_have_one_scale_over_the_values_shown():
    panels = [Panel("se", GATE, CAM), Panel("ema", np.where(GATE > 0.59, np.nan, GATE + 0.2), CAM)]
    assert gate_range(panels) == (0.3, np.nanmax(panels[1].gate))
    low, high = gate_range([Panel("identity", np.ones((1, 2, 2)), CAM)])
    assert low < 1 < high
    assert gate_range([Panel("none", None, CAM), Panel("dead", np.full((1, 2, 2), np.nan), CAM)]) is None
    maps = [image for axes in drawn().axes for image in axes.images if image.get_cmap().name == "viridis"]
    assert {image.get_clim() for image in maps} == {(0.3, 0.6 + 0.2)}
    assert len(maps) == 4


def test_the_bar_says_what_it_measures():
    assert drawn().axes[-1].get_ylabel() == "Gate: Σ|out| / Σ|in|"


def test_grad_cam_lies_over_its_image_which_shines_through():
    pairs = [axes.images for axes in drawn().axes if len(axes.images) == 2]
    assert len(pairs) == 6
    for place, (image, cam) in enumerate(pairs):
        assert (image.get_array() == IMAGES[place % 2].squeeze()).all()
        assert (cam.get_array() == CAM[place % 2]).all()
        assert image.get_alpha() is None
        assert 0 < cam.get_alpha() < 1
