"""What happens around a training run: its folder, resumption, the last line, errors, exit codes."""

import argparse
import contextlib
import io
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import numpy as np

from data import LARGEST_SEED, DataError
from data.batches import Batches
from training import DivergedError, Interrupted, UsageError, is_out_of_memory
from training.distributed import (
    CORES_ARE_SHARED,
    SIGNALS_ARE_FORWARDED,
    SINGLE_PROCESS,
    ProcessGroup,
    n_cores,
    n_restarts,
    on_one_machine,
    own_device,
    speaks_for_its_machine,
    started_by_torchrun,
    torchrun_id,
)
from training.flags import one_line, plain
from training.runs import CONFIG, IDENTIFYING_FLAGS, RESULT, RunFolder, read_config
from training.trainer import LENGTH_FLAGS, Trainable, Trainer

ROOT = Path(__file__).resolve().parents[1]
Result = TypeVar("Result")
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
# What may differ between a run and its resumption; --data_dir if the same images are there.
RESUMABLE_FLAGS = frozenset(
    ("run_dir", "resume", "overwrite", "quiet", "test", "data_dir", "cifar10_url",
     "checkpoint_seconds")
)  # fmt: skip
# Flags that runs of earlier versions did not record, and what these were trained with.
NEWER_FLAGS = {
    "cutout": 0, "forget_bias": None, "neg_slope": 0.01, "validation": "held_out",
}  # fmt: skip
TRAINING: set[subprocess.Popen] = set()  # the processes of `train_in_process`
STOPPED_BY: list[int] = []  # the signals that end them


def run_training(
    args: argparse.Namespace,
    script: str,
    run_name: Callable[[argparse.Namespace], str],
    build: Callable[[argparse.Namespace], tuple[Trainable, Batches]],
    group: ProcessGroup = SINGLE_PROCESS,
) -> int:
    """Train one run for each seed and print a line at the end of each; returns the exit code.

    Args:
        script: the train script, relative to the project's root.
        run_name: the name of a run's folder.
        build: makes the model and its batches. It is called before the run's folder is made, so
            that whatever it finds wrong with the flags or the data leaves nothing behind.
    """
    if group is SINGLE_PROCESS and started_by_torchrun():
        raise UsageError("torchrun: several processes can share the training of part 2 alone")
    if args.resume and args.overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if args.seed + args.n_seeds > LARGEST_SEED + 1:
        raise UsageError(f"--n_seeds: a seed would be above {LARGEST_SEED}")
    runs = ROOT / "runs" if args.run_dir is None else args.run_dir
    alone = args.n_seeds == 1 and args.run_dir is not None
    folders = {}
    for seed in range(args.seed, args.seed + args.n_seeds):
        one = argparse.Namespace(**vars(args) | {"seed": seed})
        del one.n_seeds  # each run is recorded as if it were alone
        folders[runs if alone else runs / run_name(one)] = one
    # torchrun repeats the command after a process has died, and counts that on its machine alone.
    if group.any(n_restarts()) and group.on_main(partial(_begun, folders)):
        for one in folders.values():
            one.resume, one.overwrite = True, False
    if args.n_seeds > 1 and not args.dry_run:  # the last seed, too, before the first is trained
        for path, one in folders.items():
            group.on_main(partial(_check, one, script, path))
    endings = []
    while folders:
        path = next(iter(folders))
        one = folders.pop(path)
        try:
            endings.append(_train_run(one, script, path, build, group, later=folders))
        except KeyboardInterrupt:  # while the net was built
            if endings and group.is_main and not args.dry_run:
                print(_interruption("before the next seed", group), file=sys.stderr)
            raise
    return EXIT_FAILED if "diverged" in endings else 0


def _config(args: argparse.Namespace, script: str) -> dict:
    return {"script": script} | {name: plain(value) for name, value in sorted(vars(args).items())}


def _begun(folders: Iterable[Path]) -> bool:
    """Whether this very torchrun has begun a run in one of them, and was not refused there."""
    configs = [read_config(path / CONFIG) for path in folders if (path / CONFIG).is_file()]
    return any(config.get("torchrun") == torchrun_id() for config in configs)


def _check(args: argparse.Namespace, script: str, path: Path) -> dict | None:
    """Refuse a folder, or flags that an earlier run in it was not trained with; returns its own."""
    earlier = RunFolder(path).check(resume=args.resume, overwrite=args.overwrite)
    if earlier:
        check_same_run(earlier, _config(args, script), path)
    return earlier


