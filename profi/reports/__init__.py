"""Statistics, tables, figures and the HTML report of a scores table; no torch.

Everything here reads one long DataFrame with a row per score (`statistics.COLUMNS`).
"""

from profi.reports.gallery import GalleryChoice, GalleryItem, choose_gallery
from profi.reports.html import write_report
from profi.reports.statistics import Expected, paired_difference, summarise
from profi.reports.tables import (
    paper_table2,
    render_latex,
    render_markdown,
    render_rich,
    table2,
    write_csv,
)

__all__ = [
    "Expected",
    "GalleryChoice",
    "GalleryItem",
    "choose_gallery",
    "paired_difference",
    "paper_table2",
    "render_latex",
    "render_markdown",
    "render_rich",
    "summarise",
    "table2",
    "write_csv",
    "write_report",
]
