"""The check that a head descends from the changes this host saw confirmed. It detects a rollback or a fork of a quorum.

The digest of every change is in the head (recent ones) or in a log page (older ones, 16 bytes of each).
"""

from collections.abc import Sequence

from drtool.errors import ObjectMissing
from drtool.manifest.head import Reference, digests_of
from drtool.manifest.library import Learned, Library
from drtool.manifest.pages import LOG_DIGEST_BYTES, Checkpoint, LogRow
from drtool.manifest.ports import Note, Talk
from drtool.manifest.witness import Witness
from drtool.model import SiteName

_GO_ON = (
    "bring back the sites with newer changes, or if they are lost for good, run `drtool manifest recover --from SITE"
    " --i-accept-lost-writes` to continue from the remaining history"
)
ANOTHER_PAST = f"nothing was changed: {_GO_ON}"
MADE_IN_ANOTHER_PAST = f"another run has made the change in that history: {_GO_ON}"


def given_up(witness: Witness, learned: Learned) -> str | None:
    """Return which confirmed changes of this host a forced recovery gave up, in a sentence, or None if there are none."""
    rows = [row for row in learned.state.recoveries if row.generation > witness.generation]
    if not rows or witness.sequence <= rows[0].base:
        return None
    first = rows[0]
    return (
        f"the manifest was recovered to generation {first.generation} by {first.host or 'somebody'} from"
        f" {', '.join(first.sites)}: changes {first.base + 1} to {witness.sequence}, which this host saw confirmed, were given up"
    )


def problem_of_descent(
    library: Library, sites: Sequence[SiteName], witness: Witness, learned: Learned, *, strict: bool = False
) -> Talk[str | None]:
    """Return None if the head descends from what `witness` saw, or otherwise the contradiction, in a sentence.

    `strict`: raise `ObjectMissing` if the log page with the answer is on no site, since a newer head may name another
    one.
    """
    head = learned.head
    if not witness.sequence or given_up(witness, learned):
        return None
    if head.sequence < witness.sequence:
        return (
            f"the manifest went back in time: it is at change {head.sequence}, and this host saw"
            f" change {witness.sequence} confirmed"
        )
    try:
        digest = yield from digest_at(library, sites, learned, witness.sequence)
    except ObjectMissing as error:  # lost history must not prevent backups
        if strict:
            raise
        yield Note(
            "warning", f"it is unknown whether the catalogue descends from change {witness.sequence}: {error.message}"
        )
        return None
    if witness.digest.startswith(digest):
        return None
    return f"the manifest's history differs from what this host saw: change {witness.sequence} is not the confirmed one"


def digest_at(library: Library, sites: Sequence[SiteName], learned: Learned, sequence: int) -> Talk[bytes]:
    """Return the digest after change `sequence`, whole or its first 16 bytes. Empty if the log does not hold it."""
    head = learned.head
    if sequence >= head.checkpoint_sequence:
        return digests_of(head)[sequence - head.checkpoint_sequence]
    found = log_page_of(learned.checkpoint, sequence)
    if found is None:
        return b""
    page, position = found
    pages = yield from library.log_pages(sites, [page])
    row: LogRow = pages[page.name].rows[position]
    return row.digest[:LOG_DIGEST_BYTES]


def log_page_of(checkpoint: Checkpoint | None, sequence: int) -> tuple[Reference, int] | None:
    """Return the log page that holds change `sequence`, and the row's position. Rows are numbered from 1 without holes."""
    position = sequence - 1
    for page in checkpoint.log_pages if checkpoint else ():
        if position < page.rows:
            return page.reference, position
        position -= page.rows
    return None
