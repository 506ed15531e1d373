"""Captions of objects' crops by BLIP (Li et al. 2022), as SmartBrush's texts have them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from profi.atomic import write_text
from profi.data.pictures import UnreadableImageError
from profi.models.devices import resolve_device
from profi.training.instance_list import InstanceList, crop_of, picture_of
from profi.training.instances import Unreadable, not_captions, parsed_captions
from profi.types import UserError

log = logging.getLogger(__name__)

MAX_NEW_TOKENS = 30  # its captions of MSCOCO have some ten words
#: What a line is made of, as `caption_instances` writes it.
START, KEY = '{"id": ', ', "caption": '
NUMBERED = re.compile(re.escape(START) + r"\d+(.*)")
CUT_VALUE = re.compile(r'nu?l?l?\}?|"([^"\\]|\\.)*(\\|"\}?)?')


@dataclass(frozen=True)
class Blip:
    """A captioner; the most likely words, so that a crop always has the same caption."""

    model: BlipForConditionalGeneration
    processor: BlipProcessor

    @staticmethod
    def load(source: str, device: str) -> Blip:
        """From a folder or the Hub (Salesforce/blip-image-captioning-base), safetensors only.

        Raises UserError for a device that is not there, and for what cannot be loaded.
        """
        device = resolve_device("device", device)
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
    instances: InstanceList,
    captioner: Callable[[Sequence[Image.Image]], list[str]],
    target: Path,
    batch: int,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    unreadable: Callable[[str], None] = log.warning,
) -> None:
    """Write a caption of every instance's crop to `target`, one JSON object a line.

    What is there already is kept and not asked again. An instance whose picture cannot be read has
    the caption null, and is tried again the next time; `unreadable` is called with the picture.
    `on_progress` is called with (done, of all).

    Raises:
        UserError: `target` is something else (and stays as it is), a picture does not exist or
            belongs to other annotations, or more than MAX_UNREADABLE cannot be read.
    """
    known = begun(target)
    uncaptioned = [
        i for i, number in enumerate(instances.numbers.tolist()) if known.get(number) is None
    ]
    bad = Unreadable(unreadable)
    with target.open("a", encoding="utf-8") as file:
        for start in range(0, len(uncaptioned), batch):
            part = [instances[i] for i in uncaptioned[start : start + batch]]
            crops: dict[int, Image.Image] = {}
            for one in part:
                try:
                    crops[one.number] = crop_of(one, picture_of(one))
                except UnreadableImageError as error:
                    bad.add(one.path, str(error))
            texts = captioner(list(crops.values())) if crops else []
            captions = dict(zip(crops, texts, strict=True))
            for one in part:
                caption = captions.get(one.number)
                if caption is not None or one.number not in known:
                    file.write(json.dumps({"id": one.number, "caption": caption}) + "\n")
            file.flush()
            on_progress(len(instances) - len(uncaptioned) + start + len(part), len(instances))


def begun(target: Path) -> dict[int, str | None]:
    """What an earlier run wrote; its last line, which may have been cut short, is dropped.

    Raises UserError for another file, which stays as it is, and for one that cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Opened for writing, so that it is refused before the days that it takes.
        with target.open("a+", encoding="utf-8") as file:
            file.seek(0)
            text = file.read()
        end = text.rfind("\n") + 1
        whole, rest = text[:end], text[end:]
        captions = parsed_captions(whole)
        if rest and not is_cut_line(rest):
            raise ValueError(rest[:80])
        if rest:
            write_text(target, whole)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise not_captions(target, error) from error
    return captions


def is_cut_line(rest: str) -> bool:
    """Whether a line of `caption_instances` begins with this."""
    if START.startswith(rest):
        return True
    found = NUMBERED.fullmatch(rest)
    if found is None:
        return False
    after = found[1]
    value = after.removeprefix(KEY)
    return KEY.startswith(after) or (after != value and bool(CUT_VALUE.fullmatch(value)))
