"""A digest of the code that paints, so that an edited method does not continue an old run.

The digest is of syntax trees, without comments and docstrings: of the modules of a row, of its
method and of the plan. Settings, loops, stores and reports are not part of it.
A module is read once, as Python does: an edit during a command counts from the next command on.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from profi.types import digest

#: The modules of this project that may decide a pixel.
_OURS = (
    "profi.method",
    "profi.models",
    "profi.baselines",
    "profi.highres",
    "profi.harness.plan",
    "profi.inpainter",
    "profi.fitting",
    "profi.data.masks",
    "profi.data.images",
    "profi.data.hulls",
    "profi.data.opencv",
)
#: Modules among them that decide no pixel: they find weights (which have hashes of their own),
#: choose devices, or record.
_LEFT_OUT = (
    "profi.models.folder",
    "profi.models.devices",
    "profi.models.fingerprint",
    "profi.method.trace",
)
#: The modules that every run uses.
_ALWAYS = ("profi.harness.plan",)


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
