"""By what something was painted: commit, versions, device; recorded, and no part of a run's id."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import torch

from profi.settings import PACKAGE

PACKAGES = ("profi", "torch", "diffusers", "transformers", "numpy", "pillow", "scipy")
#: Facts of a part that was painted in several goes hold several values.
SEPARATOR = " | "
#: The triplets of a part that were painted without their fixed company (memory, a missing image),
#: and how many at once.
APART = "apart from their batch"
APART_SIZES = f"{APART}, in batches of"


def environment(device: torch.device) -> dict[str, Any]:
    """Commit, versions and device."""
    name = str(device)
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    return {
        "commit": _git("rev-parse", "HEAD"),
        # Untracked files are no change of the code that ran.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: _version(package) for package in PACKAGES},
        "device": name,
    }


def part_facts_of(surroundings: Mapping[str, Any], batch_size: int) -> dict[str, str]:
    """What is noted in every part: `environment` in a few words, and the size of the batches."""
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
    """Git's answer about the folder that the package lies in; None outside a repository."""
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
