"""A tar member as GNU tar writes it: times, ACLs, holes, and names of attributes."""

import io
import struct
import tarfile

import pytest

from drtool.operations.dumping.archives import within
from drtool.operations.dumping.tar_headers import acl_text, header_of, sparse
from drtool.trees import Entry, FileType


def entry(**fields):
    return Entry(**{"name": b"f", "type": FileType.FILE, "mode": 0o644, "uid": 0, "gid": 0, **fields})


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [(1_500_000_000, "1.500000000"), (-500_000_000, "-0.500000000"), (-(43_200 * 10**9) - 1, "-43200.000000001")],
)
def test_a_fraction_of_a_second_is_kept_before_and_after_1970(time_ns, text):
    assert header_of(b"f", entry(mtime_ns=time_ns)).info.pax_headers["mtime"] == text


def test_acls_are_text_that_tar_reads():
    rows = [(1, 6, 2**32 - 1), (2, 6, 1234), (4, 4, 2**32 - 1), (8, 4, 4321), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1)]
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    text = "user::rw-,user:1234:rw-,group::r--,group:4321:r--,mask::rwx,other::---"
    header = header_of(b"f", entry(xattrs=((b"system.posix_acl_access", value),)))
    assert (header.info.pax_headers, header.lost) == ({"SCHILY.acl.access": text}, [])


@pytest.mark.parametrize("value", [b"", b"\x02\0\0\0\1", struct.pack("<I", 3), struct.pack("<IHHI", 2, 99, 7, 0)])
def test_an_acl_that_is_none_is_reported_as_lost(value):
    assert acl_text(value) is None
    assert header_of(b"f", entry(xattrs=((b"system.posix_acl_default", value),))).lost == [
        "its attribute system.posix_acl_default is"
    ]


def test_attributes_keep_odd_names_or_are_reported():
    header = header_of(b"f", entry(xattrs=((b"user.a=b%", b"\xff\0"), (b"user.\xff", b"x"))))
    assert header.info.pax_headers == {"SCHILY.xattr.user.a%3Db%25": "\udcff\0"}
    assert header.lost == ["its attribute user.\udcff is"]


@pytest.mark.parametrize("holes", [((0, 5000),), ((100, 4000), (4500, 5500)), ((1, 1), (3, 1)), ((9999, 1),)])
def test_a_reader_puts_the_data_of_a_sparse_file_where_it_was(holes):
    whole = bytearray(b"x" * 10_000)
    for offset, length in holes:
        whole[offset : offset + length] = bytes(length)
    described = entry(size_bytes=len(whole), holes=holes, inode=7)
    header = sparse(header_of(b"dir/name", described), described)
    pieces = (bytes(whole[at : at + 777]) for at in range(0, len(whole), 777))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header.info, io.BytesIO(header.map + b"".join(within(pieces, header.ranges))))
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.size, member.issparse()) == ("dir/name", len(whole), True)
        assert archive.extractfile(member).read() == bytes(whole)


def test_flags_have_the_names_that_libarchive_reads_and_others_are_reported():
    header = header_of(b"f", entry(flags=0x10 | 0x40 | 0x20000000))
    assert header.info.pax_headers["SCHILY.fflags"] == "schg,nodump"
    assert header.lost == ["its flags 0x20000000 are"]
    assert header_of(b"f", entry()).info.pax_headers == {}
