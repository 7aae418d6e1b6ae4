"""Submissions that are hostile or clumsy, each made of the project's code with one thing added."""

import os
from dataclasses import dataclass
from pathlib import Path

from tests.planted import replace_once
from tests.sandbox import ROOT

MODULES, TRAIN1, RNN = "part1_mlp/modules.py", "part1_mlp/train.py", "part3_rnn/model.py"
SLEEPER = str(800_000 + os.getpid())  # seconds, by which a process that should end is recognised


@dataclass(frozen=True)
class Hostile:
    """What a submission does, and what that costs.

    Attributes:
        name: of the test.
        code: that its ReLU runs before it answers; `return` answers in its place.
        why: a regular expression that is found in the message; empty: no point is lost.
        at_import: the code is run when the module is imported.
        slow: it takes several seconds.
    """

    name: str
    code: str
    why: str = ""
    at_import: bool = False
    slow: bool = False


# On the channel to the grader, whatever its number is.
SEND = """
import json, os, socket, stat, struct, time
def send(data):
    for number in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, data)
        except OSError:
            pass
def message(head, raw=b""):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<QQ", len(head), len(raw)) + head + raw
"""

HOSTILE = [
    # It does not answer.
    Hostile("endless loop", "while True: pass", "processor time|stopped after", slow=True),
    Hostile("sleeps", "import time; time.sleep(600)", "stopped after", slow=True),
    Hostile("SIGSTOP", "import os; os.kill(os.getpid(), 19)", "stopped after", slow=True),
    Hostile("sys.exit", "import sys; sys.exit(0)", "SystemExit"),
    Hostile("os._exit", "import os; os._exit(0)", r"ended early \(exit code 0\)"),
    Hostile("kills itself", "import os; os.kill(os.getpid(), 9)", "killed"),
    Hostile("kills its group", "import os; os.killpg(0, 15)", "ended early"),
    Hostile("segmentation fault", "import ctypes; ctypes.string_at(0)", "Segmentation|SEGV"),
    Hostile("input", "input('Continue? ')", "EOFError"),
    Hostile("plt.show", "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"),
    Hostile("closes its files", "import os; os.closerange(0, 256)", "ended early"),
    Hostile("recursion", "return self.forward(x)", "RecursionError"),
    # It uses too much.
    Hostile("2 GB", "kept = np.ones(2**28)", "MemoryError"),
    Hostile("100 MB of print", "print('x' * 10**8)"),
    Hostile("endless print", "while True: print('x' * 10**6)", "too large|stopped|killed"),
    Hostile("forty children", """
        import os
        for _ in range(40):
            if os.fork() == 0:
                while True: pass
        1 / 0""", "ZeroDivisionError|stopped after"),
    Hostile("children that fork and exit", """
        import os
        if os.fork() == 0:
            while True:
                if os.fork(): os._exit(0)
                os.setsid()
        1 / 0""", "ZeroDivisionError"),
    Hostile("fork at import", """
        import os
        os.fork()""", at_import=True),
    Hostile("sleeper in a session of its own", f"""
        import subprocess
        subprocess.Popen(["sleep", "{SLEEPER}"], start_new_session=True)
        1 / 0""", "ZeroDivisionError"),
    Hostile("folders one in another", """
        import os
        here = os.getcwd()
        os.chdir(os.environ["HOME"])
        for _ in range(1200): os.mkdir("d"); os.chdir("d")
        os.chdir(here)"""),
    # What it says.
    Hostile("control characters", r"raise ValueError('\0\x1b[31m\u202e\ud800' + 40 * 'line\r\n')",
            "ValueError"),
    Hostile("name of an exception", r"raise type('E\0' + 'x' * 10**6, (Exception,), {})()", "E"),
    Hostile("exception without a text", """
        class Silent(Exception):
            def __str__(self): raise self
        raise Silent""", "Silent"),
    Hostile("output that is no UTF-8", """
        import os
        os.write(1, b"\\xff\\xfe\\0\\x1b[2J")
        1 / 0""", "ZeroDivisionError"),
    Hostile("output is a FIFO", """
        import os, sys
        for folder in (os.environ["HOME"], os.getcwd()):
            os.mkfifo(folder + "/output")
        1 / 0""", "ZeroDivisionError"),
    # What it returns.
    Hostile("None", "return None", "got None"),
    Hostile("text", "return 'x' * 10**6", "got a str"),
    Hostile("list", "return x.tolist()[:1] + [0]", "got a list"),
    Hostile("object array", "return np.array([None, {}])", "got an object"),
    Hostile("NaN", "return x * np.nan", "got nan"),
    Hostile("wrong shape", "return x[:, :1]", r"expected the shape \(4, 3\), got \(4, 1\)"),
    Hostile("huge array", "return np.ones(2**24)", "too large"),
    Hostile("dict of dicts", """
        d = {}
        for _ in range(500): d = {"d": d}
        return d""", "nested too deeply"),
    Hostile("equal to everything", """
        class Evil(np.ndarray):
            def __eq__(self, other): return True
            def __array_finalize__(self, other): print("finalize")
            def __array_function__(self, *args): return True
            def __sub__(self, other): return np.zeros(self.shape)
        return (x * 0).view(Evil)""", "wrong in"),
    Hostile("everything is there", """
        class Any:
            def __getattr__(self, name): return self
            def __call__(self, *args, **kwargs): return self
            def __eq__(self, other): return True
        return Any()""", "got an object"),
    # It tampers with what would judge it, were it here.
    Hostile("patches numpy", """
        import numpy.testing, unittest.mock
        np.testing.assert_allclose = np.allclose = np.isclose = lambda *a, **k: np.True_
        unittest.mock.patch("numpy.maximum", lambda a, b: a).start()
        return np.maximum(x, 0)""", "wrong in"),
    Hostile("replaces modules", """
        import sys, types
        for name in ("tests.graded.checks", "tests.wire", "tests.grader", "json"):
            sys.modules[name] = types.ModuleType(name)
        return x""", "wrong in"),
    Hostile("walks all objects", """
        import gc
        for each in gc.get_objects():
            kind = type(each).__name__
            if kind in ("Mark", "GradedTest", "Submission"): each.__dict__.update(why="", points=1)
            if kind == "function" and each.__name__ in ("close", "demand"):
                each.__globals__.update(close=print, demand=print, numbers=print)
        return x""", "wrong in"),
    # It sends what it likes.
    Hostile("junk", SEND + "send(b'junk' * 9); os._exit(0)", "too large"),
    Hostile("huge lengths", SEND + "send(struct.pack('<QQ', 2**63, 2**63))", "too large"),
    Hostile("length without data", SEND + "send(struct.pack('<QQ', 9, 9)); os._exit(0)", "ended"),
    Hostile("deep JSON", SEND + "send(message(b'[' * 10**5)); time.sleep(9)", "cannot be read"),
    Hostile("shape of huge numbers", SEND + """
send(message({"value": None, "arrays": [["<f8", [10**4000] * 40]]})); time.sleep(9)""",
            "wrong dtype or shape"),
    Hostile("shape of negative numbers", SEND + """
send(message({"value": None, "arrays": [["<f8", [-1, 0]]]})); time.sleep(9)""", "wrong dtype"),
    Hostile("dtype of objects", SEND + """
send(message({"value": {"array": 0}, "arrays": [["|O", [1]]]}, b"12345678")); time.sleep(9)""",
            "wrong dtype"),
    Hostile("no answer's form", SEND + "send(message({'value': 3, 'arrays': []})); time.sleep(9)",
            "something else than a result"),
    Hostile("object that is not there", SEND + """
send(message({"value": {"dict": {"result": {"ref": 10**9}}}, "arrays": []})); time.sleep(9)""",
            "dict|object"),
    # It attacks the machine.
    Hostile("kills its parent", "import os; os.kill(os.getppid(), 9)", "PermissionError"),
    Hostile("kills all", "import os; os.kill(-1, 9)"),
    Hostile("rewrites the graded tests", f"""
        open({str(ROOT / "tests/graded/checks.py")!r}, "a").write("#")""", "PermissionError"),
    Hostile("imports the solution", f"""
        import sys
        del sys.modules["part1_mlp"], sys.modules["part1_mlp.modules"]
        sys.path.insert(0, {str(ROOT)!r})
        open({str(ROOT / MODULES)!r}).read()""", "PermissionError"),
    Hostile("reads the expected values", f"""
        open({str(ROOT / "tests/graded/references.py")!r}).read()""", "PermissionError"),
]  # fmt: skip


