"""Draw the report's figures from recorded runs, and train these runs anew when asked.

python figures/regenerate.py                      every figure, from figures/records/
python figures/regenerate.py --only 2 3           these two
python figures/regenerate.py --retrain 2 3        train what these two show, then draw all
python figures/regenerate.py --quick              everything in small, into runs/quick/
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from matplotlib.figure import Figure
from tqdm import tqdm

from data import DataError
from figures import experiments, part1, part2
from figures.experiments import Experiment
from figures.results import benchmark_table, results_table, update_readme
from figures.shifts import SHIFTS_FILE, measure_shifts
from training.curves import FORMATS, save_figure
from training.errors import UsageError
from training.flags import Parser, number
from training.record import CONFIG, HISTORY, RESULT, RunRecord, read_run, write_whole
from training.script import ROOT, one_line_errors

HERE = Path(__file__).resolve().parent
RETRAIN_DIR = ROOT / "runs" / "retrain"  # where runs live until they are whole
QUICK_DIR = ROOT / "runs" / "quick"
BENCHMARKS = {  # by the section of the README that shows them
    "speeds of part 1": ROOT / "tests" / "benchmarks" / "part1.json",
}
QUICK_SHIFT_IMAGES = 500
THIS_MACHINE = ("run_dir", "data_dir")  # flags that a record does not keep


@dataclass(frozen=True)
class Picture:
    """One figure: what it shows, how it is drawn, and from which runs."""

    title: str
    draw: Callable[[Sequence[RunRecord]], Figure]
    runs: tuple[Experiment, ...]


def pictures() -> dict[str, Picture]:
    """Every figure by its name in the report, and the extra ones."""
    mlp_report = tuple(experiments.cifar10_report_experiments())
    cnn_report = experiments.cnn_report_experiment()
    return {
        "1": Picture("The toy data sets, 600 training points each.", part1.draw_toy_sets, ()),
        "2": Picture(
            "Circles: accuracy and loss of the NumPy and the PyTorch MLP. Lines are means over "
            "the seeds, bands their range; a dot is the best epoch of a seed.",
            part1.draw_toy_curves,
            tuple(experiments.toy_experiments("circles")),
        ),
        "3": Picture(
            "Moons: accuracy and loss of the NumPy and the PyTorch MLP. Lines are means over the "
            "seeds, bands their range; a dot is the best epoch of a seed.",
            part1.draw_toy_curves,
            tuple(experiments.toy_experiments("moons")),
        ),
        "4": Picture(
            "MLP 512-256-128 on CIFAR-10 with the report's recipe: loss and accuracy on 5,000 "
            "training images (not augmented) and on the test set.",
            part1.draw_cifar10_curves,
            mlp_report,
        ),
        "5": Picture(
            "CNN on CIFAR-10 with the report's recipe: loss and accuracy on 5,000 training images "
            "(not augmented) and on the test set.",
            part2.draw_report_curves,
            (cnn_report,),
        ),
        "mlp_best": Picture(
            "MLPs on CIFAR-10: the report's recipe, the best recipe, and the best recipe with "
            "free hidden sizes.",
            part1.draw_cifar10_best,
            (mlp_report[0], *experiments.cifar10_best_experiments()),
        ),
        "mlp_and_cnn": Picture(
            "The MLP and the CNN side by side on CIFAR-10, both with the report's recipe: accuracy "
            "and loss on 5,000 training images (not augmented) and on the test set.",
            part2.draw_mlp_and_cnn,
            (*mlp_report, cnn_report),
        ),
        "shifts": Picture(
            "Test accuracy when every test image is shifted, black filling the gap: the mean over "
            "shifts to the left, right, up and down, and over seeds; bands are the range.",
            part2.draw_shifts,
            (*mlp_report, cnn_report),
        ),
    }


def retrain(
    runs: Sequence[Experiment], work: Path, records: Path, *, jobs: int, quick: bool, data_dir: str
) -> None:
    """Train every run in a process of its own and replace its record.

    A run lives in `work` until it is whole. There it is resumed if an earlier call was interrupted.

    Raises:
        UsageError: a train script failed; what it said is in the message.
    """
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(runs), unit="run", disable=None) as bar:
        data = ("--data_dir", data_dir) if data_dir else ()
        waiting = {}
        for run in runs:
            flags = (*run.flags, *(run.quick if quick else ()), *data)
            folders = (work / run.record, records / run.record)
            waiting[pool.submit(_train, run, flags, *folders, jobs)] = run
        try:
            for done in as_completed(waiting):
                done.result()
                run = waiting[done]
                if run.shifts:
                    images = QUICK_SHIFT_IMAGES if quick else None
                    shifts = measure_shifts(read_run(work / run.record), data_dir, images)
                    write_whole(records / run.record / SHIFTS_FILE, shifts)
                shutil.rmtree(work / run.record)
                bar.set_postfix_str(run.record)
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _train(run: Experiment, flags: Sequence[str], folder: Path, record: Path, jobs: int) -> None:
    command = [sys.executable, str(ROOT / run.script), *flags, "--quiet", "--resume"]
    environment = dict(os.environ)
    if jobs > 1:  # runs side by side must not fight for the same cores
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // jobs))
    outcome = subprocess.run(
        [*command, "--run_dir", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if outcome.returncode:
        said = outcome.stderr.strip().rpartition("\n")[2]
        raise UsageError(f"{run.record} failed with exit code {outcome.returncode}: {said}")
    keep_record(folder, record)


def keep_record(folder: Path, record: Path) -> None:
    """Copy a run without its weights and without the paths of the machine it ran on."""
    record.mkdir(parents=True, exist_ok=True)
    config = json.loads((folder / CONFIG).read_text()) | dict.fromkeys(THIS_MACHINE)
    write_whole(record / CONFIG, json.dumps(config, indent=2) + "\n")
    for name in (HISTORY, RESULT):
        write_whole(record / name, (folder / name).read_bytes())


def draw(
    name: str, picture: Picture, records: Path, out: Path, formats: Sequence[str], quick: bool
) -> list[Path]:
    """Draw one figure and write its caption, which names the runs it shows."""
    runs = [read_run(records / run.record) for run in picture.runs]
    figure = picture.draw(runs)
    if quick:
        figure.text(0.5, 0.5, "QUICK", fontsize=40, color="grey", alpha=0.3, ha="center")
    stem = out / (f"figure{name}" if name.isdigit() else name)
    lines = [picture.title + (" Shortened runs." if quick else "")]
    lines += [
        f"{record.path.name}: test accuracy {record.result['test_accuracy']:.4f} at epoch "
        f"{record.result['best_epoch']:g} of {record.result['epochs']:g}; {run.command}"
        for record, run in zip(runs, picture.runs, strict=True)
    ]
    written = save_figure(figure, stem, formats)
    caption = stem.with_suffix(".txt")
    write_whole(caption, "\n".join(lines) + "\n")
    return [*written, caption]


def build_parser(names: Sequence[str]) -> Parser:
    """All flags."""
    parser = Parser(prog="regenerate.py", description=__doc__.split("\n\n")[0])
    add = parser.add_argument
    add("--only", nargs="+", choices=names, metavar="N", help=f"figures to draw: {' '.join(names)}")
    add(
        "--retrain",
        nargs="*",
        choices=[*names, "all"],
        metavar="N",
        help="train anew what these figures show (all: every run; none named: those of --only)",
    )
    add("--quick", action="store_true", help="short runs into runs/quick/, marked in each figure")
    add("--jobs", type=number(int, 1), default=2, metavar="N", help="runs at once (default: 2)")
    add(
        "--format",
        nargs="+",
        choices=("png", "pdf", "svg"),
        default=FORMATS,
        help="file types (default: png pdf)",
    )
    add("--out", type=Path, metavar="DIR", help="folder for the figures (default: figures/)")
    add("--data_dir", metavar="DIR", help="where CIFAR-10 lies, for runs that need it")
    return parser


def main() -> int:
    """Retrain what was asked for, draw, and bring the README's table up to date."""
    shown = pictures()
    args = build_parser(list(shown)).parse_args()
    only = args.only or list(shown)
    base = QUICK_DIR if args.quick else HERE
    records, out = base / "records", args.out or base
    if args.quick or args.retrain is not None:
        names = args.retrain or only
        names = list(shown) if "all" in names else names
        runs = list(dict.fromkeys(run for name in names for run in shown[name].runs))
        work = QUICK_DIR / "retrain" if args.quick else RETRAIN_DIR
        retrain(runs, work, records, jobs=args.jobs, quick=args.quick, data_dir=args.data_dir)
    for name in only:
        for path in draw(name, shown[name], records, out, args.format, args.quick):
            print(path)
    if not args.quick and out == HERE:
        folders = sorted(path for path in records.iterdir() if path.is_dir())
        update_readme(ROOT / "README.md", "results", results_table(map(read_run, folders)))
        for section, path in BENCHMARKS.items():
            update_readme(ROOT / "README.md", section, benchmark_table(path))
    return 0


if __name__ == "__main__":
    one_line_errors(main, DataError)
