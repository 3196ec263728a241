"""Share of one process (rank) in each global batch of a run over several processes.

Cutting is pure: the same global batch holds the same images for any number of processes.
"""

from dataclasses import dataclass

LEAST_IMAGES = 2  # per rank: batch normalisation cannot compute the variance of a single image


@dataclass(frozen=True)
class Part:
    """Images of a global batch that one rank computes.

    Attributes:
        start: Position of the first image in the global batch.
        stop: Position after the last one.
        images: Number of images in the global batch.
        factor: Factor of the rank's mean loss. The mean of all ranks' products is the global batch's mean.
        counts: Whether the rank adds its images to the sums of the epoch.
    """

    start: int
    stop: int
    images: int
    factor: float = 1.0
    counts: bool = True

    @property
    def size(self) -> int:
        """Number of images that the rank computes."""
        return self.stop - self.start

    @property
    def is_whole(self) -> bool:
        """Whether the rank computes the whole global batch."""
        return self.size == self.images


@dataclass(frozen=True)
class Share:
    """One rank among the processes of a run; by default the only one.

    Attributes:
        rank: Number of the process, from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    def part(self, images: int) -> Part:
        """Return this rank's part of a global batch: a slice; sizes of slices differ by one at most.

        A batch too small for `LEAST_IMAGES` per rank, which only the last of an epoch can be, is computed
        whole by every rank, and counted by rank 0.
        """
        if self.world == 1:
            return Part(0, images, images)
        if images < LEAST_IMAGES * self.world:
            return Part(0, images, images, counts=self.rank == 0)
        start, stop = (images * edge // self.world for edge in (self.rank, self.rank + 1))
        return Part(start, stop, images, self.world * (stop - start) / images)


ALONE = Share()
