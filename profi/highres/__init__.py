"""High resolution (appendix E): the inpainting-specialised x4 upscaling, and its comparisons.

painter, upscaler = profi.load("dreamshaper8"), load_upscaler("x4")
picture = painter.highres(image, mask, "a vase", upscaler=upscaler)
"""

from profi.highres.enlarging import WAYS, Compared, Enlarging, Way, compare
from profi.highres.guided import upscale
from profi.highres.measures import Measures, measures
from profi.highres.poisson import poisson_blend
from profi.highres.segmenter import Segmenter, load_segmenter
from profi.highres.upscaler import Upscaler, load_upscaler
from profi.settings.highres import HIGHRES, HighRes, highres_of

__all__ = [
    "HIGHRES",
    "WAYS",
    "Compared",
    "Enlarging",
    "HighRes",
    "Measures",
    "Segmenter",
    "Upscaler",
    "Way",
    "compare",
    "highres_of",
    "load_segmenter",
    "load_upscaler",
    "measures",
    "poisson_blend",
    "upscale",
]
