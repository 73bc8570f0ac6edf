"""A site that answers with other authentic bytes of the same repository must not be believed."""

import os

from command_shell import shell_in

SIZE_BYTES = 120_000  # less than any cut: one chunk, a pack of its own in each run


def data_packs(site):
    """Return the packs with the length of one incompressible chunk."""
    return [path for path in site.glob("packs/*/*") if path.stat().st_size > SIZE_BYTES]


def test_two_packs_of_equal_length_do_not_pass_for_one_another(tmp_path):
    shell = shell_in(tmp_path)
    site, home = tmp_path / "site", tmp_path / "home"
    home.mkdir()
    assert shell("init", "--target", f"only={site}").code == 0
    for name in ("one", "two"):
        (home / name).write_bytes(os.urandom(SIZE_BYTES))
        assert shell("backup", str(home)).code == 0
    first, second = data_packs(site)
    assert first.stat().st_size == second.stat().st_size
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)

    restored = shell("restore", "latest", "--to", str(tmp_path / "restored"))

    assert restored.code == 3, restored.err
    assert not [path for path in (tmp_path / "restored").rglob("*") if path.is_file()]
