"""What a figure's function returns, how it is written, and the page of a folder's figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
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


PAGE = "index.html"
_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Figures</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 3rem 0; }
img { max-width: 100%; height: auto; border: 1px solid #ddd; background: white; }
code { background: #f3f3f3; padding: .1em .3em; overflow-wrap: anywhere; }
td { padding: .1rem .8rem .1rem 0; vertical-align: top; overflow-wrap: anywhere; }
</style>
<h1>Figures</h1>
<p>Every figure states its rule of selection and the command that draws it again.</p>
"""


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


def write_page(folder: Path, order: Sequence[str]) -> Path:
    """Write index.html of all figures that `folder` holds, in the order of their names."""
    records = [
        json.loads((folder / f"{stem(name)}.json").read_text("utf-8"))
        for name in order
        if (folder / f"{stem(name)}.json").is_file()
    ]
    links = " ".join(f'<a href="#{stem(r["name"])}">{escape(str(r["name"]))}</a>' for r in records)
    text = f"{_HEAD}<p>{links}</p>\n" + "".join(_section(record) for record in records)
    write_text(folder / PAGE, text)
    return folder / PAGE


def _section(record: dict[str, Any]) -> str:
    """One figure."""
    name = stem(record["name"])
    title = f"Figure {record['name']}. {record['label']}"
    shown = ", ".join(record["chosen"])
    parts = [
        f'<figure id="{escape(name)}">',
        f"<h2>{escape(title)}</h2>",
        f'<a href="{escape(name)}.pdf"><img src="{escape(name)}.png" alt="{escape(title)}"></a>',
        f"<figcaption><p>{escape(record['caption'])}</p>",
        f"<p><b>Rule of selection.</b> {escape(record['rule'])}</p>",
        f"<p><b>Shown.</b> {escape(shown)}</p>" if shown else "",
        f"<p><code>{escape(record['facts']['command'])}</code></p>",
        _table("Measured", record["numbers"]),
        _table("Made with", record["facts"]),
        "</figcaption></figure>\n",
    ]
    return "\n".join(part for part in parts if part)


def _table(title: str, rows: dict[str, str]) -> str:
    if not rows:
        return ""
    cells = "".join(f"<tr><td>{escape(k)}</td><td>{escape(v)}</td></tr>" for k, v in rows.items())
    return f"<details><summary>{title}</summary><table>{cells}</table></details>"
