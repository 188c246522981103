"""Raw values that are still files or their bytes, and what they hold. Importing this module imports no torch."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmcore import files
from mmcore.errors import RequestError
from mmcore.files import Encoded
from mmcore.limits import FILE, PIXELS

_FORMATS = {
    "PNG": ".png .apng",
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "BMP": ".bmp .dib",
    "GIF": ".gif",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "JPEG2000": ".jp2 .j2k .jpx .jpf .jpc .j2c",
    "AVIF": ".avif",
    "TGA": ".tga",
    "PCX": ".pcx",
    "QOI": ".qoi",
    "SGI": ".sgi .bw .rgb .rgba",
    "ICO": ".ico",
    "DDS": ".dds",
}
"""Image formats that are opened, and the suffixes of their files. Those that run other programs (EPS, WMF) or hold no pixels are not among them."""
_COMMON = ("PNG", "JPEG", "BMP", "GIF", "PPM")
IMAGES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes.split())
_TURNED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where a file says how its picture is to be turned."""
_BEGINS = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"\x93NUMPY": ".npy",
}
"""How bytes without a name begin, and the suffix that they would have."""


def _opened(data: bytes) -> Any:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data), formats=_COMMON)
    except Image.UnidentifiedImageError:
        Image.init()
        return Image.open(io.BytesIO(data), formats=[name for name in _FORMATS if name in Image.OPEN])


def _image(data: bytes) -> Any:
    from PIL import Image, ImageOps

    if PIXELS.most > PIXELS.default:  # the user's own word, before which Pillow's would come
        Image.MAX_IMAGE_PIXELS = PIXELS.most
    try:
        image = _opened(data)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} {PIXELS.variable} raises the limit") from error
    if too_many := PIXELS.excess(image.width * image.height):
        raise ValueError(f"it has {too_many}")
    image.load()
    # A PNG's last chunk, without which Pillow takes what there is.
    if image.format == "PNG" and data.rfind(b"IEND", -4096) < 0:
        raise ValueError("the file ends before the image does")
    if _TURNED & image.info.keys() and (turn := image.getexif().get(0x0112, 1)) in range(2, 9):
        kind = image.format
        image = ImageOps.exif_transpose(image)
        image.format, image.info["turned"] = kind, turn
    if image.format == "WEBP":
        image.info["lossy"] = _is_lossy(data)
    return image


def _is_lossy(data: bytes) -> bool:
    """Whether a WebP file's first picture is of the lossy kind."""
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        # The frames of one that moves have chunks of their own.
        place += 24 if kind == b"ANMF" else 8 + size + size % 2
    return False


def as_stored(image: Any) -> Any:
    """A decoded picture as its file has it: not turned, where the file only notes how it is to be."""
    from PIL import Image

    turn = image.info.get("turned")
    if turn is None:
        return image
    way = Image.Transpose
    back = (
        way.FLIP_LEFT_RIGHT, way.ROTATE_180, way.FLIP_TOP_BOTTOM, way.TRANSPOSE, way.ROTATE_90, way.TRANSVERSE, way.ROTATE_270,
    )  # fmt: skip
    stored = image.transpose(back[turn - 2])
    stored.format = image.format
    return stored


def _array(data: bytes) -> Any:
    from mmcore.data.npy import from_npy

    if data[:2] == b"PK":
        raise ValueError("it is an archive of arrays")
    return from_npy(data)


def _text(data: bytes) -> str:
    return data.decode("utf-8").strip()


def _class(data: bytes) -> int | str:
    """A class's index, or its name."""
    text = _text(data)
    if not text:
        raise ValueError("it has no class in it")
    # Python's own takes 1_0 for 10, and digits of every script.
    return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else text


READERS: dict[str, tuple[str, Callable[[bytes], Any]]] = {
    **dict.fromkeys(IMAGES, ("an image", _image)),
    ".npy": ("a .npy array", _array),
    ".json": ("JSON", lambda data: json.loads(_text(data))),
    ".txt": ("text that is saved as UTF-8", _text),
    ".cls": ("a class index or name", _class),
}
"""What files of a suffix hold, and how it is made of their bytes. Other suffixes are left to the modality."""
VALUES = (*READERS, ".wav", ".flac", ".ogg", ".mp3")
"""The suffixes of files that hold one value: those that are read here, and some that are left to the modality."""


