"""The processes of a run: torchrun, signals, device, precision and threads.

Each process computes the gradient on its share of every batch, and all take the same step on the
mean. Whatever depends on a clock or a signal is agreed on first, so that all do the same. A run of
one process uses the same code, with a group of one.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from training import Interrupted, UsageError

if TYPE_CHECKING:  # the NumPy MLP runs without PyTorch
    import torch

T = TypeVar("T")

# With fewer multiply-adds in a matrix product a second thread costs more than it saves.
SINGLE_THREAD_BELOW = 500_000
# In the environment of runs side by side, whose OMP_NUM_THREADS is their share of the cores.
CORES_ARE_SHARED = "TRAINING_CORES_ARE_SHARED"
# In that of runs to which the script that started them passes signals on.
SIGNALS_ARE_FORWARDED = "TRAINING_SIGNALS_ARE_FORWARDED"


class ProcessGroup:
    """The processes that train one net together; by default this process alone.

    They communicate over gloo; the gradients go over NCCL between GPUs.

    Args:
        dist: `torch.distributed`, once it has been initialised.

    Attributes:
        rank: number of this process, from 0. Rank 0 is the main process: it alone reads and writes
            the run folder.
        size: number of processes.
    """

    def __init__(self, dist: Any = None):
        self._dist = dist
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist else (0, 1)
        on_gpus = dist and dist.get_backend() != "gloo"
        self._control = dist.new_group(backend="gloo") if on_gpus else None

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.rank == 0

    def any(self, condition: object) -> bool:
        """Whether the condition holds in any process."""
        return self.total(bool(condition))[0] > 0

    def total(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes, in float64."""
        if not self._dist:
            return values
        import torch

        sums = torch.tensor(values, dtype=torch.float64)
        self._dist.all_reduce(sums, group=self._control)
        return tuple(sums.tolist())

    def gather(self, value: Any) -> list:
        """The values of all processes, by rank."""
        values = [value] * self.size
        if self._dist:
            self._dist.all_gather_object(values, value, group=self._control)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """Do the work in the main process alone; all get what it returns or raises."""
        if not self._dist:
            return work()
        outcome: list = [None, None]
        if self.is_main:
            try:
                outcome[0] = work()
            except Exception as error:
                outcome[1] = error
        self._dist.broadcast_object_list(outcome, src=0, group=self._control)
        if outcome[1] is not None:
            raise outcome[1]
        return outcome[0]


SINGLE_PROCESS = ProcessGroup()


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """This process's group for work on such a device, for the duration of a `with` block.

    Raises:
        UsageError: processes cannot share work on such devices.
    """
    if not started_by_torchrun():
        yield SINGLE_PROCESS
        return
    if device not in ("cuda", "cpu"):  # each process chooses a GPU of its own, so not cuda:N either
        raise UsageError(f"--device: torchrun needs cuda or cpu, not {device}")
    import torch.distributed as dist

    store, rank, size = next(dist.rendezvous("env://"))
    if on_one_machine():
        # torchrun keeps the store over a restart, and with it the addresses of dead processes, for
        # which a new one may wait for ever (pytorch issue 135712). Hence a new prefix each time.
        store = dist.PrefixStore(f"attempt_{n_restarts()}", store)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    yield ProcessGroup(dist)
    dist.destroy_process_group()


def started_by_torchrun() -> bool:
    """Whether this is one of several processes that torchrun started.

    Schedulers of clusters set WORLD_SIZE and RANK, too; only torchrun sets a run id.
    """
    return torchrun_id() is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1


def on_one_machine() -> bool:
    """Whether all processes of torchrun are on this machine."""
    return os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")


def torchrun_id() -> str | None:
    """What torchrun calls this call of it (`--rdzv_id`); None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def n_restarts() -> int:
    """How often torchrun has restarted this process (`--max-restarts`), also if it is alone.

    After a failure elsewhere, torchrun on another machine counts no restart of its own.
    """
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def speaks_for_its_machine() -> bool:
    """Whether this process prints for all of its machine; known before the group exists."""
    return not started_by_torchrun() or os.environ.get("LOCAL_RANK", "0") == "0"


def choose_device(name: str) -> str:
    """The device of that name; `auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        UsageError: the machine has no such device, or fewer GPUs than processes.
    """
    import torch

    n_gpus = torch.cuda.device_count()
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    present = [*(gpu for gpu, there in gpus.items() if there), "cpu"]
    name = present[0] if name == "auto" else name
    kind, _, number = name.partition(":")
    if kind not in present or int(number or 0) >= max(1, n_gpus):
        choices = ", ".join(("auto", *present))
        raise UsageError(f"--device: this machine has no {name}; choose from {choices}")
    n_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if started_by_torchrun() else 1
    if name == "cuda" and n_processes > n_gpus:
        raise UsageError(
            f"--device: {n_processes} processes need a GPU each, this machine has {n_gpus}"
        )
    return name


def own_device(name: str) -> "torch.device":
    """This process's device: under torchrun each process of a machine has a GPU of its own."""
    import torch

    if name == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def choose_threads(multiply_adds: int) -> None:
    """One thread for a net whose largest product is tiny; else what PyTorch or the user chose.

    Args:
        multiply_adds: of the largest matrix product in a step.
    """
    import torch

    chosen = "OMP_NUM_THREADS" in os.environ and CORES_ARE_SHARED not in os.environ
    if multiply_adds < SINGLE_THREAD_BELOW and not chosen:
        torch.set_num_threads(1)


def choose_precision(name: str, device: str) -> str:
    """The number format for the products of a net; `auto` is bfloat16 where it is fast.

    bfloat16 has float32's range and 8 bits of precision. Weights, sums and the optimiser stay in
    float32, but for Muon's products of matrices of 1,024 rows and columns or more.

    Raises:
        UsageError: bfloat16 on a device that would have to emulate it, many times slower.
    """
    if name == "auto":
        return "bfloat16" if has_bfloat16(device) else "float32"
    if name == "bfloat16" and not has_bfloat16(device):
        raise UsageError(
            f"--precision: this {device} has no bfloat16 units; choose auto or float32"
        )
    return name


def has_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(own_device(device)):  # of several, the question is to this one
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":  # older versions of PyTorch lack one of these functions
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, bool)() for name in names)
    return False  # MPS computes in bfloat16, but no faster


def n_cores() -> int:
    """The cores that this process may use, where the system tells; otherwise all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is GNU's.

    By default every large tensor is handed back to the system and fetched again, page by zeroed
    page, at each step: a tenth to a fifth of a convolutional net's time on a CPU.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # the numbers are those of malloc.h
        mallopt(-4, 0)  # M_MMAP_MAX: no memory outside the heap
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: do not shrink the heap


@contextmanager
def deferred_signals(n_processes: int = 1) -> Iterator[list[int]]:
    """Collect the numbers of Ctrl-C and SIGTERM in a list, so that the first interrupts no step.

    Args:
        n_processes: with one, a second signal raises Interrupted; with several it does not, for
            torchrun forwards to its processes a signal that the terminal has sent them already.
            So do the scripts that train runs in processes.
    """
    received: list[int] = []
    forwarded = n_processes > 1 or SIGNALS_ARE_FORWARDED in os.environ

    def receive(number: int, frame: object) -> None:
        if received and not forwarded:
            raise Interrupted(number)
        received.append(number)

    is_main_thread = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main_thread else ()  # others may handle none
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
