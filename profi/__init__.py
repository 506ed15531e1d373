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
    from profi.method.methods import MethodBatch, MethodParts
    from profi.method.trace import Trace, TracedStep
    from profi.painter import Painter, load
    from profi.painting import Cancelled
    from profi.pipeline import ProFIPainterPipeline

__version__ = "0.1.0"
__all__ = [
    "Cancelled",
    "MethodBatch",
    "MethodParts",
    "Painter",
    "ProFIPainterPipeline",
    "Trace",
    "TracedStep",
    "UserError",
    "__version__",
    "load",
]

_MODULES = {
    "Cancelled": "profi.painting",
    "MethodBatch": "profi.method.methods",
    "MethodParts": "profi.method.methods",
    "Painter": "profi.painter",
    "ProFIPainterPipeline": "profi.pipeline",
    "Trace": "profi.method.trace",
    "TracedStep": "profi.method.trace",
    "load": "profi.painter",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from profi.models.devices import quiet_libraries

        # transformers warns of torchvision when diffusers imports it; nothing here needs it.
        with quiet_libraries():
            return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
