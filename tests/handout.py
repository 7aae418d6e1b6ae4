"""The handout: what a student is given to fill in.

    python -m tests.handout DIR

writes the six folders of a submission with the interface that the graded tests use: signatures and
docstrings, and bodies that raise NotImplementedError. All of it is taken from this project's own
sources, so that it cannot differ from them.
"""

import argparse
import ast
import importlib
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.sandbox import PARTS, ROOT

# What a student is given of each module; of one without names, the docstring.
INTERFACE = {
    "data/__init__.py": ("DataError", "Dataset", "load_dataset"),
    "data/palindromes.py": ("draw_palindromes",),
    "part1_mlp/__init__.py": (),
    "part1_mlp/modules.py": ("NEG_SLOPE", "Linear", "ReLU", "SoftMax", "CrossEntropy"),
    "part1_mlp/mlp_numpy.py": ("MLP",),
    "part1_mlp/mlp_pytorch.py": ("MLP",),
    "part2_cnn/__init__.py": (),
    "part2_cnn/model.py": ("CHANNELS", "CNN"),
    "part3_rnn/__init__.py": (),
    "part3_rnn/model.py": ("VanillaRNN",),
    "training/__init__.py": (),
    "figures/__init__.py": (),
}
METHODS = ("__init__", "forward", "backward", "n_inputs", "n_classes")

PACKAGES = ", ".join(re.findall(r"^([\w-]+)>=", (ROOT / "requirements.txt").read_text(), re.M))
PAGE = (ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
INTERFACE_SECTION = PAGE.partition("## The interface\n")[2].partition("\n## ")[0]
README = f"""\
# Three classic networks

This folder, DIR below, is the skeleton of a submission. Replace each `raise NotImplementedError` by
your code, and add to it what you need. Optional arguments of a constructor are free; so are helpers
that a docstring mentions and that are not here.

## The interface
{INTERFACE_SECTION}
## Where it runs

The grader's machine has Python's standard library, {PACKAGES}.
A test may take 5 s of processor time, one that trains 8 to 35 s.
"""

TRAIN = '''\
"""{summary}

The flags that the graded tests use:

{flags}

README.md has what they mean to the tests, and what the run folder holds. A flag without a default
here has one of your choice.
"""


def main() -> int:
    """Train a net as the flags say, and write its run folder; returns the exit code."""
    raise NotImplementedError("{name}")


if __name__ == "__main__":
    raise SystemExit(main())
'''


def handout() -> dict[str, str]:
    """The text of each file, by its name."""
    files = {
        name: skeleton((ROOT / name).read_text(encoding="utf-8"), names)
        for name, names in INTERFACE.items()
    }
    return files | {f"{part}/train.py": train_script(part) for part in PARTS} | {
        "README.md": README
    }  # fmt: skip


# --- Modules --------------------------------------------------------------------------------------


def skeleton(source: str, names: Sequence[str]) -> str:
    """A module's docstring, and of its classes, functions and constants those with these names.

    Only the imports that the signatures need are kept, and of the docstring all paragraphs but
    those that state a command.
    """
    tree = ast.parse(source)
    paragraphs = (ast.get_docstring(tree) or "").split("\n\n")
    docstring = "\n\n".join(text for text in paragraphs if "python " not in text)
    kept = {"constants": [], "definitions": []}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(name)]) if name in names:
                kept["constants"].append(ast.get_source_segment(source, node))
            case ast.ClassDef(name) if name in names:
                kept["definitions"].append(_class(source, node))
            case ast.FunctionDef(name) if name in names:
                kept["definitions"].append(_function(source, node, name))
    code = "\n\n\n".join(kept["definitions"])
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    end = "\n" if "\n" in docstring or len(docstring) > 94 else ""  # 100 with the quotes
    docstring = f'"""{docstring}{end}"""'
    head = _joined("\n\n", docstring, _imports(tree, used), "\n".join(kept["constants"]))
    return _joined("\n\n\n", head, code) + "\n"


