"""What a run was painted with: commit, versions, device; recorded, but not part of its id."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import torch

from profi.settings import PACKAGE

PACKAGES = ("profi", "torch", "diffusers", "transformers", "numpy", "pillow", "scipy")
#: Separates the values of a fact, if a part was painted by several commands.
SEPARATOR = " | "
#: The triplets of a part that were painted in another batch than planned (too little memory, a
#: missing image), and the sizes of those batches.
APART = "apart from their batch"
APART_SIZES = f"{APART}, in batches of"


def environment(device: torch.device) -> dict[str, Any]:
    """Commit, versions and device."""
    name = str(device)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    return {
        "commit": _git("rev-parse", "HEAD"),
        # Untracked files do not change the code that ran.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "device": name,
    }


def part_facts_of(surroundings: Mapping[str, Any], batch_size: int) -> dict[str, str]:
    """The facts that every part records: `environment` as short texts, and the batch size."""
    commit = str(surroundings["commit"] or "unknown")[:12]
    packages = surroundings["packages"].items()
    return {
        "commit": f"{commit} with changes" if surroundings["dirty"] else commit,
        "versions": ", ".join(f"{name} {version}" for name, version in packages),
        "device": str(surroundings["device"]),
        "batch size": str(batch_size),
    }


def merged(facts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """The different values of each fact, sorted, joined by SEPARATOR."""
    values: dict[str, set[str]] = {}
    for item in facts:
        for name, text in item.items():
            values.setdefault(name, set()).update(filter(None, text.split(SEPARATOR)))
    return {name: SEPARATOR.join(sorted(found)) for name, found in values.items()}


def _git(*arguments: str) -> str | None:
    """Git's output for the package's folder; None outside a repository."""
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
