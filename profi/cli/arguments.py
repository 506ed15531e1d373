"""Settings on a command line: Hydra's schema and groups, and `name=value` arguments of a script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass, make_dataclass
from functools import cache, partial
from typing import Any, Literal, get_args, get_origin

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from profi.catalogue import catalogue
from profi.settings import EVALUATIONS, READINGS, Config
from profi.settings.fields import build, choices_of, default_of, settings_in, types_of
from profi.settings.highres import CHOICES
from profi.settings.paths import conf_folder
from profi.types import UserError


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
    for shelf in catalogue.shelves:
        for entry in shelf.entries():
            section = entry.section()
            for spec in fields(section) if section is not None else ():
                meaning = spec.metadata.get("meaning", "")
                text = f"  own.{entry.name}.{spec.name}={_written(default_of(spec))}"
                lines.append(f"{text}  {meaning}".rstrip())
    return "\n".join(lines)


def register() -> None:
    """Register the schema and the choices that have no file: readings, methods, figures, ..."""
    OmegaConf.register_new_resolver(
        "profi.catalogue", names_in_the_catalogue, replace=True, use_cache=False
    )
    store = ConfigStore.instance()
    store.store(name="schema", node=schema_of(Config))
    bundles: Mapping[str, Mapping[str, Any]] = {
        "reading": READINGS,
        "evaluation": EVALUATIONS,
        "highres": CHOICES,
    }
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


def parsed(arguments: Sequence[str], *defaults: Any) -> tuple[Any, ...]:
    """The settings of `defaults`, one or several sections, with the arguments in their places.

    A later argument of the same name wins.

    Raises:
        UserError: it names the argument that has no such setting, or whose value is not allowed.
    """
    kinds: list[Any] = [type(section) for section in defaults]
    chosen = [OmegaConf.structured(schema_of(kind)) for kind in kinds]
    for config, section in zip(chosen, defaults, strict=True):
        config.merge_with({spec.name: getattr(section, spec.name) for spec in fields(section)})
    for argument in arguments:
        name, equals, text = argument.partition("=")
        of = next((i for i, config in enumerate(chosen) if name in config), None)
        if of is None or not equals:
            names = " ".join(f"{name}=..." for config in chosen for name in config)
            raise UserError(f"{argument}: settings are {names}")
        value = _yaml(type(defaults[of]), name, text)
        try:
            chosen[of].merge_with(OmegaConf.from_dotlist([f"{name}={value}"]))
        except (OmegaConfBaseException, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{argument}: {reason}") from error
    return tuple(
        build(type(section), OmegaConf.to_container(config))  # type: ignore[arg-type]
        for config, section in zip(chosen, defaults, strict=True)
    )


def _yaml(section: type, name: str, text: str) -> str:
    """A value as YAML: a text stays a text (`no`, `2024`, nothing), a list needs no brackets."""
    hint = types_of(section)[name]
    if hint is str or choices_of(section, name):
        return json.dumps(text, ensure_ascii=False)
    is_list = getattr(hint, "__origin__", None) is tuple and not text.startswith("[")
    return f"[{text}]" if is_list else text or '""'


def help_text(about: str, **defaults: Sequence[Any]) -> str:
    """What `--help` prints: `about`, and every setting with its meaning, choices and default.

    `defaults` are the sections' defaults by the case that they are of; one case needs no name.
    """
    lines = [about.strip(), ""]
    cases = list(defaults.values())
    for i, section in enumerate(cases[0]):
        for name, owner, spec in settings_in(type(section)):
            values = {case: getattr(every[i], name) for case, every in defaults.items()}
            same = len({str(value) for value in values.values()}) == 1
            default = (
                _written(getattr(section, name))
                if same
                else ", ".join(f"{case}: {_written(value)}" for case, value in values.items())
            )
            choices = " or ".join(choice for choice in choices_of(owner, name) if choice)
            notes = [text for text in (choices, default and f"default {default}") if text]
            after = f" ({'; '.join(notes)})" if notes else ""
            lines.append(f"  {name}=  {spec.metadata['meaning']}{after}")
    return "\n".join(lines)


def _written(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
