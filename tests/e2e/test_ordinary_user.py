"""The tests of capture and restore once more, as an ordinary user.

Tests that need root skip themselves there and state why.
"""

import re
import sys

import pytest
from ordinary_user import CHECKOUT, UID, as_user, home

__all__ = ["home"]
FILES = {
    "capture": "tests/sources/test_filesystem_*.py tests/sources/test_absolute_patterns.py",
    "restore": "tests/operations/test_restore_*.py tests/operations/test_review_restore.py",
    "destination": "tests/operations/test_what_stands_there_survives.py tests/operations/test_times_of_other_file_systems.py"
    " tests/operations/test_dry_run_agrees.py tests/operations/test_symlinks_on_the_way.py"
    " tests/operations/test_names_that_become_one.py",
    "attributes": "tests/operations/test_acls_by_name.py tests/operations/test_attributes_that_cannot_be_read.py",
    "verify": "tests/operations/test_verify_restored.py tests/operations/test_review_links_at_the_destination.py",
    "commands": "tests/cli/test_named_items.py tests/cli/test_restore_and_backup_options.py tests/cli/test_dump_command.py",
    "backup": "tests/operations/test_backup_meaning.py tests/operations/test_backup_of_bad_disks.py"
    " tests/operations/test_files_written_while_read.py tests/operations/test_sockets.py",
}


@pytest.mark.thorough
@pytest.mark.parametrize("part", FILES)
def test_it_passes_as_an_ordinary_user_too(part, home):
    files = [
        str(path.relative_to(CHECKOUT)) for pattern in FILES[part].split() for path in sorted(CHECKOUT.glob(pattern))
    ]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = as_user([*words, "--basetemp", str(home / "own" / "tests"), *files], home)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= len(files)


def test_the_other_user_is_ordinary(home):
    asked = "import os; print(os.geteuid(), os.getgroups(), os.access('/etc/shadow', os.R_OK))"
    done = as_user([sys.executable, "-c", asked], home)
    assert (done.stdout, done.stderr) == (f"{UID} [] False\n", "")
