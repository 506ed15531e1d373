"""The page of a folder's figures: one HTML file that shows them with their captions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from profi.atomic import write_text
from profi.figures.drawing import stem

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
