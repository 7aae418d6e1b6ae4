"""What a grade costs, and which of the planted mistakes it sees.

    python tests/benchmarks/grading.py

Run it on an idle machine. It prints the numbers and writes them to tests/benchmarks/grading.json,
from where figures/regenerate.py takes them into docs/grading.md.
"""

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.grader import graded_tests
from tests.planted import FAULTS, UNSEEN, mark_of
from tests.sandbox import ROOT, Sandbox, available_cores
from training.runs import write_atomically

OUTPUT = Path(__file__).with_suffix(".json")
REPEATS = 3
SAMPLE_SECONDS = 0.2  # between two measurements of the memory


def cost_of_a_grade() -> dict[str, float]:
    """Seconds, seconds of processor time and the largest memory of a grade of this project.

    The memory is that of the grader and all processes it has started; pages that several of them
    share count once (proportional set size, from Linux's /proc).
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.grader", str(ROOT)], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    largest = [0]

    def watch() -> None:
        while process.poll() is None:
            largest[0] = max(largest[0], sum(memory_of(n) for n in family(process.pid)))
            time.sleep(SAMPLE_SECONDS)

    watcher = threading.Thread(target=watch)
    watcher.start()
    if process.wait():
        sys.exit("this project does not win all points")
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return {"seconds": time.perf_counter() - start, "cpu_seconds": used,
            "megabytes": largest[0] / 1e6}  # fmt: skip


def family(process: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield process
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def memory_of(process: int) -> int:
    """Its proportional set size in bytes; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def main() -> None:
    """Measure, print and write."""
    costs = [cost_of_a_grade() for _ in range(REPEATS)]
    medians = {name: statistics.median(cost[name] for cost in costs) for name in costs[0]}
    planted = [*FAULTS, *UNSEEN]
    with Sandbox() as sandbox:
        unseen = [fault.what for fault in planted if not mark_of(fault, sandbox).why]
    found = medians | {
        "repeats": REPEATS,
        "cores": available_cores(),
        "tests": len(graded_tests()),
        "limit_seconds": sum(2 * test.seconds for test in graded_tests()),
        "planted": len(planted),
        "seen": len(planted) - len(unseen),
        "unseen": unseen,
    }
    print(json.dumps(found, indent=2))
    write_atomically(OUTPUT, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    os.environ.pop("GRADER_SEED", None)
    main()
