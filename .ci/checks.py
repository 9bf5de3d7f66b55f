"""All that must hold of a checkout, from nothing; `.ci/run` calls it.

    bash .ci/run                  # all phases
    bash .ci/run set-up style     # some of them

What tells a mistake soonest comes first. Logs of the stages are kept in `.ci/logs`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from stages import Phase, Stage, run

PHASES: dict[str, Phase] = {
    "set-up": [
        [Stage("environment", "make .venv/ready")],
        [
            Stage("servers", "infra/servers/install.sh && infra/testbed/install.sh"),
            Stage("shyft", "make shyft"),
            Stage("neuralhydrology", "make neuralhydrology"),
        ],
    ],
    "style": [
        [
            Stage("lint", "make lint"),
            Stage("imports", ".venv/bin/pytest -q tests/test_imports.py"),
        ],
        [Stage("wheel", "make wheel"), Stage("resolves", "make resolves")],
    ],
    "tests": [[Stage("test", "make test")]],
    "rest": [
        [Stage("slow", "make slow")],  # two at a time, which wait much of their time
        [
            Stage("mutants", "make mutants"),
            Stage("notebooks", "make notebooks"),
            Stage("browser", "make browser"),
            Stage("sanitize", "make sanitize"),
            Stage("lowest", "make lowest"),
            Stage("demo", "make demo"),
        ],
    ],
    "hosts": [[Stage("testbed", "make testbed")]],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog=".ci/run", description=__doc__)
    parser.add_argument("phases", nargs="*", metavar="PHASE", help=", ".join(PHASES))
    chosen = parser.parse_args().phases
    if unknown := set(chosen) - set(PHASES):
        parser.error(f"there is no phase {min(unknown)}; there are {', '.join(PHASES)}")
    os.environ |= {"CI": "1", "PATIENCE_SECONDS": "400"}  # two stages share the cores
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all it imports
    return run(PHASES, Path(".ci/logs"), chosen)


if __name__ == "__main__":
    sys.exit(main())
