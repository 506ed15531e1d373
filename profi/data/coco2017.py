"""MSCOCO 2017 and the published sample of val2017, downloaded when they are missing.

<cache>/coco2017/val2017/                      the images
<cache>/coco2017/instances_val2017.json        the annotations
<cache>/coco2017/mscoco_testset_10000.csv      the published sample
<cache>/coco2017/train2017/, instances_train2017.json, captions_train2017.json
                                               only for training SmartBrush

A zip file is unpacked whole or not at all.
"""

from __future__ import annotations

import csv
import logging
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from profi.atomic import whole_file
from profi.download import Progress, Remote, download, only_one
from profi.types import UserError

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def unpack_folder(archive: Path, member: str, target: Path) -> None:
    """Unpack one folder of a zip as the folder `target`, which appears only when it is whole.

    The files are unpacked into a temporary folder, which is then renamed. If another job was
    faster, its folder is kept. Half-unpacked folders of killed jobs are removed, so only one job
    may unpack at a time (see `only_one`).

    Args:
        archive: a zip file.
        member: the folder in the archive; it has no subfolders.
        target: the folder on this machine.

    Raises:
        UserError: the archive is damaged, has no such folder, or has a file with an unsafe path.
        OSError: the disk failed.
    """
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        with _opened(archive) as content:
            files = [item for item in content.infolist() if not item.is_dir()]
            members = [item for item in files if item.filename.startswith(f"{member}/")]
            if not members:
                raise UserError(f"{archive} has no folder {member}: download it again")
            for item in members:
                path = PurePosixPath(item.filename)
                if path.parent != PurePosixPath(member) or path.name == ".." or "\\" in path.name:
                    raise UserError(
                        f"{archive}: {item.filename!r} is not directly in {member}; "
                        "download it again"
                    )
                with content.open(item) as source, (temporary / path.name).open("xb") as file:
                    shutil.copyfileobj(source, file)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack_file(archive: Path, member: str, target: Path) -> None:
    """Unpack one file of a zip as `target`, which appears only when it is whole.

    Raises:
        UserError: the archive is damaged or has no such file.
        OSError: the disk failed.
    """
    try:
        with (
            _opened(archive) as content,
            content.open(member) as source,
            whole_file(target) as file,
        ):
            shutil.copyfileobj(source, file)
    except KeyError as error:
        raise UserError(f"{archive} has no file {member}: download it again") from error
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


def _damaged(archive: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return UserError(f"{archive} is damaged ({reason}): download it again")


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
