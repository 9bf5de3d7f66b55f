"""Builds a store in a process of its own, so that its memory can be told from all else.

    python build_store.py CAMELS_FOLDER STORE

Prints one JSON object: seconds to build and to open, processor seconds of the build (its readers
included), bytes of the store's values, and by how many bytes the process grew, at most, beyond
what it held after its imports.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from study.data.store import build_camels_us, open_store


def memory(kind: str) -> int:
    """Bytes; `VmRSS` is now, `VmHWM` the most so far."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{kind}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def main(root: Path, store: Path) -> None:
    before = memory("VmRSS")
    started, used = time.perf_counter(), sum(os.times()[:4])
    build_camels_us(root, store, snow=root / "swe_uaz")
    built = time.perf_counter()
    dataset = open_store(store)
    opened = time.perf_counter()
    print(
        json.dumps(
            {
                "basins": dataset.sizes["basin"],
                "build_seconds": built - started,
                "processor_seconds": sum(os.times()[:4]) - used,
                "open_seconds": opened - built,
                "grown": memory("VmHWM") - before,
                "values": dataset.nbytes,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
