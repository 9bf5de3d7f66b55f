"""Bundles: what they hold, as folders and tars, and what cannot be exported."""

from __future__ import annotations

import io
import pickle
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load

import study
from study.errors import InputError, StorageError, StudyError
from study.experiment.confirm import OBSERVED
from study.experiment.progress import winner_of
from study.experiment.storage import LocalStorage
from study.export.backends import load_networks
from study.export.bundle import read_bundle
from study.export.inspect import facts, failed, told
from study.export.manifest import CARD, FIGURE, MANIFEST, SIGNATURE
from study.export.places import write_files
from study.export.winner import export_arm

from .conftest import ARMS, Finished, InlineStudy

Keys = tuple[Path, Path]


def test_a_bundle_says_what_it_is(bundle: Path, continuous: Finished) -> None:
    manifest = read_bundle(bundle).manifest
    assert manifest.study == "small" and manifest.arm == ARMS[0] and manifest.members == 2
    assert [i.name for i in manifest.dynamic_inputs] == ["prcp", "tmax", "srad", "swe"]
    assert [i.units for i in manifest.dynamic_inputs] == ["mm/d", "degC", "W/m2", "mm"]
    sources = [i.source for i in manifest.dynamic_inputs]
    assert sources == ["camels-us, maurer_extended"] * 3 + ["uaz_swe"]
    assert manifest.dynamic_inputs[0].low == 0 < (manifest.dynamic_inputs[0].high or 0)
    assert set(manifest.periods) == {"train", "validation", "test"}
    assert len(manifest.basins) == 6
    for scores in manifest.metrics.values():
        assert scores["nse_median_low"] <= scores["nse_median"] <= scores["nse_median_high"]
    assert {"CAMELS-US" in one.data for one in manifest.licences} >= {True}
    assert set(manifest.digests) == set(continuous[1].header["digests"])
    assert manifest.training["seeds"] == [0, 1]


def test_the_card_tells_a_person(bundle: Path) -> None:
    read = read_bundle(bundle)
    card = read.files[CARD].decode()
    for told_there in ("LSTM", "NSE, median over basins", "| `swe` | mm |", "20 days of forcing",
                       "doi 10.5065/D6MW2F4D", "study predict", f"]({FIGURE})"):  # fmt: skip
        assert told_there in card
    assert read.files[FIGURE].startswith(b"\x89PNG")


