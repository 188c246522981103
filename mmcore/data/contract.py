"""The reading contract: what every kind of file and value becomes, on which evidence, and what is refused. Importing this module imports no torch.

:data:`CONTRACT` is the whole of it, as the page on reading shows it. What ``mmcore init`` decides it decides in ``mmcore.config.evidence`` and
``mmcore.config.labels``; what is read then is read by the modalities, by the options that ``init`` wrote or a person did.
"""

import re
from collections.abc import Sequence
from typing import Any

import attrs

from mmcore.options import Rule


@attrs.frozen
class Reading:
    """One line of the contract.

    Attributes:
        kind: of file or value.
        becomes: what it is read as.
        evidence: by which ``mmcore init`` decides so, over all values that it reads.
        says: the option that says so in a configuration.
        asked: when ``init`` asks instead, or what is refused.
    """

    kind: str
    becomes: str
    evidence: str = ""
    says: str = ""
    asked: str = ""


CONTRACT = (
    # Files.
    Reading(
        "image files", "their pixels", "the suffix, or how bytes without a name begin", "",
        "refused: a damaged or cut file, and formats that run other programs (EPS, PDF, WMF)",
    ),
    Reading(
        "a turn that the file only notes (EXIF)", "the picture upright, image and mask each by its own file", "the file; `init` says how many", "",
        "refused where image and mask are then of two sizes",
    ),
    Reading("several frames", "the first", "the file; `init` says how many", "", ""),
    Reading("arrays of any byte order, memory order and integer width", "their numbers", "the type", "", "refused: objects"),
    Reading("a table's first line that is a row", "nothing", "a file, numbers that do not count on, or a word that is a value below it too", '`header = ["image", "label"]`', "asked: the names of the columns"),
    Reading("a comment or a title above a table's names", "nothing", "it begins with #; or all other lines have another number of cells", "`header = true`", "refused"),
    Reading("a second line of names, of units, or of an index's name", "nothing", "words above numbers alone, and no other value", "`header = true`", "refused"),
    Reading("UTF-16, with or without its mark", "nothing", "how the file begins; zeros among its letters", "", "refused"),
    Reading("links that lead nowhere, files beside the data that nothing reads", "nothing", "`init` names them, with what would mend it", "", ""),
    Reading("folders of images in a folder called images", "classes, or images", "nothing tells it", "", "asked: `layout=classes`, `layout=modalities`"),
    Reading("folders that hold an image and a mask each", "nothing", "all hold files or folders of the same names, or of these behind the folder's own", "", "refused"),
    Reading("masks beside their images in one folder", "masks", "names that are another's with _mask, _gt, _seg … after it or before it; or with anything after it, if they have 32 colours at most and the others more than twice as many", "`suffixes`, `prefixes`", ""),
    Reading("masks among pictures", "nothing", "10 % of the pictures have 8 values or colours at most, and 10 % more than 16", '`plugin = "image"`', "asked"),
    Reading("folders of masks in one folder, each with the images' names", "a variable each", "the names", "`folders`", "asked"),
    Reading("numbered folders of images beside a table", "one variable", "no file of one is called as another's", "`folders`", ""),
    Reading("a table's names that meet no file", "rows of their own", "`init` says how many", "", "refused: numbers that are files' but for the zeros before them; fewer than half that meet. Left out: a table of few lines, none of which does"),
    Reading("a file that two lines of a table beside folders name", "its line, if both are the same", "`init` says how many", "", "refused: lines that differ"),
    Reading("a file that several rows name", "their picture", "`init` says how many; the rows are held out together", "`split.by`", ""),
    Reading("masks of another size than their images", "each resized by itself", "the ratio of the sides is the same", "`variables` of each `resize`", "asked: other ratios in all rows"),
    # Pictures or class maps.
    Reading(
        "a column of pixels", "class maps, or pictures",
        "words of its name (mask, seg, label, annotation, gt, map …; image, photo, scan …), bits, more than 64 values", "`plugin`",
        "asked: no telling name, and at most 64 different values or colours",
    ),
    # Class maps.
    Reading("maps of two values, such as 0 and 255", "two classes, the larger value class 1", "there are just two: were one void, one class would be left", "`values = [0, 255]`", "asked: -1 and 0; or 255 beside one other value than 0"),
    Reading("booleans, bits", "the classes 0 and 1", "the type", "", ""),
    Reading("maps of 0 … K", "classes by their numbers", "they begin at 0, and at least half of them occur", "`classes`", ""),
    Reading("numbers with gaps, or without 0", "classes in their order", "fewer than half occur, or 0 does not", "`values = [7, 11, 26]`", ""),
    Reading("250 … 255 or 65535 above the classes", "void", "the others are at most 4 apart, and it is four times further off; or a palette gives it Pascal VOC's border", "`void = 255`", "asked: they are not (0, 128, 255), or no map has both 1 and 255"),
    Reading("one number below 0", "void", "the others are at most 4 apart", "`void = -1`, `ignore = [-1]`", "asked: they are not, or there are several below 0"),
    Reading("class 0 that is no class", "a class", "nothing tells it", "`ignore = [0]`", ""),
    Reading("maps in JPEG, AVIF or lossy WebP", "two classes, 1 from 128 on", "95 % of the pixels are within 48 of 0 or 255", "the transform `threshold`", "asked: they are not"),
    Reading("soft edges", "two classes, 1 from 128 on", "90 % of the pixels are 0 or 255, and at least 8 values lie between", "the transform `threshold`", "asked: more than 256 values, or numbers with fractions"),
    Reading("blurred edges of two values", "two classes, parted halfway", "half of the values are hardly ever four in a square, and two values are", "the transform `threshold`", "asked: of more than two values, and of colours"),
    Reading("noise of JPEG in other files", "two classes, 1 from 128 on", "95 % of the pixels are within 48 of 0 or 255, and 8 values or more lie near each", "the transform `threshold`", ""),
    Reading("values close about a few others", "nothing", "two or more groups, of 3 values and more, with gaps of more than 8 between them", "`values`, `threshold`", "asked"),
    Reading("numbers of things, 1 … n in each map", "nothing", "each map has just these, up to four different n; or the name (instance, object, panoptic)", "`threshold`, `classes`", "asked"),
    Reading("colours of things", "nothing", "80 % of 8 colours or more are in one map alone", "`colours`", "asked"),
    Reading("one-hot maps in arrays", "nothing", "of the first or last axis just one is 1 everywhere", "", "left out, with the line that makes indices of them"),
    Reading("three equal channels", "one", "they are equal in every pixel", "", ""),
    Reading("colours", "classes, black first; Pascal VOC's in their order, its border void", "2 … 256 different ones", '`colours = ["#000000", "#800000"]`', "asked: one, more than 256, or a lossy format"),
    Reading("palettes", "classes by their indices", "all files number the colours alike, or there are more colours than indices", "`classes`, `values`", ""),
    Reading("palettes that differ", "classes by their colours", "files number the same few colours differently", "`colours`", ""),
    Reading("a map's alpha", "two classes, opaque is 1", "the colours below it are one only", '`channel = "alpha"`', "asked: there are colours too; refused by hand without `channel`, unless it is opaque"),
    Reading("a map of one value", "nothing", "", "`values`", "asked"),
    Reading("a value that no option names", "nothing", "", "", "refused, with the value and how many pixels have it"),
    # Pictures.
    Reading("bytes", "0 … 255 as -1 … 1", "the type", "", ""),
    Reading("whole numbers of more bits", "0 … 2ⁿ - 1 as -1 … 1", "the least of 8, 10, 12, 14 and 16 bits that hold all of them", "`limits = [0, 65535]`", "refused: numbers beyond the limits, unless `clip = true`"),
    Reading("floats in 0 … 1", "0 … 1 as -1 … 1", "all values", "`limits = [0, 1]` for those of TIFF", ""),
    Reading("floats in -1 … 1", "as they are", "some are below 0, none beyond 1", "`limits = [-1, 1]`", ""),
    Reading("floats that are whole numbers up to 255", "0 … 255 as -1 … 1", "all values", "`limits = [0, 255]`", ""),
    Reading("other numbers, such as Hounsfield units", "nothing", "", "`limits = [low, high]`", "asked; left out where no name says that they are pictures"),
    Reading("8 bits and more in one column", "nothing", "", "", "left out; refused by hand"),
    Reading("palettes, bits, CMYK", "their colours; bits are black and white", "the mode", "", ""),
    Reading("grey among colours", "three equal channels", "the modes; `init` says how many", "`channels`", ""),
    Reading("an alpha that is not opaque", "white where it is transparent", "`init` says how many", '`background = "#ffffff"`, or `channels = 4`', "refused by hand without `background`"),
    # Numbers and words.
    Reading("whole numbers 0 … K, all of which occur twice in the mean", "a label", "all values; or its name (label, class, species …)", "`classes`", "asked: up to 256 other numbers that repeat, without a telling name"),
    Reading("whole numbers with gaps, or from 1 on, by the name a label", "a label whose names are the numbers", "its name", "`names`", ""),
    Reading("numbers with fractions, or by the name an amount (age, price …)", "a scalar", "all values, its name", '`plugin = "scalar"`', "left out where that is not installed"),
    Reading("-1 beside classes 0 … K or 1 … K", "missing", "it is the only one below them", "`missing = [-1]`", "asked: -1, 0, 1; and where -1 repeats among amounts"),
    Reading("-1 and 1 alone", "a label of two classes", "there are just two: were -1 missing, one class would be left", "`names`", "asked: of an amount by its name"),
    Reading("-999, 99, 255, -100 and other nines beside numbers or classes", "nothing", "they repeat, and are further off than the others are apart, or the only ones below 0", "`missing = [-999]`", "asked"),
    Reading("an index of pandas, a fold", "nothing", "the name (Unnamed: 0, level_0, fold)", "", "left out"),
    Reading("train, val, test in a column", "the parts", "all its values are names of parts, train among them", "`split.by`, `split.values`", "asked: folders or files of parts say others"),
    Reading("such names beside other words or nothing, in a column called split, partition, subset …; two values in one called is_train, is_test …", "nothing", "its name", "`split.by`, `split.values`", "asked: `split=split`"),
    Reading("0, 1 and 2 in a column called split, partition, subset …", "nothing", "its name", "`split.by`, `split.values`", "asked: `partition=split`"),
    Reading("true and false", "a label of two classes", "the type", "`classes = 2`", ""),
    Reading("words that repeat", "a label", "at least twice each in the mean, or its name; `init` says where one looks like none (NA); an empty one is missing", "`names`", "other texts are left out"),
    Reading("numbers among words", "words", "one word in the column", "`names`", "refused: a word that is no name"),
    Reading("unknown, NA, #DIV/0! … among numbers", "missing", "all others are numbers; `init` says how many", "`texts = [\"age\"]` keeps them", "asked: another word among amounts, by the name or by fractions"),
    Reading("numbers with a decimal comma", "numbers", "nothing but the comma", '`decimal = ","`; dots part thousands then', "asked"),
    Reading("dots that may part thousands (1.234)", "nothing", "all dots of the column could, and semicolons part its cells", "`decimal`", "asked"),
    Reading("numbers in texts of JSON or Parquet", "nothing", "fractions, or a name of an amount", '`plugin = "scalar"`', "asked"),
    Reading("numbers with a unit, a currency, marks between thousands or how far they are off (45%, 1,234, (5), 1 ± 0.1)", "nothing", "all have the same around them, or one of a few units", "", "asked: classes, or left out; written plainly they are numbers"),
    Reading("days, times and durations", "nothing", "their writing", "", "left out"),
    Reading("rows of numbers in one text (YOLO's boxes, numpy's print, places on the earth)", "nothing", "their writing", "", "left out"),
    Reading("objects and lists between braces in one text (an annotator's shapes, a database's arrays)", "nothing", "their writing", "", "left out"),
    Reading("one word or number, or nothing", "nothing", "no row has another one", "", "left out"),
    Reading("words that differ in case, spaces or Unicode's form alone; yes, y, true and 1 in one column", "nothing", "their writing", "`names`", "asked"),
    Reading("several words in one cell, between bars, semicolons, commas or spaces (a;b, 16 0)", "nothing", "words that come again in other cells; between commas and slashes, that are cells of their own; between spaces, numbers", '`separator = ";"`', "asked: labels of which several may hold, or a class each"),
    Reading("words of a column called as a key (id, patient, file …)", "nothing", "its name; rows of one value are held out together", "`plugin`, `split.by`", "left out"),
    Reading("lists in JSON's or Python's writing", "lists", "the cell is one", "", ""),
    Reading("one number in an array", "that number", "the shape", "", ""),
    Reading("vectors of 0 and 1", "a label if each has just one 1, else labels of which several may hold", "all values; of floats just one 1 each, or the name of a label", "`multi`", "refused by hand: [0, 1], which may be indices too"),
    Reading("lists of words or indices, of several lengths", "labels of which several may hold", "the type", "`multi = true`", ""),
    Reading("vectors of floats, also (1, D)", "a vector", "the type; norm 1 where all have it", "`unit_norm`", "refused: NaN"),
)  # fmt: skip
"""All of it: files, class maps, pictures, numbers and words."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def rgb(colour: Any) -> Any:
    """A colour as three numbers of 0 … 255; what is none stays as it is, for :data:`COLOUR`.

    Args:
        colour: ``"#rrggbb"`` or three numbers.
    """
    if isinstance(colour, str) and _HEX.fullmatch(colour):
        return tuple(bytes.fromhex(colour[1:]))
    return tuple(colour) if isinstance(colour, Sequence) and not isinstance(colour, str) else colour


def hex_of(colour: Sequence[int]) -> str:
    """A colour as ``"#rrggbb"``."""
    return "#" + bytes(int(one) for one in colour).hex()


def _is_colour(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255 for one in value)
    )


COLOUR = Rule('a colour as "#rrggbb" or [red, green, blue]', _is_colour)


def native(array: Any) -> Any:
    """An array in this machine's byte order, and of a type that torch has: unsigned integers of 16 bits and more become signed ones that hold them."""
    import numpy as np

    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)
    return array
