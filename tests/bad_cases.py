"""The table of bad inputs: what is damaged, and what the message must name."""

# ruff: noqa: E501 (a line a case)

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import yaml

FIRST, SECOND = "01013500", "01030500"

Damage = Callable[[Path], object]
Change = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Case:
    """One bad input: what is damaged, and what the message must name."""

    name: str
    damage: Damage
    says: tuple[str, ...]


def forcing_file(root: Path, gauge_id: str = SECOND) -> Path:
    return next(root.rglob(f"{gauge_id}_lump_*_forcing_leap.txt"))


def discharge_file(root: Path) -> Path:
    return next(root.rglob(f"{SECOND}_streamflow_qc.txt"))


def swe_file(root: Path) -> Path:
    return root / "swe_uaz" / f"{SECOND}_swe.csv"


def output_file(root: Path) -> Path:
    """SAC-SMA output of the second seed of the second basin; synthetic basins have none, so it and
    the first seed's are written first."""
    folder = root / "model_output" / "flow_timeseries" / "daymet" / "01"
    folder.mkdir(parents=True, exist_ok=True)
    days = [date(1980, 10, 1) + timedelta(days=i) for i in range(200)]
    lines = ["YR MNTH DY HR SWE MOD_RUN OBS_RUN", *(f"{d:%Y %m %d} 12 0.0 1.5 2.5" for d in days)]
    for seed in ("05", "11"):
        path = folder / f"{SECOND}_{seed}_model_output.txt"
        if not path.exists():
            path.write_text("\n".join(lines) + "\n")
    return path


def table_file(root: Path, name: str = "clim") -> Path:
    return root / "camels_attributes_v2.0" / f"camels_{name}.txt"


def edit(find: Callable[[Path], Path], change: Change) -> Damage:
    """Damage the lines of a file."""

    def damage(root: Path) -> None:
        path = find(root)
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return damage


def raw(find: Callable[[Path], Path], change: Callable[[bytes], bytes]) -> Damage:
    """Damage the bytes of a file."""
    return lambda root: find(root).write_bytes(change(find(root).read_bytes()))


def field(number: int, column: int, value: str, separator: str | None = None) -> Change:
    """Put a value in one field of one line (line numbers as messages count them)."""

    def change(lines: list[str]) -> list[str]:
        fields = lines[number - 1].rstrip("\n").split(separator)
        fields[column] = value
        return [*lines[: number - 1], (separator or "\t").join(fields) + "\n", *lines[number:]]

    return change


def repeat_line(lines: list[str]) -> list[str]:
    return [*lines[:100], lines[99], *lines[100:]]


def drop_line(lines: list[str]) -> list[str]:
    return [*lines[:100], *lines[101:]]


def swap_lines(lines: list[str]) -> list[str]:
    return [*lines[:100], lines[101], lines[100], *lines[102:]]


def latin1(text: bytes) -> bytes:
    return text[:3000] + b"\xe9" + text[3000:]


