"""What every train script does around its net: folder, run, summary line, exit code."""

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from training.errors import DivergedError, StorageError, UsageError, in_one_line
from training.record import RunFolder
from training.run import Batches, Learner, Plan, Run
from training.team import ALONE, Team, is_leader, n_restarts, started_by_torchrun

ROOT = Path(__file__).resolve().parents[1]
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def make_plan(args: argparse.Namespace, batches: Batches) -> Plan:
    """Turn the flags on length, looking and stopping into steps."""
    if "train_steps" in args:
        limits = {"train_steps": args.train_steps}
    else:
        limits = {
            "max_epochs": args.max_epochs and batches.steps_in(args.max_epochs),
            "max_steps": args.max_steps,
        }
    limits = {flag: steps for flag, steps in limits.items() if steps}
    if not limits:
        raise UsageError("--max_epochs or --max_steps must say how long to train")
    limit = min(limits, key=limits.get)
    return Plan(
        total_steps=1 if args.dry_run else limits[limit],
        limit=limit,
        eval_freq=args.eval_freq,
        learning_rate=args.learning_rate,
        schedule=args.schedule,
        patience=args.patience or None,
        seed=args.seed,
        checkpoint_seconds=args.checkpoint_seconds,
        quiet=args.quiet,
        target_accuracy=vars(args).get("target_accuracy"),
    )


def execute(
    args: argparse.Namespace,
    run_name: str,
    make_learner: Callable[[], tuple[Learner, Batches]],
    team: Team = ALONE,
) -> int:
    """Train as the flags say and print one line at the end; returns the exit code.

    `make_learner` is called before the run's folder is made, so that whatever it finds wrong with
    the flags or the data leaves nothing behind.
    """
    _check(args, team)
    path = args.run_dir or ROOT / "runs" / run_name
    if args.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            learner, batches = make_learner()
            plan = make_plan(args, batches)
            run = Run(learner, batches, plan, RunFolder(Path(scratch)), team)
            _train(run)
        if run.result["stopped_by"] == "diverged":
            return EXIT_FAILED
        if team.leads:
            print(f"dry run: one batch of everything went through {run_name}; nothing was kept")
        return 0
    run = _open_run(args, path, make_learner, team)
    with _guarded([run]):
        if run.result is None:
            _train(run)
        elif team.leads:
            print("the run has ended already, nothing to resume", file=sys.stderr)
    if team.leads:
        _report(run)
    return _exit_code([run])


def _check(args: argparse.Namespace, team: Team) -> None:
    """Refuse what no script can do, and resume where torchrun starts anew."""
    if args.resume and args.overwrite:
        raise UsageError("--resume and --overwrite exclude each other")
    if started_by_torchrun() and team is ALONE:
        raise UsageError("torchrun: this script trains in one process; start it with python")
    if n_restarts():
        args.resume, args.overwrite = True, False


def _open_run(
    args: argparse.Namespace,
    path: Path,
    make_learner: Callable[[], tuple[Learner, Batches]],
    team: Team = ALONE,
) -> Run:
    """The run in that folder, with its result if it has ended already."""
    config = {name: _plain(value) for name, value in sorted(vars(args).items())}
    resume, overwrite = args.resume, args.overwrite
    folder = RunFolder(path)
    team.from_leader(lambda: folder.check(config, resume=resume, overwrite=overwrite))
    learner, batches = make_learner()
    plan = make_plan(args, batches)
    team.from_leader(lambda: folder.open(config, resume=resume, overwrite=overwrite))
    run = Run(learner, batches, plan, folder, team)
    run.result = team.from_leader(folder.result)
    return run


def execute_together(
    runs: Sequence[tuple[argparse.Namespace, Path, Callable[[], tuple[Learner, Batches]]]],
) -> int:
    """Train several runs that differ in their seeds alone, a step of all at a time.

    Args:
        runs: flags, folder and learner of each, see `execute`.
    """
    from training.together import train_together  # here, so that the NumPy MLP starts without torch

    for args, *_ in runs:
        _check(args, ALONE)
    opened = [_open_run(*each) for each in runs]
    unfinished = [run for run in opened if run.result is None]
    with _guarded(opened):
        for error in train_together(unfinished):
            print(error, file=sys.stderr)
    for run in opened:
        _report(run)
    return _exit_code(opened)


def _exit_code(runs: Sequence[Run]) -> int:
    diverged = any(run.result["stopped_by"] == "diverged" for run in runs)
    return EXIT_FAILED if diverged else 0


def _report(run: Run) -> None:
    result = run.result
    accuracy, loss = (
        math.nan if result[name] is None else result[name]
        for name in ("test_accuracy", "test_loss")
    )
    print(
        f"test accuracy {accuracy:.4f} (loss {loss:.4f}) at epoch "
        f"{result['best_epoch']:g} of {result['epochs']:g}, {result['seconds']:.1f} s, "
        f"stopped by {result['stopped_by']}, run in {run.folder.path}"
    )


def _train(run: Run) -> None:
    try:
        run.train()
    except DivergedError as error:
        if run.team.leads:
            print(error, file=sys.stderr)


@contextmanager
def _guarded(runs: Sequence[Run]) -> Iterator[None]:
    """If the work is cut short, say how to go on; in any case unlock the folders."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if runs[0].team.leads:
            how = _how_to_go_on(runs[0])
            print(f"interrupted at step {runs[0].step}; go on with: {how}", file=sys.stderr)
        sys.exit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED))
    except OSError as error:
        raise StorageError(
            f"step {runs[0].step} could not be kept ({error.strerror}: {error.filename}); what was "
            f"kept before is whole, go on with: {_how_to_go_on(runs[0])}"
        ) from error
    finally:
        for run in runs:
            run.folder.close()


def _how_to_go_on(run: Run) -> str:
    """The command that resumes a run."""
    command = [arg for arg in sys.argv if arg not in ("--resume", "--overwrite")]
    launcher = "torchrun ..." if run.team.size > 1 else "python"
    return f"{launcher} {shlex.join(command)} --resume"


def one_line_errors(main: Callable[[], int], *also: type[Exception]) -> NoReturn:
    """Run a script's main and exit with its code, or with one line and a code if it went wrong.

    The code is 2 if the user erred, 1 if the machine failed, 130 after Ctrl-C.
    """
    try:
        sys.exit(main())
    except KeyboardInterrupt as interrupt:
        sys.exit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED))
    except (UsageError, *also) as error:
        _say(str(error))
        sys.exit(EXIT_USAGE)
    except (StorageError, OSError) as error:
        _say(str(error))
        sys.exit(EXIT_FAILED)
    except MemoryError as error:
        _say(f"out of memory ({error})")
        sys.exit(EXIT_FAILED)


def _say(message: str) -> None:
    if is_leader():
        print(f"{Path(sys.argv[0]).name}: error: {in_one_line(message)}", file=sys.stderr)


def _plain(value: object) -> object:
    """The value as JSON will give it back."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
