"""MSCOCO 2017 and the published sample of val2017, downloaded when they are missing.

<cache>/coco2017/val2017/                      the images
<cache>/coco2017/instances_val2017.json        the annotations
<cache>/coco2017/mscoco_testset_10000.csv      the published sample
<cache>/coco2017/train2017/, instances_train2017.json, captions_train2017.json
                                               only for training SmartBrush
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from profi.data.archives import unpack_file, unpack_folder
from profi.download import Progress, Remote, download, only_one
from profi.types import UserError

log = logging.getLogger(__name__)

#: Opens the progress display of a download, given the file's name.
Meter = Callable[[str], AbstractContextManager[Progress]]
Split = Literal["val2017", "train2017"]
Kind = Literal["instances", "captions"]
#: The annotations that are used of each split.
KINDS: dict[Split, tuple[Kind, ...]] = {
    "val2017": ("instances",),
    "train2017": ("instances", "captions"),
}


@dataclass(frozen=True)
class Source:
    """The remote files, and the number of images that the sample's indices refer to."""

    images: Remote
    annotations: Remote
    sample: Remote
    train_images: Remote
    n_images: int


SOURCE = Source(
    Remote(
        "http://images.cocodataset.org/zips/val2017.zip",
        "md5",
        "442b8da7639aecaf257c1dceb8ba8c80",
        815_585_330,
    ),
    Remote(
        "http://images.cocodataset.org/annotations/annotations_trainval2017.zip",
        "md5",
        "f4bbac642086de4f52a3fdda2de5fa2c",
        252_907_541,
    ),
    Remote(
        "https://raw.githubusercontent.com/Picsart-AI-Research/HD-Painter/HEAD/__assets__/mscoco_testset_10000.csv",
        "sha256",
        "4f677e08932fc34755c590897bce939634ad5f769e9fda6bd93295c951f5fa31",
    ),
    # 19.3 GB. MSCOCO publishes no hash. Data sets built on it do, and all agree on this one.
    Remote(
        "http://images.cocodataset.org/zips/train2017.zip",
        "md5",
        "cced6f7f71b7629ddf16f17bbcfab6b2",
    ),
    n_images=5_000,
)


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/profi`, or `~/.cache/profi`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "profi"


def silent(_name: str) -> AbstractContextManager[Progress]:
    """A meter that shows nothing."""
    return nullcontext(lambda _done, _total: None)


@dataclass(frozen=True)
class Coco2017:
    """One split of MSCOCO 2017 in a cache folder; each file is downloaded on first use.

    Several processes may use the folder at once, also on several machines: one downloads, the
    others wait.
    """

    cache: Path
    source: Source
    split: Split = "val2017"

    @property
    def folder(self) -> Path:
        """The folder of all files."""
        return self.cache / "coco2017"

    @property
    def images(self) -> Path:
        """The images' folder; it may not exist yet."""
        return self.folder / self.split

    def fetched_images(self, meter: Meter = silent) -> Path:
        """The images' folder, downloaded if it is missing.

        Raises:
            UserError: the download failed, or the cache cannot be written.
        """
        remedy = f"unpack a copy of it elsewhere and set {self._key}root to its folder {self.split}"
        remote = self.source.images if self.split == "val2017" else self.source.train_images

        def unpack(archive: Path) -> None:
            unpack_folder(archive, self.split, self.images)

        return self._fetched(self.images, remote, remedy, meter, unpack)

    def fetched_annotations(self, meter: Meter = silent, kind: Kind = "instances") -> Path:
        """An annotation file such as `instances_val2017.json`; raises as `fetched_images`."""
        names = [f"{one}_{self.split}.json" for one in KINDS[self.split]]
        path = self.folder / f"{kind}_{self.split}.json"
        key = f"{self._key}annotations" if kind == "instances" else "image_captions"
        remedy = f"unpack a copy of it elsewhere and set {key} to its {path.name}"

        def unpack(archive: Path) -> None:
            # All files at once, because the archive is deleted afterwards.
            for name in names:
                if not (self.folder / name).exists():
                    unpack_file(archive, f"annotations/{name}", self.folder / name)

        return self._fetched(path, self.source.annotations, remedy, meter, unpack)

    @property
    def _key(self) -> str:
        """The prefix of the keys for a user's own copies: of settings, or of a script's options."""
        return "data." if self.split == "val2017" else ""

    def fetched_sample(self, meter: Meter = silent) -> Path:
        """The published sample's CSV file; raises as `fetched_images`."""
        path = self.folder / self.source.sample.name
        remedy = "set data.sample_path to a copy of it, or data.sample=seeded"
        return self._fetched(path, self.source.sample, remedy, meter)

    def _fetched(
        self,
        path: Path,
        remote: Remote,
        remedy: str,
        meter: Meter,
        unpack: Callable[[Path], None] | None = None,
    ) -> Path:
        """`path`; if it is missing, it is downloaded and, with `unpack`, unpacked first."""
        if path.exists():
            return path
        with self._writable(), only_one(self.folder / f".{path.name}.lock"):
            # Another job may have finished it meanwhile.
            if path.exists():
                return path
            target = path if unpack is None else self.folder / remote.name
            # The user may have put a copy there.
            if not target.is_file() or remote.digest_of(target) != remote.hexdigest:
                with meter(remote.name) as progress:
                    download(remote, target, remedy=remedy, progress=progress)
            if unpack is not None:
                log.info("unpacking %s", target)
                unpack(target)
                target.unlink(missing_ok=True)
        return path

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = " ".join(str(error.strerror or error).split())
            raise UserError(
                f"{error.filename or self.folder}: {reason}; free space, or set another folder "
                "with data.cache=..., or your own copy with data.root=..."
            ) from error


def read_sample(path: Path, remote: Remote) -> list[tuple[int, int]]:
    """The rows (image index, polygon annotation index) of the published sample.

    Raises:
        UserError: the file is missing, has another hash, or is not such a list.
    """
    try:
        found = remote.digest_of(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())[:160]}): "
            "set data.sample_path to the published list"
        ) from error
    if found != remote.hexdigest:
        raise UserError(
            f"{path} is not the published list ({remote.algorithm} {found[:16]}..., not "
            f"{remote.hexdigest[:16]}...): set data.sample_path to a copy of {remote.url}"
        )
    rows = csv.DictReader(text.splitlines())
    try:
        return [(int(row["image_idx"]), int(row["segment_idx"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: a row has no image_idx or no segment_idx ({error})") from error
