"""Plant faults in a copy of the checkout, one at a time, and ask the tests that claim to see them.

    python -m tests.mutants          # all
    python -m tests.mutants 3 7      # some
    python -m tests.mutants --list   # none: what is wrong, where, and what it would do

First all these tests must pass on the copy without a fault. A fault is caught if one of its tests
then fails; one that cannot be collected, set up or run at all proves nothing. The exit code is 0 if
all are caught.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from .checkout import REPOSITORY, Checkout
from .faults import FAULTS, Fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)  # fmt: skip
    parser.add_argument("numbers", nargs="*", type=int, metavar="NUMBER", help="of faults")
    parser.add_argument("--list", action="store_true", help="say which there are")
    given = parser.parse_args()
    known = dict(enumerate(FAULTS, start=1))
    if unknown := set(given.numbers) - set(known):
        parser.error(f"there is no fault {min(unknown)}; they are 1 to {len(known)}")
    chosen = {number: known[number] for number in given.numbers or known}
    if given.list:
        for number, fault in chosen.items():
            print(f"{number:2}  {fault.what}, {fault.file}\n    {fault.harm}")
        return 0
    with TemporaryDirectory(prefix="mutants-") as folder:
        return plant(chosen, Path(folder))


def plant(chosen: Mapping[int, Fault], folder: Path) -> int:
    """Plant each of these faults; returns the exit code."""
    started = time.monotonic()
    if misfits := [(number, fault) for number, fault in chosen.items() if not fits(fault)]:
        for number, fault in misfits:
            print(f"{number:2}  no longer fits: {fault.file} has not its text exactly once")
        return 1
    checkout = Checkout(folder)
    sound = checkout.run([t for fault in chosen.values() for t in fault.tests], sound=True)
    if sound.failed or sound.void or not sound.passed:
        print(sound.output)
        print("without any fault, these tests must all pass")
        return 1
    print(f" 0  {len(sound.passed)} tests pass without a fault, {sound.seconds:.1f} s", flush=True)
    caught = sum(is_caught(checkout, number, fault) for number, fault in chosen.items())
    print(f"{caught} of {len(chosen)} caught, {time.monotonic() - started:.0f} s")
    return 0 if caught == len(chosen) else 1


def fits(fault: Fault) -> bool:
    path = REPOSITORY / fault.file
    return path.is_file() and path.read_text().count(fault.old) == 1


def is_caught(checkout: Checkout, number: int, fault: Fault) -> bool:
    """Plant one fault, and print what came of it."""
    kernels = checkout.kernels()
    with checkout.planted(fault):
        answers = checkout.run(fault.tests, sound=False)
    in_c = fault.file.endswith((".c", ".h"))
    if in_c and checkout.kernels() == kernels:
        verdict = "NOT RUN: no other library was built"
    elif answers.failed:
        verdict = f"caught by {answers.failed[0]}"
    elif answers.void:
        verdict = f"BROKEN: {answers.void[0]} could not be run"
    else:
        verdict = f"SURVIVED {', '.join(fault.tests)}"
    print(f"{number:2}  {fault.what}, {fault.file}: {verdict}, {answers.seconds:.1f} s", flush=True)
    if answers.void:
        print(answers.output)
    return verdict.startswith("caught")


if __name__ == "__main__":
    sys.exit(main())
