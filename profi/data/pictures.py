"""The reader of pictures and masks of every entry point, for any mode and size."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path, PurePath

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from profi.types import Triplet, UserError, digest

log = logging.getLogger(__name__)

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
#: Share of a mask with transparency that may be grey, such as soft edges.
MOST_GREY = 0.2


def read_image(path: Path) -> Tensor:
    """An image file as RGB [3, H, W], float32 in [0, 1]; see `open_picture` and `rgb_tensor`."""
    return rgb_tensor(open_picture(path), path)


def read_mask(path: Path) -> Tensor:
    """A mask file as [H, W] bool; see `open_picture` and `mask_of`."""
    return mask_of(open_picture(path), path)


def check_pair(image: Tensor, mask: Tensor, image_name: object, mask_name: object) -> None:
    """UserError if an image [3, H, W] and its mask [H, W] differ in size."""
    if image.shape[1:] != mask.shape:
        (h, w), (mask_h, mask_w) = image.shape[1:], mask.shape
        turned = (mask_h, mask_w) == (w, h)
        reason = " as its EXIF tag turns it" if turned else ""
        raise UserError(
            f"{mask_name} is {mask_w}x{mask_h} and {image_name} is {w}x{h}{reason}; "
            "give a mask of the image's size"
        )


def upright(image: Image.Image) -> Image.Image:
    """A copy, turned by the EXIF orientation; as it is stored if its EXIF cannot be read.

    EXIF is no part of the pixels, and PIL reports damage of it by errors of many kinds.
    """
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001
        return image.copy()


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, from 1 (upright) to 8; 1 if it cannot be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  (see `upright`)
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def open_picture(path: Path) -> Image.Image:
    """A decoded image file, turned upright by its EXIF orientation.

    Raises UserError if the file is missing, damaged, too large or not an image.
    """
    try:
        with Image.open(path) as file:
            file.load()
            return upright(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a readable image; give a PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has too many pixels to read safely; scale it down") from error
    # PIL reports damaged data as OSError, and damaged PNG chunks as SyntaxError.
    except (OSError, SyntaxError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}); give an intact PNG or JPEG") from error


def rgb_tensor(image: Image.Image, name: object) -> Tensor:
    """An image of any mode but F as [3, H, W] float32 in [0, 1]; errors mention `name`.

    Greyscale gives three equal channels. Transparent pixels are put on white. Colours with an ICC
    profile are converted to sRGB. Greys of more than 8 bits: see `_greys`.
    """
    greys = _greys(image, name)
    if greys is not None:
        return greys.expand(3, -1, -1).clone()
    return _bytes(_on(in_srgb(image), WHITE))


def stored_rgb(image: Image.Image, name: object) -> np.ndarray:
    """An image's colours as they are stored, uint8 [H, W, 3]: transparency and profile are ignored.

    So COCO's pictures are read in the released evaluation. Greys of more than 8 bits: see `_greys`.
    """
    greys = _greys(image, name)
    if greys is not None:
        pixels = (greys * 255).round().byte()
        return pixels[..., None].expand(-1, -1, 3).contiguous().numpy()
    return np.array(image.convert("RGB"))


def mask_of(image: Image.Image, name: object) -> Tensor:
    """A mask of any mode but F as [H, W] bool, True = inpaint; errors mention `name`.

    True is what is brighter than middle grey. Transparent pixels are put on black: they are kept.
    Where a mask with transparency is neither black nor white elsewhere, this is logged.
    A mask whose values are 0 and 1 alone, such as a label map, is taken as bool.
    """
    greys = _greys(image, name)
    values = _bytes(_on(image, BLACK)).mean(dim=0) if greys is None else greys
    mask = values > 0.5
    middle = ((values > 0.1) & (values < 0.9)).float().mean()
    if image.has_transparency_data and middle > MOST_GREY:
        log.warning(
            "%s looks like a picture with a transparent hole; what is bright in it is painted, not "
            "the hole: save the hole as white on black",
            name,
        )
    if not mask.any() and (image.mode in ("L", "P", "RGB") or image.mode.startswith("I")):
        labels = np.asarray(image)
        if labels.ndim == 3 and (labels == labels[..., :1]).all():
            labels = labels[..., 0]
        if set(np.unique(labels)) == {0, 1}:
            return torch.from_numpy(labels == 1)
    return mask


def _greys(image: Image.Image, name: object) -> Tensor | None:
    """[H, W] float32 in [0, 1] of an image with more than 8 bits per grey; None for other modes.

    16-bit modes are divided by 65535. Mode I (32 bits) holds 8 or 16 bits in practice: it is
    divided by 255 if no value is larger, else by 65535.
    """
    if image.mode == "F":
        raise UserError(f"{name} has floating-point pixels; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return None
    greys = np.asarray(image).astype(np.int64)
    if greys.min() < 0 or greys.max() > 65535:
        raise UserError(f"{name} has more than 16 bits per pixel; save it with 8 or 16 bits")
    largest = 255 if image.mode == "I" and greys.max() <= 255 else 65535
    return torch.from_numpy(greys.astype(np.float32) / largest)


def _bytes(image: Image.Image) -> Tensor:
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(rgb).permute(2, 0, 1).contiguous()


def _on(image: Image.Image, backdrop: tuple[int, int, int]) -> Image.Image:
    """The image without transparency, put on a colour."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (*backdrop, 255)), layer)


def in_srgb(image: Image.Image) -> Image.Image:
    """The image with the colours of its ICC profile converted to sRGB, where it has another one."""
    embedded = image.info.get("icc_profile")
    if not embedded:
        return image
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    colours = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(embedded))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # A damaged profile, or one of another colour space: viewers ignore it too.
        return image
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


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
            turned = orientation(image) >= 5
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
            turn = orientation(image) if size is not None else 1
            pixels = stored_rgb(image, path)
            if turn != 1:
                turned = upright(image)
                if pixels.shape[:2] != size and (turned.height, turned.width) == size:
                    return stored_rgb(turned, path)
                if pixels.shape[:2] == size == (turned.height, turned.width):
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
