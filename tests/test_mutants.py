"""The faults of `python -m tests.mutants` fit the code, and only a failing test catches one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from mutants.__main__ import fits, is_caught
from mutants.checkout import REPOSITORY, Checkout
from mutants.faults import FAULTS


def test_every_fault_fits_and_names_tests_that_are() -> None:
    assert len({fault.what for fault in FAULTS}) == 20
    for fault in FAULTS:
        assert fits(fault), f"{fault.what}: {fault.file} has not its text exactly once"
        for test in fault.tests:
            file, _, name = test.partition("::")
            function = name.partition("[")[0]
            text = (REPOSITORY / file).read_text()
            assert re.search(rf"^def {function}\(", text, re.MULTILINE), test


@pytest.mark.slow
def test_only_a_failing_test_catches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one that cannot be collected, and not a name that the fault forgot to import."""
    shared = next(fault for fault in FAULTS if fault.file == "study/experiment/jobs.py")
    checkout = Checkout(tmp_path)
    for new, verdict in (
        (shared.new, "caught by"),
        (f"{shared.old}  # as it was", "SURVIVED"),
        (f"{shared.old})", "BROKEN:"),
        (f"absent; {shared.old}", "BROKEN:"),
    ):
        assert is_caught(checkout, 1, replace(shared, new=new)) is (verdict == "caught by")
        assert f"{shared.file}: {verdict} " in capsys.readouterr().out
    assert (checkout.root / shared.file).read_text() == (REPOSITORY / shared.file).read_text()
