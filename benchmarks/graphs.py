"""A pass of the UNet as a CUDA graph: its kernels are launched by one call.

At batch 1 a GPU may wait for the launches of some thousand small kernels. A graph fixes shapes and
the inputs' places in memory, so the method does not use it; this is what it would give.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.architectures import T, some_text
from benchmarks.steps import Size
from profi.method.attention import AttentionControl, Branch, Plain, UNetPass, controlled
from profi.method.attention_objective import ByKind
from profi.method.painta import PAIntA
from profi.models.backbone import Backbone
from profi.settings.method import RELEASED


class BothBranches:
    """Calling it runs the UNet once on both branches; nothing in it depends on the CPU."""

    def __init__(self, row: str, backbone: Backbone, size: Size) -> None:
        device, unet = backbone.device, backbone.unet
        self._unet = unet
        channels = unet.config.in_channels
        self._inputs = torch.zeros(
            2 * size.batch, channels, size.side, size.side, device=device, dtype=unet.dtype
        )
        text = some_text(backbone, size.batch, size.pixels)
        self._text = text.stacked(text).kwargs()
        # As a tensor: a number would be copied to the GPU while the graph is recorded.
        self._t = torch.tensor(T, device=device)
        self._pass = UNetPass(Branch.PAIR, T, 0, 2).kwargs()
        on_self: AttentionControl = Plain()
        if row == "painta_only":
            tokens = torch.zeros(size.batch, backbone.text.token_limit, dtype=torch.bool)
            tokens[:, 1:3] = True
            masks = {factor: mask.to(device) for factor, mask in size.levels().items()}
            on_self = PAIntA(RELEASED, masks, tokens.to(device))
        self._control = ByKind(on_self, Plain())

    def __call__(self) -> torch.Tensor:
        """The UNet's output, [2 B, C, h, w]."""
        with torch.no_grad(), controlled(self._unet, self._control):
            output: torch.Tensor = self._unet(
                self._inputs, self._t, **self._text, cross_attention_kwargs=self._pass
            ).sample
        return output


def replayed(call: Callable[[], object]) -> Callable[[], object]:
    """The same work as a CUDA graph, recorded after three calls on a stream of their own."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
