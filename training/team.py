"""The processes that train one net together, as torchrun starts them; mostly a process alone.

Each process computes the gradient on its share of every batch, and all take the same step on the
mean. Whatever depends on a clock or a signal is agreed on first, so that all do the same.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from training.errors import UsageError

T = TypeVar("T")


class Team:
    """A process alone, which has nobody to agree with.

    Attributes:
        rank: number of this process, from 0. Number 0 leads: it alone reads and writes the run.
        size: how many processes there are.
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process reads and writes the run's folder."""
        return self.rank == 0

    def any(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return wish

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        return values

    def gather(self, value: Any) -> list:
        """The values of all processes, by rank."""
        return [value]

    def from_leader(self, work: Callable[[], T]) -> T:
        """Do the work in the leading process alone; all get what it returns or raises."""
        return work()


ALONE = Team()


class ProcessGroup(Team):
    """Processes that torchrun started, over gloo; the gradients go over NCCL between GPUs."""

    def __init__(self, device_type: str):
        import torch.distributed as dist

        self._dist = dist
        backend = choose_backend(device_type)
        store, rank, size = next(dist.rendezvous("env://"))
        if one_machine():
            # torchrun keeps the store over a restart, and with it the addresses of dead processes,
            # at which a new one may wait for ever (pytorch issue 135712). Hence a name for each.
            store = dist.PrefixStore(f"attempt_{n_restarts()}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._control = None if backend == "gloo" else dist.new_group(backend="gloo")

    def any(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        return self.total(float(wish))[0] > 0

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes, in float64."""
        import torch

        sums = torch.tensor(values, dtype=torch.float64)
        self._dist.all_reduce(sums, group=self._control)
        return tuple(sums.tolist())

    def gather(self, value: Any) -> list:
        """The values of all processes, by rank."""
        values = [None] * self.size
        self._dist.all_gather_object(values, value, group=self._control)
        return values

    def from_leader(self, work: Callable[[], T]) -> T:
        """Do the work in the leading process alone; all get what it returns or raises."""
        outcome: list = [None, None]
        if self.leads:
            try:
                outcome[0] = work()
            except Exception as error:
                outcome[1] = error
        self._dist.broadcast_object_list(outcome, src=0, group=self._control)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]

    def leave(self) -> None:
        """End the team."""
        self._dist.destroy_process_group()


def choose_backend(device_type: str) -> str:
    """What carries the gradients: NCCL between NVIDIA GPUs, gloo between CPUs.

    Raises:
        UsageError: the devices cannot be used together.
    """
    backends = {"cuda": "nccl", "cpu": "gloo"}
    if device_type not in backends:
        raise UsageError(f"--device: torchrun needs cuda or cpu, not {device_type}")
    return backends[device_type]


def started_by_torchrun() -> bool:
    """Whether this is one of several processes, or of machines, that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def n_restarts() -> int:
    """How often torchrun has started this process anew (`--max-restarts`).

    After a failure elsewhere, torchrun on another machine counts no restart of its own.
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def one_machine() -> bool:
    """Whether all processes run on this machine."""
    return os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")


def is_leader() -> bool:
    """Whether this process may speak for all, known even before they have joined."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device_type: str) -> Iterator[Team]:
    """This process's team, for the time of a `with` block."""
    if not started_by_torchrun():
        yield ALONE
        return
    team = ProcessGroup(device_type)
    yield team
    team.leave()
