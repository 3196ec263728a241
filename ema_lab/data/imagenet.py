"""ImageNet-1k (ILSVRC 2012; Russakovsky et al., arXiv:1409.0575): 1.3 million colour images in files."""

from pathlib import Path

from ema_lab.data.image_folder import image_folder_splits
from ema_lab.data.images import ImageSplits

FACTS = {
    "classes": 1000,
    "channels": 3,
    "image_size": 224,
    "train_images": 1_281_167,
    "test_images": 50_000,  # ImageNet's validation set
    "mean": [0.485, 0.456, 0.406],  # the values of published ImageNet models
    "std": [0.229, 0.224, 0.225],
}


def imagenet(
    root: Path,
    *,
    upright: bool = False,
    shorter_side: int | None = None,
    folder: str = "imagenet",
    classes: int = 1000,
    train_images: int = 1_281_167,
    test_images: int = 50_000,
) -> ImageSplits:
    """ImageNet-1k: 1,000 classes, 1,281,167 training and 50,000 test images, RGB, 224 x 224.

    ILSVRC 2012 (arXiv:1409.0575). The test split is ImageNet's validation set, because the labels of the
    original test images are not public. The files are FOLDER/train/<wnid>/*.JPEG and FOLDER/val/<wnid>/*.JPEG
    in the data folder; they are never downloaded. A subset is a folder with fewer classes, and its numbers.

    Args:
        upright: Whether to rotate each image by its EXIF orientation; published results mostly do not.
        shorter_side: Shorter side, in pixels, to which larger images are resized once. They are kept beside
            the folder as JPEG files of quality 95, so that pixels change; None reads the files as they are.
        folder: Folder of the images.
        classes: Number of classes, for a subset.
        train_images: Number of training images.
        test_images: Number of test images.
    """
    return image_folder_splits(root / folder, image_size=224, upright=upright, shorter_side=shorter_side)
