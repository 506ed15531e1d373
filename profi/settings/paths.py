"""Paths of the settings."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SHIPPED = "shipped:"


def conf_folder() -> Path:
    """The YAML files of what can be chosen: in a wheel `profi/conf`, else the checkout's `conf`."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def shipped_path(text: str) -> Path:
    """A path of the config; `shipped:cpu/inpaint` is among the files that ship with the package."""
    if text.startswith(SHIPPED):
        return PACKAGE / "mini" / "shipped" / text.removeprefix(SHIPPED)
    return Path(text).expanduser()
