"""Statistics, tables, figures and the HTML report of a scores table; no torch.

Everything here reads one long DataFrame with a row per score (`statistics.COLUMNS`).
"""

from profi.reports.agreement import Agreement, agreement, agreement_facts
from profi.reports.gallery import GalleryChoice, GalleryItem, choose_gallery
from profi.reports.html import write_report
from profi.reports.preference import (
    preference_facts,
    preference_over_base,
    preference_probability,
)
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
    "Agreement",
    "Expected",
    "GalleryChoice",
    "GalleryItem",
    "agreement",
    "agreement_facts",
    "choose_gallery",
    "paired_difference",
    "paper_table2",
    "preference_facts",
    "preference_over_base",
    "preference_probability",
    "render_latex",
    "render_markdown",
    "render_rich",
    "summarise",
    "table2",
    "write_csv",
    "write_report",
]
