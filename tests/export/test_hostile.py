"""Bundles that are damaged, or of somebody who means harm: refused with a reason, no code run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from study.errors import BundleError, InputError
from study.export.backends import NotInstalled, load_networks
from study.export.bundle import Bundle, read_bundle
from study.export.inspect import facts, failed, told
from study.export.manifest import MANIFEST, SIGNATURE

Keys = tuple[Path, Path]


@contextmanager
def refused(*words: str) -> Iterator[None]:
    """One paragraph says why, in these words."""
    with pytest.raises(BundleError) as error:
        yield
    message = str(error.value)
    assert all(w in message for w in words), message
    assert "\n" not in message and len(message) < 700


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and its checksum, as somebody does who wants to be believed."""
    (folder / name).write_bytes(content)
    described = json.loads((folder / MANIFEST).read_text())
    described["checksums"][name] = hashlib.sha256(content).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(described))


def test_inspection_finds_networks_that_say_something_else(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    rewrite(copy, "graph-000.onnx", (copy / "graph-001.onnx").read_bytes())
    found = facts(str(copy))
    assert failed(found) and found["example"]["torch"]["share_of_allowed"] <= 1
    assert "NOT AS EXPECTED" in "\n".join(told(found))


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / MANIFEST
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return apply


def flip(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-3] ^= 1
        (folder / name).write_bytes(content)

    return apply


def link(name: str, target: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return apply


def pipe(folder: Path) -> None:
    (folder / "attributes.csv").unlink()
    os.mkfifo(folder / "attributes.csv")


SUM = "0" * 64

DAMAGED: list[tuple[Callable[[Path], Any], str]] = [
    (lambda b: shutil.rmtree(b), "that `study export` wrote"),
    (lambda b: (b / MANIFEST).write_text("{"), "is not a bundle's manifest"),
    (lambda b: (b / MANIFEST).write_text("[" * 100_000), "is not a bundle's manifest"),
    (lambda b: (b / MANIFEST).write_bytes(b"\xff\xfe\x00"), "is not a bundle's manifest"),
    (lambda b: (b / MANIFEST).write_text("[]"), "is not a bundle's manifest"),
    (manifest(lambda m: m.update(format=99)), "`format` must be 2"),
    (manifest(lambda m: m.pop("target")), "`target`"),
    (manifest(lambda m: m.update(extra=1)), "`extra`"),
    (manifest(lambda m: m.update(members=10**9)), "`members`"),
    (manifest(lambda m: m["target"].update(std=0)), "`target.std`"),
    (manifest(lambda m: m["target"].update(mean=float("nan"))), "`target.mean`"),
    (manifest(lambda m: m.update(model="../transformer")), "`model`"),
    (manifest(lambda m: m.update(model="ealstm", static_inputs=[])), "has static inputs"),
    (manifest(lambda m: m["dynamic_inputs"].append(m["dynamic_inputs"][0])), "listed twice"),
    (manifest(lambda m: m["periods"].update(test="never")), "first day:last day"),
    (manifest(lambda m: m["checksums"].pop("attributes.csv")), "lacks attributes.csv"),
    (manifest(lambda m: m["checksums"].pop("weights-000.safetensors")), "lacks weights-000"),
    (manifest(lambda m: m["checksums"].pop("program-000-day.pt2")), "lacks some programs"),
    (manifest(lambda m: m["checksums"].pop("graph-000.onnx")), "lacks some graphs"),
    (manifest(lambda m: m["checksums"].update({"../x": SUM})), "is no plain file name"),
    (manifest(lambda m: m["checksums"].update({"/etc/passwd": SUM})), "is no plain file name"),
    (manifest(lambda m: m["checksums"].update({"evil.py": SUM})), "is no file of a bundle"),
    (manifest(lambda m: m["checksums"].update({"README.md": "?"})), "`checksums.README.md`"),
    (flip("weights-001.safetensors"), "differs from its checksum"),
    (flip("graph-000.onnx"), "differs from its checksum"),
    (flip("program-000-day.pt2"), "differs from its checksum"),
    (flip("attributes.csv"), "differs from its checksum"),
    (flip("README.md"), "differs from its checksum"),
    (lambda b: (b / "weights-000.safetensors").unlink(), "cannot be read"),
    (link("attributes.csv", "/etc/passwd"), "is no plain file"),
    (link("graph-000.onnx", "graph-001.onnx"), "is no plain file"),
    (link("manifest.json", "/dev/zero"), "is no plain file"),
    (pipe, "is no plain file"),
    (lambda b: rewrite(b, "attributes.csv", b"gauge_id,p_mean\n1,__import__('os')\n"),
     "area_gages2, all but the first as numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "why"), DAMAGED, ids=[why for _, why in DAMAGED])
def test_a_damaged_bundle_is_refused(
    bundle: Path, tmp_path: Path, damage: Callable[[Path], Any], why: str
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    damage(copy)
    with refused(why, str(copy)):
        read_bundle(copy)


def packed(bundle: Bundle, change: Callable[[tarfile.TarFile, str], None]) -> bytes:
    """A tar of a bundle to which somebody adds a member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:") as archive:
        for name, content in bundle.contents().items():
            member = tarfile.TarInfo(f"b/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        change(archive, "b")
    return buffer.getvalue()


def added(name: str, kind: bytes = tarfile.REGTYPE, target: str = "",
          content: bytes = b"x") -> Callable[[tarfile.TarFile, str], None]:  # fmt: skip
    def change(archive: tarfile.TarFile, folder: str) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        member.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(content))

    return change


HOSTILE_TARS = [
    (added("../evil.py"), "would be unpacked elsewhere"),
    (added("/etc/cron.d/evil"), "would be unpacked elsewhere"),
    (added("b/../../evil"), "would be unpacked elsewhere"),
    (added("b/deep/evil"), "would be unpacked elsewhere"),
    (added("evil"), "would be unpacked elsewhere"),
    (added("b/.hidden"), "would be unpacked elsewhere"),
    (added("b/link", tarfile.SYMTYPE, "/etc/passwd"), "is no plain file"),
    (added("b/link", tarfile.LNKTYPE, "b/manifest.json"), "is no plain file"),
    (added("b/device", tarfile.CHRTYPE), "is no plain file"),
    (added("b/fifo", tarfile.FIFOTYPE), "is no plain file"),
    (added("../out", tarfile.DIRTYPE), "is no plain file"),
    (added("b/manifest.json"), "holds manifest.json twice"),
]


@pytest.mark.parametrize(("change", "why"), HOSTILE_TARS)
def test_a_hostile_tar_is_refused(
    bundle: Path, tmp_path: Path, change: Callable[[tarfile.TarFile, str], None], why: str
) -> None:
    path = tmp_path / "in" / "b.tar"
    path.parent.mkdir()
    path.write_bytes(packed(read_bundle(bundle), change))
    with refused(why, str(path)):
        read_bundle(path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]  # nothing was unpacked


def test_a_tar_that_claims_to_be_huge(bundle: Path, tmp_path: Path) -> None:
    member = tarfile.TarInfo("b/manifest.json")
    member.size = 2**40
    (tmp_path / "b.tar").write_bytes(member.tobuf() + b"{}".ljust(512, b"\0"))
    with pytest.raises(BundleError, match="a bundle's file has"):
        read_bundle(tmp_path / "b.tar")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"\0" * 2048, b"\xa5" * 700]
)
def test_what_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(BundleError, match=r"b\.tar"):
        read_bundle(tmp_path / "b.tar")


class Evil:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


def program_with(content: bytes, name_part: str, inner: bytes) -> bytes:
    """A program in which one member was replaced."""
    source, buffer = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with source, zipfile.ZipFile(buffer, "w") as archive:
        for member in source.infolist():
            data = source.read(member)
            archive.writestr(member, inner if name_part in member.filename else data)
    return buffer.getvalue()


def test_a_program_with_a_pickle_runs_nothing(bundle: Path, tmp_path: Path, keys: Keys) -> None:
    """Not even when it is signed; and torch would have run it."""
    trace = tmp_path / "trace"
    read = read_bundle(bundle, key=keys[1])
    evil = program_with(
        read.files["program-000-day.pt2"], "sample_inputs", pickle.dumps(Evil(trace))
    )
    files = {**read.files, "program-000-day.pt2": evil}
    signed = Bundle(**vars(read) | {"files": files})
    with pytest.raises(BundleError, match="the program holds a pickle"):
        load_networks(signed, "exported")
    assert not trace.exists()
    import torch

    with suppress(Exception):
        torch.export.load(io.BytesIO(evil))
    assert trace.exists(), "torch has become safer: programs need not be refused any more"


def test_programs_are_loaded_from_signed_bundles_only(bundle: Path) -> None:
    with pytest.raises(BundleError, match="can run code, so the bundle must be signed"):
        load_networks(read_bundle(bundle), "exported")


def graph(change: Callable[[onnx.ModelProto], Any]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        model = onnx.load_from_string(content)
        change(model)
        return bytes(model.SerializeToString())

    return apply


def outside(model: onnx.ModelProto) -> None:
    """Its first tensor is to be read from another file."""
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"
    tensor.ClearField("raw_data")


def any_width(model: onnx.ModelProto) -> None:
    """It takes any number of inputs."""
    model.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_value")


def other_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node[0].op_type, model.graph.node[0].domain = "System", "evil"


HOSTILE_GRAPHS: list[tuple[Callable[[bytes], bytes], str]] = [
    (graph(outside), "refers to other files"),
    (graph(other_operator), "is not a registered function"),
    (graph(any_width), "takes"),
    (graph(lambda m: m.graph.output.reverse()), "gives"),
    (lambda content: content[:-100], "parsing failed"),
    (lambda content: b"", "No graph was found"),
    (lambda content: pickle.dumps(np.zeros(3)), "parsing failed"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), HOSTILE_GRAPHS)
def test_a_hostile_graph_is_refused(
    bundle: Path, tmp_path: Path, change: Callable[[bytes], bytes], why: str
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    rewrite(copy, "graph-001.onnx", change((copy / "graph-001.onnx").read_bytes()))
    with refused("graph-001.onnx: does not fit", why):
        load_networks(read_bundle(copy), "onnx")


def test_an_architecture_that_is_not_here_is_named(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    manifest(lambda m: m.update(model="transformer"))(copy)
    with pytest.raises(NotInstalled, match=r"transformer, which is not installed .*ealstm"):
        load_networks(read_bundle(copy), "torch")
    tried = facts(str(copy))["example"]["torch"]
    assert tried == {"left_out": "the architecture transformer is not installed"}


def test_networks_without_graphs_need_torch(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    manifest(lambda m: [m["checksums"].pop(f"graph-{i:03d}.onnx") for i in (0, 1)])(copy)
    read = read_bundle(copy)
    assert not read.has_graphs
    with refused("has no ONNX graphs", "--backend torch"):
        load_networks(read, "onnx")
    found = facts(str(copy))
    assert found["example"]["onnx"] == {"left_out": "there are no graphs of the model lstm"}
    assert not failed(found)


class Hostile:
    """Unpickled, it makes a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def saved(content: object, *, zipped: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize("how", ["empty", "noise", "pickle", "torch", "torch, old format"])
def test_hostile_weights_are_refused(bundle: Path, tmp_path: Path, how: str) -> None:
    hostile = {"head.weight": Hostile(tmp_path / "ran")}
    content = {
        "empty": lambda: b"",
        "noise": lambda: b"\xff" * 64,
        "pickle": lambda: pickle.dumps(hostile),
        "torch": lambda: saved(hostile, zipped=True),
        "torch, old format": lambda: saved(hostile, zipped=False),
    }[how]()
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    rewrite(copy, "weights-000.safetensors", content)
    with pytest.raises(BundleError, match=r"weights-000\.safetensors: does not fit"):
        load_networks(read_bundle(copy), "torch")
    assert not (tmp_path / "ran").exists()


def test_networks_of_another_size_are_refused(bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    manifest(lambda m: m.update(hidden_size=5))(copy)
    for backend in ("onnx", "torch"):
        with pytest.raises(BundleError, match="does not fit"):
            load_networks(read_bundle(copy), backend)


def test_signatures(bundle: Path, tmp_path: Path, keys: Keys) -> None:
    assert read_bundle(bundle, key=keys[1]).signed
    with pytest.raises(InputError, match="is no public Ed25519 key"):
        read_bundle(bundle, key=keys[0])
    changed = Path(shutil.copytree(bundle, tmp_path / "changed"))
    manifest(lambda m: m.update(name="better"))(changed)
    with pytest.raises(BundleError, match="was not signed with the key"):
        read_bundle(changed, key=keys[1])
    (changed / SIGNATURE).unlink()
    with pytest.raises(BundleError, match="is not signed"):
        read_bundle(changed, key=keys[1])
