"""Statistics, tables, figures and the HTML report of a scores table; no torch.

All modules read one long DataFrame with one row per score (`statistics.COLUMNS`).
"""

from profi.reports.differences import clear_best, mcnemar, paired_difference
from profi.reports.gallery import GalleryChoice, GalleryItem, choose_gallery, write_gallery
from profi.reports.html import Failure, Missing, Page, write_report
from profi.reports.paper import compare_to_paper, paper_numbers, paper_table
from profi.reports.preference import (
    Agreement,
    agreement,
    agreement_facts,
    preference_facts,
    preference_over_base,
    preference_probability,
)
from profi.reports.render import render_latex, render_markdown, render_rich, write_csv, write_tables
from profi.reports.statistics import Expected, summarise
from profi.reports.tables import Table, difference_table, score_table

__all__ = [
    "Agreement",
    "Expected",
    "Failure",
    "GalleryChoice",
    "GalleryItem",
    "Missing",
    "Page",
    "Table",
    "agreement",
    "agreement_facts",
    "choose_gallery",
    "clear_best",
    "compare_to_paper",
    "difference_table",
    "mcnemar",
    "paired_difference",
    "paper_numbers",
    "paper_table",
    "preference_facts",
    "preference_over_base",
    "preference_probability",
    "render_latex",
    "render_markdown",
    "render_rich",
    "score_table",
    "summarise",
    "write_csv",
    "write_gallery",
    "write_report",
    "write_tables",
]
