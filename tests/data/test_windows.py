"""Training windows, by brute force: every scored day once a pass, and no step over an edge."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from study.data.windows import draw_windows


def count_scored(scored: np.ndarray, span: slice, targets: int, seed: int) -> np.ndarray:
    """How often each (basin, day) is scored in one pass."""
    windows = draw_windows(scored, span, targets, np.random.default_rng(seed))
    length = min(targets, span.stop - span.start)
    counts = np.zeros(scored.shape, int)
    for basin, start, first, last in zip(
        windows.basin, windows.start, windows.first, windows.last, strict=True
    ):
        assert 0 <= first < last <= length
        assert span.start <= start and start + length <= span.stop
        counts[basin, start + first : start + last] += 1
        assert scored[basin, start + first : start + last].any(), "a window without a target"
    return counts * scored


@settings(max_examples=200, deadline=None)
@given(
    basins=st.integers(1, 4),
    before=st.integers(0, 9),
    length=st.integers(1, 40),
    after=st.integers(0, 9),
    targets=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.1, 0.8, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_scored_day_of_the_period_once(
    basins: int, before: int, length: int, after: int, targets: int, share: float, seed: int
) -> None:
    """With gaps, with one target a window, with windows longer than the period. The warm-up lies
    before a window's start, which is never before the period's: it stays within the array."""
    scored = np.random.default_rng(seed).random((basins, before + length + after)) < share
    span = slice(before, before + length)
    wanted = np.zeros_like(scored, int)
    wanted[:, span] = scored[:, span]
    np.testing.assert_array_equal(count_scored(scored, span, targets, seed), wanted)


def test_order_and_offsets_change_from_pass_to_pass() -> None:
    generator = np.random.default_rng(0)
    scored = np.ones((3, 100), bool)
    a, b = (draw_windows(scored, slice(10, 90), 20, generator) for _ in range(2))
    assert a.start.tolist() != b.start.tolist()
    offsets = {int((s - 10) % 20) for _ in range(50) for s in draw_windows(
        scored, slice(10, 90), 20, generator).start}  # fmt: skip
    assert offsets == set(range(20)), "every position of a window in the period must occur"


def test_the_generator_decides_alone() -> None:
    scored = np.ones((3, 100), bool)
    a, b = (draw_windows(scored, slice(0, 100), 7, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(a.start, b.start)
    np.testing.assert_array_equal(a.basin, b.basin)
