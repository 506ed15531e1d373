"""SAM, to narrow the mask to the old and the new object (an option of the released demo)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import SamImageProcessorPil, SamModel, SamProcessor

from profi.metrics.base import explained, preprocessor_config
from profi.metrics.functional import Box
from profi.models.devices import resolve_device
from profi.types import UserError

KEY = "segmenter"
#: Seen at once: what SAM's decoder takes grows with their number.
BOXES = 16


@dataclass(frozen=True)
class Segmenter:
    """A SAM model with its processor (a `Segment` of `profi.highres.enlarging`)."""

    model: SamModel
    processor: SamProcessor

    @torch.inference_mode()
    def __call__(self, picture: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
        """The object in each of the boxes, bool [N, H, W], of a picture uint8 [H, W, 3].

        Of the masks that SAM offers for a box, the one whose predicted IoU is largest.
        """
        corners = [[float(b.left), float(b.top), float(b.right), float(b.bottom)] for b in boxes]
        inputs = self.processor(picture, input_boxes=[corners], return_tensors="pt")
        seen = self.model.get_image_embeddings(inputs["pixel_values"].to(self.model.device))
        places = inputs["input_boxes"].to(self.model.device, torch.float32)
        masks = []
        for some in places.split(BOXES, dim=1):
            found = self.model(image_embeddings=seen, input_boxes=some)
            best = found.iou_scores[0].argmax(-1)
            chosen = found.pred_masks[0][torch.arange(len(best)), best]
            masks += self.processor.image_processor.post_process_masks(
                [chosen[:, None].float().cpu()],
                inputs["original_sizes"],
                inputs["reshaped_input_sizes"],
            )
        large: np.ndarray = torch.cat(masks)[:, 0].numpy()
        return large


def load_segmenter(source: str | Path, device: str | torch.device = "auto") -> Segmenter:
    """Load SAM from a folder in the layout of transformers, or a repository of the Hub.

    Raises UserError if it cannot be loaded or is another kind of model.
    """
    place, path = resolve_device("device", str(device)), str(source)
    config = preprocessor_config(path, "segmenter", KEY)
    with explained("segmenter", path, KEY):
        processor = SamProcessor(SamImageProcessorPil.from_dict(config))
        model, info = SamModel.from_pretrained(
            path, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    # transformers fills missing weights with random numbers.
    if info["missing_keys"]:
        raise UserError(
            f"segmenter {path!r} lacks weights of SAM ({min(info['missing_keys'])}, among others): "
            "give another folder or repository, such as facebook/sam-vit-base"
        )
    return Segmenter(model.eval().requires_grad_(False).to(place), processor)
