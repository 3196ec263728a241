"""Training of one run by several processes (ranks): their process group, Lightning strategy and sums.

Every rank trains the same model on its part of each batch; torch's DistributedDataParallel averages the
gradients. Rank 0 alone evaluates and writes the run's files.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed

from ema_lab.data.share import Share

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
LOOPBACK = "127.0.0.1"
c10d: Any = distributed  # its stores have no types
SIOCGIFADDR = 0x8915  # of Linux: the address of an interface


@dataclass(frozen=True)
class Rank:
    """One process among those that train a run.

    Attributes:
        share: Its share of each batch.
        meeting: URL where the ranks meet: `file:///...` or `tcp://HOST:PORT`.
        timeout: Seconds that a rank waits for the others.
        nodes: Number of machines, each with as many ranks.
        address: Address of this machine by which others reach it, if there are others.
    """

    share: Share
    meeting: str
    timeout: float
    nodes: int = 1
    address: str = ""

    @property
    def leads(self) -> bool:
        """Whether this rank evaluates and writes."""
        return self.share.rank == 0

    @property
    def per_node(self) -> int:
        """Number of ranks on each machine."""
        return self.share.world // self.nodes

    @property
    def local(self) -> int:
        """Number of the rank on its machine, and of its GPU there."""
        return self.share.rank % self.per_node


@contextmanager
def joined(rank: Rank, device: str) -> Iterator[None]:
    """Meet the other ranks for a block: by NCCL on CUDA, else by gloo."""
    if interface := interface_of(LOOPBACK if rank.nodes == 1 else rank.address):
        os.environ.setdefault(GLOO_INTERFACE, interface)  # a host's name need not lead to an address
    is_cuda = device != "cpu" and torch.cuda.is_available()
    if is_cuda:
        torch.cuda.set_device(rank.local)
    distributed.init_process_group(
        "nccl" if is_cuda else "gloo",
        store=_store_of(rank),
        rank=rank.share.rank,
        world_size=rank.share.world,
        timeout=timedelta(seconds=rank.timeout),
        device_id=torch.device("cuda", rank.local) if is_cuda else None,
    )
    yield
    distributed.destroy_process_group()  # not after an error: it would wait for the others


def served_meeting() -> Any:
    """Serve a store by which ranks of several machines meet, until it is deleted; it has a `port`."""
    return c10d.TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False)


def _store_of(rank: Rank) -> Any:
    """Return the store by which ranks meet; the process that started rank 0 serves one that has a port."""
    where, timeout = urlsplit(rank.meeting), timedelta(seconds=rank.timeout)
    if where.scheme == "file":
        store = c10d.FileStore(unquote(where.path), rank.share.world)
        store.set_timeout(timeout)
        return store
    return c10d.TCPStore(str(where.hostname), where.port or 0, is_master=False, timeout=timeout)


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has an IPv4 address; None outside of Linux."""
    names = [name for _, name in socket.if_nameindex()]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in names:
            with suppress(OSError):
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return None


def agreed(value: Any) -> Any:
    """Return rank 0's value in every rank."""
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def summed(totals: Mapping[str, Tensor], *, counts: bool) -> dict[str, Tensor]:
    """Return sums over all ranks, in float64.

    Args:
        totals: Scalars of this rank by name, the same names in every rank.
        counts: Whether this rank's values are among them.
    """
    names = sorted(totals)
    values = torch.stack([totals[name].detach().double() for name in names])
    values = values if counts else torch.zeros_like(values)
    distributed.all_reduce(values)
    return dict(zip(names, values, strict=True))


class _Environment(ClusterEnvironment):
    """Ranks as Lightning sees them: already started, and already met."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise NotImplementedError("the ranks have met")

    @property
    def main_port(self) -> int:
        raise NotImplementedError("the ranks have met")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._rank.share.world

    def set_world_size(self, size: int) -> None:
        """Keep the number of ranks."""

    def global_rank(self) -> int:
        return self._rank.share.rank

    def set_global_rank(self, rank: int) -> None:
        """Keep the rank."""

    def local_rank(self) -> int:
        return self._rank.local

    def node_rank(self) -> int:
        return self._rank.share.rank // self._rank.per_node


class OneWriter(DDPStrategy):
    """Lightning's DDP strategy in which rank 0 saves checkpoints without the other ranks.

    Parameters without a gradient are found in each pass, as models with dropped branches need. The buckets of
    gradients then also stay as they are, so that a resumed run adds up in the same order.
    """

    def __init__(self, rank: Rank) -> None:
        super().__init__(
            cluster_environment=_Environment(rank),
            timeout=timedelta(seconds=rank.timeout),
            find_unused_parameters=True,
        )

    def barrier(self, name: str | None = None, *_: Any, **__: Any) -> None:
        if name != "Trainer.save_checkpoint":
            super().barrier()
