"""Draw the figures of REPORT.md from recorded runs, and train these runs anew when asked.

python figures/regenerate.py                    draw every figure from its records, to runs/figures/
python figures/regenerate.py --only 2 3         these two
python figures/regenerate.py --retrain 2 3      train what these two show, then draw all
python figures/regenerate.py --retrain original the original's seven figures, a seed of long runs
python figures/regenerate.py --retrain all --dry_run   what would be trained, and the time it takes
python figures/regenerate.py --update           rewrite figures/output/, REPORT.md and the tables
python figures/regenerate.py --quick            everything in small, to runs/quick/
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figures import pages, report
from figures.catalogue import ReportFigure, all_claims, figures, stem
from figures.experiments import EXPERIMENTS, SHIFTED, Experiment, Records
from figures.retrain import LONG, expected_times, is_long, retrain
from training import UsageError
from training.cli import ROOT, format_duration, interruptible, run_cli
from training.flags import Parser, folder, number
from training.plotting import CANVASES, FORMATS, save_figure, style
from training.runs import write_atomically

BENCHMARKS = {  # by the section that shows them
    f"speeds of part {n}": ROOT / "tests" / "benchmarks" / f"part{n}.json" for n in (1, 2, 3)
}
FAULTS = ROOT / "tests" / "faults" / "faults.json"
MUTANTS = ROOT / "tests" / "mutants.json"
GRADING = ROOT / "tests" / "benchmarks" / "grading.json"
SECTIONS = ("results", "faults", "mutants", "grade", *BENCHMARKS)  # of README.md and docs/


def draw(
    name: str, figure: ReportFigure, records: Records, out: Path, formats: Sequence[str], note: str
) -> list[Path]:
    """Draw one figure with a note across it; write its caption, which names the runs it shows."""
    groups, path = figure.groups(records), out / stem(name)
    with style():
        drawn = figure.draw(groups)
        drawn.text(0.5, 0.5, note, fontsize=40, color="grey", alpha=0.3, ha="center")
        written = save_figure(drawn, path, formats)
    lines = [f"{figure.title} {note}".strip()]
    for experiment, run in ((group.experiment, run) for group in groups for run in group.runs):
        result, seed = run.result, run.config["seed"]
        accuracy = f"test accuracy {result['test_accuracy']:.4f}"
        accuracy += " with test-time augmentation" * (run.config.get("views", 1) > 1)
        lines.append(
            f"{experiment.group}, seed {seed}: {accuracy} at epoch {result['best_epoch']:g} of "
            f"{result['epochs']:g}; {experiment.command(seed)}"
        )
    caption = path.with_suffix(".txt")
    write_atomically(caption, "\n".join(lines) + "\n")
    return [*written, caption]


def texts(records: Records) -> tuple[dict[str, str], dict[str, str]]:
    """The sections of README.md and docs/, and the whole files, by their names."""
    claims = all_claims(records)
    sections = {name: pages.benchmark_table(path) for name, path in BENCHMARKS.items()}
    sections["results"] = pages.readme_table(records)
    sections["faults"] = pages.faults_table(FAULTS)
    sections["mutants"] = pages.mutants_summary(MUTANTS)
    sections["grade"] = pages.grade_summary(GRADING)
    page = report.report(records, claims, figures())
    names = "REPORT.md", "figures/output/results.json", "figures/output/results.tex"
    exported = report.exports(report.results(records, claims))
    return sections, dict(zip(names, (page, *exported), strict=True))


def to_train(
    chosen: Sequence[str], shown: Mapping[str, ReportFigure], records: Records
) -> list[Experiment]:
    """The experiments behind the chosen figures; `chosen` as `--retrain` takes it."""
    names = [*shown] if "all" in chosen else [name for name in chosen if name in shown]
    experiments = [each for name in names for each in shown[name].experiments]
    if "original" in chosen:
        numbered = [figure for name, figure in shown.items() if name.isdigit()]
        named = {*experiments}
        for each in (each for figure in numbered for each in figure.experiments):
            if each.is_original and each not in named:
                experiments.append(each.with_one_seed() if is_long(each, records) else each)
    return experiments


# fmt: off
def build_parser(names: Sequence[str]) -> Parser:
    """All flags."""
    parser = Parser(prog="regenerate.py", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", choices=names, metavar="N", help=f"figures to draw: {' '.join(names)}")
    add("--retrain", nargs="*", choices=[*names, "original", "all"], metavar="N",
        help="train anew what these figures show (original: the original's nets in figures 1 to 7, "
        f"with one seed where a run takes over {LONG / 60:.0f} minutes or was recorded on a GPU; "
        "all: every run; none named: those of --only, or else every run)")
    add("--dry_run", action="store_true",
        help="list the runs that --retrain would train with their times, and do nothing")
    add("--update", action="store_true",
        help="write to figures/, REPORT.md, README.md and docs/ in place of runs/figures/")
    add("--quick", action="store_true", help="short runs to runs/quick/, marked in each figure")
    add("--jobs", type=number(int, 1, 1000), default=2, metavar="N",
        help="runs at once (default: 2)")
    add("--format", nargs="+", choices=tuple(CANVASES), default=FORMATS,
        help="file types (default: png pdf, which --update writes in any case)")
    add("--out", type=folder, metavar="DIR", help="folder for the figures (default: runs/figures/)")
    add("--records", type=folder, metavar="DIR",
        help="folder of runs to draw in place of the committed ones of the same name, such as "
        "runs/figures/records/")
    add("--data_dir", type=folder, metavar="DIR", help="where CIFAR-10 lies, for runs that need it")
    return parser
# fmt: on


def main() -> int:
    """Retrain what was asked for, draw, and with --update rewrite the pages."""
    shown = figures()
    args = build_parser(list(shown)).parse_args()
    committed, runs = ROOT / "figures", ROOT / "runs"
    base = committed if args.update else runs / ("quick" if args.quick else "figures")
    recorded = committed / "records"
    records, written = Records(*filter(None, (args.records, recorded))), {}
    if args.quick and args.dry_run:
        raise UsageError("--dry_run: what short runs take is not recorded; leave out --quick")
    if args.quick and args.retrain:
        raise UsageError("--quick trains the figures that it draws; name them with --only")
    if args.records and (args.quick or args.retrain is not None):
        raise UsageError("--records draws runs that are there; leave out --quick and --retrain")
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UsageError(f"--out: {args.out} is no folder")
    if args.update:
        if args.quick or args.out or args.records:
            raise UsageError("--update goes neither with --quick nor with --out nor --records")
        args.format = [*dict.fromkeys((*FORMATS, *args.format))]  # files of the old runs would stay
        if args.only and args.retrain is not None:  # pictures of the old runs would stay
            raise UsageError("--update with --retrain draws every figure; leave out --only")
        written = pages.find_pages(ROOT, SECTIONS)  # before hours of training
    if args.records and not any((args.records / group).is_dir() for group in EXPERIMENTS):
        raise UsageError(f"--records: {args.records} holds no runs of a figure")
    if args.quick:
        shown = {name: figure.shortened() for name, figure in shown.items()}
    names = args.only or list(shown)
    if args.quick or args.dry_run or args.retrain is not None:
        experiments = to_train(args.retrain or names, shown, records)
        if args.dry_run or not args.quick:  # of short runs there are no records
            table, seconds, on_gpu = expected_times(experiments, records, args.jobs)
            time = f"by the records of earlier runs this takes {format_duration(seconds)}"
            if on_gpu:
                time += f"; runs recorded on a GPU, which are slow without one: {on_gpu}"
            shifted = [each for each in {*experiments} if SHIFTED[0] in each.measures]
            if shifted:
                n = sum(len(each.seeds) for each in shifted)
                time += f"; nets to be tried on shifted images, which is not counted: {n}"
            print(f"{table}\n\n{time}" if args.dry_run else time, flush=True)
        if args.dry_run:
            return 0
        for each in (each for name in names for each in shown[name].experiments):
            if each not in experiments:
                records.read(each)  # an error now, not after hours of training
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=args.out).close()  # the same
        new, work = base / "records", (base if args.quick else runs) / "retrain"
        options = {"jobs": args.jobs, "small": args.quick, "data_dir": args.data_dir}
        with interruptible():
            retrain(experiments, work, new, records, **options)
        records = Records(new) if args.quick else Records(new, recorded)
        if experiments and not (args.quick or args.update):
            again = f"again without training: --records {new}"
            print(f"the runs in {new} are drawn in place of those in {recorded}; {again}")
    out = committed / "output" if args.update else args.out or base
    for name in names:
        note = "Shortened runs." if args.quick else ""
        for path in draw(name, shown[name], records, out, args.format, note):
            print(path)
    if args.update:
        sections, files = texts(records)
        for section, content in sections.items():
            pages.update_section(written[section], section, content)
        for name, text in files.items():
            write_atomically(ROOT / name, text)
    return 0


if __name__ == "__main__":
    run_cli(main)
