"""Things that are wrong on the disk: damaged parts, images and weights, and a disk that is full."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file

from profi.settings import shipped_path

UNET = Path("unet", "diffusion_pytorch_model.safetensors")


def cut_short(path: Path) -> None:
    """Take a third of a file away, at its end."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_value(path: Path) -> None:
    """Change the last bit of the first score that a part holds."""
    content = bytearray(path.read_bytes())
    value = struct.pack("<d", pq.read_table(path)["value"][0].as_py())
    content[content.index(value)] ^= 1
    path.write_bytes(content)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of its own and of that size; CalledProcessError where none may be mounted."""
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    subprocess.run(["mount", *options], capture_output=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def enlarge(folder: Path, size: str) -> None:
    """Room on a `small_disk`."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


def copied(shipped: str, folder: Path) -> Path:
    """A copy of a folder of the embedded world."""
    shutil.copytree(shipped_path(f"shipped:cpu/{shipped}"), folder)
    return folder


def wrong_shape(weights: Path) -> None:
    """Give one tensor of a safetensors file another shape."""
    tensors = load_file(weights)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name] = torch.zeros(len(tensors[name]) + 1, tensors[name].shape[1])
    save_file(tensors, weights, metadata={"format": "pt"})


class _Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self._path), "w"))


def trap(path: Path, sprung: Path) -> None:
    """What `torch.save` writes, and makes the file `sprung` where it is loaded as a pickle."""
    torch.save({"weight": _Touch(sprung)}, path)
