"""The autograder for Gradescope, as the file that an instructor uploads.

    python -m tests.autograder FILE.zip

Gradescope unpacks it into /autograder/source, runs setup.sh once, and run_autograder for each
submission, which lies in /autograder/submission. The archive holds the grader and nothing of this
project's solution.
"""

import argparse
import io
import os
import stat
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.grader import GRADER_FILES
from tests.sandbox import ROOT
from training.runs import write_atomically

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that an archive can state

SETUP = """\
#!/usr/bin/env bash
# Gradescope runs this once, as root: Python and the libraries. For a smaller image, let pip find
# PyTorch's build for CPUs: set PIP_EXTRA_INDEX_URL as its installation page says.
set -euo pipefail
autograder=${AUTOGRADER:-/autograder}

apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv
python3 -m venv "$autograder/venv"
"$autograder/venv/bin/python" -m pip install --no-cache-dir \\
    --requirement "$autograder/source/requirements.txt"
"""

RUN = """\
#!/usr/bin/env bash
# Gradescope runs this for each submission and reads results/results.json, which is always written.
autograder=${AUTOGRADER:-/autograder}
python=${PYTHON:-$autograder/venv/bin/python}
results=$autograder/results/results.json
log=$(mktemp)

mkdir -p "$autograder/results"
rm -f "$results"
{  # Gradescope has copied this script out of the folder that holds the grader
    cd "$autograder/source" &&
        "$python" -m tests.grader "$autograder/submission" --gradescope "$results"
} >"$log" 2>&1
cat "$log"

if [ ! -s "$results" ]; then  # nothing was graded; the last line says why
    why=$(tail -n 1 "$log" | tr -d '\\000-\\037' | sed 's/[\\\\"]/\\\\&/g')
    printf '{"score": 0, "output": "not graded: %s", "tests": []}\\n' "$why" >"$results"
fi
rm -f "$log"
exit 0
"""


def archive() -> bytes:
    """The bytes of the archive, always the same for the same files."""
    scripts = {"setup.sh": SETUP.encode(), "run_autograder": RUN.encode()}
    patterns = ("requirements.txt", "tests/__init__.py", *GRADER_FILES)
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    files = scripts | {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in paths}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in sorted(files.items()):
            info = zipfile.ZipInfo(name, LONG_AGO)
            info.create_system = 3  # Unix: the permissions below count
            info.external_attr = (stat.S_IFREG | (0o755 if name in scripts else 0o644)) << 16
            file.writestr(info, content)
    return buffer.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Write the archive; returns the exit code: 2 if the file cannot be written."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.autograder", description="Write the autograder for Gradescope."
    )
    parser.add_argument("file", metavar="FILE.zip", help="archive to write")
    name = parser.parse_args(argv).file
    file = Path(os.path.expanduser(name))
    try:
        if not name.strip():
            raise OSError("the name of the file is empty")
        if file.is_dir():
            raise IsADirectoryError(f"{file} is a folder, name a file")
        if not file.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {file.parent}")
        write_atomically(file, archive())
    except OSError as error:
        print(f"python -m tests.autograder: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