def _train_run(
    args: argparse.Namespace, script: str, path: Path, build: Callable, group: ProcessGroup,
    later: Mapping[Path, argparse.Namespace],
) -> str:  # fmt: skip
    """Train or resume one run, after which the `later` ones follow, in these folders.

    Nothing is written before all that can be wrong has been looked at.

    Returns:
        What stopped it.
    """
    if args.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            result = _fit(Trainer(*build(args), args, RunFolder(Path(scratch)), group))
        if group.is_main and result["stopped_by"] != "diverged":
            print("dry run: one batch of everything was trained and evaluated; nothing was kept")
        return result["stopped_by"]
    run_folder = RunFolder(path)
    earlier = group.on_main(partial(_check, args, script, path))
    trainer = Trainer(*build(args), args, run_folder, group)

    def ended() -> dict | None:
        """The result of a run that has ended and is not to be made longer."""
        result = run_folder.result() if args.resume else None
        longer = result and result["stopped_by"] in LENGTH_FLAGS
        return None if longer and result["steps"] < trainer.total_steps else result

    def start() -> None:
        run_folder.open(resume=args.resume, overwrite=args.overwrite)
        (path / RESULT).unlink(missing_ok=True)  # of the shorter run, which goes on
        now = environment(args)
        warn_of_changes((earlier or {}).get("environment") or {}, now)
        written = {"environment": now} | ({"torchrun": torchrun_id()} if torchrun_id() else {})
        run_folder.write_config(_config(args, script) | written)
        for other, flags in later.items() if args.overwrite else ():
            if other.is_dir():  # so that the run there is not taken for a new one
                replaced = RunFolder(other)
                replaced.open(resume=False, overwrite=True)
                replaced.write_config(_config(flags, script) | written)
                replaced.close()

    try:
        result = group.on_main(ended)
        if result:
            if group.is_main:
                print("the run has ended already, nothing to resume", file=sys.stderr)
        else:
            if args.resume:
                trainer.restore()
            group.on_main(start)
            result = _fit(trainer)
    except Interrupted as interrupt:
        if group.is_main:
            if interrupt.__cause__:  # the run had diverged
                print(interrupt.__cause__, file=sys.stderr)
            if trainer.result:
                print(_summary(trainer.result, path, test=args.test))
            if later or not trainer.result:
                at = "before the next seed" if trainer.result else f"at step {trainer.step}"
                print(_interruption(at, group), file=sys.stderr)
        sys.exit(interrupt.exit_code)
    except OSError as error:
        raise OSError(
            f"step {trainer.step} could not be saved ({error.strerror}: {error.filename or path}); "
            f"what was saved before is whole, resume with: {resume_command(group)}"
        ) from error
    finally:
        run_folder.close()
    if group.is_main:
        print(_summary(result, path, test=args.test))
    return result["stopped_by"]


def _fit(trainer: Trainer) -> dict:
    """Train, and say so if the run diverged; returns the result."""
    try:
        return trainer.fit()
    except DivergedError as error:
        if trainer.group.is_main:
            print(error, file=sys.stderr)
        return trainer.result


def _summary(result: dict, path: Path, *, test: bool) -> str:
    """A line on the best weights: the validation split's numbers, and on demand the test set's."""
    parts = []
    for split, name in (("val", "validation"), ("test", "test"))[: 2 if test else 1]:
        found = [result.get(f"{split}_{number}") for number in ("accuracy", "loss")]
        accuracy, loss = np.array(found, float)  # None, which is not finite, becomes NaN
        parts.append(f"{name} accuracy {accuracy:.4f} (loss {loss:.4f})")
    return (
        f"{', '.join(parts)} at epoch {result['best_epoch']:g} of {result['epochs']:g}, "
        f"{result['seconds']:.1f} s, stopped by {result['stopped_by']}, run in {path}"
    )


def _interruption(at: str, group: ProcessGroup) -> str:
    return f"interrupted {at}; resume with: {resume_command(group)}"


def resume_command(group: ProcessGroup) -> str:
    """How to call this process's script so that it continues, for the system's shell."""
    command = [arg for arg in sys.argv if arg not in ("--resume", "--overwrite")]
    launcher = "python"
    if group.size > 1:
        processes = f"--standalone --nproc_per_node={group.size}" if on_one_machine() else "..."
        launcher = f"torchrun {processes}"
    given = subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)
    return f"{launcher} {given} --resume"


def check_same_run(earlier: dict, config: dict, path: Path) -> None:
    """Refuse to resume a run with flags that would have changed its weights.

    Raises:
        UsageError: a flag differs; it is named.
    """
    if (script := earlier.get("script", config["script"])) != config["script"]:
        raise UsageError(f"--run_dir: {path} holds a run of {script}")
    earlier, free = NEWER_FLAGS | earlier, set(RESUMABLE_FLAGS)
    growing = len(config.get("image_sizes", ())) > 1
    if config["schedule"] == "constant" and not growing:  # a longer run takes the same first steps
        free |= set(LENGTH_FLAGS)
    for name in sorted(config, key=lambda name: name not in IDENTIFYING_FLAGS):
        if name not in free and earlier.get(name, config[name]) != config[name]:
            raise UsageError(
                f"--{name}: {path} holds a run with {earlier[name]}, "
                f"which cannot be resumed with {config[name]}"
            )


