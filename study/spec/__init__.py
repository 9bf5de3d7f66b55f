"""The study's YAML file as frozen, validated objects.

`load_spec` is the only way in. A file that loads can be run: unknown keys, wrong types, impossible
ranges, unknown levels and overlapping periods are refused here, with the key and the cure.
"""

from study.spec.base import nearest
from study.spec.data import KRATZERT_2019, DataSpec, Period, PeriodsSpec, parse_period
from study.spec.evidence import ContrastSpec, EvidenceSpec, SplitSpec, differing
from study.spec.factors import (
    ATTRIBUTES,
    BUILT_IN,
    CANONICAL_FACTORS,
    PLACEBO,
    PRODUCTS,
    SHYFT_SERIES,
    LevelSpec,
    OwnLevels,
    feed,
    find_level,
)
from study.spec.reading import load_spec, parse_spec
from study.spec.study import StudySpec
from study.spec.training import (
    PROTOCOL_FIELDS,
    Choice,
    ChoicesSpec,
    ConfirmationSpec,
    OptionsSpec,
    RangeSpec,
    ResourcesSpec,
    SearchSpec,
    TrainingSpec,
)

__all__ = [
    "ATTRIBUTES",
    "BUILT_IN",
    "CANONICAL_FACTORS",
    "KRATZERT_2019",
    "PLACEBO",
    "PRODUCTS",
    "PROTOCOL_FIELDS",
    "SHYFT_SERIES",
    "Choice",
    "ChoicesSpec",
    "ConfirmationSpec",
    "ContrastSpec",
    "DataSpec",
    "EvidenceSpec",
    "LevelSpec",
    "OptionsSpec",
    "OwnLevels",
    "Period",
    "PeriodsSpec",
    "RangeSpec",
    "ResourcesSpec",
    "SearchSpec",
    "SplitSpec",
    "StudySpec",
    "TrainingSpec",
    "differing",
    "feed",
    "find_level",
    "load_spec",
    "nearest",
    "parse_period",
    "parse_spec",
]