DATA_CASES = (
    Case("forcing cut within a line", raw(forcing_file, lambda b: b[:9000]),
         ("_forcing_leap.txt", "line", "cut off", "fetch")),
    Case("forcing cut after a line", edit(forcing_file, lambda x: x[:300]),
         ("_forcing_leap.txt", SECOND, "cut off", "fetch")),
    Case("forcing cut in its header", edit(forcing_file, lambda x: x[:2]),
         ("line 3", "area in m2")),
    Case("forcing cut after its header", edit(forcing_file, lambda x: x[:4]),
         (SECOND, "holds no day")),
    Case("forcing empty", raw(forcing_file, lambda b: b""), (SECOND, "is empty")),
    Case("forcing is binary", raw(forcing_file, lambda b: bytes(range(256)) * 40),
         (SECOND, "line 2", "UTF-8", "fetch")),
    Case("forcing with a latin-1 byte", raw(forcing_file, latin1), (SECOND, "0xe9", "line", "UTF-8")),
    Case("forcing with a NUL", raw(forcing_file, lambda b: b[:3000] + b"\0" + b[3000:]),
         (SECOND, "0x00", "line")),
    Case("forcing with text in a column", edit(forcing_file, field(50, 7, "warm")),
         (SECOND, "line 50", "`swe`", "'warm'")),
    Case("forcing with NaN", edit(forcing_file, field(50, 6, "NaN")),
         (SECOND, "line 50", "`srad`", "'NaN'")),
    Case("forcing with infinity", edit(forcing_file, field(50, 6, "inf")),
         (SECOND, "line 50", "`srad`", "'inf'")),
    Case("forcing line short", edit(forcing_file, lambda x: [*x[:60], x[60][:30] + "\n", *x[61:]]),
         (SECOND, "line 61", "fields")),
    Case("forcing line empty", edit(forcing_file, lambda x: [*x[:60], "\n", *x[60:]]),
         (SECOND, "line 61", "0 fields")),
    Case("forcing with a carriage return within a line", raw(forcing_file, lambda b: b[:3000] + b[3000:].replace(b"\t", b"\r", 1)),
         (SECOND, "not a table of numbers", "fetch")),
    Case("forcing with a day twice", edit(forcing_file, repeat_line),
         (SECOND, "line 101", "again", "remove")),
    Case("forcing with a day missing", edit(forcing_file, drop_line),
         (SECOND, "line 101", "1 day is missing")),
    Case("forcing not sorted", edit(forcing_file, swap_lines), (SECOND, "line 101", "sort")),
    Case("forcing with an impossible date", edit(forcing_file, field(50, 2, "31.5")),
         (SECOND, "line 50", "is no date")),
    Case("forcing with negative rain", edit(forcing_file, field(50, 5, "-0.5")),
         (SECOND, "line 50", "`prcp`", "-0.5 mm/d")),
    Case("forcing with a mark for gaps", edit(forcing_file, field(50, 8, "-999")),
         (SECOND, "line 50", "`tmax`", "gap")),
    Case("forcing without a column", edit(forcing_file, lambda x: [a.replace("vp(Pa)", "q") for a in x]),
         (SECOND, "line 4", "`vp`")),
    Case("forcing in other units", edit(forcing_file, lambda x: [a.replace("tmax(C)", "tmax(K)") for a in x]),
         (SECOND, "line 4", "`tmax` is in k")),
    Case("area of zero", edit(forcing_file, lambda x: [*x[:2], "0\n", *x[3:]]),
         (SECOND, "line 3", "area", "above 0")),
    Case("two forcing files", lambda r: shutil.copy(forcing_file(r), forcing_file(r).with_name(f"{SECOND}_lump_nldas_forcing_leap.txt")),
         (SECOND, "2 files", "remove")),
    Case("no discharge file", lambda r: discharge_file(r).unlink(), (SECOND, "no file", "_streamflow_qc.txt")),
    Case("discharge cut within a line", raw(discharge_file, lambda b: b[:-5]), (SECOND, "cut off")),
    Case("discharge line short", edit(discharge_file, lambda x: [*x[:9], x[9].rsplit(None, 1)[0] + "\n", *x[10:]]),
         (SECOND, "line 10", "5 fields")),
    Case("discharge with text", edit(discharge_file, lambda x: [*x[:9], x[9].replace(".", "x"), *x[10:]]),
         (SECOND, "line 10", "`q`")),
    Case("discharge with a day twice", edit(discharge_file, repeat_line), (SECOND, "line 101", "again")),
    Case("discharge with a day missing", edit(discharge_file, drop_line), (SECOND, "line 101", "missing")),
    Case("discharge of another basin", edit(discharge_file, lambda x: [*x[:9], x[9].replace(SECOND, FIRST), *x[10:]]),
         (SECOND, FIRST, "line 10")),
    Case("discharge with a latin-1 byte", raw(discharge_file, latin1), (SECOND, "0xe9")),
    Case("no snow file", lambda r: swe_file(r).unlink(), (SECOND, "no file", "_swe.csv")),
    Case("snow without its column", edit(swe_file, lambda x: ["date,depth\n", *x[1:]]),
         (SECOND, "line 1", "uaz_swe", "depth")),
    Case("snow not sorted", edit(swe_file, swap_lines), (SECOND, "line 102", "sort")),
    Case("snow with a day twice", edit(swe_file, repeat_line), (SECOND, "line 101", "again")),
    Case("snow below zero", edit(swe_file, lambda x: [*x[:9], x[9][:10] + ",-3" + "," * (x[0].count(",") - 1) + "\n", *x[10:]]),
         (SECOND, "line 10", "negative")),
    Case("snow with text", edit(swe_file, lambda x: [*x[:9], x[9][:10] + ",deep" + "," * (x[0].count(",") - 1) + "\n", *x[10:]]),
         (SECOND, "line 10", "'deep'")),
    Case("snow with text of another script", edit(swe_file, lambda x: [*x[:9], x[9][:10] + ",深い" + "," * (x[0].count(",") - 1) + "\n", *x[10:]]),
         (SECOND, "line 10", "not a number")),
    Case("snow with another date", edit(swe_file, lambda x: [*x[:9], x[9].replace("-", "/"), *x[10:]]),
         (SECOND, "line 10", "1999-10-01")),
    Case("SAC-SMA output cut within a line", raw(output_file, lambda b: b[:-3]),
         (f"{SECOND}_11_model_output.txt", "line 201", "cut off", "fetch")),
    Case("SAC-SMA output cut after a line", edit(output_file, lambda x: x[:100]),
         (f"{SECOND}_11_model_output.txt", "1980-10-01 to 1981-01-07", "cut off", "fetch")),
    Case("SAC-SMA output cut after its header", edit(output_file, lambda x: x[:1]), (SECOND, "holds no day")),
    Case("SAC-SMA output empty", raw(output_file, lambda b: b""), (SECOND, "is empty")),
    Case("SAC-SMA output without its column", edit(output_file, lambda x: [x[0].replace("MOD_RUN", "Q"), *x[1:]]),
         (SECOND, "line 1", "lacks", "`MOD_RUN`")),
    Case("SAC-SMA output with text", edit(output_file, field(50, 5, "high", " ")), (SECOND, "line 50", "`mod_run`", "'high'")),
    Case("SAC-SMA output with NaN", edit(output_file, field(50, 5, "NaN", " ")), (SECOND, "line 50", "`mod_run`", "'NaN'")),
    Case("SAC-SMA output line short", edit(output_file, lambda x: [*x[:60], x[60][:14] + "\n", *x[61:]]),
         (SECOND, "line 61", "fields")),
    Case("SAC-SMA output with a day twice", edit(output_file, repeat_line), (SECOND, "line 101", "again")),
    Case("SAC-SMA output with a day missing", edit(output_file, drop_line), (SECOND, "line 101", "missing")),
    Case("SAC-SMA output not sorted", edit(output_file, swap_lines), (SECOND, "line 101", "sort")),
    Case("SAC-SMA output with a latin-1 byte", raw(output_file, latin1), (SECOND, "0xe9")),
    Case("SAC-SMA output of a seed twice", lambda r: shutil.copy(output_file(r), output_file(r).parents[1]),
         (SECOND, "seed 11", "2 files", "remove")),
    Case("attribute table gone", lambda r: table_file(r).unlink(), ("camels_clim.txt", "cannot be read")),
    Case("attribute table without a basin", edit(table_file, lambda x: [a for a in x if SECOND not in a]),
         ("camels_clim.txt", SECOND, "add it")),
    Case("attribute table with a basin twice", edit(table_file, lambda x: [*x, x[-1]]),
         ("camels_clim.txt", "line 4", "again", "remove")),
    Case("attribute that is text", edit(table_file, field(3, 1, "wet", ";")),
         ("camels_clim.txt", "line 3", "`p_mean`", "'wet'")),
    Case("attribute table with a latin-1 byte", raw(lambda r: table_file(r, "name"), lambda b: b.replace(b";", b";\xe9", 3)),
         ("camels_name.txt", "0xe9", "UTF-8")),
    Case("attribute table is no table", raw(table_file, lambda b: b"hello\n"), ("camels_clim.txt", "gauge_id")),
)  # fmt: skip


