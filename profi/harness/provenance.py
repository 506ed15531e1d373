"""What a run was painted with: a digest of the code (part of its id), commit, versions, device.

An edited method does not continue an old run. The digest is of syntax trees, without comments and
docstrings: of the modules of a row, of its method and of the plan. Settings, loops, stores and
reports are not part of it. A module is read once, as Python does: an edit during a command counts
from the next command on. Commit, versions and device are recorded, but not part of the id.
"""

from __future__ import annotations

import ast
import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from profi.settings import PACKAGE
from profi.types import digest

#: The modules of this project that may decide a pixel.
_OURS = (
    "profi.method",
    "profi.models",
    "profi.baselines",
    "profi.highres",
    "profi.harness.enlarge",
    "profi.harness.plan",
    "profi.inpainter",
    "profi.fitting",
    "profi.data.masks",
    "profi.data.pictures",
)
#: Modules among them that decide no pixel: they find weights (which have hashes of their own),
#: choose devices, or record.
_LEFT_OUT = (
    "profi.models.model_folder",
    "profi.models.devices",
    "profi.method.trace",
)
#: The modules that every run uses.
_ALWAYS = ("profi.harness.plan",)


def remember_sources() -> None:
    """Read the modules of this project that may decide a pixel, as they are when a command begins.

    Python reads them not much later, and the digests may be asked for hours after an edit.
    """
    root = PACKAGE.parent
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        if _counts(name, set()):
            _read(path, name)


def code_digest(modules: Iterable[str]) -> str:
    """16 hex digits: the digest of the modules and of their imports that may decide a pixel.

    Args:
        modules: the modules that define a row and its method. For a plugin, all imports from its
            own top-level package count.
    """
    modules = (*_ALWAYS, *modules)
    packages = {name.partition(".")[0] for name in modules} - {"profi"}
    # Read all loaded modules now: a later run may start hours after an edit.
    for name in [name for name in sys.modules if _counts(name, packages)]:
        path = _file_of(name)
        if path is not None:
            _read(path, name)
    trees: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in trees or not _counts(name, packages):
            continue
        path = _file_of(name)
        if path is None:
            continue
        trees[name], imported = _read(path, name)
        waiting += imported
    return digest(trees)


def _counts(name: str, packages: set[str]) -> bool:
    if name.partition(".")[0] in packages:
        return True
    ours = any(name == root or name.startswith(f"{root}.") for root in _OURS)
    return ours and name not in _LEFT_OUT


@cache
def _file_of(name: str) -> Path | None:
    """A module's source file; None if `name` is not a module, such as a class in one."""
    try:
        spec = find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


@cache
def _read(path: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's syntax tree, and the names that it imports."""
    tree = ast.parse(path.read_text("utf-8"))
    imported: list[str] = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = parents[: len(parents) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            imported += [module, *(f"{module}.{alias.name}" for alias in node.names)]
        _drop_docstring(node)
    return hashlib.sha256(_dumped(tree).encode()).hexdigest(), tuple(imported)


def _dumped(node: Any) -> str:
    """Like `ast.dump` without empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dumped, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    filled = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    shown = [f"{name}={_dumped(value)}" for name, value in filled]
    return f"{type(node).__name__}({', '.join(shown)})"


def _drop_docstring(node: ast.AST) -> None:
    """Remove every statement that is only a string."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        node.body = [  # type: ignore[attr-defined]
            item
            for item in body
            if not (
                isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            )
        ]


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