def warn_of_changes(earlier: dict, now: dict) -> None:
    """Say that the last bits may differ after a resumption with other versions or threads."""
    changed = [name for name, value in now.items() if earlier.get(name) not in (value, None)]
    if changed:
        details = ", ".join(f"{name} {earlier[name]}, now {now[name]}" for name in changed)
        print(f"resumed in another environment ({details}): the last bits may differ from an "
              "undisturbed run's", file=sys.stderr)  # fmt: skip


def environment(args: argparse.Namespace) -> dict:
    """Versions and hardware that a run uses; PyTorch's only where it is loaded."""
    torch = sys.modules.get("torch")
    on_gpu = args.device.startswith("cuda")
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else None,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability() if torch else None,
        "cores": n_cores(),
        "threads": torch.get_num_threads() if torch else None,
        "device": args.device,
        "gpu": torch.cuda.get_device_name(own_device(args.device)) if on_gpu else None,
        "precision": vars(args).get("precision", "float32"),
    }


def run_cli(main: Callable[[], int]) -> NoReturn:
    """Run a script's main and exit with its code, or with one line and a code if it failed.

    The code is 2 after wrong input, 1 if the machine failed, 128 + its number after a signal.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt as interrupt:
        sys.exit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED))
    except (UsageError, DataError) as error:
        message, code = str(error), EXIT_USAGE
    except OSError as error:
        message, code = str(error), EXIT_FAILED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason, *_ = str(error).splitlines() or [type(error).__name__]
        message, code = f"out of memory ({reason})", EXIT_FAILED
    # Wrong input fails in all processes alike.
    if sys.stderr and (code == EXIT_FAILED or speaks_for_its_machine()):
        print(f"{Path(sys.argv[0]).name}: error: {one_line(message)}", file=sys.stderr)
    sys.exit(code)


def train_in_process(
    command: Sequence[str], folder: Path, *, jobs: int, name: str, may_diverge: bool = False
) -> None:
    """Train one run in a process of its own, or continue it.

    Args:
        command: a train script and its flags.
        folder: of the run.
        jobs: that run side by side and must not compete for the same cores.
        name: of the run, for the message.
        may_diverge: a run that diverged is no failure.

    Raises:
        UsageError: the script refused its input; its last line is in the message.
        ChildProcessError: it failed in another way, or was killed.
    """
    command = [sys.executable, *command, "--quiet", "--resume", "--run_dir", str(folder)]
    environment = os.environ | {SIGNALS_ARE_FORWARDED: "1"}
    if jobs > 1 and "OMP_NUM_THREADS" not in environment:
        threads = str(max(1, n_cores() // jobs))
        environment |= {"OMP_NUM_THREADS": threads, CORES_ARE_SHARED: "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        TRAINING.add(process)
        if STOPPED_BY:  # while it was started
            process.send_signal(STOPPED_BY[-1])
        try:
            _, errors = process.communicate()
        finally:
            TRAINING.remove(process)
    code = process.returncode
    result = RunFolder(folder).result() if may_diverge and code == EXIT_FAILED else None
    if code == 0 or (result and result["stopped_by"] == "diverged"):
        return
    if code < 0:
        raise ChildProcessError(f"{name}: ended by signal {-code}; if memory ran out: fewer --jobs")
    failure = UsageError if code == EXIT_USAGE else ChildProcessError
    last_line = errors.strip().rpartition("\n")[2]
    raise failure(f"{name}: exit code {code}: {last_line}")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Pass SIGTERM on to processes of `train_in_process`; say how an interrupted call goes on."""

    def stop(number: int, _: object) -> NoReturn:
        STOPPED_BY.append(number)
        for process in [*TRAINING]:
            process.send_signal(number)
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        STOPPED_BY.clear()


def side_by_side(run: Callable[..., Result], calls: Iterable[tuple], jobs: int) -> Iterator[Result]:
    """Yield what `run` returns for each of the calls, as it comes; so many run at once.

    After one that failed, or once the caller has stopped, no other one is begun.
    """
    over = threading.Event()

    def unless_over(call: tuple) -> Result:
        if over.is_set():
            raise CancelledError
        try:
            return run(*call)
        except BaseException:
            over.set()
            raise

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for ended in as_completed([pool.submit(unless_over, call) for call in calls]):
                if not isinstance(ended.exception(), CancelledError):
                    yield ended.result()
        finally:
            over.set()


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def format_duration(seconds: float) -> str:
    """A length of time: 30 seconds, 90 minutes, 2.5 hours."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
