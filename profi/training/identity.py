"""What a training is of, beside its settings: told by its checkpoints."""

from __future__ import annotations

from pathlib import Path

from profi.download import sha256_of
from profi.models.folder import SCHEDULER_CONFIG, read_json, weight_hashes
from profi.training.coco_files import CocoFiles
from profi.types import digest

SHOWN = 16  # hex digits of a hash, enough to tell files apart


def start_identity(folder: Path, parts: Path) -> dict[str, object]:
    """Of the model that training starts from: its weights and its noise schedule.

    The folders are those of `TextToImage.load`.
    """
    hashes = weight_hashes(folder, ("unet",)) | weight_hashes(parts, ("vae", "text_encoder"))
    config = read_json(folder, SCHEDULER_CONFIG)
    schedule = {name: value for name, value in config.items() if not name.startswith("_")}
    return {"model": digest([hashes, schedule])}


def coco_identity(
    files: CocoFiles, crop_captions: Path | None, instances: int, side: int, min_share: float
) -> dict[str, object]:
    """Of MSCOCO's samples: its files (pictures aside), how many instances they gave, the squares.

    `crop_captions` is None for a training without.
    """
    return {
        "annotations": sha256_of(files.annotations)[:SHOWN],
        "image_captions": sha256_of(files.image_captions)[:SHOWN],
        "crop_captions": sha256_of(crop_captions)[:SHOWN] if crop_captions else "none",
        "instances": instances,
        "side": side,
        "min_share": min_share,
    }
