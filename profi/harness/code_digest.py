"""A digest of the code that paints, so that an edited method never completes another one's run.

Of the modules that a row and its method are made of, and of the plan that they follow: their syntax
trees, without comments and docstrings. Settings, loops, stores and reports are left out.
A module is read once, like the code itself: an edit while a command runs is of the next command.
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

#: Of this project: what may decide a pixel.
_OURS = (
    "profi.method",
    "profi.models",
    "profi.baselines",
    "profi.harness.plan",
    "profi.inpainter",
    "profi.fitting",
    "profi.data.masks",
    "profi.data.images",
    "profi.data.hulls",
    "profi.data.opencv",
)
#: Of these: how weights are found, which are known by their own hashes, and what looks on only.
_LEFT_OUT = (
    "profi.models.folder",
    "profi.models.devices",
    "profi.models.fingerprint",
    "profi.method.trace",
)
#: What every run goes through.
_ALWAYS = ("profi.harness.plan",)


def code_digest(modules: Iterable[str]) -> str:
    """16 hex digits of the modules and of what they import, as far as it may decide a pixel.

    Args:
        modules: where a row and its method are defined; of a plugin, all that it imports of its
            own top-level package counts.
    """
    modules = (*_ALWAYS, *modules)
    packages = {name.partition(".")[0] for name in modules} - {"profi"}
    # Read all that is loaded, also for a run whose turn comes hours later.
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
    """A module's source; None for what is no module (a name that a module holds)."""
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
    """Like `ast.dump`, without what is empty: that differs between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dumped, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    filled = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    shown = [f"{name}={_dumped(value)}" for name, value in filled]
    return f"{type(node).__name__}({', '.join(shown)})"


def _drop_docstring(node: ast.AST) -> None:
    """Every bare text that stands as a statement."""
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
