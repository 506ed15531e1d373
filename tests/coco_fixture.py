"""A handful of instances in MSCOCO's own form (`instances_fixture.json`), their images, and the
three files of val2017 as a server has them."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from file_server import FileServer
from PIL import Image

from profi.data.coco2017 import Source
from profi.download import Remote

INSTANCES = Path(__file__).parent / "instances_fixture.json"

# Of the images in ascending order (139, 285, 632, 785) and their polygon annotations in the
# file's order: 139 has 1768 and, after a crowd, 1770; 285 has 2001 (a line) and 2002; 632 has
# 3001 (two points), 3002 and 3003.
SAMPLE = "image_idx,segment_idx\n2,2\n0,1\n1,1\n1,0\n2,1\n"
SAMPLED = [3003, 1770, 2002, 2001, 3002]


def jpegs() -> dict[str, bytes]:
    """The images by name: noise on a colour, as JPEG."""
    rng = np.random.default_rng(5)
    files = {}
    for image in json.loads(INSTANCES.read_text())["images"]:
        size = (image["height"], image["width"])
        pixels = rng.integers(0, 256, 3) * 0.7 + rng.integers(0, 70, (*size, 1))
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, format="JPEG")
        files[image["file_name"]] = buffer.getvalue()
    return files


def write_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, data in jpegs().items():
        (folder / name).write_bytes(data)
    return folder


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive, the same bytes for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def publish(server: FileServer) -> Source:
    """Put the files on a server, as MSCOCO has them."""
    images = {"val2017/": b""} | {f"val2017/{name}": data for name, data in jpegs().items()}
    others = {
        f"annotations/{name}_val2017.json": b"{}" for name in ("captions", "person_keypoints")
    }
    annotations = {"annotations/captions_train2017.json": b'{"annotations": []}', **others}
    for split in ("train2017", "val2017"):
        annotations[f"annotations/instances_{split}.json"] = INSTANCES.read_bytes()
    train = {f"train2017/{name}": data for name, data in jpegs().items()}
    server.files = {
        "/zips/val2017.zip": zipped(images),
        "/annotations/annotations_trainval2017.zip": zipped(annotations),
        "/mscoco_testset_10000.csv": SAMPLE.encode(),
        "/zips/train2017.zip": zipped({"train2017/": b"", **train}),
    }
    algorithms = ("md5", "md5", "sha256", "md5")
    remotes = [
        Remote(server.url + path, algorithm, hashlib.new(algorithm, data).hexdigest(), len(data))
        for (path, data), algorithm in zip(server.files.items(), algorithms, strict=True)
    ]
    return Source(*remotes, n_images=4)
