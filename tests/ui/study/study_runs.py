"""Runs whose pictures show, by the colour in their hole, which method painted them."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import httpx
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.testclient import TestClient

from profi.harness.run_folder import RunFolder, open_run
from profi.store.generations import write_generations
from profi.types import Generation, RunSpec, Triplet
from profi.ui.study.folder import Study, StudyFolder
from profi.ui.study.votes import Votes

#: Method -> the colour that it paints everywhere; the inputs are grey.
COLOURS = {
    "base": (220, 30, 30),
    "painta_only": (30, 200, 30),
    "rasg_only": (40, 40, 220),
    "profi": (230, 200, 20),
}
METHODS = tuple(COLOURS)
GREY = 128
SIZE = 32
#: Whatever a participant must not read anywhere; a run's id comes on top.
SECRETS = (*METHODS, "painta", "rasg", "secret-model", "only PAIntA", "RASG & PAIntA")


def method_of(picture: bytes) -> str:
    """The method whose colour the middle of a picture has."""
    with Image.open(io.BytesIO(picture)) as image:
        pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    return next(name for name, colour in COLOURS.items() if colour == pixel)


def paint_runs(root: Path, n: int = 24, methods: tuple[str, ...] = METHODS) -> list[RunFolder]:
    """A run per method over `n` images of `root`/images."""
    images = root / "images"
    images.mkdir(parents=True)
    triplets = []
    for i in range(n):
        name = f"{i:03d}.png"
        Image.new("RGB", (SIZE, SIZE), (GREY,) * 3).save(images / name)
        hull = (8.0, 8.0, 24.0, 8.0, 24.0, 24.0, 8.0, 24.0)
        word = ("dog", "cat", "kite")[i % 3]
        triplets.append(Triplet(f"t{i}", i, i, 1, f"{word} {i}", name, SIZE, SIZE, hull))
    return [_run(root, method, triplets) for method in methods]


def _run(root: Path, method: str, triplets: list[Triplet]) -> RunFolder:
    pixels = {
        "method": {"name": method},
        "evaluation": {},
        "seed": 0,
        "manifest": f"m{len(triplets)}",
        "images": "i",
    }
    settings = {"model": {"id": "secret-model"}, "data": {"root": str(root / "images")}}
    run = open_run(root / "outputs", RunSpec(pixels), settings, triplets, "", "test")
    painted = Image.new("RGB", (SIZE, SIZE), COLOURS[method])
    info = PngInfo()
    info.add_text("profi", f"painted by {method}")
    buffer = io.BytesIO()
    painted.save(buffer, format="PNG", pnginfo=info)
    items = [Generation(t.triplet_id, 0, buffer.getvalue(), 1.0, float("nan")) for t in triplets]
    write_generations(run.generations, 0, items)
    return run


@dataclass
class Participant:
    """A browser without JavaScript's clicks: it reads pages and sends what the script would."""

    client: httpx.Client
    code: str
    number: int = 0

    def start(self) -> httpx.Response:
        return self.client.post(
            "/start", data={"code": self.code, "consent": "yes"}, follow_redirects=True
        )

    def page(self, step: int) -> httpx.Response:
        return self.client.get(f"/step/{step}")

    def form(self, step: int, **fields: list[str]) -> httpx.Response:
        """The page's form, sent without JavaScript."""
        page = page_name(self.page(step).text)
        return self.client.post(f"/step/{step}", data={"page": page, **fields})

    def methods(self, page: str) -> list[str]:
        """The methods at A, B, ... of a page, by the colours of their pictures."""
        names = re.findall(r"/picture/([0-9a-f]+\.png)", page)[1:]
        return [method_of(self.client.get(f"/picture/{name}").content) for name in names]

    def vote(self, step: int, question: str, places: list[int] | None, page: str) -> httpx.Response:
        """A click; `page` is the text of the page."""
        self.number += 1
        return self.client.post(
            f"/vote/{step}",
            json={
                "question": question,
                "chosen": places,
                "page": page_name(page),
                "number": self.number,
            },
        )


def page_name(page: str) -> str:
    """The name of a loaded page, by its text."""
    found = re.search(r'data-page="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


@dataclass
class Served:
    """A study and its application in this process."""

    folder: StudyFolder
    study: Study
    app: object

    def participant(self, place: int = 0, code: str | None = None) -> Participant:
        client = TestClient(self.app, base_url="http://127.0.0.1", follow_redirects=False)
        return Participant(client, self.study.codes[place] if code is None else code)

    def started(self, place: int = 0) -> Participant:
        one = self.participant(place)
        assert one.start().status_code == 200
        return one

    def votes(self) -> Votes:
        return Votes(self.folder, self.study)