def test_nothing_in_a_bundle_is_a_pickle(bundle: Path) -> None:
    for name, content in read_bundle(bundle).files.items():
        if name.endswith(".pt2"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                parts = {m.filename: archive.read(m) for m in archive.infolist() if m.file_size}
        else:
            parts = {name: content}
        for part, inner in parts.items():
            with pytest.raises(Exception):  # noqa: B017, whatever is wrong with it
                pickle.loads(inner)
            assert not part.endswith((".pkl", ".pickle", ".pt"))


def test_nothing_in_a_bundle_tells_where_it_was_written(bundle: Path) -> None:
    parts = {n: c for n, c in read_bundle(bundle).files.items() if not n.endswith(".pt2")}
    for name, content in read_bundle(bundle).files.items():
        if name not in parts:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                parts |= {f"{name}: {part}": archive.read(part) for part in archive.namelist()}
    assert len(parts) > len(read_bundle(bundle).files)
    for place in (study.__file__, torch.__file__, str(bundle)):
        folder = str(Path(place).parent).encode()
        assert [name for name, content in parts.items() if folder in content] == []


def test_the_same_arm_gives_the_same_bytes(bundle: Path, continuous: Finished, tmp_path: Path,
                                           keys: Keys) -> None:  # fmt: skip
    study, book = continuous
    export_arm(book, study.storage, ARMS[0], tmp_path / "again", key=keys[0])
    programs = {".pt2"}  # torch writes the order of its own hashes into them
    for file in bundle.iterdir():
        if file.suffix not in programs and file.name not in (MANIFEST, SIGNATURE):
            assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_programs_hold_the_weights_of_their_members(bundle: Path) -> None:
    """All members' are traced once."""
    read = read_bundle(bundle)
    names = zip(read.manifest.weights_files, read.manifest.program_files, strict=True)
    members = [(load(read.files[weights]), programs) for weights, programs in names]
    for weights, programs in members:
        for name in programs.values():
            state = torch.export.load(io.BytesIO(read.files[name])).state_dict
            assert all(torch.equal(state[f"model.{n}"], tensor) for n, tensor in weights.items())
    (first, _), (second, _) = members
    assert not torch.equal(first["head.weight"], second["head.weight"])


@pytest.mark.parametrize("members", [1, 2])
def test_single_models_and_ensembles(continuous: Finished, members: int, tmp_path: Path) -> None:
    study, book = continuous
    out = tmp_path / "some.tar"
    export_arm(book, study.storage, ARMS[0], out, members=members)
    assert len(load_networks(read_bundle(out), "onnx")) == members


def test_a_tar_is_the_folder(bundle: Path, tmp_path: Path, keys: Keys) -> None:
    folder = read_bundle(bundle)
    write_files(tmp_path / "some.tar", folder.contents(keys[0]))
    packed = read_bundle(tmp_path / "some.tar", key=keys[1])
    assert packed.digest == folder.digest and packed.files == folder.files
    subprocess.run(["tar", "-xf", "some.tar"], cwd=tmp_path, check=True)
    assert read_bundle(tmp_path / "some").digest == folder.digest
    write_files(tmp_path / "other" / "some.tar", folder.contents(keys[0]))
    assert (tmp_path / "other" / "some.tar").read_bytes() == (tmp_path / "some.tar").read_bytes()


def test_openssl_verifies_the_signature(bundle: Path, keys: Keys) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin"]
    command += ["-in", str(bundle / MANIFEST), "-sigfile", str(bundle / SIGNATURE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0 and "Verified Successfully" in ended.stdout


def test_inspection(bundle: Path, keys: Keys) -> None:
    found = facts(str(bundle), keys[1])
    assert not failed(found) and found["signature"] == "checked"
    assert set(found["example"]) == {"onnx", "torch", "exported"}
    assert all(tried["share_of_allowed"] <= 1 for tried in found["example"].values())
    text = "\n".join(told(found))
    assert text.count("as expected") == 3 and found["digest"] in text
    assert "left out: loading a program can run code" in "\n".join(told(facts(str(bundle))))


def test_a_bundle_that_knows_its_own_basins_only_says_so(windows: Finished, tmp_path: Path) -> None:
    study, book = windows
    export_arm(book, study.storage, ARMS[0], tmp_path / "own")
    bundle = read_bundle(tmp_path / "own")
    assert bundle.manifest.attributes == (*bundle.manifest.inputs.static, "discharge_scale")
    assert bundle.attributes["discharge_scale"].min() > 0.1
    assert "It cannot predict new basins" in bundle.files[CARD].decode()
    assert "basins      6, no others: a model whose unit" in "\n".join(told(facts(bundle.uri)))


def test_the_winner_is_the_best_on_validation(continuous: Finished) -> None:
    _, book = continuous
    scores = {
        arm: np.mean([book.evaluations[j.key]["validation"]["nse_median"]
                      for j in book.replicates(arm)])
        for arm in book.arms
    }  # fmt: skip
    assert winner_of(book) == max(scores, key=lambda arm: scores[arm])


def test_refusals(continuous: Finished, tmp_path: Path, keys: Keys) -> None:
    study, book = continuous
    with pytest.raises(InputError, match=r"has no arm `gru`; its arms are lstm-snow"):
        export_arm(book, study.storage, "gru", tmp_path / "x")
    with pytest.raises(InputError, match="--members 9: arm lstm-snow has 2 replicates"):
        export_arm(book, study.storage, ARMS[0], tmp_path / "x", members=9)
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists already"):
        export_arm(book, study.storage, ARMS[0], tmp_path / "there")
    with pytest.raises(InputError, match="is no private Ed25519 key"):
        export_arm(book, study.storage, ARMS[0], tmp_path / "x", key=keys[1])
    with pytest.raises(InputError, match="the tar's folder would be called"):
        export_arm(book, study.storage, ARMS[0], tmp_path / "my model.tar")
    unfinished = InlineStudy(store=study.store, storage=LocalStorage(tmp_path / "other"))
    begun, _ = unfinished.train()
    with pytest.raises(StudyError, match="is not finished"):
        export_arm(begun, unfinished.storage, "lstm", tmp_path / "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "there"]


@pytest.mark.parametrize("part", ["trials/", "predictions/", OBSERVED])
def test_results_that_lack_a_file(part: str, continuous: Finished, tmp_path: Path) -> None:
    study, book = continuous
    folder = shutil.copytree(study.storage.uri, tmp_path / "results")
    storage = LocalStorage(folder)
    missing = storage.keys(part)
    for key in missing:
        storage.delete(key)
    with pytest.raises(StorageError, match="is missing, which the study's log says") as raised:
        export_arm(book, storage, ARMS[0], tmp_path / "bundle")
    assert any(f"{folder}/{key}" in str(raised.value) for key in missing)
    assert not (tmp_path / "bundle").exists()
