"""The images below a folder, and a word on each kind of file there that is none."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from ..errors import InputError
from ..files import waits_for_ever
from .columns import some
from .image_decoding import READS_HEIC

HEIC_SUFFIXES = frozenset(".heic .heif .hif".split())
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
) | (HEIC_SUFFIXES if READS_HEIC else frozenset())
# Pillow opens many of them as the TIFF they are inside, and finds the thumbnail.
_RAW_SUFFIXES = frozenset(".arw .cr2 .cr3 .dng .nef .orf .pef .raf .raw .rw2 .srw".split())
_ANNOTATION_SUFFIXES = frozenset(".csv .json .jsonl .names .parquet .tsv .txt .xls .xlsx .xml .yaml .yml".split())
# What a file without a suffix may be. Not TIFF: camera raw files and microscopes' stacks begin like one.
_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
LEFT_OUT = "left out: "  # how a note begins that --advise repeats
_KINDS = 8  # named in a line


# Of file managers, and of whole disks, where nobody but the system may look into them.
_HIDDEN = frozenset(
    ["__MACOSX", "Thumbs.db", "desktop.ini", "lost+found", "System Volume Information", "$RECYCLE.BIN"]
)
# ... where they keep copies of images.
_THUMBNAILS = frozenset([".thumbnails", ".ipynb_checkpoints", ".AppleDouble", ".@__thumb", ".picasaoriginals"])


def is_hidden(name: str) -> bool:
    """Files and folders that file managers, notebooks and file systems leave behind."""
    return name.startswith(".") or name in _HIDDEN


def composed(text: str) -> str:
    """A name as it is compared: file systems differ in how they write accents, and so do two copies of a folder."""
    return unicodedata.normalize("NFC", text)


def _listing(folder: Path | str) -> tuple[list[str], list[str]]:
    """Names of the folders in a folder and of all else, each sorted; hidden ones do not count.

    Raises:
        InputError: it may not be looked into, or its disk does not answer: images would be missed in silence.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries if not is_hidden(entry.name))
    except OSError as error:
        mend = "give it read rights" if isinstance(error, PermissionError) else "look after its disk"
        place = error.filename or folder  # perhaps what a link in it leads to
        raise InputError(f"cannot list the folder {str(place)!r}: {error.strerror}; {mend} or move it away") from None
    return [name for name, is_folder in found if is_folder], [name for name, is_folder in found if not is_folder]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself, or to where nobody may look: an image there is met again when it is read.
        if error.errno == errno.ELOOP or os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
            return False
        raise


