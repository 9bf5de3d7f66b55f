"""Networks: one that is trained here, and those of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from study.api.stores import Where, folder_of
from study.errors import InputError
from study.spec import StudySpec

if TYPE_CHECKING:
    from study.export.bundle import Bundle
    from study.training.loop import Trainer


def train(
    spec: StudySpec,
    store: Where | xr.Dataset,
    *,
    arm: str | None = None,
    seed: int = 1,
    epochs: int | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Network:
    """Train one network of a study's arm in this process: no search, no Ray, no results folder.

    Args:
        spec: Of `study.load_spec`.
        store: What `study.open_store` gave, or a store's address.
        arm: Name of the arm; the first if None.
        seed: Of weights, windows and dropout.
        epochs: `training.epochs` if None.
        hyperparameters: Keys of `training`, in place of the spec's.

    Raises:
        InputError: The spec and the store make no study, or there is no such arm.

    Example:
        >>> spec = study.load_spec("snow.yaml")
        >>> network = study.train(spec, "us.zarr", arm="lstm-snow", epochs=1)
        >>> network.simulate("validation").dims
        ('basin', 'time')
        >>> list(network.score().columns[:3])
        ['nse', 'log_nse', 'kge']
    """
    from study.experiment.engine import prepare
    from study.experiment.placement import use_threads
    from study.training.loop import DeviceData, Trainer

    prepared = prepare(spec, folder_of(store))
    arms = {one.name: one for one in prepared.arms}
    if arm is not None and arm not in arms:
        raise InputError(f"the study has no arm {arm}; its arms are {', '.join(arms)}")
    chosen = prepared.arms[0] if arm is None else arms[arm]
    use_threads(spec.resources)
    trainer = Trainer(
        DeviceData(prepared.arrays),
        model=chosen.model,
        inputs=chosen.inputs,
        config=chosen.training(spec.training, hyperparameters or {}),
        seed=seed,
        threads=spec.resources.threads,
        kernel=spec.resources.kernel,
    )
    losses = [trainer.run_epoch() for _ in range(epochs or spec.training.epochs)]
    return Network(trainer, chosen.name, tuple(losses))


@dataclass(frozen=True)
class Network:
    """One trained network."""

    trainer: Trainer
    arm: str
    losses: tuple[float, ...]
    """Mean training loss of each epoch."""

    def simulate(self, period: str = "validation") -> xr.DataArray:
        """Discharge of the spec's period, mm/d: `(basin, time)`.

        Raises:
            InputError: There is no such period; the test period is for `study.run` alone.
        """
        from study.evaluation.simulate import simulate_period

        trainer, arrays = self.trainer, self.trainer.data.arrays
        if period not in arrays.periods:
            raise InputError(
                f"a network of `study.train` knows the periods {', '.join(arrays.periods)}, not "
                f"{period}; the test period is read by `study.run`, once"
            )
        values = simulate_period(
            trainer.model, trainer.data, trainer.inputs, trainer.config, period,
            threads=trainer.threads,
        )  # fmt: skip
        return xr.DataArray(
            values,
            dims=("basin", "time"),
            coords={"basin": list(arrays.basins), "time": arrays.days(period)},
            attrs={"units": "mm/d"},
            name="qsim",
        )

    def score(self, period: str = "validation") -> pd.DataFrame:
        """Every metric of every basin: index `gauge_id`."""
        from study.evaluation.metrics import all_metrics

        sim, arrays = self.simulate(period), self.trainer.data.arrays
        table = pd.DataFrame(all_metrics(sim=sim.values, obs=arrays.observed(period)))
        return table.set_index(pd.Index(arrays.basins, name="gauge_id"))


def load_bundle(place: Where, *, key: Where | None = None) -> Model:
    """Read a bundle and check every file of it; no code of it runs.

    Args:
        place: Folder, `.tar` or `s3://...` that `study export` wrote.
        key: Public key that it must be signed with.

    Raises:
        BundleError: A file is missing, damaged, or not what the manifest says.

    Example:
        >>> model = study.open("snow").export("best", arm="lstm-snow")
        >>> flow = study.load_bundle("best").predict("us.zarr", "validation")
        >>> flow["qsim"].dims, flow["qsim_members"].sizes["member"]
        (('basin', 'time'), 2)
    """
    from study.export.bundle import read_bundle

    return Model(read_bundle(str(place), key=None if key is None else Path(key)))


@dataclass(frozen=True)
class Model:
    """A bundle's networks."""

    bundle: Bundle

    def predict(
        self,
        forcing: Where | pd.DataFrame | xr.Dataset,
        period: str | None = None,
        *,
        quantiles: Sequence[float] = (),
    ) -> xr.Dataset:
        """Simulate discharge.

        Args:
            forcing: Daily inputs by name: a dataset with dims `(basin, time)` (such as a store), a
                table with columns `gauge_id`, `date` and the inputs, or a file of either.
            period: `first day:last day`, or a period of the study by name; all days after the
                warm-up if None.
            quantiles: Of the members, between 0 and 1.

        Returns:
            `qsim (basin, time)`, mean of the members, and `qsim_members (member, basin, time)`;
            mm/d.

        Raises:
            DataError: An input is missing or impossible; says which, where and when.
        """
        from study.export.forcing import Forcing, from_dataset, from_table, read_forcing
        from study.export.predict import named_period, predict

        given: Forcing
        if isinstance(forcing, pd.DataFrame):
            given = from_table(forcing, "the table")
        elif isinstance(forcing, xr.Dataset):
            given = from_dataset(forcing, "the dataset")
        else:
            given = read_forcing(Path(forcing))
        days = None if period is None else named_period(self.bundle, period)
        return predict(self.bundle, given, days, quantiles=quantiles).data
