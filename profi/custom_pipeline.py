"""The file that diffusers opens by `custom_pipeline`: it finds `ProFIPainterPipeline` here.

diffusers copies the file into its cache and looks for the one pipeline class in it, so it may hold
nothing else. profi must be installed. See docs/painter.md.
"""

from profi.pipeline import ProFIPainterPipeline

__all__ = ["ProFIPainterPipeline"]
