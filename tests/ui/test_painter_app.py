"""The painter's server without a browser: its HTTP interface, its limits, its line of orders."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import answers, free_port
from hostile_files import encoded, hostile_files, picture
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from studio_calls import SIZE, hole

pytest.importorskip("gradio", reason='needs the extra "ui"')

import httpx
import uvicorn
from fastapi.testclient import TestClient

from profi.models.backbone import Backbone
from profi.painter import Painter
from profi.ui.painter.app import painter_app
from profi.ui.painter.orders import Order, Progress, Result
from profi.ui.painter.picture_store import PictureStore
from profi.ui.painter.settings import Settings, settings_of_facts
from profi.ui.painter.studio import Studio


@pytest.fixture(scope="module")
def client(studio: Studio) -> Iterator[TestClient]:
    with TestClient(painter_app(studio), base_url="http://127.0.0.1") as started:
        yield started


def names(client: TestClient) -> tuple[str, str]:
    """An uploaded picture and mask."""
    one = client.post("/pictures", content=encoded(picture(*SIZE), "PNG")).json()
    mask = client.post("/masks", content=encoded(hole(), "PNG")).json()
    assert (one["width"], one["height"]) == (mask["width"], mask["height"]) == SIZE
    return one["picture"], mask["picture"]


def call(client: TestClient, name: str, order: Any) -> list[tuple[str, Any]]:
    """(event, data) of a call over HTTP, as curl sees them."""
    event = client.post(f"/gradio_api/call/{name}", json={"data": [order]}).json()["event_id"]
    lines = client.get(f"/gradio_api/call/{name}/{event}").text.splitlines()
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return list(zip(kinds, data, strict=True))


def test_the_http_interface_paints_and_its_file_brings_everything_back(client: TestClient) -> None:
    one, mask = names(client)
    settings = {"prompt": "cat", "ablations": ["base", "profi"], "variants": 2, "steps": 3}
    events = call(client, "paint", {"picture": one, "mask": mask, **settings})
    steps = [data[0]["step"] for _, data in events if data and "step" in data[0]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 6
    kind, (result,) = events[-1]
    assert kind == "complete"
    made = [(p["ablation"], p["seed"]) for p in result["pictures"]]
    assert made == [("base", 0), ("base", 1), ("profi", 0), ("profi", 1)]

    before, inside = np.asarray(picture(*SIZE)), np.asarray(hole()) > 127
    for found in result["pictures"]:
        data = client.get(found["url"]).content
        image = Image.open(BytesIO(data))
        assert image.size == SIZE
        assert (np.asarray(image)[~inside] == before[~inside]).all()
        assert (np.asarray(image)[inside] != before[inside]).any()
        facts = json.loads(image.info["profi"])
        assert (facts["ablation"], facts["seed"]) == (found["ablation"], found["seed"])
        assert settings_of_facts(image.info["profi"]) == Settings(
            "cat", ablations=("base", "profi"), variants=2, steps=3
        )
        # Dropped on the page, it brings its mask, and painting it again gives the same picture.
        again = client.post("/pictures", content=data).json()
        back = Image.open(BytesIO(client.get(f"/pictures/{again['mask']}").content))
        assert (np.asarray(back) == inside).all()
        order = {"picture": again["picture"], "mask": again["mask"], "prompt": "cat", "steps": 3}
        order |= {"ablations": [found["ablation"]], "seed": found["seed"]}
        url = call(client, "paint", order)[-1][1][0]["pictures"][0]["url"]
        repainted = Image.open(BytesIO(client.get(url).content))
        assert (np.asarray(repainted) == np.asarray(image)).all()


def test_the_attention_maps_of_an_order(client: TestClient) -> None:
    one, mask = names(client)
    order = {"picture": one, "mask": mask, "prompt": "cat", "steps": 4, "crop": 6}
    (result,) = call(client, "attention", order)[-1][1]
    titles = [found["title"] for found in result["maps"]]
    assert [title.partition(",")[0] for title in titles] == [
        name
        for name in (
            "Attention to the prompt",
            "PAIntA's c (eq. 5)",
            "Self-attention of the mask (eq. 12)",
        )
        for _ in range(2)
    ]
    before = np.asarray(picture(*SIZE))
    for found in result["maps"]:
        shown = np.asarray(Image.open(BytesIO(client.get(found["url"]).content)))
        assert shown.shape == before.shape
        # The map covers what was painted: the mask's box with its margin, and nothing else.
        changed = (shown != before).any(axis=2)
        rows, columns = changed.any(axis=1).nonzero()[0], changed.any(axis=0).nonzero()[0]
        assert (rows[0], rows[-1], columns[0], columns[-1]) == (2, 36, 4, 36)
    (plain,) = call(client, "attention", {**order, "ablations": ["base"]})[-1][1]
    assert len(plain["maps"]) == 4


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (None, "JSON object"),
        ({}, "Picture and mask"),
        ({"picture": "../../etc/passwd", "mask": "x", "prompt": "cat"}, "upload it again"),
        ({"picture": "P", "mask": "M"}, "prompt is empty"),
        ({"picture": "P", "mask": "M", "prompt": "cat", "steps": 10**9}, "at most 250"),
        ({"picture": "P", "mask": "M", "prompt": "cat", "seed": -1}, "at least 0"),
        ({"picture": "P", "mask": "M", "prompt": "cat", "model": "/etc"}, "not served here"),
        ({"picture": "P", "mask": "M", "prompt": "cat", "file": "/etc"}, "Unknown settings: file"),
        ({"picture": "P", "mask": "P", "prompt": "cat", "ablations": ["x"]}, "choose one of"),
        ({"picture": "P", "mask": "E", "prompt": "cat"}, "mask is empty"),
        ({"picture": "P", "mask": "S", "prompt": "cat"}, "same size"),
        ({"picture": "P", "mask": "M", "prompt": "ü" * 400}, "tokens"),
    ],
)
def test_a_mistake_is_a_sentence(client: TestClient, order: Any, words: str) -> None:
    one, mask = names(client)
    empty = client.post("/masks", content=encoded(Image.new("L", SIZE), "PNG")).json()["picture"]
    small = client.post("/masks", content=encoded(Image.new("L", (20, 20), 255), "PNG")).json()
    short = {"P": one, "M": mask, "E": empty, "S": small["picture"]}
    if isinstance(order, dict):
        order = {key: short.get(value, value) if isinstance(value, str) else value
                 for key, value in order.items()}  # fmt: skip
    kind, data = call(client, "paint", order)[-1]
    assert kind == "error"
    assert words in data["error"]
    assert data["error"].endswith(".")
    assert "\n" not in data["error"]


def test_hostile_files_are_refused_and_nothing_is_kept(
    client: TestClient, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = studio.store.bytes
    for name, data in hostile_files().items():
        for path in ("/pictures", "/masks"):
            answer = client.post(path, content=data)
            assert answer.status_code in (400, 413), name
            reason = answer.json()["error"] if answer.status_code == 400 else answer.text.strip()
            assert reason.endswith("."), name
    assert studio.store.bytes == kept
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_text_of_settings_takes_nothing_over(client: TestClient) -> None:
    for text in ("{", '{"prompt": 3}', '{"prompt": "x", "steps": 1e9}', "[" * 5000):
        info = PngInfo()
        info.add_itxt("profi", text)
        info.add_text("profi-mask", "no base64")
        answer = client.post("/pictures", content=encoded(picture(), "PNG", pnginfo=info)).json()
        assert "could not be taken over" in answer["note"]
        assert "mask" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/upload_progress",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/file=/etc/passwd",
        "/pictures/..%2F..%2Fetc%2Fpasswd",
        "/static-painter/..%2Fapp.py",
        "/examples/99",
        "/history/guess.zip",
        "/docs",
    ],
)
def test_no_way_leads_to_a_file(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "root:" not in answer.text


def test_gradios_own_upload_is_closed(client: TestClient) -> None:
    files = {"files": ("../../x.png", encoded(picture(), "PNG"))}
    assert client.post("/gradio_api/upload", files=files).status_code == 404


@pytest.mark.parametrize("path", ["process_recording", "undo-vibe", "component_server", "x"])
def test_nothing_can_be_sent_anywhere_else(client: TestClient, path: str) -> None:
    files = {"file": ("a.mp4", b"#EXTM3U")}
    assert client.post(f"/gradio_api/{path}", files=files).status_code == 404


def test_odd_hosts_and_origins_are_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "["}).status_code == 421
    answer = client.post("/masks", content=b"x", headers={"origin": "http://["})
    assert answer.status_code == 403


@pytest.mark.parametrize("number", ["8", "-1", "abc", "1e0"])
def test_examples_that_are_not_there(client: TestClient, number: str) -> None:
    for answer in (client.get(f"/examples/{number}"), client.post(f"/examples/{number}")):
        assert (answer.status_code, "error" in answer.json()) == (404, True)


def test_a_picture_with_impossible_settings_is_a_picture(client: TestClient) -> None:
    for settings in (
        '{"prompt": "a", "guidance_scale": 1' + "0" * 400 + "}",
        '{"prompt": "\\ud800"}',
    ):
        info = PngInfo()
        info.add_itxt("profi", settings)
        file = BytesIO()
        picture(*SIZE).save(file, "PNG", pnginfo=info)
        answer = client.post("/pictures", content=file.getvalue())
        assert answer.status_code == 200
        assert "could not be taken over" in answer.json()["note"]


def test_examples_are_scenes_with_a_mask_and_a_prompt(client: TestClient) -> None:
    listed = client.get("/examples").json()
    assert len(listed) == len({one["prompt"] for one in listed}) == 8
    taken = client.post("/examples/0", content=b"").json()
    mask = np.asarray(Image.open(BytesIO(client.get(f"/pictures/{taken['mask']}").content)))
    assert 0.05 < mask.mean() < 0.35
    assert mask.shape == (taken["height"], taken["width"])


@dataclass
class Watched(Studio):
    """Notes what its callers get, and when the last one is served or has gone."""

    seen: list[Any] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def paint(self, order: Order, cancel: threading.Event) -> Iterator[Any]:
        self.ended.clear()
        try:
            for event in super().paint(order, cancel):
                self.seen.append(event)
                yield event
        finally:
            self.ended.set()


@pytest.fixture
def watched(backbone: Backbone) -> Iterator[tuple[Watched, str]]:
    """A studio behind a real socket, and its URL."""
    studio = Watched(PictureStore())
    studio._loaded = "mini", Painter(backbone, long_side=48, pad_multiple=16, batch_size=2)
    port = free_port()
    app = painter_app(studio)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    while not answers(url):
        assert thread.is_alive()
    yield studio, url
    server.should_exit = True
    studio.close()
    thread.join()


def test_a_caller_that_goes_or_cancels_stops_its_painting(watched: tuple[Watched, str]) -> None:
    from gradio_client import Client

    studio, url = watched
    taken = httpx.post(f"{url}/examples/0", content=b"").json()
    order = {"picture": taken["picture"], "mask": taken["mask"], "prompt": "cup"}
    order |= {"steps": 250, "variants": 8}

    def goes() -> None:
        call = f"{url}/gradio_api/call/paint"
        event = httpx.post(call, json={"data": [order]}).json()["event_id"]
        with httpx.stream("GET", f"{call}/{event}", timeout=60) as stream:
            assert any("step" in line for line in stream.iter_lines())

    def cancels() -> None:
        job = Client(url, verbose=False).submit(order, api_name="/paint")
        assert any("step" in event for event in job)
        job.cancel()

    for stop in (goes, cancels):
        studio.seen.clear()
        stop()
        assert studio.ended.wait(120)
        assert any(isinstance(event, Progress) for event in studio.seen)
        assert not any(isinstance(event, Result) for event in studio.seen)
