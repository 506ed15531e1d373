"""Captions of objects' crops by BLIP (Li et al. 2022), as SmartBrush's texts have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from profi.data.user_images import read_image
from profi.training.instances import Instance, crop_of, read_captions
from profi.types import UserError

MAX_NEW_TOKENS = 30  # its captions of MSCOCO have some ten words


@dataclass(frozen=True)
class Blip:
    """A captioner; the most likely words, so that a crop always has the same caption."""

    model: BlipForConditionalGeneration
    processor: BlipProcessor

    @staticmethod
    def load(source: str, device: str | torch.device) -> Blip:
        """From a folder or the Hub (Salesforce/blip-image-captioning-base), safetensors only.

        Raises UserError for what cannot be loaded.
        """
        try:
            model = BlipForConditionalGeneration.from_pretrained(source, use_safetensors=True)
            processor = BlipProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"blip={source} cannot be loaded ({reason}); give a folder with safetensors or "
                "the repository Salesforce/blip-image-captioning-base"
            ) from error
        return Blip(model.to(device).eval(), processor)

    @torch.no_grad()
    def __call__(self, crops: Sequence[Image.Image]) -> list[str]:
        """One caption per crop."""
        inputs: Any = self.processor(images=list(crops), return_tensors="pt")
        ids = self.model.generate(
            **inputs.to(self.model.device), do_sample=False, max_new_tokens=MAX_NEW_TOKENS
        )
        texts: list[str] = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def caption_instances(
    instances: Sequence[Instance],
    captioner: Callable[[Sequence[Image.Image]], list[str]],
    target: Path,
    batch: int,
    told: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Write a caption of every instance's crop to `target`, one JSON object a line.

    What is there already is kept and not asked again. `told` is told (done, of all).

    Raises:
        UserError: `target` is something else, or a picture cannot be read.
    """
    done = _whole_lines(target)
    wanted = [instance for instance in instances if instance.number not in done]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("a", encoding="utf-8") as file:
        for start in range(0, len(wanted), batch):
            part = wanted[start : start + batch]
            texts = captioner([crop_of(one, read_image(one.path)) for one in part])
            for one, text in zip(part, texts, strict=True):
                file.write(json.dumps({"id": one.number, "caption": text}) + "\n")
            file.flush()
            told(len(instances) - len(wanted) + start + len(part), len(instances))


def _whole_lines(target: Path) -> dict[int, str]:
    """The captions of an earlier run, whose last line may have been cut short: it is dropped."""
    if not target.exists():
        return {}
    text = target.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        target.write_text(whole, encoding="utf-8")
    return read_captions(target)
