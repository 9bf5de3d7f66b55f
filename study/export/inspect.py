"""A look at a bundle before it is used: what it is, whether it is whole, whether it still works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from study.export.backends import BACKENDS, NotInstalled
from study.export.bundle import Bundle, read_bundle
from study.export.example import largest_difference


def facts(uri: str, key: Path | None = None) -> dict[str, Any]:
    """What `study inspect --json` prints.

    Raises:
        BundleError: The bundle is damaged, or not signed as asked for.
    """
    bundle = read_bundle(uri, key=key)
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "digest": bundle.digest,
        "signature": "checked" if bundle.signed else "not checked",
        "model": manifest.model,
        "hidden_size": manifest.hidden_size,
        "members": manifest.members,
        "simulation": manifest.simulation.model_dump(),
        "inputs": {name: entry.units for name, entry in manifest.daily.items()},
        "attributes": list(manifest.inputs.static),
        "basins": len(manifest.basins),
        "bound_to_basins": manifest.bound_to_basins,
        "periods": manifest.periods,
        "metrics": manifest.metrics,
        "licences": [licence.model_dump() for licence in manifest.licences],
        "files": len(bundle.files) + 1,
        "bytes": sum(map(len, bundle.files.values())),
        "example": {backend: _tried(bundle, backend) for backend in BACKENDS},
    }


def _tried(bundle: Bundle, backend: str) -> dict[str, Any]:
    if backend == "exported" and not bundle.signed:
        return {"left_out": "loading a program can run code; it needs --key"}
    if backend == "onnx" and not bundle.has_graphs:
        return {"left_out": f"there are no graphs of the model {bundle.manifest.model}"}
    try:
        apart, share = largest_difference(bundle, backend)
    except NotInstalled as error:
        return {"left_out": f"{error.what} is not installed"}
    return {"largest_difference": apart, "share_of_allowed": share}


def failed(found: dict[str, Any]) -> bool:
    """Whether a back end says something else than the bundle expects."""
    return any(tried.get("share_of_allowed", 0) > 1 for tried in found["example"].values())


def told(found: dict[str, Any]) -> Iterator[str]:
    """The facts as lines."""
    yield f"{found['name']}"
    yield f"digest      {found['digest']}"
    yield f"signature   {found['signature']}"
    yield (
        f"networks    {found['members']} {found['model']} of {found['hidden_size']} cells, "
        f"{found['simulation']['mode']}, {found['simulation']['warmup']} days of warm-up"
    )
    yield f"inputs      {', '.join(f'{n} ({u})' for n, u in found['inputs'].items())}"
    yield f"attributes  {', '.join(found['attributes']) or 'none'}"
    others = found["bound_to_basins"]
    yield f"basins      {found['basins']}{f', no others: a model {others}' if others else ''}"
    yield f"files       {found['files']}, {found['bytes'] / 1e6:.1f} MB, all as their checksums"
    for backend, tried in found["example"].items():
        if "left_out" in tried:
            yield f"{backend:11} left out: {tried['left_out']}"
        else:
            verdict = "as expected" if tried["share_of_allowed"] <= 1 else "NOT AS EXPECTED"
            apart = tried["largest_difference"]
            yield f"{backend:11} {verdict}, largest difference {apart:.1e} mm/d"