def decode(raw: Any) -> Any:
    """What a path or bytes of a known kind hold; anything else as it is.

    A picture is upright: a camera's turn, which its file only notes (EXIF), is done. Of an animation it is the first frame.

    Args:
        raw: a path, :class:`Encoded` bytes, the bytes of an image or array, or a table of ``bytes`` and ``path`` as Hugging Face has them.

    Raises:
        RequestError: no such file, or its contents are not what its suffix says.
    """
    if isinstance(raw, dict | bytes):
        raw = _encoded(raw)
    if not isinstance(raw, Path | Encoded):
        return raw
    suffix = raw.suffix.lower()
    if suffix not in READERS:
        if isinstance(raw, Path) and not raw.exists():
            raise RequestError(f"found no file {raw}, expected one")
        return raw if isinstance(raw, Path) else raw.data
    return _held(raw, *READERS[suffix])


def _encoded(raw: Any) -> Any:
    """Bytes that begin as an image or array does, with a suffix; anything else as it is."""
    if isinstance(raw, dict):
        if not {"bytes"} <= raw.keys() <= {"bytes", "path"}:
            return raw
        data, path = raw["bytes"], raw.get("path")
        if data is None:
            return Path(path) if isinstance(path, str) else None
        suffix = Path(path).suffix if isinstance(path, str) else ""
        return Encoded(data, suffix) if isinstance(data, bytes) and suffix else _encoded(data)
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return Encoded(raw, ".webp")
    if raw[:2] == b"BM" and len(raw) > 26 and int.from_bytes(raw[2:6], "little") == len(raw):
        return Encoded(raw, ".bmp")
    return next((Encoded(raw, suffix) for begin, suffix in _BEGINS.items() if raw.startswith(begin)), raw)


def picture(path: str | Path) -> Any:
    """The PIL image in a file, whatever its suffix.

    Raises:
        RequestError: no such file, or no whole image in it.
    """
    return _held(Path(path), "an image", _image)


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of a picture, of which no pixel is unpacked.

    Raises:
        RequestError: no image format that is known.
    """
    try:
        return _opened(data).size
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise RequestError(f"found {len(data)} bytes unreadable ({_brief(error)}), expected an image") from error


def _held(raw: "Path | Encoded", expected: str, read: Callable[[bytes], Any]) -> Any:
    try:
        if isinstance(raw, Encoded):
            return read(raw.data)
        return read(files.read(raw, FILE))
    except FileNotFoundError:
        raise RequestError(f"found no file {raw}, expected {expected}") from None
    # Damaged files make Pillow and numpy raise nearly anything.
    except Exception as error:
        what = str(raw) if isinstance(raw, Path) else f"{len(raw.data)} bytes"
        raise RequestError(f"found {what} unreadable ({_brief(error)}{_begun(raw)}), expected {expected}") from error


def _begun(raw: Any) -> str:
    """What a file of a wrong suffix likely is, by how it begins."""
    try:
        begin = raw.data[:64] if isinstance(raw, Encoded) else files.read(raw, FILE)[:64]
    except Exception:  # told already
        return ""
    if not begin:
        return "; it is empty"
    if begin[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "; it is HEIC: make it JPEG or PNG"
    if begin.lstrip()[:5].lower() in (b"<html", b"<!doc", b"<?xml"):
        return "; it is a page of the web, not a picture"
    if begin.startswith(b"version https://git-lfs"):
        return "; it only tells where Git LFS has the file: git lfs pull fetches it"
    return ""


def _brief(error: Exception) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "no image format that is known"  # Pillow's own text names an object in memory
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def content(raw: Any) -> bytes:
    """Bytes that two raw values share just if they are equal: a file's own, or an array's with its shape.

    Raises:
        RequestError: a file that cannot be read, or a value of another kind.
    """
    import numpy as np

    if isinstance(raw, Encoded):
        return raw.data
    if isinstance(raw, Path):
        try:
            return files.read(raw, FILE)
        except OSError as error:
            raise RequestError(f"found {error}, expected a file") from error
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, str):
        return b"text\0" + raw.encode()
    if hasattr(raw, "__array__"):
        array = np.ascontiguousarray(raw)
        return f"{array.dtype}{array.shape}\0".encode() + array.tobytes()
    raise RequestError(f"found {type(raw).__name__}, expected a text, an image, an array or a file")
