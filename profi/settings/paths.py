"""Paths of the package's configuration and shipped files."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SHIPPED = "shipped:"


def conf_folder() -> Path:
    """The folder of the YAML files: `profi/conf` in a wheel, else `conf` in the checkout."""
    inside = PACKAGE / "conf"
    return inside if inside.is_dir() else PACKAGE.parent / "conf"


def shipped_path(text: str) -> Path:
    """A path from the config; `shipped:cpu/inpaint` refers to files that ship with the package."""
    if text.startswith(SHIPPED):
        return PACKAGE / "mini" / "shipped" / text.removeprefix(SHIPPED)
    return Path(text).expanduser()
