"""Two trees side by side: every difference once, nothing read that is the same."""

from hypothesis import given
from hypothesis import strategies as st
from test_tree_pages import Chunks, directory, file

from drtool.trees import Entry, FileType, write_directory
from drtool.trees.compare import Change, changed, clashes, compare

NAMES = st.sampled_from([b"a", b"a-b", b"a.b", b"b", b"ab", b"\xff"])
LEAVES = st.tuples(st.integers(0, 2), st.integers(0, 1))
"""(content, time): a file."""
TREES = st.recursive(st.dictionaries(NAMES, LEAVES), lambda tree: st.dictionaries(NAMES, LEAVES | tree), max_leaves=12)


def stored(tree, chunks):
    entries = []
    for name, value in sorted(tree.items()):
        if isinstance(value, dict):
            entries.append(directory(name, stored(value, chunks)))
        else:
            content, time_ns = value
            entries.append(file(name, content=bytes([content]) * 32, mtime_ns=time_ns))
    return write_directory(entries, chunks.put)


def flat(tree, above=b"/"):
    for name, value in tree.items():
        yield above + name, None if isinstance(value, dict) else value
        if isinstance(value, dict):
            yield from flat(value, above + name + b"/")


def expected(before, after):
    old, new = dict(flat(before)), dict(flat(after))
    for path in old.keys() | new.keys():
        if path not in new:
            yield path, Change.REMOVED
        elif path not in old:
            yield path, Change.ADDED
        elif (old[path] is None) != (new[path] is None):
            yield path, Change.REMOVED
            yield path, Change.ADDED
        elif old[path] != new[path]:
            yield path, Change.CHANGED if old[path][0] != new[path][0] else Change.METADATA


@given(TREES, TREES)
def test_every_difference_is_reported_once(before, after):
    chunks = Chunks()
    found = [
        (row.path, row.change) for row in compare(stored(before, chunks), stored(after, chunks), b"/", chunks.fetch)
    ]
    assert sorted(found) == sorted(expected(before, after))


@given(TREES, TREES)
def test_two_trees_clash_where_both_have_a_name_and_not_the_same_content(one, other):
    chunks = Chunks()
    old, new = dict(flat(one)), dict(flat(other))
    expected = {
        path
        for path in old.keys() & new.keys()
        if (old[path] is None) != (new[path] is None) or (old[path] or (0,))[0] != (new[path] or (0,))[0]
    }
    assert set(clashes(stored(one, chunks), stored(other, chunks), chunks.fetch)) == expected


def test_identical_subtrees_are_not_read():
    chunks = Chunks()
    same = {b"%04d" % number: (1, 1) for number in range(1000)}
    before = stored({b"same": same, b"other": {b"x": (0, 0)}}, chunks)
    after = stored({b"same": same, b"other": {b"x": (1, 0)}}, chunks)
    chunks.fetched = 0
    (row,) = compare(before, after, b"/", chunks.fetch)
    assert (row.path, row.change) == (b"/other/x", Change.CHANGED)
    assert chunks.fetched == 4
    chunks.fetched = 0
    assert list(compare(after, after, b"/", chunks.fetch)) == []
    assert chunks.fetched == 0


def test_a_link_that_points_elsewhere_and_a_file_in_its_place_are_changes():
    def link(target):
        return Entry(name=b"l", type=FileType.SYMLINK, mode=0o777, uid=0, gid=0, link_target=target)

    assert changed(link(b"a"), link(b"b")) == Change.CHANGED
    assert changed(link(b"a"), file(b"l")) == Change.CHANGED
    assert changed(link(b"a"), link(b"a")) is None
    assert changed(directory(b"d", b"1" * 32), directory(b"d", b"2" * 32)) is None
