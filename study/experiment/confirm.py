"""The confirmation's last act: replicates are simulated and scored, the test period read once."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr
from safetensors.numpy import load, save

from study.data.arrays import StudyArrays, assemble
from study.data.licences import licences_of_store
from study.evaluation.metrics import all_metrics, share_below_zero
from study.evaluation.simulate import simulate_period
from study.experiment.arms import all_inputs
from study.experiment.book import Book
from study.experiment.jobs import Job, JobKey, checkpoint_key, identity
from study.experiment.placement import use_threads
from study.experiment.storage import Storage, read_result
from study.experiment.trial import make_trainer
from study.spec import StudySpec
from study.training import checkpoint
from study.training.loop import DeviceData

OBSERVED = "predictions/observed.safetensors"
BASINS = "predictions/basins.json"
BASIN_FACTS = ("huc_02", "gauge_name", "gauge_lat", "gauge_lon", "frac_snow", "aridity")
"""What the report tells of a basin beside its scores, where the store has it."""
REFERENCES = {"shyft": "shyft_discharge", "sacsma": "qsim_sacsma"}
"""Models that the report sets beside the arms -> their discharge, where the store has it."""


def prediction_key(key: JobKey) -> str:
    """Place of a replicate's simulated discharge in the study's storage."""
    return f"predictions/{key.arm}/{key.trial:03d}-{key.seed:03d}.safetensors"


def confirm(book: Book, store: xr.Dataset, storage: Storage) -> None:
    """Simulate and score all replicates that are trained and not yet evaluated.

    The reading of the test period is written to the log before it begins. A study that has grown
    since reads it again for the replicates that are new, and the log counts that.
    """
    done = [job for arm in book.arms for job in book.replicates(arm)
            if book.status(job.key) == "done"]  # fmt: skip
    if all(job.key in book.evaluations for job in done):
        return
    spec = book.spec
    if spec.data.periods.test is not None and not _reading_goes_on(book, done):
        book.begin_test_read(job.key for job in done)
    inputs = all_inputs(tuple(book.arms.values()))
    arrays = assemble(store, spec, inputs, read_test=True)
    data = DeviceData(arrays)
    _write_observed(arrays, store, book, storage)
    use_threads(spec.resources)
    for job in done:
        if job.key not in book.evaluations:
            book.evaluated(job.key, _evaluate(book, job, data, storage))
    book.log.flush()


def _reading_goes_on(book: Book, done: list[Job]) -> bool:
    """A reading that was begun for just these replicates and ended before its time."""
    return book.readings[-1:] == [[str(job.key) for job in done]]


def _evaluate(book: Book, job: Job, data: DeviceData, storage: Storage) -> dict[str, Any]:
    """Scores by period; the simulated discharge goes to storage."""
    spec, arm = book.spec, book.arms[job.key.arm]
    trainer = make_trainer(spec, arm, data, job.key, job.hyperparameters)
    name = identity(spec, job.key, trainer.config)
    checkpoint.restore(trainer, read_result(storage, checkpoint_key(name, spec.training.epochs)))
    sims, scores = {}, {}
    for period in [p for p in data.arrays.periods if p != "train"]:
        sims[period] = simulate_period(
            trainer.model, data, arm.inputs, trainer.config, period, threads=trainer.threads
        )
        scores[period] = _summary(sims[period], data.arrays.observed(period))
    storage.write(prediction_key(job.key), save(sims))
    return scores


def _summary(sim: np.ndarray, obs: np.ndarray) -> dict[str, float] | None:
    """Metric -> median over basins, and the mean of NSE; None where nothing was observed."""
    if not np.isfinite(obs).any():
        return None
    metrics = all_metrics(sim=sim, obs=obs)
    medians = {f"{name}_median": float(np.nanmedian(v)) for name, v in metrics.items()}
    nse = metrics["nse"]
    return medians | {
        "nse_mean": float(np.nanmean(nse)),
        "share_nse_below_0": float(share_below_zero(nse)),
    }


def _write_observed(arrays: StudyArrays, store: xr.Dataset, book: Book, storage: Storage) -> None:
    """What the report and the export need of the data, so that they need no store."""
    spec = book.spec
    split = spec.evidence.split
    told = dict.fromkeys((*BASIN_FACTS, *([] if split is None else [split.attribute])))
    periods = [p for p in arrays.periods if p != "train"]
    series = {f"qobs.{p}": np.ascontiguousarray(arrays.observed(p)) for p in periods}
    chosen = store.sel(basin=list(arrays.basins))
    for name, variable in {"swe": "swe", **REFERENCES}.items():
        for period in periods if variable in store else ():
            values = chosen[variable].reindex(time=arrays.days(period)).values
            series[f"{name}.{period}"] = np.ascontiguousarray(values, np.float32)
    storage.write(OBSERVED, save(series))
    facts = {
        "basins": list(arrays.basins),
        "first_days": {p: str(arrays.days(p)[0].date()) for p in periods},
        "facts": {n: chosen[n].values.tolist() for n in told if n in store},
        "attributes": {n: arrays.attributes[n].tolist() for n in arrays.inputs.static},
        "scaler": vars(arrays.scaler),
        "basin_scale": [s if np.isfinite(s) else None for s in arrays.basin_scale.tolist()],
        "ranges": _ranges(arrays, chosen, spec),
        "sources": {
            n: _source(store, n) for n in (*arrays.inputs.daily, *arrays.inputs.static, "qobs")
        },
        "units": {n: str(store[n].attrs["units"]) for n in arrays.inputs.daily},
        "product": store.attrs["forcing_product"],
        "licences": [vars(one) for one in licences_of_store(store, book.header["digests"])],
        "references": {n: _described(store, n) for n, v in REFERENCES.items() if v in store},
    }
    storage.write(BASINS, json.dumps(facts).encode())


def _ranges(
    arrays: StudyArrays, chosen: xr.Dataset, spec: StudySpec
) -> dict[str, tuple[float, float]]:
    """Input -> the extremes that networks were trained on."""
    taught = [b for b in arrays.basins if b not in spec.data.held_out]
    seen = chosen.sel(basin=taught, time=arrays.days("train"))
    values = {n: seen[n].values for n in arrays.inputs.daily}
    values |= {n: v[np.isin(arrays.basins, taught)] for n, v in arrays.attributes.items()}
    return {n: (float(np.nanmin(v)), float(np.nanmax(v))) for n, v in values.items()}


def _source(store: xr.Dataset, name: str) -> str:
    """The product that an input was read or computed from, in a few words."""
    attrs, origin = store[name].attrs, str(store.attrs["source"])
    if attrs["group"] == "forcing":
        return f"{origin}, {store.attrs['forcing_product']}"
    if attrs["group"] == "shyft":
        return f"Shyft {store.attrs.get('about', {}).get('shyft', {}).get('stack')}"
    return str(attrs.get("source") or attrs.get("column") or origin)


def _described(store: xr.Dataset, reference: str) -> str:
    """Where a model's discharge comes from, in a line."""
    if reference == "sacsma":
        attrs = store[REFERENCES[reference]].attrs
        return f"{attrs['source']}, forcing {attrs['product']}"
    about = store.attrs.get("about", {}).get(reference, {})
    lent = ", with the parameters of the most similar other basin" if about.get("donors") else ""
    return f"Shyft {about.get('stack')}, calibrated on {about.get('train_period')}{lent}"


def read_predictions(storage: Storage, key: JobKey) -> dict[str, np.ndarray]:
    """Period -> (basin, day) simulated discharge of a replicate, mm/d."""
    return dict(load(read_result(storage, prediction_key(key))))