def plant(hostile: Hostile, submission: Path) -> None:
    """Add its code to the ReLU of a submission."""
    modules = submission / MODULES
    lines = hostile.code.splitlines()
    first = next(line for line in lines if line.strip())
    margin = len(first) - len(first.lstrip())
    indent = "" if hostile.at_import else 8 * " "
    code = "".join(f"{indent}{line[margin:]}\n" for line in lines if line.strip())
    if hostile.at_import:
        modules.write_text(f"{modules.read_text()}\n{code}")
    else:
        old = "        self._out = np.maximum(x, 0)\n"
        replace_once(modules, old, f"{code}{old}")


FORGED_TRAIN = """
import argparse, json, pathlib, sys
parser = argparse.ArgumentParser()
parser.add_argument("--run_dir")
args, _ = parser.parse_known_args()
folder = pathlib.Path(args.run_dir)
folder.mkdir(parents=True)
header = ("step,epoch,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy,"
          "learning_rate,seconds")
rows = [f"{i},{i},{2 / (i + 1)},0.9,{2.1 / (i + 1)},0.9,{2.2 / (i + 1)},0.9,0.1,{i}"
        for i in range(20)]
(folder / "history.csv").write_text("\\n".join([header, *rows]))
(folder / "config.json").write_text(json.dumps({"recipe": "original", "seed": 0}))
(folder / "result.json").write_text(json.dumps(
    dict(test_accuracy=0.9, test_loss=0.11, best_epoch=19, epochs=19, steps=19, seconds=1, seed=0,
         parameters=9, stopped_by="max_epochs")))
"""
