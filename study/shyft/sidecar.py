"""Calibrate and run Shyft on one basin: the only file that imports it.

    PYTHON_WITH_SHYFT sidecar.py FOLDER

reads `request.json` and `request.npz` of the folder and writes `response.npz` and, last,
`response.json`. It belongs to another environment (Shyft's wheels need numpy 1), so it knows
nothing of the rest of this package. `process.py` is the other end and explains the fields.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import shyft.hydrology as hydrology
import shyft.time_series as ts

PROTOCOL = 2
DAY = 86_400
CATCHMENT = 1
FIRST_STEP, LAST_STEP = 0.1, 1e-3
"""Of BOBYQA's trust region, relative to the parameters' ranges."""
GOALS = {"nse": hydrology.NASH_SUTCLIFFE, "kge": hydrology.KLING_GUPTA}


class Basin:
    """One basin as one cell, with its forcing."""

    def __init__(self, request, arrays):
        self.arrays = arrays
        self.area = request["area"]
        self.first_day = request["first_day_seconds"]
        self.module = importlib.import_module("shyft.hydrology." + request["stack"])
        self.prefix = request["stack"].upper().replace("_", "")
        self.names = self._names()

    def cls(self, suffix):
        return getattr(self.module, self.prefix + suffix)

    def _names(self):
        parameter = self.cls("Parameter")()
        return [parameter.get_name(i) for i in range(parameter.size())]

    def parameter(self, values):
        """Shyft's defaults but for these values by name."""
        result = self.cls("Parameter")()
        vector = [result.get(i) for i in range(result.size())]
        for name, value in values.items():
            vector[self.names.index(name)] = value
        result.set(ts.DoubleVector(vector))
        return result

    def values(self, parameter, names):
        return {name: parameter.get(self.names.index(name)) for name in names}

    def axis(self, days):
        start = ts.time(self.first_day + days.start * DAY)
        return ts.TimeAxis(start, DAY, days.stop - days.start)

    def series(self, values, axis):
        values = ts.DoubleVector(np.ascontiguousarray(values, np.float64))
        return ts.TimeSeries(axis, values, ts.POINT_AVERAGE_VALUE)

    def model(self, kind, days, parameter):
        """A model of one cell that has every source at its middle: nothing is interpolated."""
        fractions = hydrology.LandTypeFractions()
        fractions.set_fractions(glacier=0.0, lake=0.0, reservoir=0.0, forest=0.0)
        middle = ts.GeoPoint(0.0, 0.0, self.arrays["elevation"].item())
        # The radiation given is the catchment's mean already: no factor for slopes.
        slope_factor = 1.0
        cells = hydrology.GeoCellDataVector()
        cells.append(hydrology.GeoCellData(middle, self.area, CATCHMENT, slope_factor, fractions))
        axis = self.axis(days)
        environment = hydrology.ARegionEnvironment()
        for name, source in (
            ("temperature", hydrology.TemperatureSource),
            ("precipitation", hydrology.PrecipitationSource),
            ("radiation", hydrology.RadiationSource),
            ("rel_hum", hydrology.RelHumSource),
            ("wind_speed", hydrology.WindSpeedSource),
        ):
            series = self.series(self.arrays[name][days], axis)
            getattr(environment, name).append(source(cells[0].mid_point(), series))
        model = self.cls(kind)(cells, parameter)
        model.set_cell_environment(axis, environment)
        return model


def calibrate(basin, request, job):
    """The best parameters of several starts of BOBYQA, and what each start came to.

    The job's `days` are scored; the model runs from `warmup` days before them.
    """
    bounds = request["bounds"]
    first, stop = job["days"]
    run_days = slice(max(0, first - request["warmup"]), stop)
    # Held by name: an optimizer whose model is gone crashes.
    model = basin.model("OptModel", run_days, basin.cls("Parameter")())
    optimizer = optimizer_of(basin, request, model, slice(first, stop))
    runs = []
    for start in best_starts(basin, optimizer, request, job["seed"]):
        began = time.perf_counter()
        parameter = best_of(optimizer, basin.parameter(start), request["evaluations"])
        runs.append({
            "parameters": basin.values(parameter, bounds),
            "goal": 1.0 - optimizer.calculate_goal_function(parameter),
            "evaluations": int(optimizer.trace_size),
            "seconds": time.perf_counter() - began,
        })  # fmt: skip
    best = max(runs, key=lambda run: run["goal"] if np.isfinite(run["goal"]) else -np.inf)
    return {**best, "starts": runs}


