"""Inject faults into the program, and count how often it survives.

    python -m tests.faults
    python -m tests.faults --only files inputs

All of it takes about an hour. It is written to tests/faults/faults.json, from where
figures/regenerate.py takes it into the report.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

# One thread each: the faults are tried several at a time.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.faults import disk, divergence, files, inputs, large, processes
from tests.faults.common import TRAINERS, Tally
from training.distributed import n_cores
from training.runs import write_atomically

OUTPUT = Path(__file__).with_name("faults.json")
SHOWN_FAILURES = 5
JOBS = n_cores()
FAULTS: dict[str, list[Callable[[Path], Tally]]] = {
    "processes": [
        *(partial(processes.kills, trainer=trainer, n=30, jobs=JOBS) for trainer in TRAINERS),
        processes.requests_to_end,
        processes.two_requests_to_end,
        processes.two_at_once,
        partial(processes.torchrun, n=10),
        processes.reproducible,
    ],
    "disk": [
        *(partial(disk.full_at_any_write, trainer=trainer) for trainer in TRAINERS
          if trainer != "CNN"),  # which writes through the same code, and takes an hour
        *(partial(disk.too_small, trainer=trainer) for trainer in TRAINERS),
        disk.read_only,
        disk.vanishing,
    ],
    "divergence": [divergence.divergence],
    "inputs": [partial(inputs.command_lines, n=1200)],
    "files": [
        partial(files.sources, n=504),
        partial(files.checkpoints, n=180),
        partial(files.records, n=180),
        files.pictures,
    ],
    "large": [large.soaks, large.sizes],
}  # fmt: skip


def main() -> int:
    """Try everything; the exit code says whether all was survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    table = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    failed = False
    for name in only:
        rows = []
        for fault in FAULTS[name]:
            with tempfile.TemporaryDirectory() as scratch:
                tally = fault(Path(scratch))
            rows.append({"fault": tally.fault, "tried": tally.tried, "survived": tally.survived,
                         "remark": tally.remark})  # fmt: skip
            print(f"{tally.fault}: {tally.survived} of {tally.tried}. {tally.remark}")
            for failure in tally.failures[:SHOWN_FAILURES]:
                print(f"    {failure}")
            sys.stdout.flush()
            failed |= bool(tally.failures)
        table[name] = rows
        write_atomically(OUTPUT, json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
