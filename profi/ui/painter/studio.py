"""Painting for many people with one model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import profi
from profi.catalogue import catalogue
from profi.data.pictures import mask_of
from profi.highres.latent_masks import box_dilated
from profi.highres.upscaler import Upscaler
from profi.painter import Painter, load
from profi.painting import Cancelled
from profi.picture_file import encoded, texts_of
from profi.types import UserError
from profi.ui.painter.attention_maps import AttentionMap, attention_maps
from profi.ui.painter.orders import Event, Order, Painted, Progress, Result, Waiting
from profi.ui.painter.picture_store import PictureStore
from profi.ui.painter.settings import Settings, settings_of_facts
from profi.ui.painter.waiting_line import WaitingLine

#: Pixels of all pictures of one order.
MAX_PIXELS = 64_000_000
PREVIEW_SIDE = 256
#: A preview at most so often, and so long after one that it takes a fifth of the time.
PREVIEW_SECONDS, PREVIEW_REST = 0.3, 4.0


@dataclass
class Studio:
    """Paints the orders of a page, one at a time, in one thread of its own.

    Fields:
        store: the pictures.
        models: the names of `profi.load` that an order may choose; the first one is the default.
            The one that was used last stays in memory.
        device, dtype: see `profi.load`.
        upscalers: for high resolution, the upscaler (see `load_upscaler`) of each model that has
            one. It stays in memory with its model.
        most_waiting: orders that may wait; further ones are refused.
    """

    store: PictureStore
    models: tuple[str, ...] = ("mini",)
    device: str = "auto"
    dtype: str = "float32"
    upscalers: Mapping[str, str | Path] = field(default_factory=dict)
    most_waiting: int = 8
    _loaded: tuple[str, Painter] | None = field(default=None, repr=False)
    _upscaler: Upscaler | None = field(default=None, repr=False)
    _line: WaitingLine = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._line = WaitingLine(self.most_waiting)

    def painter(self, model: str) -> Painter:
        """The model, loaded if another one was used before; only in the studio's own thread."""
        if self._loaded is None or self._loaded[0] != model:
            # Their memory is free before the next one needs it.
            self._loaded = self._upscaler = None
            self._loaded = model, load(model, self.device, self.dtype)
        return self._loaded[1]

    def upscaler(self, model: str) -> Upscaler:
        """The model's upscaler; only in the studio's own thread."""
        painter = self.painter(model)
        if self._upscaler is None:
            self._upscaler = painter.upscaler(self.upscalers[model])
        return self._upscaler

    def warm_up(self) -> None:
        """Load the first model now rather than for the first order."""
        self._line.submit(self.painter, self.models[0])

    def close(self) -> None:
        """Stop after the current step, and start nothing more."""
        self._line.close()

    def paint(self, order: Order, cancel: threading.Event) -> Iterator[Event]:
        """Paint an order: its place in the line, its progress, and at last its result.

        Raises UserError for what the painter does not accept or if too many wait, Cancelled when
        `cancel` is set before a picture is finished. A caller that stops listening stops the
        painting.
        """
        yield from self._line.run(lambda send: self._paint(order, cancel, send), cancel)

    def attention(
        self, order: Order, ablation: str, seed: int, cancel: threading.Event
    ) -> Iterator[Waiting | list[AttentionMap]]:
        """The attention maps of one picture of an order, which is painted once more."""

        def look(_: Callable[[Any], None]) -> list[AttentionMap]:
            picture, mask = self._inputs(order)
            painter = self.painter(order.settings.model)
            ends = self._ends(cancel)
            return attention_maps(painter, picture, mask, order.settings, ablation, seed, ends)

        yield from self._line.run(look, cancel)

    def _ends(self, cancel: threading.Event) -> Callable[[], bool]:
        return lambda: cancel.is_set() or self._line.closed

    def restored(self, picture: Image.Image) -> tuple[Settings | None, bytes | None]:
        """The settings and the mask's PNG that a picture painted here carries in its texts."""
        text, mask = texts_of(picture)
        if text is None:
            return None, None
        settings = settings_of_facts(text)
        if settings.model not in self.models:
            raise UserError(self._no_such_model(settings.model))
        return settings, mask

    def _no_such_model(self, name: str) -> str:
        return f"model {name[:80]!r} is not served here: choose {' or '.join(self.models)}"

    def _inputs(self, order: Order) -> tuple[Image.Image, Tensor]:
        """The order's picture, upright, and mask [H, W]; UserError for wrong ones or the model."""
        if order.settings.model not in self.models:
            raise UserError(self._no_such_model(order.settings.model))
        if order.settings.highres and order.settings.model not in self.upscalers:
            raise UserError(f"highres: the model {order.settings.model} has no upscaler here")
        picture = self.store.image(order.picture, "the picture")
        mask = mask_of(self.store.image(order.mask, "the mask"), "the mask")
        if mask.shape != (picture.height, picture.width):
            raise UserError(
                f"the mask is {mask.shape[1]}x{mask.shape[0]} and the picture "
                f"{picture.width}x{picture.height}: both need the same size"
            )
        if not mask.any():
            raise UserError("the mask is empty: paint over what is to change")
        return picture, mask

    def _paint(
        self, order: Order, cancel: threading.Event, send: Callable[[Progress], None]
    ) -> Result:
        settings = order.settings
        picture, mask = self._inputs(order)
        names, seeds = settings.ablations, settings.seeds
        pixels = picture.width * picture.height * len(names) * len(seeds)
        if pixels > MAX_PIXELS:
            raise UserError(
                f"{len(names) * len(seeds)} pictures of {picture.width}x{picture.height} are too "
                "many at once: choose fewer variants or methods"
            )
        start = time.monotonic()
        painter = self.painter(settings.model)
        done: list[Painted] = []
        previews = _Previews()
        for i, name in enumerate(names):
            label = catalogue.methods.label(name)

            def after_step(
                step: int,
                total: int,
                preview: Callable[[], Any],
                i: int = i,
                name: str = name,
                label: str = label,
            ) -> None:
                shown = previews.due(preview, [f"{label}, seed {seed}" for seed in seeds])
                send(Progress(i * total + step, len(names) * total, label, shown))

            try:
                images = (
                    painter(
                        picture,
                        mask,
                        settings.prompt,
                        seed=seeds,
                        ablation=name,
                        callback=after_step,
                        cancel=self._ends(cancel),
                        **settings.choices,
                    )
                    if settings.large is None
                    else self._enlarged(picture, mask, settings, name, i, cancel, send)
                )
            except Cancelled:
                if done:
                    break
                raise
            for seed, image in zip(seeds, images, strict=True):
                done.append(self._kept(image, picture, mask, settings, name, seed))
        centre = float(mask.nonzero()[:, 1].float().mean()) / mask.shape[1]
        return Result(order, tuple(done), time.monotonic() - start, centre)

    def _enlarged(
        self,
        picture: Image.Image,
        mask: Tensor,
        settings: Settings,
        ablation: str,
        place: int,
        cancel: threading.Event,
        send: Callable[[Progress], None],
    ) -> list[Image.Image]:
        """One picture per seed in high resolution; `place` is the ablation's, for the progress."""
        assert settings.large is not None
        painter, upscaler = self.painter(settings.model), self.upscaler(settings.model)
        label, number = catalogue.methods.label(ablation), len(settings.seeds)
        images = []
        for i, seed in enumerate(settings.seeds):

            def after_step(step: int, total: int, i: int = place * number + i) -> None:
                send(Progress(i * total + step, len(settings.ablations) * number * total, label))

            image = painter.highres(
                picture,
                mask,
                settings.prompt,
                upscaler=upscaler,
                highres=settings.large,
                seed=seed,
                ablation=ablation,
                progress=after_step,
                cancel=self._ends(cancel),
                **settings.sampling,
            )
            images.append(image)
        return images

    def _kept(
        self,
        image: Image.Image,
        picture: Image.Image,
        mask: Tensor,
        settings: Settings,
        ablation: str,
        seed: int,
    ) -> Painted:
        facts = {
            **settings.facts(ablation, seed),
            "dtype": self.dtype,
            "long_side": None,
            "profi": profi.__version__,
        }
        kept = mask if settings.blended else None
        if settings.large is not None:
            facts["upscaler"] = str(self.upscalers[settings.model])
            # The Poisson step also changes this margin.
            kept = torch.from_numpy(box_dilated(mask.numpy(), settings.large.margin))
        data = encoded(image, picture, kept, facts, {"format": "PNG"}, mask)
        return Painted(self.store.put(data, "image/png"), ablation, seed, facts)


@dataclass
class _Previews:
    """Decides when a preview may cost its pass of the decoder."""

    next_at: float = 0.0

    def due(self, preview: Callable[[], Any], labels: Sequence[str]) -> list[tuple[str, bytes]]:
        """The previews, small; empty if the last ones are too fresh."""
        start = time.monotonic()
        if start < self.next_at:
            return []
        shown = []
        for label, image in zip(labels, preview(), strict=True):
            if image is None:
                continue
            image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
            file = BytesIO()
            image.save(file, format="WEBP", quality=80)
            shown.append((label, file.getvalue()))
        end = time.monotonic()
        self.next_at = end + max(PREVIEW_SECONDS, PREVIEW_REST * (end - start))
        return shown
