"""Where a PyTorch net is trained, in which precision, with how many threads."""

import ctypes
import os
import sys

import torch

from training.errors import UsageError

# A matrix product of fewer multiply-adds is over before a second thread has woken up.
SINGLE_THREAD_BELOW = 500_000


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
    if name == "cuda":  # torchrun numbers the processes of a machine, and each takes its own GPU
        return torch.device(name, int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def choose_threads(multiply_adds: int) -> None:
    """One thread for a net whose largest product is tiny; else what PyTorch or the user chose.

    Args:
        multiply_adds: of the largest matrix product in a step.
    """
    if multiply_adds < SINGLE_THREAD_BELOW and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format of that name for the products of a net; `auto`: the fastest.

    bfloat16 has float32's range and 8 bits of precision. Weights, sums and the optimiser stay in
    float32.

    Raises:
        UsageError: bfloat16 on a device that would have to imitate it, many times slower.
    """
    if name == "auto":
        name = "bfloat16" if has_bfloat16(device) else "float32"
    if name == "bfloat16" and not has_bfloat16(device):
        raise UsageError(
            f"--precision: this {device.type} has no bfloat16 units; choose auto or float32"
        )
    return getattr(torch, name)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return _cpu_has("avx512_bf16") or _cpu_has("amx_tile")
    return False  # MPS computes in bfloat16, but no faster


def _cpu_has(feature: str) -> bool:
    """Whether PyTorch knows the feature and the processor has it."""
    return bool(getattr(torch.cpu, f"_is_{feature}_supported", bool)())


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
