"""The UNet's heavy blocks through torch.compile, one by one.

Regional compilation: the residual blocks and the feed-forward layers, which know nothing of the
method, are compiled; the attention between them, where controls written in Python rule and the
graph is cut (`CrossAttentionCapture`), runs as it is. The results are eager's to the rounding of
fused kernels.
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
# PyTorch's refusal to compile a block once more, no TorchDynamoException; versions before 2.7 name
# it otherwise.
RECOMPILED_TOO_OFTEN: type[Exception] = getattr(
    torch._dynamo.exc, "FailOnRecompileLimitHit", TorchDynamoException
)


class CompiledBlocks:
    """A UNet's blocks with compiled forwards, put on by `install` and taken off by `remove`.

        with CompiledBlocks(unet):
            eps = unet(x, t, context).sample

    Modules, parameters and the state dict stay what they are. What was compiled is kept here and
    is there again after the next `install`. It is compiled anew, when it is first run, for every
    size of picture and batch, with gradients and without: of use where one size is painted often.
    Blocks of equal structure and inputs share one compilation.

    Raises UserError, soon, where no compiler is found, and MachineError from a run where it fails.
    """

    def __init__(self, unet: UNet2DConditionModel, backend: str = "inductor") -> None:
        if backend == "inductor":
            _check_compiler(unet.device)
        self._backend = backend
        self._blocks = [block for block in unet.modules() if type(block) in BLOCKS]
        self._compiled: dict[Hashable, Callable[..., Tensor]] = {}

    def __len__(self) -> int:
        """How many compilations there are so far."""
        return len(self._compiled)

    def install(self) -> None:
        """Let the blocks run compiled; UserError where they have another's forward."""
        if any("forward" in vars(block) for block in self._blocks):
            raise UserError("the UNet's blocks have been changed already; compile them once")
        log.info("the UNet is compiled at the first run of each size: that takes minutes")
        for block in self._blocks:
            # An attribute of the instance goes before the class's method, and is in no state dict.
            block.forward = partial(self._run, block, repr(block))

    def remove(self) -> None:
        """Give the blocks their own forwards back."""
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
            return _told(known, block, *inputs)
        compiled = torch.compile(
            _own_code(type(block).forward, len(self)),
            backend=self._backend,
            dynamic=False,
            fullgraph=True,
        )
        # A float16 gradient may be taken twice (`AttentionObjective.gradient`), so a backward
        # must not use the memory of what was saved for it.
        with torch._functorch.config.patch(donated_buffer=False):
            output = _told(compiled, block, *inputs)
        self._compiled[key] = compiled
        return output


def _told(compiled: Callable[..., Tensor], block: nn.Module, *inputs: Any) -> Tensor:
    """Run it; MachineError, in one line, where PyTorch does not compile it (again)."""
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
    """The same function with a code object of its own.

    torch.compile counts its compilations per code object and gives up beyond a limit (8) that one
    UNet's blocks exceed, since they share their class's forward.
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
    """What a compilation is special to of an input."""
    if not isinstance(value, Tensor):
        return value
    layout = (tuple(value.shape), value.stride(), value.dtype, value.device)
    return *layout, value.requires_grad


def _check_compiler(device: torch.device) -> None:
    """UserError where TorchInductor has nothing to compile with: looked for, not tried."""
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
