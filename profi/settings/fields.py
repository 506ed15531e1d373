"""A setting: a dataclass field with a type, bounds and a meaning.

A `Literal` type lists the choices. The schema of the command line, the checks, `--help` and
docs/settings.md are made from these fields.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from profi.types import UserError


def setting(
    default: Any,
    meaning: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    neutral: Any = MISSING,
) -> Any:
    """A field with a default, a meaning and bounds; a callable default is called (a section).

    `neutral` is the value that a run's id leaves out: the first default. If a default changes
    later, the old one becomes `neutral=`, so that no run continues one of the other default.
    """
    metadata = {"meaning": meaning, "at_least": at_least, "at_most": at_most}
    if neutral is not MISSING:
        metadata["neutral"] = neutral
    if callable(default) or isinstance(default, list | dict):
        factory = default if callable(default) else default.copy
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def types_of(section: type) -> Mapping[str, Any]:
    """The fields' types, by name."""
    return get_type_hints(section)


def choices_of(section: type, name: str) -> tuple[str, ...]:
    """The choices of a `Literal` field; empty for other types."""
    hint = types_of(section)[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


def default_of(spec: Field[Any]) -> Any:
    """A field's default."""
    if spec.default is not MISSING:
        return spec.default
    assert spec.default_factory is not MISSING
    return spec.default_factory()


def neutral_of(spec: Field[Any]) -> Any:
    """The value that a run's id leaves out: the default, unless `setting` has another one."""
    return spec.metadata["neutral"] if "neutral" in spec.metadata else default_of(spec)


def check_fields(section: str, values: Any) -> None:
    """Raise UserError for the first field of a section whose value is not allowed."""
    section_type: type = type(values)
    for spec in fields(values):
        key = f"{section}.{spec.name}" if section else spec.name
        value = getattr(values, spec.name)
        choices = choices_of(section_type, spec.name)
        if choices and value not in choices:
            raise UserError(f"{key}={value}: choose one of {', '.join(choices)}")
        _check_bounds(key, spec, value, types_of(section_type)[spec.name])


def _check_bounds(key: str, spec: Field[Any], value: Any, hint: Any) -> None:
    if _bare(hint) not in (int, float) or (value is None and _bare(hint) is not hint):
        return
    least, most = spec.metadata.get("at_least"), spec.metadata.get("at_most")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{key}={value}: must be a number")
    if _bare(hint) is int and not isinstance(value, int):
        raise UserError(f"{key}={value}: must be a whole number")
    # `not (...)` also catches NaN.
    if not (abs(value) < float("inf")) or (least is not None and not value >= least):
        limit = f" of at least {least:g}" if least is not None else ""
        raise UserError(f"{key}={value}: must be a finite number{limit}")
    if most is not None and value > most:
        raise UserError(f"{key}={value}: must be at most {most}")


def _bare(hint: Any) -> Any:
    """`X` of `X | None`; any other type as it is."""
    if get_origin(hint) in (Union, types.UnionType):
        kept = [part for part in get_args(hint) if part is not type(None)]
        return kept[0] if len(kept) == 1 else hint
    return hint


def build(section: type, values: Mapping[str, Any]) -> Any:
    """An instance of a section and its subsections from plain values (dicts, lists, numbers, ...).

    Missing values keep their defaults. Unknown names raise UserError.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{section.__name__}={values}: set its values one by one, NAME.KEY=VALUE")
    known = types_of(section)
    unknown = set(values) - {spec.name for spec in fields(section)}
    if unknown:
        known_names = ", ".join(spec.name for spec in fields(section))
        raise UserError(
            f"{section.__name__} has no {', '.join(sorted(unknown))}: choose among {known_names}"
        )
    return section(**{name: _built(known[name], value) for name, value in values.items()})


def _built(hint: Any, value: Any) -> Any:
    if is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value)  # type: ignore[arg-type]  # a class, not an instance
    if get_origin(hint) is dict and isinstance(value, Mapping):
        return {key: _built(get_args(hint)[1], item) for key, item in value.items()}
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    return value


def changed(values: Any) -> dict[str, Any]:
    """The values of a section that differ from their defaults, nested, for a label."""
    return _unlike(default_of, values)


def recorded(values: Any) -> dict[str, Any]:
    """The values of a section that differ from their neutral values, nested, for a run's id.

    Unchanged sections are left out, so a new setting changes no old id.
    """
    return _unlike(neutral_of, values)


def _unlike(usual_of: Callable[[Field[Any]], Any], values: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for spec in fields(values):
        value = getattr(values, spec.name)
        if is_dataclass(value):
            inner = _unlike(usual_of, value)
            if inner:
                found[spec.name] = inner
        elif value != usual_of(spec):
            found[spec.name] = value
    return found


def restored(section: type, values: Mapping[str, Any]) -> Any:
    """The section of which `recorded` gave these values. Unknown names raise UserError."""
    return build(section, _with_neutral(section, values))


def _with_neutral(section: type, values: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(values)
    for spec in fields(section):
        hint = types_of(section)[spec.name]
        if is_dataclass(hint):
            found[spec.name] = _with_neutral(hint, values.get(spec.name, {}))  # type: ignore[arg-type]
        elif "neutral" in spec.metadata:
            found.setdefault(spec.name, spec.metadata["neutral"])
    return found


def differing(values: Any, usual: Any) -> dict[str, Any]:
    """The values of a section that differ from those of another instance of it."""
    pairs = ((spec.name, getattr(values, spec.name)) for spec in fields(values))
    return {name: value for name, value in pairs if value != getattr(usual, name)}


def bundle_of(key: str, chosen: Any, bundles: Mapping[str, Any]) -> Any:
    """A bundle by its name, or an instance as it is; UserError with `key` for an unknown name."""
    found = bundles.get(chosen) if isinstance(chosen, str) else chosen
    if found is None:
        raise UserError(f"{key}={chosen} is unknown; choose {' or '.join(bundles)}")
    return found


def settings_in(section: type, prefix: str = "") -> Iterator[tuple[str, type, Field[Any]]]:
    """(key, section, field) of every setting, in order, subsections included."""
    for spec in fields(section):
        key, hint = f"{prefix}{spec.name}", types_of(section)[spec.name]
        if is_dataclass(hint):
            yield from settings_in(hint, f"{key}.")  # type: ignore[arg-type]
        else:
            yield key, section, spec


def check_device(key: str, name: str) -> None:
    """UserError with `key` for a wrong device name; whether the device exists is checked later."""
    kind, _, index = name.partition(":")
    indexed = kind == "cuda" and (index.isdigit() or ":" not in name)
    # PyTorch calls the one Apple GPU mps:0.
    if not indexed and name not in ("auto", "cpu", "mps", "mps:0"):
        raise UserError(f"{key}={name}: choose one of auto, cpu, cuda, cuda:N, mps")
