"""Fixtures of pushes."""

from curved import study, trackio_folder

__all__ = ["study", "trackio_folder"]
