"""Regional compilation of the UNet's heavy blocks with torch.compile.

The residual blocks and the feed-forward layers are compiled; they do not depend on the method. The
attention between them is not compiled: its controls are Python code, and the graph is cut there
(`CrossAttentionCapture`). Results equal those without compilation up to the rounding of fused
kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from functools import partial
from types import FunctionType, TracebackType
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import FeedForward
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from profi.types import MachineError, UserError

log = logging.getLogger(__name__)

BLOCKS = (ResnetBlock2D, FeedForward)
REMEDY = "install a C++ compiler (g++) and, for a GPU, Triton, or leave compile off"
# PyTorch's error when a block was compiled too often; it is not a TorchDynamoException. Versions
# before 2.7 have another name for it.
RECOMPILED_TOO_OFTEN: type[Exception] = getattr(
    torch._dynamo.exc, "FailOnRecompileLimitHit", TorchDynamoException
)


class CompiledBlocks:
    """Compiled forwards for a UNet's blocks; `install` sets them and `remove` takes them off.

        with CompiledBlocks(unet):
            eps = unet(x, t, context).sample

    Modules, parameters and the state dict do not change. Compilations are kept here and used again
    after the next `install`. Every picture size and batch size, with and without gradients, is
    compiled at its first run, so this pays off only if one size is painted often. Blocks with equal
    structure and inputs share one compilation.

    Raises UserError at once if no compiler is found, and MachineError in a run if compiling fails.
    """

    def __init__(self, unet: UNet2DConditionModel, backend: str = "inductor") -> None:
        if backend == "inductor":
            _check_compiler(unet.device)
        self._backend = backend
        self._blocks = [block for block in unet.modules() if type(block) in BLOCKS]
        self._compiled: dict[Hashable, Callable[..., Tensor]] = {}

    def __len__(self) -> int:
        """The number of compilations so far."""
        return len(self._compiled)

    def install(self) -> None:
        """Set the compiled forwards; UserError if the blocks' forwards were replaced already."""
        if any("forward" in vars(block) for block in self._blocks):
            raise UserError("the UNet's blocks have been changed already; compile them once")
        log.info("the UNet is compiled at the first run of each size: that takes minutes")
        for block in self._blocks:
            # An instance attribute overrides the class's method and is not in the state dict.
            block.forward = partial(self._run, block, repr(block))

    def remove(self) -> None:
        """Restore the blocks' own forwards."""
        for block in self._blocks:
            vars(block).pop("forward", None)

    def __enter__(self) -> CompiledBlocks:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()

    def _run(self, block: nn.Module, structure: str, *inputs: Any) -> Tensor:
        key = (
            type(block),
            structure,
            torch.is_grad_enabled(),
            tuple(_signature(value) for value in inputs),
        )
        known = self._compiled.get(key)
        if known is not None:
            return _run_compiled(known, block, *inputs)
        compiled = torch.compile(
            _own_code(type(block).forward, len(self)),
            backend=self._backend,
            dynamic=False,
            fullgraph=True,
        )
        # A float16 gradient may be computed twice (`AttentionObjective.gradient`), so a backward
        # pass must not reuse the memory of its saved tensors.
        with torch._functorch.config.patch(donated_buffer=False):
            output = _run_compiled(compiled, block, *inputs)
        self._compiled[key] = compiled
        return output


def _run_compiled(compiled: Callable[..., Tensor], block: nn.Module, *inputs: Any) -> Tensor:
    """Run a compiled block; MachineError, in one line, if PyTorch cannot compile it."""
    try:
        return compiled(block, *inputs)
    except RECOMPILED_TOO_OFTEN as error:
        raise MachineError(
            "torch.compile gave up: the same block was compiled again too often, as when settings "
            "of PyTorch change between pictures; leave compile off"
        ) from error
    except TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise MachineError(f"torch.compile failed ({reason}); {REMEDY}") from error


def _own_code(function: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The same function with its own code object.

    torch.compile counts compilations per code object and stops at a limit (8). The blocks of one
    UNet exceed it, because they share their class's forward.
    """
    code = function.__code__
    return FunctionType(
        code.replace(co_name=f"{code.co_name}_{number}"),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )


def _signature(value: Any) -> Hashable:
    """The properties of an input for which a compilation is valid."""
    if not isinstance(value, Tensor):
        return value
    layout = (tuple(value.shape), value.stride(), value.dtype, value.device)
    return *layout, value.requires_grad


def _check_compiler(device: torch.device) -> None:
    """Raise UserError if TorchInductor has no compiler; nothing is compiled here."""
    if not hasattr(torch._functorch.config, "donated_buffer"):
        raise UserError(f"compile: PyTorch {torch.__version__} is too old for it; take a newer one")
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch.utils._triton import has_triton

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(f"compile: no C++ compiler is found here; {REMEDY}") from error
    if device.type == "cuda" and not has_triton():
        raise UserError(f"compile: Triton is not found, or not for this GPU; {REMEDY}")
