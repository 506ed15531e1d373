"""Writes docs/settings.md from the settings themselves: python scripts/settings_page.py"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from profi.settings import EVALUATIONS, READINGS, Config
from profi.settings.fields import choices_of, default_of, settings_in
from profi.settings.highres import HIGHRES

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """# All settings

Written by `python scripts/settings_page.py` from the code. `key=value` on the command line changes
one. The defaults are the code's; the chosen `model=`, `data=`, `metric=` and `experiment=` (conf/)
replace some, and `profi run --help` shows the values that a command would have.

"""


def allowed(section: type, spec: Field[Any]) -> str:
    """What a setting may be, apart from its default."""
    choices = choices_of(section, spec.name)
    if choices:
        return ", ".join(choices)
    least, most = spec.metadata.get("at_least"), spec.metadata.get("at_most")
    bounds = [f"≥ {least:g}"] if least is not None else []
    bounds += [f"≤ {most}"] if most is not None else []
    return ", ".join(bounds)


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value) if value not in ("", {}) else "–"


def bundles(title: str, options: Mapping[str, Any]) -> Iterator[str]:
    """What named bundles choose, side by side."""
    names = list(options)
    yield f"## {title}"
    yield ""
    yield f"| setting | {' | '.join(names)} | may be | meaning |"
    yield "|---|" + "---|" * (len(names) + 2)
    section = type(options[names[0]])
    for spec in fields(section):
        if spec.name != "name":
            values = " | ".join(shown(getattr(options[name], spec.name)) for name in names)
            may_be = allowed(section, spec)
            yield f"| `{spec.name}` | {values} | {may_be} | {spec.metadata['meaning']} |"
    yield ""


def page() -> str:
    """The page."""
    lines: list[str] = []
    lines += bundles("Readings (`reading=NAME reading.KEY=value`)", READINGS)
    lines += bundles("Evaluations (`evaluation=NAME evaluation.KEY=value`)", EVALUATIONS)
    lines += bundles("High resolution (`highres=NAME highres.KEY=value`)", HIGHRES)
    lines += ["## The others", "", "| key | default | may be | meaning |", "|---|---|---|---|"]
    for key, section, spec in settings_in(Config):
        if key.partition(".")[0] in ("reading", "evaluation", "highres"):
            continue
        meaning = spec.metadata["meaning"]
        default = shown(default_of(spec))
        lines.append(f"| `{key}` | {default} | {allowed(section, spec)} | {meaning} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
