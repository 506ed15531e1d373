"""The 80 categories of MSCOCO: from the names in its annotation files to their ids (1 to 90)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# One string per id, in order; "-" marks the ids that MSCOCO never used.
_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,-,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,-,"
    "backpack,umbrella,-,-,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,"
    "baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,-,wine glass,cup,fork,"
    "knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,"
    "couch,potted plant,bed,-,dining table,-,-,toilet,-,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,-,book,clock,vase,scissors,teddy bear,"
    "hair drier,toothbrush"
)

COCO_CATEGORIES: Mapping[str, int] = MappingProxyType(
    {name: number for number, name in enumerate(_NAMES.split(","), start=1) if name != "-"}
)

# Old names from Pascal VOC and Darknet that some detectors still use (RT-DETR is one).
COCO_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "motorbike": "motorcycle",
        "aeroplane": "airplane",
        "sofa": "couch",
        "pottedplant": "potted plant",
        "diningtable": "dining table",
        "tvmonitor": "tv",
        "hair dryer": "hair drier",
    }
)
