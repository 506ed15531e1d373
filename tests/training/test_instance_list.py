"""MSCOCO's instances in arrays."""

from __future__ import annotations

import gc
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_coco import write

from profi.training.instance_list import crop_of, mask_of, read_instances
from profi.types import UserError


def test_instances_are_read_and_small_ones_left_out(instances) -> None:  # type: ignore[no-untyped-def]
    assert [i.number for i in instances] == [10, 20]
    assert instances[0].captions == ["the whole of 1"]
    mask = mask_of(instances[0])
    assert mask.shape == (64, 96)
    assert mask[8:48, 4:28].all()
    assert int(mask.sum()) <= 25 * 41
    crop = crop_of(instances[0], torch.ones(3, 64, 96))
    assert crop.size == (24, 40)


def test_a_folder_without_the_pictures_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    root, *files = write(tmp_path)
    (root / "2.png").unlink()
    with pytest.raises(UserError, match=r"2\.png does not exist \(1 of 2 pictures of"):
        read_instances(root, *files, min_share=0.01)
    with pytest.raises(UserError, match=r"does not exist \(2 of 2 pictures of"):
        read_instances(tmp_path / "nowhere", *files, min_share=0.01)


def test_the_list_gives_what_the_file_has(tmp_path: Path) -> None:
    """Numbers, boxes and outlines to the last bit; several polygons; pictures that are shared."""
    rng = np.random.default_rng(3)
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    names = ["sub/ä.jpg", "b.jpg"]
    for name in names:
        (root / name).touch()
    outlines = [[(rng.random(2 * n) * 90).tolist() for n in ns] for ns in ([4, 3], [5], [3], [7])]
    boxes = (rng.random((4, 4)) * 30 + 30).tolist()
    document = {
        "images": [
            {"id": 70 + i, "file_name": name, "height": 100 + i, "width": 100}
            for i, name in enumerate(names)
        ],
        "annotations": [
            {"id": 500 - i, "image_id": 71 - i % 2, "category_id": (9, 4)[i // 2],
             "bbox": box, "segmentation": outline}
            for i, (box, outline) in enumerate(zip(boxes, outlines, strict=True))
        ],
        "categories": [{"id": 4, "name": "café"}, {"id": 9, "name": "cat"}],
    }  # fmt: skip
    message = [{"id": i, "image_id": 71, "caption": f" says {i}"} for i in range(3)]
    a, c = tmp_path / "a.json", tmp_path / "c.json"
    a.write_text(json.dumps(document))
    c.write_text(json.dumps({"images": document["images"], "annotations": message}))
    found = list(read_instances(root, a, c, 0.01))
    assert [one.number for one in found] == [500, 499, 498, 497]
    assert [list(one.box) for one in found] == boxes
    assert [one.polygons for one in found] == outlines
    assert [one.label for one in found] == ["cat", "cat", "café", "café"]
    assert [one.path for one in found] == [root / names[1], root / names[0]] * 2
    assert [(one.height, one.width) for one in found] == [(101, 100), (100, 100)] * 2
    assert [one.captions for one in found] == [["says 0", "says 1", "says 2"], []] * 2


def test_a_list_of_many_is_small(tmp_path: Path) -> None:
    """Python's objects took kilobytes each, and forked workers copied them by reading."""
    n = 3000
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "x.jpg").touch()
    outline = [float(i) + 0.25 for i in range(80)]
    annotations = [
        {
            "id": i,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 50, 50],
            "segmentation": [outline],
        }
        for i in range(n)
    ]
    images = [{"id": 1, "file_name": "x.jpg", "height": 100, "width": 100}]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}],
    }
    a, c = tmp_path / "a.json", tmp_path / "c.json"
    a.write_text(json.dumps(document))
    c.write_text(json.dumps({"images": images, "annotations": []}))
    read_instances(tmp_path / "root", a, c, 0.01)  # (what is imported and cached on first use)
    tracemalloc.start()
    try:
        held = read_instances(tmp_path / "root", a, c, 0.01)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(held) == n
    # 80 coordinates and some ten numbers of 8 bytes.
    assert size / n < 1.3 * 8 * 90
