"""Zip archives as torch and NumPy write them: checked against hostile ones, and mapped.

The directory is parsed by the standard library; where each entry's bytes lie, that no two
overlap, that names stay inside the archive, and every checksum is checked here.
"""

import dataclasses
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator

from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.formats.stored import BLOCK_BYTES, MappedFile
from truncated_weights.truncation.files import regular, room

MOST_ENTRIES = 100_000
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of an archive: where its bytes begin, how many, and their CRC-32."""

    file: MappedFile
    info: zipfile.ZipInfo
    offset: int

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.info.file_size

    @property
    def is_stored(self) -> bool:
        """Whether the content lies in the file as it is, uncompressed."""
        return self.info.compress_type == zipfile.ZIP_STORED

    def fail(self, what: str) -> CheckpointError:
        """The error that says what is wrong with this entry."""
        return self.file.fail(f"entry {self.info.filename[:200]!r}: {what}")

    def pieces(self) -> Iterator[bytes]:
        """The content in blocks, decompressed where needed; the last one checks the CRC.

        Raises CheckpointError if the content is damaged or longer than it claims.
        """
        checksum, total = 0, 0
        stored = self.file.pieces(self.offset, self.info.compress_size)
        for piece in stored if self.is_stored else self._inflate(stored):
            total += len(piece)
            if total > self.size:
                raise self.fail(f"unpacks to more than the {self.size} bytes it claims")
            checksum = zlib.crc32(piece, checksum)
            yield piece
        if total != self.size or checksum != self.info.CRC:
            raise self.fail("damaged: its checksum does not hold")

    def _inflate(self, stored: Iterator[bytes]) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for piece in stored:
                while piece:
                    yield inflater.decompress(piece, BLOCK_BYTES)
                    piece = inflater.unconsumed_tail
            yield inflater.flush()
        except zlib.error:
            raise self.fail("damaged: it cannot be decompressed") from None
        if not inflater.eof or inflater.unused_data:
            raise self.fail("damaged: its compressed data ends in the wrong place")

    def verify(self) -> None:
        """Read all of the content once; CheckpointError if its checksum does not hold."""
        for _ in self.pieces():
            pass

    def content(self, limit: int) -> bytes:
        """All of the content, verified; CheckpointError if it claims more than limit bytes."""
        if self.size > limit:
            raise self.fail(f"{self.size} bytes are more than the {limit} allowed")
        return b"".join(self.pieces())


def _locate(file: MappedFile, info: zipfile.ZipInfo) -> Entry:
    """The entry whose local header agrees with what the central directory says."""
    start = info.header_offset
    name = info.orig_filename
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise file.fail(f"entry {name[:200]!r}: compression {info.compress_type} is not supported")
    if info.flag_bits & 0x1:
        raise file.fail(f"entry {name[:200]!r}: encrypted")
    if not 0 <= start <= file.size - _LOCAL_HEADER.size:
        raise file.fail(f"entry {name[:200]!r}: lies outside the file")
    fields = _LOCAL_HEADER.unpack(file.memory[start : start + _LOCAL_HEADER.size])
    name_length, extra_length = fields[9], fields[10]
    name_start = start + _LOCAL_HEADER.size
    encoding = "utf-8" if fields[2] & 0x800 else "cp437"
    local_name = file.memory[name_start : name_start + name_length]
    if fields[0] != b"PK\x03\x04" or local_name != name.encode(encoding, "replace"):
        raise file.fail(f"entry {name[:200]!r}: damaged local header")
    if fields[3] != info.compress_type or fields[2] & 0x1:
        raise file.fail(f"entry {name[:200]!r}: its two headers disagree")
    entry = Entry(file, info, name_start + name_length + extra_length)
    if info.file_size < 0 or info.compress_size < 0:
        raise entry.fail("negative size")
    if entry.is_stored and info.file_size != info.compress_size:
        raise entry.fail("stored, yet its two sizes differ")
    if entry.offset + info.compress_size > file.size:
        raise entry.fail("runs past the end of the file")
    return entry


def open_entries(path: pathlib.Path) -> dict[str, Entry]:
    """The files of a zip archive by name; CheckpointError if the archive is not sound.

    Refused: absolute names, names with `..` or a backslash, names given twice, entries
    that overlap, encryption, compressions other than deflate, damaged headers, contents that
    unpack to more than there is memory for or to many times the archive.
    """
    file = MappedFile(path)
    try:
        with regular.opened(path) as opened, zipfile.ZipFile(opened) as archive:
            infos = archive.infolist()
    except Exception as error:  # zipfile lets many kinds escape on damaged input
        raise file.fail(f"not a readable zip archive ({error})") from None
    if len(infos) > MOST_ENTRIES:
        raise file.fail(f"{len(infos)} entries are more than {MOST_ENTRIES}")
    entries: dict[str, Entry] = {}
    for info in infos:
        name = info.orig_filename
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or ":" in name or {"", ".", ".."} & set(parts):
            raise file.fail(f"entry {name[:200]!r}: unsafe name")
        if name in entries:
            raise file.fail(f"entry {name[:200]!r} occurs twice")
        entries[name] = _locate(file, info)
    try:
        unpacked = sum(entry.size for entry in entries.values())
        room.require(unpacked, "unpacking it", stored=file.size)
    except room.TooLargeError as error:
        raise file.fail(str(error)) from None
    end = 0
    for entry in sorted(entries.values(), key=lambda entry: entry.info.header_offset):
        if entry.info.header_offset < end:
            raise entry.fail("overlaps another entry")
        end = entry.offset + entry.info.compress_size
    return entries
