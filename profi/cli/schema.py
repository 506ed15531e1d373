"""Hydra's schema and groups, derived from the dataclasses in `profi.settings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass, make_dataclass
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from profi.catalogue import catalogue
from profi.settings import EVALUATIONS, READINGS, Config
from profi.settings.fields import default_of, types_of
from profi.settings.paths import conf_folder


@cache
def schema_of(section: type) -> type:
    """The same fields in a form that OmegaConf accepts: not frozen, unchecked, Literals as str."""
    made = []
    for spec in fields(section):
        hint = types_of(section)[spec.name]
        plain = _plain_type(hint)
        factory = plain if is_dataclass(hint) else partial(default_of, spec)
        made.append((spec.name, plain, field(default_factory=factory)))
    return make_dataclass(section.__name__, made, namespace={"__module__": __name__})


def _plain_type(hint: Any) -> Any:
    if is_dataclass(hint):
        return schema_of(hint)  # type: ignore[arg-type]  # a class, not an instance
    if get_origin(hint) is Literal:
        return str
    if get_origin(hint) is dict and is_dataclass(get_args(hint)[1]):
        return dict[str, schema_of(get_args(hint)[1])]  # type: ignore[misc]  # made just now
    return hint


def names_in_the_catalogue() -> str:
    """The names that some settings accept, for --help."""
    shelves = (catalogue.inpainters, catalogue.metrics, catalogue.data, catalogue.figures)
    lines = [f"  {shelf.kind}: {', '.join(shelf.names())}" for shelf in shelves]
    return "\n".join(lines)


def register() -> None:
    """Register the schema and the choices that have no file: readings, methods, figures, ..."""
    OmegaConf.register_new_resolver(
        "profi.catalogue", names_in_the_catalogue, replace=True, use_cache=False
    )
    store = ConfigStore.instance()
    store.store(name="schema", node=schema_of(Config))
    bundles: Mapping[str, Mapping[str, Any]] = {"reading": READINGS, "evaluation": EVALUATIONS}
    for group, options in bundles.items():
        for name, bundle in options.items():
            store.store(group=group, name=name, node=asdict(bundle))
    methods = catalogue.methods
    for name in (*methods.names(), *methods.aliases):
        store.store(group="ablation", name=name, node={"name": methods.get(name).name})
    files = {path.stem for path in (conf_folder() / "figure").glob("*.yaml")}
    for name in catalogue.figures.names():
        if name not in files:
            node = {"figure": {"name": name}}
            store.store(group="figure", name=name, node=node, package="_global_")
