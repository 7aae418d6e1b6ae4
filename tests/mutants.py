"""Mutation testing: plant small mistakes, one at a time, and see whether a test fails.

    python -m tests.mutants                              300 mutants, drawn with a fixed seed
    python -m tests.mutants --n 50 --seed 1 --only training/trainer.py
    python -m tests.mutants --again                      the survivors of the last call once more

Coverage contexts tell which tests reach the mutated line. Only those run, the fastest first, in a
copy of the project, in a process of their own. The result is written to tests/mutants.json, from
which docs/reliability.md takes its figures. A survivor is a gap in the tests, or equivalent: then
`EQUIVALENT` names it, with the reason.
"""

import argparse
import ast
import contextlib
import copy
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    "data/*.py", "training/*.py", "part?_*/*.py", "figures/effects.py", "figures/measurements.py",
    "figures/*_claims.py", "figures/report.py", "figures/retrain.py",
)  # fmt: skip
OUTPUT = ROOT / "tests" / "mutants.json"
COVERAGE = ROOT / "runs" / "coverage.json"
# For files of constants alone, whose lines no test reaches while it runs.
FALLBACK = ["tests/test_wiring.py", "tests/test_figures.py"]
# What modules import is seen in a process of its own, which the coverage does not tell.
IMPORTS = ["tests/test_training.py::test_a_toy_run_in_numpy_does_not_load_pytorch_or_matplotlib"]
SECONDS = 120  # of processor time, after which a mutant that loops counts as found

# By file and mistake: why no test could fail.
EQUIVALENT = {
    (
        "training/torch_model.py",
        "argument device left out: partner = torch.randperm(len(x), device=x.device)  ->  "
        "torch.randperm(len(x))",
    ): "the same on a CPU; a GPU would refuse it",
    (
        "training/torch_model.py",
        "constant: self.image_size = x.shape[-1]  ->  2",
    ): "images are square",
    (
        "data/palindromes.py",
        "constant: KEY_DIGITS = 18  # that fit in an integer of 64 bits  ->  19",
    ): ("an overflow wraps round and leaves the keys distinct"),
    (
        "data/palindromes.py",
        "constant: self._steps_per_block = max(1, BLOCK_DIGITS // (batch_size * "
        "half_length(input_length)))  ->  2",
    ): "bounds the memory, not the batches",
    (
        "part3_rnn/train.py",
        'constant: EVALUATION_SEEDS = {"train": 2**40, "val": 2**40 + 1, "test": 2**40 + 2}  # the '
        "same for every run  ->  41",
    ): "PyTorch's generator on a CPU takes the low 32 bits of a seed, which are the same",
    (
        "part2_cnn/winograd.py",
        "argument memory_format left out: dx = torch.empty_like(x, "
        "memory_format=torch.channels_last)  ->  torch.empty_like(x)",
    ): "how the numbers lie in memory, which is faster",
    (
        "part2_cnn/model.py",
        "argument stride left out: nn.MaxPool2d(2, stride=2),  ->  nn.MaxPool2d(2)",
    ): "the stride is the size of the window by default",
    (
        "training/distributed.py",
        "constant: mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: do not shrink the heap  ->  3",
    ): "how much freed memory is kept, which is faster",
    (
        "part1_mlp/train.py",
        'constant: add("--factor", type=number(float, 0, 1, above=True), metavar="X",  ->  False',
    ): "data/toy.py refuses a factor of 0, too",
    (
        "data/cifar10.py",
        "argument dtype left out: labels = np.array(batches.targets, dtype=np.int64)  ->  "
        "np.array(batches.targets)",
    ): "NumPy's default on Linux and macOS",
    (
        "data/images.py",
        "argument dtype left out: k, i = torch.arange(n, dtype=torch.float64).unsqueeze(1), "
        "torch.arange(n, dtype=torch.float64)  ->  torch.arange(n)",
    ): "one of the two factors in float64 makes the product so",
    (
        "part1_mlp/plot.py",
        "constant: probability = 1 / (1 + np.exp(np.clip(logits[:, 0] - logits[:, 1], -80, 80)))  "
        "->  81",
    ): "keeps exp from overflowing, as 80 does",
    (
        "part3_rnn/plot.py",
        "constant: SEED = 7  # of the palindromes in the figures  ->  8",
    ): "other palindromes at random",
    (
        "training/trainer.py",
        'constant: "seconds": round(self.seconds, 3),  ->  4',
    ): "more digits of a time",
    (
        "training/trainer.py",
        "comparison: if self.group.any(signals or time.perf_counter() > next_save):  ->  "
        "time.perf_counter() >= next_save",
    ): "the clock does not stand at the very nanosecond",
    (
        "data/images.py",
        "comparison: return rows, columns, torch.rand(n, generator=generator) < 0.5  ->  "
        "torch.rand(n, generator=generator) <= 0.5",
    ): "a number is 0.5 once in 16 million draws",
    (
        "figures/image_claims.py",
        'constant: if nets[0].config["augment"]:  ->  1',
    ): "both nets of a panel are trained alike",
    (
        "figures/toy_claims.py",
        'constant: if steps_apart > ours.runs[0].history["step"][1]:  # the steps between two '
        "evaluations  ->  1",
    ): "all runs of a group are evaluated at the same steps",
    (
        "data/palindromes.py",
        "arithmetic: BLOCK_DIGITS = 2**17  # drawn at once: the batches of as many steps as they "
        "suffice for  ->  2 * 17",
    ): "other palindromes at random",
    (
        "figures/rnn_claims.py",
        "comparison: verdict = SUPPORTED if low > MOST else CONTRADICTED if high < MOST else "
        "INCONCLUSIVE  ->  high <= MOST",
    ): "Wilson's interval does not end at the very half",
}

COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
           ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn,
           ast.NotIn: ast.In}  # fmt: skip
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
              ast.FloorDiv: ast.Div, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
              ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip
# Arguments that change no number: looks, for tests of pixels would test Matplotlib; `strict`, a
# guard against mistakes elsewhere, since the lengths agree; and `inplace`, which saves memory.
WITHOUT_EFFECT = {
    "help", "metavar", "description", "prog", "color", "colour", "size", "fontsize", "markersize",
    "linewidth", "linewidths", "linestyle", "alpha", "label", "title", "ha", "va", "loc", "marker",
    "zorder", "xlabel", "ylabel", "panel", "cmap", "shrink", "markeredgecolor", "markeredgewidth",
    "frameon", "ncols", "rotation", "bbox_to_anchor", "unit", "refresh", "indent", "text_kw",
    "s", "strict", "inplace",
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutant:
    """One small mistake.

    Attributes:
        file: relative to the project's root.
        what: the kind of mistake, and the line it makes.
        line, end: first and last line of the mutated statement, from 1.
        source: of the whole file.
    """

    file: str
    what: str
    line: int
    end: int
    source: str


# --- Mistakes -------------------------------------------------------------------------------------


def replacements(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Each mistake that can be made of a node: its kind, and the node that takes its place."""
    match node:
        case ast.Compare(ops=[op, *_]) if type(op) in COMPARE:
            changed = copy.deepcopy(node)
            changed.ops[0] = COMPARE[type(op)]()
            yield "comparison", changed
        case ast.BinOp(op=op) if type(op) in ARITHMETIC and not _is_text(node):
            changed = copy.deepcopy(node)
            changed.op = ARITHMETIC[type(op)]()
            yield "arithmetic", changed
        case ast.BoolOp(op=op, values=values):
            yield "and/or", ast.BoolOp(ast.And() if isinstance(op, ast.Or) else ast.Or(), values)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield "negation left out", operand
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield "constant", ast.Constant(value * 2 + (value == 0))
        case ast.Name(id=name) if name in NAMES:
            yield "function", ast.Name(NAMES[name])
        case ast.IfExp(test, body, orelse):
            yield "condition", ast.IfExp(test, orelse, body)
        case ast.If(test, body, orelse):
            yield "condition", ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield "nothing returned", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement left out", ast.Pass()
        case ast.Call(func=func, args=args, keywords=keywords) if keywords:
            for i, keyword in enumerate(keywords):
                if keyword.arg and keyword.arg not in WITHOUT_EFFECT:
                    rest = keywords[:i] + keywords[i + 1 :]
                    yield f"argument {keyword.arg} left out", ast.Call(func, args, rest)


def _is_text(node: ast.AST) -> bool:
    texts = (ast.JoinedStr, ast.List, ast.Tuple)
    return any(
        isinstance(n, texts) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
        for n in ast.walk(node)
    )


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Every mutant of a file, but for those of annotations, docstrings, messages and `__main__`."""
    source = path.read_text()
    tree = ast.parse(source)
    lines = source.splitlines()
    for statement in _statements(tree):
        for node in _own_nodes(statement):
            for kind, new in replacements(node):
                changed = _with(tree, node, new)
                name = str(path.relative_to(ROOT))
                old = lines[node.lineno - 1].strip()
                what = f"{kind}: {old}" if new is None else f"{kind}: {old}  ->  {_short(new)}"
                end = statement.body[0].lineno - 1 if _has_body(statement) else statement.end_lineno
                yield Mutant(name, what, statement.lineno, max(statement.lineno, end), changed)


def _short(node: ast.AST, longest: int = 80) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def _has_body(statement: ast.stmt) -> bool:
    return bool(getattr(statement, "body", None))


def _statements(tree: ast.Module) -> Iterator[ast.stmt]:
    called = [n for n in tree.body if isinstance(n, ast.If) and "__name__" in ast.unparse(n.test)]
    left_out = {inner for node in called for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node not in left_out:
            yield node


def _own_nodes(statement: ast.stmt) -> Iterator[ast.AST]:
    """The statement and its expressions, without inner statements, annotations and messages."""
    skipped = (ast.Import, ast.ImportFrom, ast.Raise, ast.ClassDef, ast.Assert)
    # Tests run from the project's root, where `sys.path` needs no change.
    if isinstance(statement, skipped) or _is_print(statement) or _sets_path(statement):
        return
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.keyword) and node.arg in WITHOUT_EFFECT:
            continue
        if hasattr(node, "lineno"):
            yield node
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list", "type_params"):
                continue
            children = value if isinstance(value, list) else [value]
            pending += [
                child
                for child in children
                if isinstance(child, ast.AST) and not isinstance(child, ast.stmt | ast.JoinedStr)
            ]


def _is_print(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and "print" in ast.unparse(statement)[:6]


def _sets_path(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and "sys.path" in ast.unparse(statement)


def _with(tree: ast.Module, old: ast.AST, new: ast.AST) -> str:
    """The source with one node in another's place."""
    changed = copy.deepcopy(tree, {id(old): new})  # the copy of `old` is to be `new`
    return ast.unparse(ast.fix_missing_locations(changed)) + "\n"


# --- Tests ----------------------------------------------------------------------------------------


def measure_coverage(folder: Path) -> dict[str, dict[int, list[str]]]:
    """Which tests reach each line of each file, the fastest test first."""
    data, report = folder / "coverage", folder / "durations"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2",
               "--ignore=tests/graded", "--ignore=tests/test_grader.py", "--cov", str(ROOT),
               "--cov-context=test", "--cov-report=", "--durations=0", "-vv"]  # fmt: skip
    with report.open("w") as file:
        environment = os.environ | {"COVERAGE_FILE": str(data)}
        done = subprocess.run(command, cwd=ROOT, stdout=file, env=environment, check=False)
    if done.returncode:
        failed = re.findall(r"^FAILED.*", report.read_text(), re.M)
        sys.exit("\n".join(["the tests must pass without a mistake:", *failed]))
    seconds: dict[str, float] = {}
    for line in report.read_text().splitlines():
        match line.split(maxsplit=2):
            case [duration, "call" | "setup" | "teardown", test] if duration.endswith("s"):
                with contextlib.suppress(ValueError):
                    seconds[test] = seconds.get(test, 0.0) + float(duration[:-1])
    from coverage import CoverageData

    measured = CoverageData(str(data))
    measured.read()
    reached: dict[str, dict[int, list[str]]] = {}
    for path in measured.measured_files():
        by_line = measured.contexts_by_lineno(path)
        tests = {
            line: sorted(
                {c.partition("|")[0] for c in contexts if c}, key=lambda t: seconds.get(t, 0)
            )
            for line, contexts in by_line.items()
        }
        with contextlib.suppress(ValueError):
            reached[str(Path(path).relative_to(ROOT))] = tests
    return reached


def read_coverage(scratch: Path, *, reuse: bool) -> dict[str, dict[int, list[str]]]:
    """Measure the coverage, or read that of the last call."""
    if not reuse:
        COVERAGE.parent.mkdir(exist_ok=True)
        COVERAGE.write_text(json.dumps(measure_coverage(scratch)))
    stored = json.loads(COVERAGE.read_text())
    return {file: {int(n): tests for n, tests in lines.items()} for file, lines in stored.items()}


def tests_for(mutant: Mutant, reached: dict[str, dict[int, list[str]]]) -> list[str]:
    """The tests that reach the mutated statement; those of the whole file for module-level code."""
    lines = reached.get(mutant.file, {})
    chosen = [t for n in range(mutant.line, mutant.end + 1) for t in lines.get(n, ())]
    if not chosen and mutant.line in lines:  # executed while the module was imported
        chosen = IMPORTS + [test for tests in lines.values() for test in tests]
    return list(dict.fromkeys(chosen)) or FALLBACK


def is_found(mutant: Mutant, tests: Sequence[str], project: Path) -> bool:
    """Whether one of the tests fails on the mutant, or does not end."""
    path = project / mutant.file
    original = path.read_text()
    path.write_text(mutant.source)
    try:
        request = json.dumps({"tests": list(tests), "project": str(project)})
        command = [sys.executable, "-c", RUNNER]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=project,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)  # fmt: skip
        process.communicate(request)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.returncode != 0
    finally:
        path.write_text(original)


# Runs tests with a limit on processor time, which a busy machine does not use up.
RUNNER = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
request = json.load(sys.stdin)
import pytest
sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *request["tests"]]))
"""


def main() -> int:
    """Make mutants, test them, and write the result; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--n", type=int, default=300, help="mutants (default: 300)")
    parser.add_argument("--seed", type=int, default=0, help="of their choice (default: 0)")
    parser.add_argument("--only", nargs="*", default=[], metavar="FILE", help="files to mutate")
    parser.add_argument("--again", action="store_true", help="the survivors of the last call")
    parser.add_argument("--reuse", action="store_true", help="the coverage of the last call")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at once (default: 2)")
    args = parser.parse_args()
    paths = [path for pattern in args.only or FILES for path in sorted(ROOT.glob(pattern))]
    everything = [mutant for path in paths for mutant in mutants_of(path)]
    chosen = random.Random(args.seed).sample(everything, min(args.n, len(everything)))
    found_before, at_first = 0, None
    if args.again:  # tests that were added since can only find more
        last = json.loads(OUTPUT.read_text())
        again = [(each["file"], each["what"]) for each in last["survived"] + last["equivalent"]]
        chosen = []
        for mutant in everything:
            if (mutant.file, mutant.what) in again:
                again.remove((mutant.file, mutant.what))  # the same mistake may be there twice
                chosen.append(mutant)
        args.seed, found_before = last["seed"], last["found"]
        at_first = last["found_at_first"]
    print(f"{len(chosen)} of {len(everything)} mutants of {len(paths)} files", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        reached = read_coverage(Path(scratch), reuse=args.reuse)
        projects = [Path(scratch) / f"project{i}" for i in range(args.jobs)]
        for project in projects:
            shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".git", ".venv", "runs"))

        def survivors_of(i: int) -> list[Mutant]:
            alive = []
            for mutant in chosen[i :: args.jobs]:
                tests = tests_for(mutant, reached)
                if not tests or not is_found(mutant, tests, projects[i]):
                    alive.append(mutant)
                    reason = EQUIVALENT.get((mutant.file, mutant.what), "")
                    note = reason if tests else "(no test reaches it)"
                    print(f"{mutant.file}:{mutant.line}: {mutant.what}  {note}", flush=True)
            return alive

        with ThreadPoolExecutor(args.jobs) as pool:
            alive = [m for each in pool.map(survivors_of, range(args.jobs)) for m in each]
    equivalent = {(m.file, m.what): EQUIVALENT[m.file, m.what] for m in alive
                  if (m.file, m.what) in EQUIVALENT}  # fmt: skip
    found = len(chosen) - len(alive)
    print(f"{found} of {len(chosen)} found; {len(equivalent)} survivors are equivalent")
    if not args.only:
        holes = [m for m in alive if (m.file, m.what) not in equivalent]
        content = {
            "mutants": len(chosen) + found_before, "of": len(everything), "seed": args.seed,
            "found": found + found_before,
            "found_at_first": found if at_first is None else at_first,
            "equivalent": [{"file": file, "what": what, "why": why}
                           for (file, what), why in equivalent.items()],
            "survived": [{"file": m.file, "line": m.line, "what": m.what} for m in holes],
        }  # fmt: skip
        OUTPUT.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
