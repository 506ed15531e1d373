"""The painter's studio without a server: its line of orders, high resolution, the history."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from studio_calls import SIZE, order_in, studio_of

from profi.models.backbone import Backbone
from profi.painter import Painter
from profi.painting import Cancelled
from profi.settings.highres import HIGHRES
from profi.types import UserError
from profi.ui.painter.history import Sessions, add, history_zip
from profi.ui.painter.orders import Progress, Result, Waiting
from profi.ui.painter.picture_store import PictureStore
from profi.ui.painter.settings import settings_of_facts
from profi.ui.painter.studio import Studio
from profi.ui.painter.waiting_line import WaitingLine


def test_high_resolution_paints_in_the_pictures_own_size(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "highres"))
    from tiny_upscaler import SUFFIX, make_upscaler

    short = replace(HIGHRES["ours"], prompt_suffix=SUFFIX)
    monkeypatch.setattr("profi.ui.painter.settings.HIGHRES", {"ours": short})
    make_upscaler().save_pretrained(tmp_path / "x4")
    painter = Painter(backbone, long_side=48, pad_multiple=16)
    studio = studio_of(painter, upscalers={"mini": tmp_path / "x4"})
    events = list(studio.paint(order_in(studio, 2, highres=True, variants=2), threading.Event()))
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps == list(range(1, len(steps) + 1))
    result = events[-1]
    assert isinstance(result, Result)
    assert [one.seed for one in result.pictures] == [0, 1]
    for one in result.pictures:
        image = Image.open(BytesIO(studio.store.get(one.name).data))
        assert image.size == SIZE
        assert settings_of_facts(image.info["profi"]).highres
    studio.close()
    plain = studio_of(painter)
    with pytest.raises(UserError, match="has no upscaler here"):
        list(plain.paint(order_in(plain, highres=True), threading.Event()))
    plain.close()


def following(events: Iterator[Any]) -> Any:
    """The next event that is not the sign of life of a running order."""
    return next(event for event in events if event != Waiting(0))


def test_a_running_order_gives_signs_of_life(studio: Studio) -> None:
    """Only by these a server notices, while nothing else comes, that the caller has gone."""
    line, go = WaitingLine(1), threading.Event()
    events = line.run(lambda send: go.wait(60), threading.Event())
    assert [next(events) for _ in range(2)] == [Waiting(0), Waiting(0)]
    go.set()
    assert list(events)[-1] is True
    line.close()


def test_orders_wait_in_line_and_are_told_their_place(studio: Studio) -> None:
    first = studio.paint(order_in(studio), threading.Event())
    assert isinstance(following(first), Progress)
    second = studio.paint(order_in(studio), threading.Event())
    assert following(second) == Waiting(1)
    third = studio.paint(order_in(studio), threading.Event())
    assert following(third) == Waiting(2)
    assert isinstance(list(first)[-1], Result)
    rest = list(third)
    assert isinstance(rest[-1], Result)
    places = [event.before for event in rest if isinstance(event, Waiting)]
    assert places == sorted(places, reverse=True)
    assert isinstance(list(second)[-1], Result)


def test_the_line_is_bounded(painter: Painter) -> None:
    studio = studio_of(painter, most_waiting=1)
    running = [studio.paint(order_in(studio), threading.Event()) for _ in range(2)]
    for one in running:
        following(one)
    with pytest.raises(UserError, match="too many people are waiting"):
        next(studio.paint(order_in(studio), threading.Event()))
    for one in running:
        one.close()
    assert isinstance(list(studio.paint(order_in(studio), threading.Event()))[-1], Result)
    studio.close()


def test_an_order_that_waits_can_be_cancelled(studio: Studio) -> None:
    first = studio.paint(order_in(studio), threading.Event())
    following(first)
    cancel = threading.Event()
    second = studio.paint(order_in(studio), cancel)
    assert following(second) == Waiting(1)
    cancel.set()
    with pytest.raises(Cancelled):
        list(second)
    assert isinstance(list(first)[-1], Result)


def test_cancelled_in_the_middle_it_keeps_what_is_finished(studio: Studio) -> None:
    cancel = threading.Event()
    found = []
    for event in studio.paint(order_in(studio, 30, ablations=("base", "profi")), cancel):
        found.append(event)
        if isinstance(event, Progress) and event.step > 30:
            cancel.set()
    result = found[-1]
    assert isinstance(result, Result)
    assert [one.ablation for one in result.pictures] == ["base"]


def test_a_listener_that_goes_stops_the_painting(studio: Studio) -> None:
    cancel = threading.Event()
    events = studio.paint(order_in(studio, 200), cancel)
    following(events)
    events.close()
    assert cancel.is_set()
    assert isinstance(list(studio.paint(order_in(studio), threading.Event()))[-1], Result)


def test_the_history_holds_all_pictures_and_how_they_were_made(studio: Studio) -> None:
    sessions = Sessions()
    session = sessions.of("page")
    first = order_in(studio)
    one, mask = first.picture, first.mask
    for _ in range(2):
        result = list(studio.paint(order_in(studio, variants=2), threading.Event()))[-1]
        assert isinstance(result, Result)
        # The same picture and mask: in the zip they are once.
        result = replace(result, order=replace(result.order, picture=one, mask=mask))
        add(session, result)
    assert sessions.named(session.name) is session
    with zipfile.ZipFile(BytesIO(history_zip(session, studio.store))) as archive:
        message = json.loads(archive.read("history.json"))
        listed = [one["input"] for one in message] + [one["mask"] for one in message]
        listed += [one["file"] for entry in message for one in entry["pictures"]]
        assert sorted({*listed, "history.json"}) == sorted(archive.namelist())
        assert len(set(listed)) == 2 + 4
        for entry in message:
            for one in entry["pictures"]:
                image = Image.open(BytesIO(archive.read(one["file"])))
                assert json.loads(image.info["profi"]) == {
                    k: v for k, v in one.items() if k != "file"
                }
    # What the store has forgotten is null.
    with zipfile.ZipFile(BytesIO(history_zip(session, PictureStore()))) as archive:
        assert archive.namelist() == ["history.json"]
        assert json.loads(archive.read("history.json"))[0]["input"] is None
    with session.order() as running:
        sessions.close("page")
        assert running.is_set()
    with pytest.raises(UserError):
        sessions.named(session.name)
