"""A running call of the painter: its progress, its cancelling, its pictures."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from profi.fitting import contents
from profi.harness.progress import meter
from profi.inputs import Job
from profi.method.inpainting import StableInpainting
from profi.method.methods import Build
from profi.method.sampling import StepState
from profi.method.similarity_maps import SelfAttentionObserver
from profi.method.trace import Trace
from profi.settings.evaluation import Evaluation
from profi.settings.method import Reading
from profi.types import UserError

#: Called with (steps done, all steps).
OnProgress = Callable[[int, int], object]


class LowChoices(TypedDict, total=False):
    """The options of the small picture of `Painter.highres`; see `Painter.__call__`."""

    ablation: str | Build
    reading: str | Reading
    evaluation: str | Evaluation
    steps: int
    guidance_scale: float
    positive: str
    negative: str


class Choices(LowChoices, total=False):
    """The options of `Painter.__call__`; see there for their meaning."""

    long_side: int | None
    crop: int | None
    feather: int
    blended: bool
    progress: bool | OnProgress
    callback: Callback | None
    cancel: Cancel | None
    trace: Trace | None
    observer: SelfAttentionObserver


class Cancelled(Exception):  # noqa: N818 (an outcome, not an error)
    """The caller's `cancel` stopped the painting."""


class Callback(Protocol):
    """Called after every step."""

    def __call__(self, step: int, total: int, preview: Callable[[], Any]) -> object:
        """`step` of `total` is done; `preview()` decodes the current picture.

        A preview costs one pass of the decoder, and nothing if it is not called. It has the same
        form as the painter's result. In a list, pictures that have not started are None.
        """
        ...


#: An event, or a function that says whether to stop.
Cancel = threading.Event | Callable[[], bool]


@dataclass
class Painting:
    """A running call of a painter: the number of steps done and the finished pictures by index."""

    inpainter: StableInpainting
    jobs: Sequence[Job]
    alone: bool
    blended: bool
    total: int
    report: OnProgress
    callback: Callback | None
    cancel: Cancel | None
    trace: Trace | None
    observer: SelfAttentionObserver
    step: int = 0
    done: dict[int, Image.Image] = field(default_factory=dict)

    def paint(self, part: Sequence[int]) -> None:
        """Paint the jobs with these indices."""
        jobs = [self.jobs[i] for i in part]
        images = torch.stack([job.fitted.image for job in jobs])
        masks = torch.stack([job.fitted.mask for job in jobs])
        inside = contents([job.fitted for job in jobs], jobs[0].evaluation.dilation)

        def finished(painted: Tensor) -> dict[int, Image.Image]:
            pictures = [job.finished(p, self.blended) for job, p in zip(jobs, painted, strict=True)]
            return dict(zip(part, pictures, strict=True))

        def after_step(state: StepState[object], x_prev: Tensor) -> None:
            def preview() -> Any:
                painted = self.inpainter.decode(state.x0_pred, images, masks)
                return self.result(self.done | finished(painted))

            self.step += 1
            self.report(self.step, self.total)
            if self.callback is not None:
                self.callback(self.step, self.total, preview)
            if self.step < self.total:
                check_cancelled(self.cancel, self.step, self.total)

        check_cancelled(self.cancel, self.step, self.total)
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        painted = self.inpainter(
            images,
            masks,
            prompts,
            seeds,
            contents=inside,
            observer=self.observer,
            after_step=after_step,
            trace=self.trace,
        )
        self.done |= finished(painted)

    def result(self, pictures: dict[int, Image.Image]) -> Any:
        """The pictures in the form of the result; None for a missing one."""
        return pictures[0] if self.alone else [pictures.get(i) for i in range(len(self.jobs))]


def check_cancelled(cancel: Cancel | None, step: int, total: int) -> None:
    """Raise Cancelled if the caller's `cancel` is set or returns True."""
    check = cancel.is_set if isinstance(cancel, threading.Event) else cancel
    if check is not None and not callable(check):
        raise UserError(f"cancel is of type {type(check).__name__}; give an Event or a function")
    if check is not None and check():
        raise Cancelled(f"cancelled after step {step} of {total}")


@contextmanager
def reporter(progress: bool | OnProgress | None, total: int) -> Iterator[OnProgress]:
    """The function that reports every step."""
    if progress is not None and not isinstance(progress, bool):
        yield progress
    elif progress:
        with meter(Console(file=sys.stderr), "painting", total) as bar:
            yield lambda _done, _total: bar.advance(1)
    else:
        yield lambda _done, _total: None
