"""scikit-learn's handwritten digits (UCI, Alpaydin and Kaynak 1998): bundled, nothing to download."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from ema_lab.data.images import ImageSplits, LabelledImages, stratified_choice

FACTS = {
    "classes": 10,
    "channels": 1,
    "image_size": 8,
    "train_images": 1_437,
    "test_images": 360,
    "mean": [0.30519],
    "std": [0.37580],
}

TEST_IMAGES = 360


def digits(root: Path) -> ImageSplits:
    """Handwritten digits: 10 classes, 1,797 grey images of 8 x 8, of which a fixed 360 are the test.

    The test images are a stratified choice that no seed of a run changes.
    """
    bunch = load_digits()
    grey = torch.as_tensor(bunch.images)  # 0 to 16
    images = (grey * 255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.as_tensor(bunch.target, dtype=torch.int64)
    test = stratified_choice(labels, TEST_IMAGES, "digits test split")
    return ImageSplits(
        LabelledImages(images[~test], labels[~test]), LabelledImages(images[test], labels[test])
    )
