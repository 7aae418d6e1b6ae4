"""The sections of README.md and docs/ that are written from records and benchmarks."""

from collections.abc import Iterable
from pathlib import Path

from data.toy import DEFAULT_NOISE
from figures.experiments import MODELS, ORIGINAL_ACCURACY, Group, Records
from figures.report import CNN_BEST, CNN_ORIGINAL, MLP_BEST, MLP_ORIGINAL, MLP_WIDE, TOY_NETS
from figures.toy import bayes_accuracy_of
from training import UsageError
from training.cli import markdown_table
from training.runs import read_json, write_atomically


def readme_table(records: Records) -> str:
    """The README's results: a line for each net and recipe."""
    rows = []
    names = *TOY_NETS, MLP_ORIGINAL, MLP_BEST, MLP_WIDE, CNN_ORIGINAL, CNN_BEST
    for group in (records[name] for name in names):
        config, accuracy, averaged = group.config, group.single_view(), group.averaged()
        net = group.net
        if net == "MLP":
            units = "-".join(map(str, config["dnn_hidden_units"]))
            net = f"MLP {units} ({MODELS[config['model']]})"
        data = config["dataset"].replace("cifar", "CIFAR-")
        mean = f"{accuracy.mean():.4f} ({accuracy.min():.4f} to {accuracy.max():.4f})"
        views = f"{averaged.mean():.4f}" if averaged is not None else ""
        more = group.experiment.flags.partition("--recipe best ")[2]  # flags beside the recipe's
        recipe = config["recipe"] + ", with settings of its own" * bool(more)
        rows.append((net, data, recipe, len(accuracy), mean, views, reference(group)))
    head = ("net", "data", "recipe", "seeds", "test accuracy, mean (min to max)")
    return markdown_table((*head, "with test-time augmentation", "reference"), rows)


def reference(group: Group) -> str:
    """What the accuracy of a group is to be compared with."""
    if group.config.get("dataset") in DEFAULT_NOISE:
        return f"Bayes accuracy {bayes_accuracy_of(group.config):.4f}"
    return f"the original {ORIGINAL_ACCURACY}" if group.experiment.group == MLP_ORIGINAL else ""


def benchmark_table(path: Path) -> str:
    """The rows of a benchmark, and the machine that they were measured on."""
    content = read_json(path)
    rows = []
    for row in content["rows"]:
        ours, theirs = (f"{row[name]:.4g} {row['unit']}".strip() for name in ("ours", "theirs"))
        rows.append((row["what"], ours, row["against"], theirs, f"{row['ratio']:.3g}", row["goal"]))
    table = markdown_table(("what", "ours", "against", "theirs", "ratio", "goal"), rows)
    on = content["machine"]
    return (
        f"{table}\n\nMedians of {on['repeats']}, {on['cores']} cores ({on['machine']}, "
        f"{on['cpu_capability']}), Python {on['python']}, NumPy {on['numpy']}, PyTorch "
        f"{on['torch']}."
    )


def faults_table(path: Path) -> str:
    """The faults that were injected, as `tests.faults` wrote them."""
    tried = [row for rows in read_json(path).values() for row in rows]
    rows = [(r["fault"], f"{r['tried']:,}", f"{r['survived']:,}", r["remark"]) for r in tried]
    return markdown_table(("fault", "tried", "passed", ""), rows)


def mutants_summary(path: Path) -> str:
    """What the mutation testing found, as `tests.mutants` wrote it."""
    found = read_json(path)
    added = found["found"] - found["found_at_first"]
    return (
        f"Of {found['mutants']:,} mutants, drawn at random from {found['of']:,}, the tests noticed "
        f"{found['found']:,} ({100 * found['found'] / found['mutants']:.0f} %), {added} of them "
        "only after tests had been added for what had not been noticed at first. Of the others "
        f"{len(found['equivalent'])} are equivalent: they change nothing that a test could see; "
        f"{len(found['survived'])} are gaps in the tests."
    )


def grade_summary(path: Path) -> str:
    """What a grade costs and sees, as `tests/benchmarks/grading.py` wrote it."""
    found = read_json(path)
    unseen = "; ".join(found["unseen"]) or "none"
    return (
        f"Of {found['planted']} planted mistakes the grade saw {found['seen']}; unseen: {unseen}. "
        f"Grading this project, {found['tests']} tests, takes {found['seconds']:.0f} s on "
        f"{found['cores']} cores ({found['cpu_seconds']:.0f} s of processor time) and "
        f"{found['megabytes']:.0f} MB at the peak, medians of {found['repeats']}. No submission "
        f"takes longer than {found['limit_seconds'] / 60:.1f} minutes with one job, apart from the "
        "copying of its files."
    )


def marks(section: str) -> tuple[str, str]:
    """What stands before and after a generated section of a page."""
    return f"<!-- {section}: written by figures/regenerate.py -->", f"<!-- end of {section} -->"


def find_pages(root: Path, sections: Iterable[str]) -> dict[str, Path]:
    """The one page of README.md and docs/ that holds the marks of each section, or a UsageError."""
    texts = {p: p.read_text() for p in (*root.glob("README.md"), *root.glob("docs/*.md"))}
    found = {}
    for section in sections:
        pages = [p for p, text in texts.items() if all(text.count(m) == 1 for m in marks(section))]
        if len(pages) != 1:
            where = f"{len(pages)} of README.md and docs/*.md hold"
            raise UsageError(f"--update: {where} the marks of a section {section!r}, not 1")
        found[section] = pages[0]
    return found


def update_section(page: Path, section: str, content: str) -> None:
    """Put the content between the two marks of its section."""
    begin, end = marks(section)
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    write_atomically(page, f"{before}{begin}\n\n{content}\n\n{end}{after}")
