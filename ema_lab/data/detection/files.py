"""Images with boxes in files, decoded on access."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ema_lab.data.detection.annotation import AnnotatedImage, Problems
from ema_lab.data.detection.geometry import Size
from ema_lab.data.detection.scenes import Truth, truth_bytes
from ema_lab.data.file_ends import ends_of, is_whole
from ema_lab.data.pictures import file_status, open_picture, read_pixels
from ema_lab.errors import DamagedDataError, DataError, missing_data_error

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True, eq=False)
class SceneFiles:
    """The images of one split; a `SceneSource`."""

    images: Sequence[AnnotatedImage]
    folder: Path

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: int) -> Tensor:
        path = self.images[index].path
        pixels = torch.from_numpy(read_pixels(path)).permute(2, 0, 1).contiguous()
        if tuple(pixels.shape[1:]) != self.images[index].size:
            found = f"{pixels.shape[2]} x {pixels.shape[1]}"
            height, width = self.images[index].size
            raise DamagedDataError(f"{path} is {found} pixels, its annotations say {width} x {height}")
        return pixels

    def size(self, index: int) -> Size:
        return self.images[index].size

    def truth(self, index: int) -> Truth:
        return self.images[index].truth

    def name(self, index: int) -> str:
        return self.images[index].path.stem

    def content(self) -> Iterator[bytes]:
        """Yield name, file size and boxes of each image; reading every pixel would take too long."""
        for image in self.images:
            yield f"{image.path.name}\0{file_status(image.path).st_size}\0".encode()
            yield from truth_bytes(image.truth)


def images_in(folder: Path) -> list[Path]:
    """Return the image files of a folder and those below it, by their names.

    Raises:
        AbsentDataError: If the folder around it is missing.
        DataError: If the folder has none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise missing_data_error(folder.parent)(f"no images in {folder}: expected files such as 0001.jpg")
    return found


def image_size(path: Path, problems: Problems) -> Size | None:
    """Return an image's height and width from its header; None, and a problem noted, for a broken file.

    A file that does not end as its format says is decoded, to see whether it was cut off.
    """
    try:
        with open_picture(path) as picture:
            if not is_whole(*ends_of(path)):
                picture.load()
            return picture.height, picture.width
    except DataError as error:
        problems.add(path, str(error).removeprefix(f"{path} "))
        return None