def ids_file(text: bytes) -> Damage:
    return lambda root: (root / "basins.txt").write_bytes(text)


IDS_CASES = (
    Case("basin nobody knows", ids_file(b"01013500\n99999999\n"), ("99999999", "no file")),
    Case("basin named twice", ids_file(b"01013500\n01013500\n"), ("basins.txt", "line 2", "once")),
    Case("basins file empty", ids_file(b"\n"), ("basins.txt", "empty")),
    Case("basins file gone", lambda r: None, ("basins.txt", "cannot be read")),
    Case("basin's zero lost", ids_file(b"1013500\n"), ("line 1", "(01013500)")),
    Case("basins file is binary", ids_file(bytes(range(255))), ("basins.txt", "cannot be read")),
)


def edit_metadata(change: Callable[[dict], object]) -> Damage:
    def damage(store: Path) -> None:
        for name in (".zmetadata", ".zattrs"):
            content = json.loads((store / name).read_text())
            change(content["metadata"][".zattrs"] if name == ".zmetadata" else content)
            (store / name).write_text(json.dumps(content))

    return damage


def overwrite(place: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda store: (store / place).write_bytes(change((store / place).read_bytes()))


STORE_CASES = (
    Case("store of another schema", edit_metadata(lambda a: a.update(schema=99)),
         ("us.zarr", "schema 99", "study data build")),
    Case("store not there", shutil.rmtree, ("us.zarr", "no such store", "study data build")),
    Case("folder that is no store", lambda s: (shutil.rmtree(s), s.mkdir()), ("us.zarr", "not a data store")),
    Case("store without a chunk", lambda s: (s / "prcp" / "0.0").unlink(), ("us.zarr", "`forcing`", "build it again")),
    Case("store with a flipped bit", overwrite("qobs/0.0", lambda b: b[:400] + bytes([b[400] ^ 1]) + b[401:]),
         ("us.zarr", "`discharge`", "build it again")),
    Case("store with a chunk cut off", overwrite("prcp/0.0", lambda b: b[:999]), ("us.zarr", "damaged", "build it again")),
    Case("store's metadata cut off", overwrite(".zmetadata", lambda b: b[:999]), ("us.zarr", "not a data store")),
    Case("store without digests", edit_metadata(lambda a: a.pop("digests")), ("us.zarr", "digests", "build")),
)  # fmt: skip


SPEC = """\
name: bad
data:
  forcing: [prcp, tmax]
  attributes: [p_mean, frac_snow]
  periods: {train: 1981-10-01:1984-09-30, validation: 1984-10-01:1986-09-30}
factors:
  model: [lstm, ealstm]
  snow: [off, observed]
training: {epochs: 4, warmup: 20, hidden_size: 4}
search:
  space:
    learning_rate: {low: 0.001, high: 0.01}
contrasts:
  - {factor: snow, a: observed, b: off}
"""


@dataclass(frozen=True)
class SpecCase:
    """A spec with a key replaced (a dotted place and its YAML), or with lines replaced."""

    name: str
    says: tuple[str, ...]
    sets: dict[str, str] | None = None
    old: str = ""
    new: str = ""

    def text(self) -> str:
        assert self.old in SPEC
        content = SPEC.replace(self.old, self.new, 1) if self.old else SPEC
        if self.sets is None:
            return content
        plain = yaml.safe_load(content)
        for key, value in self.sets.items():
            *parents, last = key.split(".")
            place = plain
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = yaml.safe_load(value)
        return yaml.safe_dump(plain)


SPEC_CASES = (
    SpecCase("typo in a key", ("`trainning`", "did you mean `training`"), old="training:", new="trainning:"),
    SpecCase("typo in a nested key", ("`training.hiden_size`", "`hidden_size`"), old="hidden_size", new="hiden_size"),
    SpecCase("typo in a contrast", ("`contrasts[0].facter`", "`factor`"), {"contrasts": "[{facter: snow, a: observed, b: off}]"}),
    SpecCase("typo in a range", ("`search.space.learning_rate.lo`", "did you mean `lo"), {"search.space.learning_rate": "{lo: 1, high: 2}"}),
    SpecCase("typo in a period", ("`data.periods.trian`", "`train`"), old="train:", new="trian:"),
    SpecCase("key in the wrong section", ("`epochs`", "`training.epochs`"), {"epochs": "3"}),
    SpecCase("typo in a hyperparameter", ("`learning_rat`", "`learning_rate`"), old="learning_rate:", new="learning_rat:"),
    SpecCase("key missing", ("`data.periods.validation` is missing",), {"data.periods": "{train: 1981-10-01:1984-09-30}"}),
    SpecCase("section empty", ("`training` is empty",), {"training": ""}),
    SpecCase("section not a mapping", ("`training` must have keys",), {"training": "7"}),
    SpecCase("text for a number", ("`training.epochs` must be a whole number", "'many'"), {"training.epochs": "many"}),
    SpecCase("fraction for a whole number", ("`training.epochs` must be a whole number", "2.5"), {"training.epochs": "2.5"}),
    SpecCase("switch for a number", ("`training.epochs`: must be a number", "true"), {"training.epochs": "true"}),
    SpecCase("infinite number", ("`training.learning_rate`", "finite"), {"training.learning_rate": ".inf"}),
    SpecCase("number out of range", ("`training.dropout` must be below 1",), {"training.dropout": "1.5"}),
    SpecCase("word nobody knows", ("`training.loss` must be one of nse, mse",), {"training.loss": "rmse"}),
    SpecCase("range reversed", ("`search.space.learning_rate`", "low < high"), {"search.space.learning_rate": "{low: 2, high: 1}"}),
    SpecCase("logarithm of zero", ("low > 0",), {"search.space.learning_rate": "{low: 0, high: 1, log: true}"}),
    SpecCase("range beyond the field", ("`dropout`", "below 1", "1.5"), {"search.space": "{dropout: {low: 0.1, high: 1.5}}"}),
    SpecCase("space of wrong shape", ("`search.space.dropout`", "range", "0.3"), {"search.space": "{dropout: 0.3}"}),
    SpecCase("one choice only", ("`search.space.dropout`", "at least 2"), {"search.space": "{dropout: [0.3]}"}),
    SpecCase("choice that is a list", ("`search.space.dropout[1]`", "a number or a word"), {"search.space": "{dropout: [0.3, [0.4]]}"}),
    SpecCase("protocol in the space", ("`epochs`", "protocol", "`training`"), {"search.space": "{epochs: [3, 4]}"}),
    SpecCase("rung at the cap", ("search.rungs", "(4)"), {"search.rungs": "[4]"}),
    SpecCase("period reversed", ("`data.periods.train`", "first day"), {"data.periods.train": "1984-10-01:1981-10-01"}),
    SpecCase("periods overlap", ("`data.periods`", "overlap"), {"data.periods.validation": "1984-09-30:1986-09-30"}),
    SpecCase("period without a colon", ("`data.periods.train`", "1999-10-01:2008-09-30"), {"data.periods.train": "\"1984\""}),
    SpecCase("period is a number", ("`data.periods.train`", "1999-10-01:2008-09-30"), {"data.periods.train": "1984"}),
    SpecCase("period with no such day", ("`data.periods.train", "date"), {"data.periods.train": "1983-02-30:1984-01-01"}),
    SpecCase("factor level nobody knows", ("`snow`", "`observd`", "did you mean `observed`"), {"factors.snow": "[off, observd]"}),
    SpecCase("factor nobody knows", ("`snwo`", "`snow`"), old="  snow: [off", new="  snwo: [off"),
    SpecCase("factor level twice", ("`snow`", "twice"), {"factors.snow": "[off, off]"}),
    SpecCase("contrast naming no level", ("contrasts", "`simulated`"), {"contrasts": "[{factor: snow, a: simulated, b: off}]"}),
    SpecCase("contrast naming no arm", ("contrasts", "no arms", "observed"),
             {"contrasts": "[{factor: snow, a: observed, b: off}]", "exclude": "[{snow: observed}]"}),
    SpecCase("contrast of an arm with itself", ("contrasts", "same"), {"contrasts": "[{factor: snow, a: off, b: off}]"}),
    SpecCase("contrast of two forms", ("`contrasts[0]`", "{factor: snow, a: observed, b: off}"), {"contrasts": "[{a: off, b: {snow: off}}]"}),
    SpecCase("contrast side of wrong type", ("`contrasts[0].a`", "level"), {"contrasts": "[{factor: snow, a: [off], b: off}]"}),
    SpecCase("split by an attribute nobody has", ("evidence.split", "`frac_snwo`", "did you mean `frac_snow`", "data.attributes"),
             {"evidence": "{split: {attribute: frac_snwo, at: 0.3}}"}),
    SpecCase("split by an attribute of no arm", ("evidence.split", "`elev_mean`", "data.attributes", "frac_snow or aridity"),
             {"evidence": "{split: {attribute: elev_mean, at: 900}}"}),
    SpecCase("split at no place", ("`evidence.split.at` is missing",), {"evidence": "{split: {attribute: frac_snow}}"}),
    SpecCase("split at a word", ("`evidence.split.at` must be a finite number", "'half'"), {"evidence": "{split: {at: half}}"}),
    SpecCase("split that is a number", ("`evidence.split` must have keys",), {"evidence": "{split: 0.3}"}),
    SpecCase("ealstm without statics", ("ealstm", "exclude: [{model: ealstm, statics: off}]"), {"factors.statics": "[on, off]"}),
    SpecCase("no arm left", ("exclude leaves no arm",), {"exclude": "[{model: lstm}, {model: ealstm}]"}),
    SpecCase("gauge ids not quoted", ("`data.basins`", "quotes", "01013500"), {"data.basins": "[11013500]"}),
    SpecCase("basins of wrong type", ("`data.basins`", "`all`"), {"data.basins": "some"}),
    SpecCase("basin repeated", ("`data.basins`", "01013500"), {"data.basins": "[\"01013500\", \"01013500\"]"}),
    SpecCase("snow among the forcing", ("`data.forcing`", "factor `snow`"), {"data.forcing": "[prcp, swe]"}),
    SpecCase("name with a slash", ("`name`", "'a/b'"), {"name": "a/b"}),
    SpecCase("name is a number", ("`name`", "quotes"), {"name": "2020"}),
    SpecCase("key given twice", ("line 2", "`name`", "twice"), old="name: bad\n", new="name: bad\nname: worse\n"),
    SpecCase("nested key given twice", ("line 9", "`epochs`", "twice"), old="{epochs: 4,", new="{epochs: 4, epochs: 5,"),
    SpecCase("not YAML", ("line 9", "not a valid study file"), old="{epochs: 4,", new="{epochs: 4,]"),
    SpecCase("a tab", ("line 3",), old="  forcing:", new="\tforcing:"),
    SpecCase("a tag that builds objects", ("line 1", "tag"), old="name: bad", new="name: !!python/object/apply:os.getcwd []"),
    SpecCase("an impossible date", ("not valid YAML", "month"), old="name: bad", new="name: 2001-99-01"),
    SpecCase("not a mapping", ("mapping of keys",), old=SPEC, new="- a\n- b\n"),
    SpecCase("empty file", ("empty",), old=SPEC, new="\n"),
)  # fmt: skip

MISFITS = (
    ("warm-up longer than the record", ["training.warmup=4000"], ("4000 days", "training.warmup")),
    ("warm-up beyond all calendars", ["training.warmup=9999999"], ("training.warmup",)),
    ("period outside the record", ["data.periods.validation=2001-01-01:2002-01-01"],
     ("data.periods.validation", "days of the store")),
    ("forcing not in the store", ["data.forcing=[prcp, tmxa]"], ("`tmxa`", "did you mean `tmax`")),
    ("attribute not in the store", ["data.attributes=[p_meen]"], ("`p_meen`", "`p_mean`")),
    ("attribute that is text", ["data.attributes=[gauge_name]"], ("`gauge_name`", "data.attributes")),
    ("basin not in the store", ['data.basins=["01013500"]'], ("01013500", "data.basins")),
    ("split by an attribute that is text",
     ["data.attributes=[p_mean, gauge_name]", "evidence.split={attribute: gauge_name, at: 0.3}"], ("`gauge_name`", "evidence.split")),
    ("constant attribute", ["data.attributes=[p_mean, water_frac]"], ("`water_frac`", "data.attributes")),
)  # fmt: skip
"""Specs that do not fit the store: name, `--set`, what the message names."""
