"""Put the program under faults, and print how often it survived.

    python -m tests.survival
    python -m tests.survival --only files inputs

All of it takes about an hour. It is written to tests/survival/survival.json, from where
figures/regenerate.py takes it into the README.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

# One thread each: the faults are tried several at a time.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.survival import disk, divergence, files, inputs, large, processes
from tests.survival.common import Tally, new_folder
from training.record import write_whole

OUTPUT = Path(__file__).with_name("survival.json")
SHOWN_FAILURES = 5
FAULTS: dict[str, Callable[[Path], Iterator[Tally]]] = {
    "processes": lambda scratch: processes.all_tallies(scratch, n_kills=30, n_torchrun=10),
    "disk": disk.all_tallies,
    "divergence": divergence.all_tallies,
    "inputs": lambda scratch: inputs.all_tallies(scratch, n=1200),
    "files": lambda scratch: files.all_tallies(scratch, n_sources=504, n_checkpoints=180),
    "large": lambda scratch: large.all_tallies(scratch, share=1.0),
}


def main() -> int:
    """Try everything; the exit code says whether all was survived."""
    parser = argparse.ArgumentParser(prog="python -m tests.survival", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS))
    only = parser.parse_args().only
    warnings.simplefilter("ignore")
    known = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name in only:
            rows = []
            for tally in FAULTS[name](new_folder(Path(scratch) / name)):
                rows.append({"fault": tally.fault, "tried": tally.tried,
                             "survived": tally.survived, "remark": tally.remark})  # fmt: skip
                print(f"{tally.fault}: {tally.survived} of {tally.tried}. {tally.remark}")
                for failure in tally.failures[:SHOWN_FAILURES]:
                    print(f"    {failure}")
                sys.stdout.flush()
                failed |= bool(tally.failures)
            known[name] = rows
            write_whole(OUTPUT, json.dumps(known, indent=2, ensure_ascii=False) + "\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
