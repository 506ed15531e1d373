"""The images of triplets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from profi.data.user_images import read_image
from profi.types import Triplet, UserError, digest


class UnreadableImageError(UserError):
    """An image file that is there but damaged."""


def path_within(root: Path, name: str) -> Path | None:
    """`root`/`name`; None for a name that leads out of `root`.

    Judged by the name alone: links within the folder are its owner's (a model hub's cache and
    git-annex keep all files behind links).
    """
    pure = PurePath(os.path.normpath(name))
    return None if pure.is_absolute() or ".." in pure.parts else root / pure


def image_path(root: Path, triplet: Triplet) -> Path:
    """Where a triplet's image lies; UserError for a name that leads out of `root`."""
    path = path_within(root, triplet.file_name)
    if path is None:
        raise UserError(
            f"image {triplet.image_id}: file_name {triplet.file_name!r} leads out of {root}; "
            "mend data.annotations"
        )
    return path


def load_image(root: Path, triplet: Triplet) -> np.ndarray:
    """The image of a triplet: uint8 [height, width, 3], RGB.

    Polygons refer to the pixels as stored, so there no orientation tag turns the image; a mask
    that is a picture was drawn on what a viewer shows, so its image is turned upright.

    Raises:
        UserError: missing, unreadable, or of another size than the mask is for.
    """
    path = image_path(root, triplet)
    if triplet.rle is None:
        try:
            pixels = read_stored(path)
        except FileNotFoundError as error:
            remedy = "set data.root to the images' folder"
            raise UserError(f"{path} does not exist: {remedy}") from error
        of_mask = "data.annotations says"
    else:
        image = read_image(path)
        pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        of_mask = "its mask is"
    if pixels.shape[:2] != (triplet.height, triplet.width):
        raise UserError(
            f"{path} is {pixels.shape[1]}x{pixels.shape[0]} pixels but {of_mask} "
            f"{triplet.width}x{triplet.height}: give the data.root that belongs to it"
        )
    return pixels


def read_stored(path: Path) -> np.ndarray:
    """An image file's pixels as they are stored, no orientation tag obeyed: uint8 [H, W, 3], RGB.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: it is damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError:
        raise
    # Damaged PNG chunks are SyntaxErrors to PIL, other damage OSErrors.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UnreadableImageError(f"{path} cannot be read ({reason}): fetch it again") from error


def images_digest(root: Path, triplets: Iterable[Triplet]) -> str:
    """A hash of the names and bytes of the triplets' image files, each read once.

    A file that is not there counts by its absence: once it is, that is another set of images.

    Raises:
        UserError: a name that leads out of `root`; a file that is there and cannot be read.
    """
    hashes: dict[str, str | None] = {}
    for triplet in triplets:
        if triplet.file_name in hashes:
            continue
        path = image_path(root, triplet)
        try:
            with path.open("rb") as file:
                hashes[triplet.file_name] = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            hashes[triplet.file_name] = None
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): mend data.root") from error
    return digest(hashes)
