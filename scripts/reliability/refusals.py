"""Commands that must end in one line before anything is made: no network, no such weights."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from reliability.commands import SMALL, Outcome, command
from reliability.files import UNET, copied, trap, wrong_shape
from reliability.lab import Lab, Row

#: A port of this machine that nobody listens on.
NOWHERE = "http://127.0.0.1:9"


def refused(lab: Lab, fault: str, how: str, shown: Outcome, good: bool = True) -> Row:
    """A line of a command that must end with one line before anything is made."""
    errors = [line for line in shown.unusual if "trying again" not in line]
    good = good and shown.code == 2 and len(errors) == 1
    return lab.row(fault, how, shown, f"nothing; refused after {shown.seconds:.0f} s", "", good)


def hub_is_down(lab: Lab) -> Iterator[Row]:
    """Hosts that refuse, and one that accepts and never answers."""
    home = {"HF_HUB_OFFLINE": "0", "HF_HOME": str(lab.new("hub"))}
    down = {**home, "HF_ENDPOINT": NOWHERE}
    out = lab.new("hub")
    model = ("stage=generate", "model=dreamshaper8", "model.device=cpu", f"out={out}")
    yield refused(lab, "the hub is down: model", "connection refused",
                  command(*model, environment=down))  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hung = {**home, "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        yield refused(lab, "the hub hangs: model", "the connection is taken, nothing is sent",
                      command(*model, environment=hung))  # fmt: skip
    clip = "metric.clip.path=openai/clip-vit-base-patch16"
    shown = command("stage=score", clip, f"out={lab.reference}", *SMALL, environment=down)
    yield refused(lab, "the hub is down: metric", "connection refused", shown)
    proxies = {"http_proxy": NOWHERE, "https_proxy": NOWHERE}
    cache = f"data.cache={lab.new('cache')}"
    shown = command("stage=generate", "data=coco2017", cache, f"out={out}", environment=proxies)
    yield refused(lab, "the data's host is down", "connection refused, tried three times", shown)


def wrong_weights(lab: Lab) -> Iterator[Row]:
    """Weights that do not fit their model, and pickles under the name of weights."""
    out, how = lab.new("weights"), "one tensor of a copy has another shape"
    model = copied("inpaint", lab.new("model").parent / "model")
    wrong_shape(model / UNET)
    shown = command("stage=generate", f"model.path={model}", f"out={out}", *SMALL)
    yield refused(lab, "wrong shapes in the UNet", how, shown)
    clip = copied("clip", lab.new("clip").parent / "clip")
    wrong_shape(clip / "model.safetensors")
    shown = command("stage=score", f"metric.clip.path={clip}", f"out={lab.reference}", *SMALL)
    yield refused(lab, "wrong shapes in a metric's model", how, shown)

    how, sprung = "a pickle that would make a file when it is loaded", lab.folder / "sprung"
    (model / UNET).unlink()
    trap((model / UNET).with_suffix(".bin"), sprung)
    shown = command("stage=generate", f"model.path={model}", f"out={out}", *SMALL)
    yield refused(lab, "a pickle as the UNet", how, shown, not sprung.exists())
    path = model / "head.pth"
    trap(path, sprung)
    shown = command("stage=score", f"metric.aesthetic.path={path}", f"out={lab.reference}", *SMALL)
    yield refused(lab, "a pickle as a metric's head", how, shown, not sprung.exists())
