"""What a figure's function returns, and how it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from profi.atomic import whole_file, write_text

#: Of the page that all figures of a folder share, and of a figure's files.
DPI = 300
#: Matplotlib's settings of all figures. Type 42 keeps the text of a PDF as text.
STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "font.family": "DejaVu Sans",
        "font.size": 7,
        "axes.titlesize": 7,
        "axes.labelsize": 7,
        "xtick.labelsize": 6,
        "ytick.labelsize": 6,
        "legend.fontsize": 6,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.0,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "pdf.fonttype": 42,
    }
)


class Pick(NamedTuple):
    """One painted triplet: its id and the seed of the run."""

    triplet_id: str
    seed: int

    @property
    def text(self) -> str:
        """As `figure.select` takes it."""
        return f"{self.triplet_id}@{self.seed}"


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure.

    Fields:
        figure: of matplotlib, at its print size.
        caption: what it shows.
        rule: how its examples were chosen, exactly enough to choose them again.
        chosen: the examples, in the order shown.
        numbers: what was measured for the figure, as name and value.
    """

    figure: Figure
    caption: str
    rule: str
    chosen: Sequence[Pick] = ()
    numbers: Mapping[str, str] = field(default_factory=dict)


def stem(name: str) -> str:
    """The name of a figure's files, without suffix."""
    return f"figure-{name}"


def write_drawing(
    folder: Path, name: str, label: str, drawing: Drawing, facts: Mapping[str, str]
) -> Path:
    """Write figure-NAME.png, .pdf, .md (the caption) and .json (the same for programs).

    `facts` say with what it was made, the command among them. Returns the picture's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{stem(name)}.png"
    # Without dates: the same figure is the same file.
    for path, metadata in (
        (picture, {"Software": None}),
        (picture.with_suffix(".pdf"), {"CreationDate": None}),
    ):
        with whole_file(path) as file:
            drawing.figure.savefig(file, format=path.suffix[1:], dpi=DPI, metadata=metadata)
    chosen = [pick.text for pick in drawing.chosen]
    record = {
        "name": name,
        "label": label,
        "caption": drawing.caption,
        "rule": drawing.rule,
        "chosen": chosen,
        "numbers": dict(drawing.numbers),
        "facts": dict(facts),
    }
    write_text(picture.with_suffix(".md"), caption_text(record))
    write_text(picture.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    return picture


def caption_text(record: Mapping[str, Any]) -> str:
    """The caption as Markdown."""
    parts = [
        f"# Figure {record['name']}. {record['label']}",
        record["caption"],
        f"**Rule of selection.** {record['rule']}",
    ]
    if record["chosen"]:
        parts.append("**Shown.** " + ", ".join(f"`{name}`" for name in record["chosen"]))
    for title, rows in (("measured", record["numbers"]), ("made with", record["facts"])):
        if rows:
            cells = [[text.replace("|", "\\|") for text in row] for row in rows.items()]
            lines = [f"| {name} | {value} |" for name, value in cells]
            parts.append("\n".join([f"| {title} | |", "|---|---|", *lines]))
    return "\n\n".join(parts) + "\n"