def _joined(between: str, *texts: str) -> str:
    return between.join(filter(None, texts))


def _class(source: str, node: ast.ClassDef) -> str:
    """Header, docstring, fields without a value, and the methods that are part of the interface."""
    fields = [
        textwrap.indent(ast.get_source_segment(source, each), "    ")
        for each in node.body
        if isinstance(each, ast.AnnAssign) and each.value is None
    ]
    methods = [
        _function(source, each, f"{node.name}.{each.name}")
        for each in node.body
        if isinstance(each, ast.FunctionDef) and each.name in METHODS
    ]
    return _joined("\n\n", _header(source, node), "\n".join(fields), *methods)


def _function(source: str, node: ast.FunctionDef, name: str) -> str:
    indent = " " * (node.col_offset + 4)
    return f'{_header(source, node)}\n{indent}raise NotImplementedError("{name}")'


def _header(source: str, node: ast.ClassDef | ast.FunctionDef) -> str:
    """The lines of the decorators, the signature and the docstring."""
    begin = min(each.lineno for each in [node, *node.decorator_list])
    first = node.body[0]
    has_docstring = ast.get_docstring(node) is not None
    lines = source.splitlines()[begin - 1 : first.end_lineno if has_docstring else first.lineno - 1]
    while lines[-1].lstrip().startswith("#"):  # a comment on the first statement
        lines.pop()
    return "\n".join(lines)


def _imports(tree: ast.Module, used: set[str]) -> str:
    """The imports that bind the used names, in the groups of the source."""
    lines, last = [], 0
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines += [""] * (node.lineno > last + 1)
            last = node.end_lineno
            node.names = [each for each in node.names if (each.asname or each.name) in used]
            lines += [ast.unparse(node)] * bool(node.names)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


# --- Train scripts --------------------------------------------------------------------------------


def train_script(part: str) -> str:
    """A train script that states its flags."""
    build_parser, recipe_flags, _ = importlib.import_module(f"{part}.train").FLAGS
    graded = graded_flags(part)
    flags = "\n".join(
        textwrap.fill(_flag(flag, action), 100, subsequent_indent="    ")
        for flag, action in build_parser(recipe_flags())._option_string_actions.items()
        if flag in graded
    )
    summary = ast.get_docstring(ast.parse((ROOT / part / "train.py").read_text("utf-8")))
    return TRAIN.format(summary=summary.split("\n")[0], flags=flags, name=f"{part}/train.py")


def graded_flags(part: str) -> set[str]:
    """The flags that stand in the graded tests of a part, and in what all parts share."""
    number = PARTS.index(part) + 1
    sources = (f"graded/test_part{number}.py", "graded/runs.py", "sandbox_process.py")
    return {flag for name in sources for flag in _flags_in(ROOT / "tests" / name)}


def _flags_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Constant(str(text)) if re.fullmatch(r"--\w+", text):
                yield text


def _flag(flag: str, action: argparse.Action) -> str:
    values = "|".join(map(str, action.choices)) if action.choices else action.metavar
    text = (action.help % vars(action)).replace(" (default: None)", "")
    return f"{flag} {values}: {text}"


# --- The command ----------------------------------------------------------------------------------


def write(folder: Path) -> None:
    """Write the handout into a folder that is empty or does not exist.

    Raises:
        OSError: it is not empty, or cannot be written.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in handout().items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the handout; returns the exit code: 2 if the folder is refused."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.handout", description="Write a skeleton of a submission."
    )
    parser.add_argument("folder", metavar="DIR", help="new or empty folder to write it to")
    folder = parser.parse_args(argv).folder
    try:
        if not folder.strip():
            raise OSError("the name of the folder is empty")
        write(Path(os.path.expanduser(folder)))
    except OSError as error:
        print(f"python -m tests.handout: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
