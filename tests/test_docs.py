"""What pages and lists of code name is there: links, scripts, flags, make targets, lines."""

import contextlib
import functools
import importlib
import importlib.util
import io
import re
import shlex
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.mutants import EQUIVALENT

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = sorted(ROOT.glob("docs/*.md"))
SCRIPTS = [
    *(f"{part}/{name}.py" for part in ("part1_mlp", "part2_cnn", "part3_rnn")
      for name in ("train", "plot")),
    "part2_cnn/predict.py", "figures/regenerate.py", "training/tune.py",
]  # fmt: skip
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")

pages = pytest.mark.parametrize("page", [README, ROOT / "REPORT.md", *DOCS], ids=lambda p: p.name)


def commands(text: str) -> list[list[str]]:
    """The words of each command in a page: lines of its sh blocks, and code within its lines."""
    lines = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines += block.replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"`((?:python|torchrun|make) [^`]+)`", prose)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def is_python(word: str) -> bool:
    return Path(word).name in ("python", "python3", "torchrun")


def flags_in(text: str) -> set[str]:
    return {"--" + flag[2:].replace("-", "_") for flag in FLAG.findall(text)}


@functools.cache
def flags_of(script: str) -> set[str]:
    """The flags in the help of a script, which is imported and called with --help."""
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    printed = io.StringIO()
    with (
        patch("sys.argv", [script, "--help"]),
        contextlib.redirect_stdout(printed),
        pytest.raises(SystemExit) as ended,
    ):
        module.main()
    assert not ended.value.code
    return flags_in(printed.getvalue())


@functools.cache
def flags_of_torchrun() -> set[str]:
    from torch.distributed.run import get_args_parser

    return flags_in(get_args_parser().format_help())


def unknown_to_pytest(flags: set[str], config: pytest.Config) -> set[str]:
    def known(flag: str) -> bool:
        with contextlib.suppress(ValueError):
            config.getoption(flag)
            return True
        return False

    return {flag for flag in flags if not known(flag)}


def unknown_flags(words: list[str], config: pytest.Config) -> set[str]:
    """The flags of a command that what it calls does not have."""
    script = next((word for word in words if word.endswith(".py")), None)
    if script:
        before, after = words[: words.index(script)], words[words.index(script) :]
        unknown = flags_in(" ".join(after)) - flags_of(script)
        return unknown | flags_in(" ".join(before)) - flags_of_torchrun()
    return unknown_to_pytest(flags_in(" ".join(words)), config) if "pytest" in words else set()


@pages
def test_every_relative_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s#]+)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pages
def test_every_script_and_module_of_a_command_exists(page):
    for words in commands(page.read_text()):
        for script in (word for word in words if word.endswith(".py")):
            assert (ROOT / script).is_file(), words
        if is_python(words[0]) and words[1] == "-m":
            assert importlib.util.find_spec(words[2]), words


@pages
def test_every_flag_of_a_command_is_one_of_its_script(page, pytestconfig):
    unknown = {
        shlex.join(words): flags
        for words in commands(page.read_text())
        if any(map(is_python, words)) and (flags := unknown_flags(words, pytestconfig))
    }
    assert not unknown


@pages
def test_every_flag_named_is_one_of_some_script(page, pytestconfig):
    text = page.read_text()
    named = {flag for code in re.findall(r"`([^`\n]+)`", text) for flag in flags_in(code)}
    unknown = named.difference(flags_of_torchrun(), *map(flags_of, SCRIPTS))
    assert not unknown_to_pytest(unknown, pytestconfig)


@pages
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {words[1] for words in commands(page.read_text()) if words[0] == "make"} <= targets


def test_the_readme_is_short_and_names_commands():
    text = README.read_text()
    assert len(text.splitlines()) < 130
    called = {word for words in commands(text) for word in words}
    assert called >= {"make", "pytest", "part1_mlp/train.py", "part2_cnn/predict.py"}


@pytest.mark.parametrize(("file", "mistake"), EQUIVALENT)
def test_the_lines_of_equivalent_mutants_are_there(file, mistake):
    line = mistake.partition(": ")[2].split("  ->  ")[0]
    assert " ".join(line.split()) in " ".join((ROOT / file).read_text().split())
