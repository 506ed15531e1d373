"""profi: the reference implementation and benchmark harness of ProFI-Painter.

    import profi

    painter = profi.load("dreamshaper8")
    image = painter(image, mask, "a vase")

`import profi` is light; what needs torch is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from profi.types import UserError

if TYPE_CHECKING:
    from profi.inpainters.pipeline import ProFIPainterPipeline
    from profi.painter import Cancelled, Painter, load

__version__ = "0.1.0"
__all__ = ["Cancelled", "Painter", "ProFIPainterPipeline", "UserError", "__version__", "load"]

_MODULES = {
    "Cancelled": "profi.painter",
    "Painter": "profi.painter",
    "ProFIPainterPipeline": "profi.inpainters.pipeline",
    "load": "profi.painter",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
