"""Files that nobody vouches for: read whole if they are regular, told in one line if not."""

import os

import pytest

from truncated_weights.truncation.files import regular, room

pytestmark = pytest.mark.fault("C1")


def refused(path, complaint):
    with pytest.raises(OSError, match=complaint) as caught:
        regular.content(path)
    assert "\n" not in str(caught.value)
    return caught.value


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "fifo: not a regular file")
    refused("/dev/zero", "/dev/zero: not a regular file")
    refused(tmp_path, "Is a directory")
    refused(tmp_path / "absent", "No such file")
    refused("a\0b", "no file can have this name")
    refused(tmp_path / ("x" * 300), "too long")
    assert isinstance(refused("/dev/null", "not a regular"), ValueError)


def test_links_to_regular_files_are_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"1\r\n2")
    (tmp_path / "link").symlink_to("file")
    assert regular.content(tmp_path / "link") == b"1\r\n2"
    (tmp_path / "pipe").symlink_to("fifo")
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "pipe", "not a regular file")
    (tmp_path / "self").symlink_to("self")
    refused(tmp_path / "self", "Too many levels")


@pytest.mark.fault("C2")
def test_a_file_larger_than_the_memory_is_told_by_its_size(tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**40)
    refused(path, r"1,024\.0 GB are more than the 2\.0 GB that are read")
    os.truncate(path, 2**20)
    monkeypatch.setattr(room, "host", lambda: 2**19)
    refused(path, r"1\.0 MB are more than the 512\.0 kB")
    # The files of /proc claim no size.
    with pytest.raises(OSError, match="more than the 16 bytes"):
        regular.content("/proc/self/status", 16)


@pytest.mark.fault("C8")
def test_texts_are_utf8_without_a_mark(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb")
    assert regular.text(path) == "a\nb"
    path.write_bytes(b"a\nb\xff")
    with pytest.raises(ValueError, match=r"text, line 2: not UTF-8 text .invalid start byte"):
        regular.text(path)


def test_what_unpacks_beyond_measure_is_refused():
    room.require(2**20, "it", stored=10)
    with pytest.raises(room.TooLargeError, match=r"it would take 3\.0 GB, and 256\.0 MB are"):
        room.require(3 * 2**30, "it", stored=10)
    with pytest.raises(room.TooLargeError, match="it would take"):
        room.require(float("inf"), "it")
