"""What the fields of the sections may be, and how they are checked."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any

from profi.types import UserError


def choice(default: str, *others: str) -> Any:
    """A text field that takes `default` or one of `others`."""
    return field(default=default, metadata={"choices": (default, *others)})


def choices_of(section: type, name: str) -> tuple[str, ...]:
    """What a field of `choice` takes, the default first."""
    (spec,) = (spec for spec in fields(section) if spec.name == name)
    return tuple(spec.metadata["choices"])


def number(
    default: float | None,
    *,
    at_least: float,
    at_most: float | None = None,
    or_null: bool = False,
) -> Any:
    """A number field from `at_least` to `at_most`; null is allowed where `or_null`."""
    metadata = {"at_least": at_least, "at_most": at_most, "or_null": or_null}
    return field(default=default, metadata=metadata)


def _check_field(key: str, spec: Field[Any], value: Any) -> None:
    choices = spec.metadata.get("choices")
    if choices is not None and value not in choices:
        raise UserError(f"{key}={value}: choose one of {', '.join(choices)}")
    least = spec.metadata.get("at_least")
    if least is None or (value is None and spec.metadata["or_null"]):
        return
    # Written so that a NaN is refused too.
    if not (value >= least and value != float("inf")):
        raise UserError(f"{key}={value}: must be a finite number of at least {least:g}")
    most = spec.metadata["at_most"]
    if most is not None and value > most:
        raise UserError(f"{key}={value}: must be at most {most:g}")


def check_fields(section: str, values: Any) -> None:
    """UserError naming the first field of a section's instance whose value is not allowed."""
    for spec in fields(values):
        key = f"{section}.{spec.name}" if section else spec.name
        _check_field(key, spec, getattr(values, spec.name))


def check_device(key: str, name: str) -> None:
    """UserError naming `key` for what is no device's name; whether it is there shows later."""
    kind, _, index = name.partition(":")
    indexed = kind == "cuda" and (index.isdigit() or ":" not in name)
    if not indexed and name not in ("auto", "cpu", "mps"):
        raise UserError(f"{key}={name}: choose one of auto, cpu, cuda, cuda:N, mps")
