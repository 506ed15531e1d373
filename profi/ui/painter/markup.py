"""The pieces of the painter's page that change, as HTML; every text in them is escaped."""

from __future__ import annotations

import base64
from html import escape

from profi.ui.painter.attention_maps import AttentionMap
from profi.ui.painter.history import Session
from profi.ui.painter.orders import Event, Progress, Result, Waiting


def said(text: str, wrong: bool = False) -> str:
    """A sentence that a screen reader reads at once."""
    kind = " profi-wrong" if wrong else ""
    return f'<div class="profi-status{kind}" role="status">{escape(text)}</div>'


def progress(event: Event, previews: str) -> str:
    """The place in the queue, or a bar with the last previews."""
    if isinstance(event, Waiting) and event.before == 0:
        return said("Working …")
    if isinstance(event, Waiting):
        others = "One other is" if event.before == 1 else f"{event.before} others are"
        return said(f"{others} before you in the queue.")
    assert isinstance(event, Progress)
    text = f"{event.label}: step {event.step} of {event.total}"
    return (
        f'<div class="profi-status"><label>{escape(text)}<progress value="{event.step}" '
        f'max="{event.total}"></progress></label>{previews}</div>'
    )


def previews(event: Progress) -> str:
    """The small pictures of a step."""
    figures = (
        f'<figure><img src="{_data_url(data, "webp")}" alt="Preview of {escape(label)}">'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for label, data in event.previews
    )
    return f'<div class="profi-previews">{"".join(figures)}</div>'


def _data_url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def finished(result: Result) -> str:
    """How many pictures there are, and how long they took."""
    asked = len(result.order.settings.ablations) * result.order.settings.variants
    made = len(result.pictures)
    text = f"{made} picture{'s' if made > 1 else ''} in {result.seconds:.1f} s."
    return text if made == asked else f"Cancelled; finished before: {text}"


def results(result: Result) -> str:
    """The wipe between before and after, all pictures to choose from, and the download."""
    first = result.pictures[0]
    cells = "".join(
        f'<label class="pr-cell"><img src="/pictures/{one.name}" alt="">'
        f'<input type="radio" name="pr-picture" value="{one.name}" '
        f'data-label="{escape(one.label)}" data-file="profi-{one.ablation}-seed{one.seed}.png"'
        f"{' checked' if one is first else ''}> {escape(one.label)}</label>"
        for one in result.pictures
    )
    columns = max(2, min(4, result.order.settings.variants))
    if result.order.settings.variants == 1:
        columns = max(2, min(4, len(result.pictures)))
    wipe = round(100 * result.centre)
    return (
        f'<h2>Results</h2><profi-results style="--wipe: {wipe}%"><div class="pr"><div>'
        f'<div class="pr-wipe"><img src="/pictures/{escape(result.order.picture)}" alt="Before">'
        f'<img class="pr-after" src="/pictures/{first.name}" alt="After: {escape(first.label)}">'
        '<span class="pr-line"></span></div><label class="pr-range">'
        "Wipe between before (left) and after (right)"
        f'<input type="range" min="0" max="100" value="{wipe}"></label></div><div>'
        f'<fieldset class="pr-grid" style="--columns: {columns}">'
        f"<legend>{escape(result.order.settings.prompt)}</legend>{cells}</fieldset>"
        f'<a href="/pictures/{first.name}" download="profi-{first.ablation}-seed{first.seed}.png">'
        f"Download {escape(first.label)}</a></div></div></profi-results>"
    )


def attention(maps: list[AttentionMap]) -> str:
    """The maps with what their colours mean."""
    figures = (
        f'<figure><img src="{_data_url(one.png, "png")}" alt="{escape(one.title)}">'
        f"<figcaption><strong>{escape(one.title)}</strong><br>{escape(one.note)}</figcaption>"
        "</figure>"
        for one in maps
    )
    return f'<div class="profi-maps">{"".join(figures)}</div>'


def history_link(session: Session) -> str:
    """The link to the zip of all results."""
    number = sum(len(result.pictures) for result in session.results)
    return (
        f'<a class="profi-link" href="/history/{session.name}.zip" download>'
        f"Download the history of this session ({number} picture{'s' if number > 1 else ''}, "
        "zip)</a>"
    )
