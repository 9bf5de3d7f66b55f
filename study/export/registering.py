"""From a study to the model registry, and who is champion there."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from study.errors import StudyError
from study.experiment.ledger import Ledger
from study.experiment.storage import Storage
from study.experiment.tracking.registry import CHALLENGER, CHAMPION, Registry, Version, runs_of_arm
from study.export.bundle import Bundle, read_bundle
from study.export.manifest import CARD, EXAMPLE
from study.export.places import write_files
from study.export.winner import export_arm
from study.report.effects import promotion_effect
from study.report.evidence import gather
from study.report.statistics import Effect

LOADER = "study.export.served"


def register_arm(
    book: Ledger, storage: Storage, arm: str, uri: str, exported: str | Path | None = None
) -> Version:
    """Put an arm's bundle into the registry, once: as champion if there is none, else as the
    challenger.

    Args:
        book: A finished study that the tracking server knows.
        storage: Its results.
        arm: The arm.
        uri: Of the tracking server or database.
        exported: The arm's bundle, if there is one already.

    Raises:
        StudyError: The study is not finished or not on the server, or the server does not answer.
    """
    registry, name = Registry(uri), book.spec.name
    with TemporaryDirectory() as folder:
        place = Path(folder, arm)
        if exported is None:
            export_arm(book, storage, arm, place)
        else:
            write_files(place, read_bundle(exported).contents())
        bundle = read_bundle(place)
        version = registry.with_tags(name, {"study.networks": bundle.networks_digest})
        if version is None:
            version = _register(registry, book, bundle, place, uri)
    champion = registry.by_alias(name, CHAMPION)
    if champion is None:
        registry.set_alias(version, CHAMPION)
    elif champion.number != version.number:
        registry.set_alias(version, CHALLENGER)
    return version


def _register(registry: Registry, book: Ledger, bundle: Bundle, place: Path, uri: str) -> Version:
    manifest = bundle.manifest
    example = pd.read_csv(io.BytesIO(bundle.files[EXAMPLE]), dtype={"gauge_id": str})
    for entry in manifest.static_inputs:
        example[entry.name] = bundle.attributes[entry.name].reindex(example["gauge_id"]).to_numpy()
    return registry.register(
        book.spec.name,
        place,
        loader=LOADER,
        example=example,
        optional=frozenset(manifest.inputs.static),
        outputs=("qsim", *(["qsim_std"] if manifest.members > 1 else [])),
        tags=_tags(book, bundle),
        description=bundle.files[CARD].decode(),
        runs=runs_of_arm(book, uri, str(manifest.arm)),
    )


def _tags(book: Ledger, bundle: Bundle) -> dict[str, str]:
    return {
        "study.name": book.spec.name,
        "study.uid": book.header.get("uid", ""),
        "study.arm": str(bundle.manifest.arm),
        "study.digest": bundle.digest,
        "study.networks": bundle.networks_digest,
        "study.spec_digest": book.spec.digest(),
    }


def promote(book: Ledger, storage: Storage, arm: str, uri: str) -> tuple[Version, Effect]:
    """Make an arm the champion, if it is better than the one there is by the study's own verdict,
    on the validation period.

    Returns:
        The new champion, and how much better it is.

    Raises:
        StudyError: It is not better, or is the champion already, or cannot be compared.
    """
    registry, name = Registry(uri), book.spec.name
    champion = registry.by_alias(name, CHAMPION)
    if champion is None:
        raise StudyError(f"{uri}: model {name} has no champion yet; `study run` registers one")
    if champion.tags.get("study.uid") != book.header.get("uid"):
        raise StudyError(
            f"{uri}: the champion of {name} is of another study of that name, and scores of two "
            "studies are no verdict; move the alias by hand if you know better"
        )
    before = champion.tags["study.arm"]
    if before == arm:
        raise StudyError(f"{arm} is the champion of {name} already (version {champion.number})")
    version = register_arm(book, storage, arm, uri)
    effect = promotion_effect(book, gather(book, storage), arm, before)
    if effect.verdict != "better":
        raise StudyError(
            f"{arm} is not promoted: against {before} on the validation period the verdict is: "
            f"{effect.verdict} (difference in NSE {effect.difference:+.3f}, {effect.low:+.3f} to "
            f"{effect.high:+.3f}, region of practical equivalence "
            f"±{book.spec.evidence.equivalence:g}); the champion stays version {champion.number}"
        )
    registry.set_alias(version, CHAMPION)
    registry.delete_alias(name, CHALLENGER)
    return version, effect


def export_registered(model: str, uri: str, out: str | Path, key: Path | None = None) -> Bundle:
    """Write the bundle of a registered model, after a check of every file.

    Args:
        model: `models:/NAME@champion` or `models:/NAME/VERSION`.
        uri: Of the tracking server or database.
        out: New folder, new `.tar`, or `s3://bucket/key`.
        key: Private key that signs it.

    Raises:
        InputError: There is no such model.
        BundleError: It is damaged, or the place is taken.
    """
    with TemporaryDirectory() as folder:
        bundle = read_bundle(Registry(uri).fetch(model, Path(folder)))
        write_files(out, bundle.contents(key))
    return bundle