def optimizer_of(basin, request, model, scored):
    """Shyft's optimizer of a model with the request's goal on the scored days."""
    low, high = ({name: pair[i] for name, pair in request["bounds"].items()} for i in (0, 1))
    model.run_cells(use_ncore=1)  # fixes the initial state
    model.revert_to_initial_state()
    observed = basin.arrays["qobs"][scored] * basin.area / (DAY * 1000.0)  # mm/d to m3/s
    target = basin.series(observed, basin.axis(scored))
    specification = hydrology.TargetSpecificationPts(
        target, ts.IntVector([CATCHMENT]), 1.0, GOALS[request["goal"]],
        1.0, 1.0, 1.0, hydrology.DISCHARGE, "discharge",
    )  # fmt: skip
    targets = hydrology.TargetSpecificationVector()
    targets.append(specification)
    optimizer = basin.cls("Optimizer")(model)
    # Parameters that are not free are equal in both bounds, and so fixed.
    optimizer.set_target_specification(targets, basin.parameter(low), basin.parameter(high))
    return optimizer


def best_starts(basin, optimizer, request, seed):
    """The best of Shyft's defaults and `draws` uniform draws between the bounds, best first.

    BOBYQA is local: from a poor point it may never find a basin's snow.
    """
    bounds = request["bounds"]
    random = np.random.default_rng(seed)
    points = [basin.values(basin.cls("Parameter")(), bounds)]
    points += [{name: random.uniform(*pair) for name, pair in bounds.items()}
               for _ in range(request["draws"])]  # fmt: skip
    for point in points:
        for name, (low, high) in bounds.items():
            margin = 1e-6 * (high - low)
            point[name] = min(max(point[name], low + margin), high - margin)
    losses = [optimizer.calculate_goal_function(basin.parameter(point)) for point in points]
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    return [points[i] for i in order[: request["starts"]]]


def best_of(optimizer, start, evaluations):
    """The best parameter that a run of BOBYQA has seen, also of one that it did not end itself."""
    try:
        optimizer.optimize(start, evaluations, FIRST_STEP, LAST_STEP)
    except RuntimeError:  # the evaluations are used up, or rounding allows no further step
        if optimizer.trace_size == 0:
            raise
    goals = [optimizer.trace_goal_function_value(i) for i in range(optimizer.trace_size)]
    return optimizer.trace_parameter(int(np.nanargmin(goals)))


def simulate(basin, request, parameters, days):
    """Series of these days by name in `request["series"]`, each one value a day."""
    model = basin.model("Model", days, basin.parameter(parameters))
    model.set_state_collection(-1, True)
    model.run_cells(use_ncore=1)
    cell = model.get_cells()[0]
    result = {}
    for name, place in request["series"].items():
        collector, attribute = place.split(".")
        series = getattr(getattr(cell, collector), attribute)
        vector = series.v if isinstance(series, ts.TsFixed) else series.values
        values = vector.to_numpy()
        # A state has one value more, that before the first day; a day's is that at its end.
        result[name] = values[1:] if len(values) == days.stop - days.start + 1 else values
    return result


def main(folder):
    if int(np.__version__.split(".")[0]) > 1:
        sys.exit("Shyft's wheels crash under numpy 2: install numpy<2 in Shyft's environment")
    request = json.loads((folder / "request.json").read_text())
    if request["protocol"] != PROTOCOL:
        sys.exit(f"protocol {request['protocol']} was asked for, this sidecar speaks {PROTOCOL}")
    with np.load(folder / "request.npz") as file:
        arrays = dict(file)
    basin = Basin(request, arrays)
    calibrations = {n: calibrate(basin, request, job) for n, job in request["calibrate"].items()}
    sets = request["parameters"] | {n: c["parameters"] for n, c in calibrations.items()}
    series = {
        f"{name}.{variable}": values
        for name, run in request["simulate"].items()
        for variable, values in simulate(
            basin, request, sets[run["parameters"]], slice(*run["days"])
        ).items()
    }
    np.savez(folder / "response.npz", **series)
    response = {"protocol": PROTOCOL, "numpy": np.__version__, "calibrations": calibrations}
    (folder / "response.json").write_text(json.dumps(response))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
