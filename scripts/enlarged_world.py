"""The embedded world's pictures enlarged, as a file of instances: so that resizing has work to do.

    python scripts/enlarged_world.py FOLDER [--height 76]
    python run.py data=coco data.root=FOLDER/images data.annotations=FOLDER/instances.json

Every picture of 64 x 64 pixels is enlarged to 100 x 100 (Lanczos) and cut to its middle rows, all
of them by default; of 76 the long side 64 makes 64 x 48.64. Polygons follow, cut at the border; an
instance of which less than half of the height is left is dropped.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from profi.settings import shipped_path

SIDE = 100
DATA = "shipped:cpu/data"


def main() -> None:
    """Write the pictures and the file."""
    parser = argparse.ArgumentParser(description="enlarge the embedded world's pictures")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--height", type=int, default=SIDE, help=f"at most {SIDE} rows")
    options = parser.parse_args()
    folder, height = options.folder, options.height
    if not 1 <= height <= SIDE:
        sys.exit(f"error: --height={height}: from 1 to {SIDE}")
    top = (SIDE - height) // 2
    (folder / "images").mkdir(parents=True)
    content = json.loads((shipped_path(DATA) / "instances_val.json").read_text())
    scales = {}
    for image in content["images"]:
        with Image.open(shipped_path(DATA) / "images" / image["file_name"]) as picture:
            large = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        large.crop((0, top, SIDE, top + height)).save(folder / "images" / image["file_name"])
        scales[image["id"]] = SIDE / image["width"]
        image["width"], image["height"] = SIDE, height
    kept = []
    for instance in content["annotations"]:
        scale = scales[instance["image_id"]]
        whole = [np.reshape(p, (-1, 2)) * scale - (0, top) for p in instance["segmentation"]]
        parts = [np.clip(points, 0, (SIDE, height)) for points in whole]
        if np.ptp(np.concatenate(parts)[:, 1]) >= np.ptp(np.concatenate(whole)[:, 1]) / 2:
            flat = [points.ravel().tolist() for points in parts]
            kept.append({**instance, "segmentation": flat})
    content["annotations"] = kept
    (folder / "instances.json").write_text(json.dumps(content))
    print(f"{len(content['images'])} pictures, {len(kept)} instances")


if __name__ == "__main__":
    main()