def walk(root: Path | str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder from ``root`` down with the names of its files, sorted; links are followed.

    Raises:
        InputError: a folder that cannot be listed, which ``os.walk`` and ``Path.rglob`` pass over.
    """
    seen, waiting = set(), [str(root)]
    while waiting:
        place = waiting.pop()
        if (real := os.path.realpath(place)) not in seen:  # a link back to a folder above would never end
            seen.add(real)
            folders, files = _listing(place)
            yield place, files
            waiting += [os.path.join(place, name) for name in reversed(folders)]


def subfolders(root: Path) -> list[Path]:
    return [root / name for name in _listing(root)[0]]


def _is_image(path: str) -> bool:
    """By its suffix; without one, by the first bytes (an image downloaded by its number, or by a hash)."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix:
        return suffix in IMAGE_SUFFIXES
    if waits_for_ever(path):
        return False
    try:
        with Image.open(path, formats=_BY_CONTENT):
            return True
    except Exception:  # Pillow's plugins raise many types
        return False


def image_files(folder: Path) -> list[str]:
    """Images directly in a folder, not in deeper ones."""
    return [name for name in _listing(folder)[1] if _is_image(os.path.join(folder, name))]


def holds_images(folder: Path) -> bool:
    """Whether an image lies in a folder, however deep."""
    return any(_is_image(os.path.join(place, name)) for place, names in walk(folder) for name in names)


def _shows_images(folder: Path) -> bool:
    if not folder.name.startswith(".") or folder.name in _THUMBNAILS or folder.name.startswith(".Trash"):
        return False
    try:
        return folder.is_dir() and bool(image_files(folder))
    except (InputError, OSError):  # of the system: nobody else may look into it
        return False


def hidden_with_images(folder: Path) -> list[str]:
    """A note on hidden folders with images (".NET") beside class folders, where there are any."""
    _listing(folder)  # refuses one that cannot be listed
    found = [entry.name for entry in sorted(folder.iterdir()) if _shows_images(entry)]
    note = f"{LEFT_OUT}hidden folders with images in {folder} ({some(found)}): rename those that are classes"
    return [note] if found else []


class FolderWalk:
    """Walks below ``root`` and remembers which files it left out.

    Attributes:
        root: all paths in :meth:`notes` are relative to it.
        left_out: paths of files that are no images we read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.abspath(root))
        self.left_out: list[str] = []
        self._loose: list[str] = []

    def images(self, folder: Path | None = None) -> list[str]:
        """Absolute paths of the images below a folder in sorted order; see :func:`walk`."""
        found = []
        for place, files in walk(os.path.abspath(folder or self.root)):
            found += self._sorted_out(place, files)
        return found

    def beside(self, folder: Path) -> None:
        """Leave out the images directly in a folder of which the subfolders count."""
        self._loose += self._sorted_out(os.path.abspath(folder), _listing(folder)[1])

    def has_read(self, paths: Iterable[Path]) -> None:
        """Files that are no images but were read: notes do not name them."""
        read = {os.path.abspath(path) for path in paths}
        self.left_out = [path for path in self.left_out if path not in read]

    def _sorted_out(self, place: str, names: Iterable[str]) -> list[str]:
        paths = [os.path.join(place, name) for name in names]
        images = [path for path in paths if _is_image(path)]
        self.left_out += sorted(set(paths) - set(images))
        return images

    def no_image(self, where: str) -> InputError:
        """The error for a place without any image."""
        seen = "".join(f"; {note}" for note in self.notes())
        known = " ".join(sorted(IMAGE_SUFFIXES))
        return InputError(f"no image in {where}: fill or remove it (known suffixes: {known}){seen}")

    def notes(self) -> list[str]:
        """What was left out, each kind once and with its count."""
        notes = []
        if self._loose:
            count, named = len(self._loose), self._some(self._loose)
            notes.append(f"{LEFT_OUT}{count} images beside class folders ({named}): move each into its class")
        kinds: dict[str, list[str]] = {}
        for path in self.left_out:
            kinds.setdefault(_kind(path), []).append(path)
        annotations = [path for kind in sorted(_ANNOTATION_SUFFIXES & kinds.keys()) for path in kinds.pop(kind)]
        if annotations:
            count, named = len(annotations), self._some(annotations)
            notes.append(f"{LEFT_OUT}{count} annotation files in {self.root}, which are not read ({named})")
        if kinds:
            often = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
            words = [
                f"{len(kinds[kind])} {_called(kind)} ({self._hint(kind, kinds[kind])})" for kind in often[:_KINDS]
            ]
            more = f" and {len(often) - _KINDS} kinds more" if len(often) > _KINDS else ""
            notes.append(f"{LEFT_OUT}no images that are read: {', '.join(words)}{more} in {self.root}")
        return notes

    def _hint(self, kind: str, paths: list[str]) -> str:
        if kind in HEIC_SUFFIXES:
            return "pip install pillow-heif reads them"
        if kind in _RAW_SUFFIXES:
            return "camera raw: export them as JPEG or PNG"
        return self._some(paths, 1)

    def _some(self, paths: list[str], limit: int = 2) -> str:
        return some((os.path.relpath(path, self.root) for path in paths), limit)


def _called(kind: str) -> str:
    return repr(kind)[1:-1] or "without a suffix"  # repr: bytes that are no UTF-8 cannot be printed


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].lower()
