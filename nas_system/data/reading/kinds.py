"""What a file is, by its first bytes and never by its name, and the CSV text that is in it."""

from __future__ import annotations

import codecs
import importlib
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from nas_system.errors import ConfigError

MOST_UNPACKED_BYTES = 2**31
"""What a compressed file may grow to: a few kilobytes can hold any number of zeros."""
SMALLEST_LIMIT = 2**20
MOST_TIMES = 200
"""Text of numbers packs to a twentieth; two hundred times its size is something made to fill a memory."""

FIRST_BYTES: tuple[tuple[bytes, str, str], ...] = (
    (b"PK\x03\x04", "a zip archive", "unpack it, and name the CSV file in it"),
    (b"PK\x05\x06", "an empty zip archive", "name a file with rows"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file (.xls), or one with a password", "save it as .xlsx or CSV"),
    (b"%PDF", "a PDF document", "export the table as CSV"),
    (b"BZh", "a bzip2 archive", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it with zstd -d"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it, and name the CSV file in it"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "write the series as CSV or Parquet"),
    (b"\x93NUMPY", "a NumPy array", "write it as CSV, with a column of time stamps"),
    (b"ARROW1", "a Feather file", "write the series as CSV or Parquet"),
    (b"\x80\x04\x95", "a Python pickle", "write the series as CSV or Parquet: a pickle may run any code"),
    (b"\x80\x05\x95", "a Python pickle", "write the series as CSV or Parquet: a pickle may run any code"),
    (b"\x89PNG", "a picture (PNG)", "bring the numbers behind it"),
    (b"{\\rtf", "a formatted document (RTF)", "save it as plain text"),
)
"""The beginning of a file, what it is, and what to do. Read ones (gzip, Parquet, xlsx) are not among them."""
GZIP, PARQUET, ZIP = b"\x1f\x8b", b"PAR1", b"PK\x03\x04"
WORKBOOK = b"xl/workbook.xml"
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
JSON = re.compile(rb"\s*(\{\s*[\"}]|\[\s*[\[{\"\d])")

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32 before UTF-16, whose mark it begins with."""


@dataclass(frozen=True)
class Text:
    """The text of a file, in UTF-8 without a byte-order mark."""

    content: bytes
    place: str = "line"
    """What a row is called where it stands: a line of a text, a row of a table."""
    said: tuple[str, ...] = ()
    """What the file turned out to be; nothing for plain text."""


def text_in(content: bytes, name: str) -> Text:
    """Return the CSV text that is in a file of any kind.

    Raises ConfigError naming what the file is where that is nothing to read, and the extra that reads it
    where that is not installed.
    """
    if content.startswith(GZIP):
        unpacked = _unpacked(content, name)
        if unpacked.startswith(GZIP):
            raise ConfigError(f"{name}: this is a gzip archive of a gzip archive; unpack it with gunzip")
        inner = text_in(unpacked, name)
        return Text(inner.content, inner.place, ("a gzip archive", *inner.said))
    if content.startswith(PARQUET):
        module = _reader("pyarrow.parquet", name, "a Parquet file")
        return _converted(content, name, "parquet", module, "a Parquet file")
    if content.startswith(ZIP) and WORKBOOK in content:
        module = _reader("openpyxl", name, "an Excel workbook (.xlsx)")
        return _converted(content, name, "workbook", module, "an Excel workbook")
    for first, what, advice in FIRST_BYTES:
        if content.startswith(first):
            raise ConfigError(f"{name}: this is {what}; {advice}")
    return _decoded(content, name)


def _converted(content: bytes, name: str, reader: str, module: ModuleType, what: str) -> Text:
    convert: Callable[[bytes, str, ModuleType], bytes] = importlib.import_module(
        f"nas_system.data.reading.{reader}"
    ).csv_in
    return Text(convert(content, name, module), "row", (what,))


def _reader(module: str, name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(
            f"{name}: this is {what}; to read it: pip install 'nas-agent[files]', or save it as CSV"
        ) from None


def most_unpacked(content: bytes) -> int:
    """Return how many bytes a compressed file may grow to."""
    return min(MOST_UNPACKED_BYTES, max(SMALLEST_LIMIT, MOST_TIMES * len(content)))


def _unpacked(content: bytes, name: str) -> bytes:
    """Return what is in a gzip archive, all its members one after the other."""
    most = most_unpacked(content)
    parts, size, rest = [], 0, content
    try:
        while rest.startswith(GZIP):
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            parts.append(member.decompress(rest, most - size + 1))
            size += len(parts[-1])
            if size > most:
                raise ConfigError(
                    f"{name}: this is a gzip archive that unpacks to more than {most // 2**20:,} MiB, "
                    f"{MOST_TIMES} times its size or more; unpack it with gunzip to see what it is"
                )
            if not member.eof:
                raise ConfigError(f"{name}: this is a gzip archive that is cut short; copy it again")
            rest = member.unused_data
    except zlib.error as error:
        raise ConfigError(f"{name}: this is a damaged gzip archive ({error}); copy it again") from None
    return b"".join(parts)


def _decoded(content: bytes, name: str) -> Text:
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _in_utf8(content[len(mark) :], encoding, name)
    encoding = _utf_16_without_mark(content[:512])
    if encoding is not None:
        return _in_utf8(content, encoding, name)
    if WEB_PAGE.match(content):
        raise ConfigError(f"{name}: this is a web page or XML; download the file itself, or export CSV")
    if JSON.match(content):
        raise ConfigError(f"{name}: this is JSON; write the series as CSV, a row for each time stamp")
    if b"\x00" in content[:4096]:
        raise ConfigError(f"{name}: this is a binary file of no known kind; write the series as CSV")
    return _in_utf8(content, "utf-8", name)


def _in_utf8(content: bytes, encoding: str, name: str) -> Text:
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count("\n".encode(encoding)) + 1
        spelled = encoding.removesuffix("-le").removesuffix("-be").upper()
        raise ConfigError(f"{name}, line {line}: not {spelled}; save the file as UTF-8") from None
    if encoding == "utf-8":
        return Text(content)
    return Text(text.encode(), said=(f"text in {encoding[:6].upper()}",))


def _utf_16_without_mark(start: bytes) -> str | None:
    """Guess by where the zeros are: every other byte of Western text in UTF-16 is one."""
    pairs = len(start) // 2
    even, odd = start[: 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if pairs and odd > 0.8 * pairs and not even:
        return "utf-16-le"
    return "utf-16-be" if pairs and even > 0.8 * pairs and not odd else None
