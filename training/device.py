"""Where a PyTorch net is trained, with how many threads."""

import os

import torch

from training.errors import UsageError

# Below this many parameters an operation is over before a second thread has woken up.
SINGLE_THREAD_BELOW = 50_000


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        UsageError: the machine has no such device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, present in available.items() if present)
    if not available[name]:
        present = ", ".join(d for d, there in available.items() if there)
        raise UsageError(f"--device: this machine has no {name}; choose from auto, {present}")
    return torch.device(name)


def choose_threads(n_parameters: int) -> None:
    """One thread for a tiny net; otherwise what PyTorch or OMP_NUM_THREADS chose."""
    if n_parameters < SINGLE_THREAD_BELOW and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
