"""ImageNet-1k (ILSVRC 2012; Russakovsky et al., arXiv:1409.0575): 1.3 million colour images in files."""

from pathlib import Path

from ema_lab.data.image_folder import image_folder_splits
from ema_lab.data.images import ImageSplits

FACTS = {
    "classes": 1000,
    "channels": 3,
    "image_size": 224,
    "train_images": 1_281_167,
    "test_images": 50_000,  # of its validation set
    "mean": [0.485, 0.456, 0.406],  # that ImageNet models are published with
    "std": [0.229, 0.224, 0.225],
}


def imagenet(root: Path, *, upright: bool = False) -> ImageSplits:
    """ImageNet-1k: 1,000 classes, 1,281,167 training and 50,000 test images, RGB, 224 x 224.

    The test split is ImageNet's validation set: the labels of its own test images are not public.
    Read from imagenet/train/<wnid>/*.JPEG and imagenet/val/<wnid>/*.JPEG in the data folder; never
    downloaded.

    Args:
        upright: Turn each image as its EXIF orientation says; published results mostly ignore it.
    """
    return image_folder_splits(root / "imagenet", image_size=224, upright=upright)
