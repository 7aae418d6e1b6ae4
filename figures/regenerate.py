"""Draw the report's figures from recorded runs, and train these runs anew when asked.

python figures/regenerate.py                      every figure, from figures/records/
python figures/regenerate.py --only 2 3           these two
python figures/regenerate.py --retrain 2 3        train what these two show, then draw all
python figures/regenerate.py --quick              everything in small, into runs/quick/
"""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import DataError
from figures.claims import all_claims
from figures.effects import Claim, claims_table
from figures.pictures import Picture, pictures, stem
from figures.report import Caption, as_json, as_latex, numbers, report
from figures.results import (
    benchmark_table,
    by_name,
    faults_table,
    in_words,
    lengths_table,
    machine_in_words,
    results_table,
    training_seconds,
    update_readme,
)
from figures.retrain import retrain
from training.curves import FORMATS, save_figure
from training.flags import Parser, number
from training.record import RunRecord, read_run, write_whole
from training.script import ROOT, one_line_errors

HERE = Path(__file__).resolve().parent
RETRAIN_DIR = ROOT / "runs" / "retrain"  # where runs live until they are whole
QUICK_DIR = ROOT / "runs" / "quick"
BENCHMARKS = {  # by the section of the README that shows them
    "speeds of part 1": ROOT / "tests" / "benchmarks" / "part1.json",
    "speeds of part 2": ROOT / "tests" / "benchmarks" / "part2.json",
    "speeds of part 3": ROOT / "tests" / "benchmarks" / "part3.json",
}
FAULTS = ROOT / "tests" / "survival" / "survival.json"
SWEEPS = ("rnn_hidden", "rnn_length", "rnn_limits")  # too many lines for a table; see the figures


def draw(
    name: str, picture: Picture, records: Path, out: Path, formats: Sequence[str], quick: bool
) -> list[Path]:
    """Draw one figure and write its caption, which names the runs it shows."""
    runs = [read_run(records / run.record) for run in picture.runs]
    figure = picture.draw(runs)
    if quick:
        figure.text(0.5, 0.5, "QUICK", fontsize=40, color="grey", alpha=0.3, ha="center")
    path = out / stem(name)
    lines = [picture.title + (" Shortened runs." if quick else "")]
    lines += [
        f"{record.path.name}: test accuracy {record.result['test_accuracy']:.4f} at epoch "
        f"{record.result['best_epoch']:g} of {record.result['epochs']:g}; {run.command}"
        for record, run in zip(runs, picture.runs, strict=True)
    ]
    written = save_figure(figure, path, formats)
    caption = path.with_suffix(".txt")
    write_whole(caption, "\n".join(lines) + "\n")
    return [*written, caption]


def tables(runs: Sequence[RunRecord], claims: Sequence[Claim]) -> dict[str, str]:
    """The README's tables of numbers, by their section."""
    alone = [run for run in runs if not run.path.name.startswith(SWEEPS)]
    lengths = [run for run in runs if run.path.name.startswith("rnn_length")]
    return {
        "results": results_table(alone),
        "lengths": lengths_table(lengths),
        "claims": claims_table(claims),
        "faults": faults_table(FAULTS),
        **{section: benchmark_table(path) for section, path in BENCHMARKS.items()},
    }


def texts(records: Path) -> tuple[dict[str, str], dict[Path, str]]:
    """All that is written from the records.

    Returns:
        the README's tables by their section; and the report, and its numbers for other programs, by
        the file that each is written to.
    """
    runs = [read_run(path) for path in sorted(records.iterdir()) if path.is_dir()]
    groups, claims = by_name(runs), all_claims(records)
    sections = tables(runs, claims)
    found = numbers(groups, claims)
    by_record = {run.path.name: run for run in runs}
    captions = []
    for name, picture in pictures().items():
        shown = [by_record[run.record] for run in picture.runs]
        took = in_words(training_seconds(shown)) if shown else ""
        captions.append(Caption(stem(name), name, picture.title, picture.story(shown), took))
    hardware = "; ".join(dict.fromkeys(map(machine_in_words, BENCHMARKS.values())))
    return sections, {
        ROOT / "REPORT.md": report(
            sections, groups, claims, captions, hardware, in_words(training_seconds(runs))
        ),
        HERE / "results.json": as_json(found, claims),
        HERE / "results.tex": as_latex(found, claims),
    }


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
    add(
        "--jobs",
        type=number(int, 1, 1000),
        default=2,
        metavar="N",
        help="runs at once (default: 2)",
    )
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
    if args.quick:
        shown = {name: picture.in_quick() for name, picture in shown.items()}
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
        sections, files = texts(records)
        for section, table in sections.items():
            update_readme(ROOT / "README.md", section, table)
        for path, text in files.items():
            write_whole(path, text)
    return 0


if __name__ == "__main__":
    one_line_errors(main, DataError)
