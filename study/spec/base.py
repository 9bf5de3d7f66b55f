"""What all parts of a spec share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class SpecModel(BaseModel):
    """A part of a spec: frozen, no unknown keys, no infinite numbers."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # what `study explain` and the schema say of a key
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's booleans count as 0 and 1; in a study file they are a slip."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation in (int, float):
            raise ValueError(f"must be a number, but is {str(value).lower()}")
        return value


def nearest(name: object, known: Iterable[str]) -> str:
    """` (did you mean ...?)` with the known name that is most like this one, if any is."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean `{close[0]}`?)" if close else ""


def shown(value: object) -> str:
    """A value as an error quotes it."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
