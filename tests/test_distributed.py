"""Devices, precision, signals, and the processes that train one net together.

The processes are made up here; tests/test_part2.py starts real ones with torchrun.
"""

import contextlib
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch

from part2_cnn import train
from training import Interrupted, UsageError
from training.distributed import (
    CORES_ARE_SHARED,
    SIGNALS_ARE_FORWARDED,
    ProcessGroup,
    choose_device,
    choose_threads,
    deferred_signals,
    has_bfloat16,
    n_restarts,
    own_device,
    process_group,
    speaks_for_its_machine,
    started_by_torchrun,
)
from training.optim import make_optimizer
from training.torch_model import TorchModel

# --- Devices and precision ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "mps", "name", "chosen"),
    [(2, True, "auto", "cuda"), (0, True, "auto", "mps"), (0, False, "auto", "cpu"),
     (2, False, "cpu", "cpu"), (2, False, "cuda", "cuda"), (2, False, "cuda:1", "cuda:1"),
     (2, False, "cuda:2", None), (1, False, "cuda:1", None), (0, False, "cuda:0", None),
     (2, False, "mps", None)],
)  # fmt: skip
def test_a_device_is_chosen_among_those_of_the_machine(gpus, mps, name, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    if chosen:
        assert choose_device(name) == chosen
    else:
        with pytest.raises(UsageError, match=f"has no {name}; choose from auto, .*cpu$"):
            choose_device(name)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == torch.device("cuda", 3)
    assert own_device("cuda:1") == torch.device("cuda", 1)
    assert own_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_is_asked_for_bfloat16_units(supported, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "torch.cuda.device", lambda device: contextlib.nullcontext(asked.append(device))
    )
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda **how: asked.append(how) or supported
    )
    assert has_bfloat16("cuda:1") is supported
    assert asked == [torch.device("cuda", 1), {"including_emulation": False}]


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_a_processor_with_one_kind_of_bfloat16_units_has_them(avx512, amx, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert has_bfloat16("cpu") == (avx512 or amx)
    assert not has_bfloat16("mps")


@pytest.mark.parametrize(
    ("size", "given", "threads"),
    [(10, {}, [1]), (10**9, {}, []), (10, {"OMP_NUM_THREADS": "7"}, []),
     (10, {"OMP_NUM_THREADS": "7", CORES_ARE_SHARED: "1"}, [1])],
)  # fmt: skip
def test_a_tiny_net_has_one_thread_unless_the_user_chose(size, given, threads, monkeypatch):
    chosen = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(os, "environ", given)
    choose_threads(size)
    assert chosen == threads


# --- Processes ------------------------------------------------------------------------------------


def made_up_groups(**functions: object) -> list[ProcessGroup]:
    """The groups of two processes that communicate through these functions of torch.distributed."""
    return [
        ProcessGroup(
            SimpleNamespace(get_rank=lambda rank=rank: rank, get_world_size=lambda: 2,
                            get_backend=lambda: "gloo", **functions)
        )
        for rank in (0, 1)
    ]  # fmt: skip


def test_numbers_are_summed_over_the_processes():
    def all_reduce(tensor: torch.Tensor, group: object) -> None:
        tensor += torch.tensor([10.0, 0.0], dtype=torch.float64)[: len(tensor)]  # of another one

    group, _ = made_up_groups(all_reduce=all_reduce)
    assert group.total(1.0, 2.0) == (11.0, 2.0)
    assert group.any(False), "it holds in the other process"
    assert ProcessGroup().total(1.0, 2.0) == (1.0, 2.0)
    assert not ProcessGroup().any(0)


def test_values_are_gathered_by_rank():
    def all_gather_object(values: list, value: object, group: object) -> None:
        values[:] = ["first", value]

    _, other = made_up_groups(all_gather_object=all_gather_object)
    assert other.gather("second") == ["first", "second"]
    assert ProcessGroup().gather("alone") == ["alone"]


@pytest.mark.parametrize("fails", [True, False])
def test_the_main_process_works_for_all_and_all_get_what_it_returns_or_raises(fails):
    sent: list = []

    def broadcast_object_list(outcome: list, src: int, group: object) -> None:
        assert src == 0
        sent[:] = sent or outcome
        outcome[:] = sent

    def work() -> str:
        done.append("once")
        if fails:
            raise UsageError("the folder is in use")
        return "config"

    done: list[str] = []
    for group in made_up_groups(broadcast_object_list=broadcast_object_list):
        with pytest.raises(UsageError, match="in use") if fails else contextlib.nullcontext():
            assert group.on_main(work) == "config"
    assert done == ["once"]
    assert [group.is_main for group in made_up_groups()] == [True, False]


@pytest.mark.parametrize(
    ("run_id", "size", "started"),
    [({}, "1", False), ({}, "2", False),  # as schedulers of clusters set the size
     ({"TORCHELASTIC_RUN_ID": "cnn"}, "1", False), ({"TORCHELASTIC_RUN_ID": "cnn"}, "2", True)],
)  # fmt: skip
def test_a_scheduler_that_sets_world_size_is_no_torchrun(run_id, size, started, monkeypatch):
    for name, value in {**run_id, "WORLD_SIZE": size, "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    assert started_by_torchrun() == started
    assert speaks_for_its_machine() != started
    assert n_restarts() == 3  # of a single process, too


@pytest.mark.parametrize("machines", [1, 2])
@pytest.mark.parametrize(("device", "backend"), [("cpu", "gloo"), ("cuda", "nccl")])
def test_processes_of_torchrun_form_a_group_while_they_work(device, backend, machines, monkeypatch):
    variables = {
        "TORCHELASTIC_RUN_ID": "cnn", "TORCHELASTIC_RESTART_COUNT": "4", "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": str(2 // machines), "RANK": "1",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    called = []
    prefix = "a new prefix" if machines == 1 else "the store"  # see the pytorch issue named there
    for name, function in {
        "rendezvous": lambda url: iter([("the store", 1, 2)]),
        "PrefixStore": lambda name, store: "a new prefix" if name == "attempt_4" else name,
        "init_process_group": lambda *given, **how: called.append((*given, how)),
        "destroy_process_group": lambda: called.append("destroyed"),
        "get_rank": lambda: 1,
        "get_world_size": lambda: 2,
        "get_backend": lambda: backend,
        "new_group": lambda backend: f"group over {backend}",
    }.items():
        monkeypatch.setattr(torch.distributed, name, function)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 // machines)
    with process_group(device) as group:
        assert (group.rank, group.size) == (1, 2)
        assert called == [(backend, {"store": prefix, "rank": 1, "world_size": 2})]
    assert called[1:] == ["destroyed"]
    with pytest.raises(UsageError, match="torchrun needs cuda or cpu"), process_group("mps"):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for device in ("cuda", "auto"):
        with pytest.raises(UsageError, match="need a GPU each"):
            choose_device(device)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")  # not torchrun's, but a scheduler's
    assert choose_device("auto") == "cuda"


@pytest.mark.parametrize(
    ("n_processes", "variable", "interrupts"),
    [(1, "", True), (2, "", False), (1, SIGNALS_ARE_FORWARDED, False)],
)
def test_a_second_signal_interrupts_unless_one_is_forwarded(
    n_processes, variable, interrupts, monkeypatch
):
    monkeypatch.setenv(variable or "ANOTHER", "1")
    with deferred_signals(n_processes) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals == [signal.SIGINT]
        with pytest.raises(Interrupted) if interrupts else contextlib.nullcontext():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)  # Python calls the handler between two of its instructions


def test_a_process_that_a_checkpoint_does_not_know_keeps_its_generator():
    first, second = made_up_groups(all_gather_object=lambda values, value, group: None)
    net = torch.nn.Linear(2, 2)
    model = TorchModel(net, make_optimizer("sgd", net.parameters(), learning_rate=0.1), {})
    torch.manual_seed(1)
    state = model.state_dict()
    drawn = torch.rand(3)
    for group, same in ((first, True), (second, False)):
        model.group = group
        torch.manual_seed(2)
        model.load_state_dict(state)
        assert torch.equal(torch.rand(3), drawn) == same


def test_processes_that_cannot_share_a_split_or_a_batch_are_refused(tiny_cifar10):
    _, group = made_up_groups()
    group.on_main = lambda work: work()
    for flags, why in (
        (("--n_samples", "10", "--batch_size", "3"), "torchrun: 2 processes cannot share a "),
        (("--n_samples", "30", "--batch_size", "13", "--dry_run"), "cannot share a batch of 1,"),
    ):
        args = train.parse(["--data_dir", str(tiny_cifar10), "--device", "cpu", *flags])
        with pytest.raises(ValueError, match=why):
            train.build(args, group)
