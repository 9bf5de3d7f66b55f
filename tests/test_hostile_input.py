"""Files from strangers: reading a spec, a store or a checkpoint runs no code of theirs, and writes
nothing outside the folder that was asked for. Bundles: `tests/export/test_hostile.py`."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import small_content

from study.data.store import open_store, verify
from study.errors import InputError, SpecError
from study.experiment.engine import open_ledger
from study.experiment.eventlog import EventLog
from study.experiment.storage import study_storage
from study.spec import load_spec
from study.training.checkpoint import weights


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that hostile code would make."""
    return tmp_path / "hostile-code-ran"


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_the_hostile_pickle_is_one(mark: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists()


# Specs


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['mkdir {mark}']",
        "!!python/object/apply:os.mkdir ['{mark}']",
        "!!python/object/new:os.mkdir {{args: ['{mark}']}}",
        "!!python/name:os.system",
        "!!python/module:os",
        "!run 'mkdir {mark}'",
    ],
)
@pytest.mark.parametrize("key", ["name", "question", "training"])
def test_a_tag_runs_nothing(tag: str, key: str, mark: Path, tmp_path: Path) -> None:
    content = {k: v for k, v in small_content().items() if k != key}
    path = tmp_path / "hostile.yaml"
    path.write_text(yaml.safe_dump(content) + f"{key}: {tag.format(mark=mark)}\n")
    with pytest.raises(SpecError, match=r"hostile\.yaml"):
        load_spec(path)
    assert not mark.exists()


ESCAPES = (
    *("../escape", "..", ".", "/tmp/escape", "a/b", "a/../../escape", "~/escape", "a\\..\\b"),
    *("name\nwith a line", "nul\0", " ", "", "$(mkdir x)", "-rf", "%2e%2e%2fescape", "ａ"),
)


@pytest.mark.parametrize("name", ESCAPES)
def test_a_name_that_leaves_the_results_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(yaml.safe_dump(small_content(name=name)))
    with pytest.raises(SpecError, match="`name`"):
        load_spec(path)
    with pytest.raises(SpecError, match="name"):
        load_spec(Path(path), [f"name={json.dumps(name)}"])


@pytest.mark.parametrize("name", ESCAPES)
def test_a_log_whose_study_has_such_a_name_is_refused(name: str, tmp_path: Path) -> None:
    """Results may come from elsewhere, too; their log brings the spec with it."""
    results = tmp_path / "results"
    storage = study_storage("small", str(results))
    log = EventLog(storage)
    log.append(event="study", uid="0", spec=small_content(name=name))
    log.flush()
    with pytest.raises(InputError):
        open_ledger(storage)
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


# Checkpoints


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_unpickled(mark: Path) -> None:
    with pytest.raises(Exception, match="header"):
        weights(pickle.dumps(Hostile(mark)))
    assert not mark.exists()


# Stores


@pytest.mark.parametrize("place", ["compressor", "filters", "second filter"])
@pytest.mark.parametrize("dtype", ["<f8", "|O"])
def test_a_store_with_pickled_chunks_is_refused(
    place: str, dtype: str, mark: Path, synthetic_store: Path, tmp_path: Path
) -> None:
    """Zarr's older format lets metadata name the codec, and Python's pickle is one of them."""
    store = tmp_path / "hostile.zarr"
    shutil.copytree(synthetic_store, store)
    described = store / "p_mean" / ".zarray"
    content = json.loads(described.read_text())
    codec, harmless = {"id": "pickle", "protocol": 5}, {"id": "zlib", "level": 1}
    content |= {"dtype": dtype, "filters": None, "compressor": None, "fill_value": 0}
    content |= {
        "compressor": {"compressor": codec},
        "filters": {"filters": [codec]},
        "second filter": {"filters": [harmless, codec]},
    }[place]
    described.write_text(json.dumps(content))
    consolidated = store / ".zmetadata"
    everything = json.loads(consolidated.read_text())
    everything["metadata"]["p_mean/.zarray"] = content
    consolidated.write_text(json.dumps(everything))
    for chunk in (p for p in (store / "p_mean").iterdir() if not p.name.startswith(".")):
        chunk.write_bytes(pickle.dumps(Hostile(mark)))
    with pytest.raises(InputError, match=r"hostile\.zarr"):
        verify(open_store(store), store)
    assert not mark.exists()
