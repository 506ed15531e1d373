"""The images of triplets."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps

from profi.data.pictures import read_image, stored_rgb
from profi.types import Triplet, UserError, digest

log = logging.getLogger(__name__)

#: The EXIF tag of a picture's orientation; 1 is upright.
ORIENTATION = 0x0112


class UnreadableImageError(UserError):
    """An image file that exists but is damaged."""


def path_within(root: Path, name: str) -> Path | None:
    """`root`/`name`; None for a name that leads outside `root`.

    Only the name is checked. Links inside the folder are allowed: model caches and git-annex use
    links for all files.
    """
    pure = PurePath(os.path.normpath(name))
    return None if pure.is_absolute() or ".." in pure.parts else root / pure


def image_path(root: Path, triplet: Triplet) -> Path:
    """The path of a triplet's image; UserError for a name that leads outside `root`."""
    path = path_within(root, triplet.file_name)
    if path is None:
        raise UserError(
            f"image {triplet.image_id}: file_name {triplet.file_name!r} leads out of {root}; "
            "mend data.annotations"
        )
    return path


def image_number(file_name: str) -> int:
    """An image's number, a hash of its name: triplets of one image are grouped by it."""
    return int.from_bytes(hashlib.sha256(file_name.encode()).digest()[:6], "big")


def upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as a viewer shows it, from the file's header; None if it is unreadable."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # The tags 5 to 8 are quarter turns.
            turned = image.getexif().get(ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return None
    return (height, width) if turned else (width, height)


def load_image(root: Path, triplet: Triplet) -> np.ndarray:
    """The image of a triplet: uint8 [height, width, 3], RGB.

    A mask file was drawn on the image as a viewer shows it, so for a triplet without annotation the
    orientation tag is applied. Polygons refer to the stored pixels, as in MSCOCO; if only the
    upright image has the size that the annotations give, they refer to that.

    Raises:
        UserError: the image is missing, unreadable, or has another size than the mask.
    """
    path = image_path(root, triplet)
    size = (triplet.height, triplet.width)
    if triplet.annotation_id is not None:
        try:
            pixels = read_stored(path, size)
        except FileNotFoundError as error:
            remedy = "set data.root to the images' folder"
            raise UserError(f"{path} does not exist: {remedy}") from error
        of_mask = "data.annotations says"
    else:
        image = read_image(path)
        pixels = (image * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        of_mask = "its mask is"
    if pixels.shape[:2] != size:
        raise UserError(
            f"{path} is {pixels.shape[1]}x{pixels.shape[0]} pixels but {of_mask} "
            f"{triplet.width}x{triplet.height}: give the data.root that belongs to it"
        )
    return pixels


def read_stored(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """An image file's stored pixels (`stored_rgb`): uint8 [H, W, 3].

    They are turned by the orientation tag only if they then have the (height, width) `size`, and
    had not before. A tag that leaves the size as it is cannot be judged: it is logged.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableImageError: the file is damaged or is not an image.
    """
    try:
        with Image.open(path) as image:
            turn = image.getexif().get(ORIENTATION, 1) if size is not None else 1
            pixels = stored_rgb(image, path)
            if turn not in (0, 1):
                upright = ImageOps.exif_transpose(image)
                if pixels.shape[:2] != size and (upright.height, upright.width) == size:
                    return stored_rgb(upright, path)
                if pixels.shape[:2] == size == (upright.height, upright.width):
                    log.warning(
                        "%s has an orientation tag (%d): it is read as stored, without it, as the "
                        "released evaluation does; if the annotations are of the upright picture, "
                        "save it upright",
                        path,
                        turn,
                    )
            return pixels
    except FileNotFoundError:
        raise
    # PIL raises SyntaxError for damaged PNG chunks and OSError for other damage.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UnreadableImageError(f"{path} cannot be read ({reason}): fetch it again") from error


def images_digest(root: Path, triplets: Iterable[Triplet]) -> str:
    """A hash of the names and bytes of the triplets' image files; each file is read once.

    A missing file is part of the hash too: when it is added later, the hash changes.

    Raises:
        UserError: a name leads outside `root`, or an existing file cannot be read.
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
