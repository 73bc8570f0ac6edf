"""`dump`: one file of a snapshot as a stream of bytes, or a directory as a tar or zip archive."""

from drtool.operations.dumping.archives import Dumped, Place, dump_archive, dump_file, place_of

__all__ = ["Dumped", "Place", "dump_archive", "dump_file", "place_of"]
