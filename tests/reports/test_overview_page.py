"""The report of a repository: problems come first, hostile text is escaped, and a browser shows it without errors."""

from html.parser import HTMLParser

import chromium
import pytest
from msgspec.structs import replace

from drtool.manifest.records import Coverage, RecordedRun, RunObjective
from drtool.reports.overview_page import Dot, Overview, overview_page
from drtool.reports.snapshot_chart import COLUMNS, ROWS, timeline

HOSTILE = "</title><script>alert('x')</script><img src=//evil onerror=x>&\"'\ud800\x07"
DAY_NS = 86_400 * 10**9
NOW_NS = 1_790_000_000 * 10**9


def source(name, **more):
    known = {
        "name": name, "host": "web1", "newest_snapshot": "ab" * 16, "age_seconds": 7200.0, "rpo_seconds": 93600.0,
        "met": True, "missed": [], "last_verified": "2026-09-01T22:30:00.000000000Z", "copies": 2, "snapshots": 5,
    }  # fmt: skip
    return known | more


def target(name, **more):
    known = {
        "name": name, "state": "active", "reachable": True, "reason": None, "objects": 1234, "bytes": 5 * 10**11,
        "free_bytes": 10**12,
    }  # fmt: skip
    return known | more


@pytest.fixture(scope="module")
def seen():
    status = {
        "healthy": False,
        "quorum": {"needed": 2, "reachable": 3},
        "sequence": 4321,
        "tentative": False,
        "problems": [f"target rome/nas is offline: {HOSTILE}", "source orders of web1: the newest snapshot is 3 d old"],
        "sites": [
            {"name": "paris", "votes": True, "reachable": True, "targets": [target("paris/nas"), target("paris/disk")]},
            {"name": "rome", "votes": True, "reachable": False,
             "targets": [target("rome/nas", reachable=False, reason=HOSTILE, free_bytes=None)]},
            {"name": "attic", "votes": True, "reachable": True, "targets": [target("attic/box", state="arbiter", bytes=0)]},
        ],
        "sources": [
            source("home"),
            source(HOSTILE, met=False, missed=[f"too old {HOSTILE}"], last_verified=None),
            source("never", newest_snapshot=None, age_seconds=None, copies=None, met=False, missed=["there is no snapshot"]),
            source("", host="laptop", met=None, rpo_seconds=None),
        ],
        "plans": [{"id": "drill", "met": False, "must_pass_every_seconds": 604800.0}],
    }  # fmt: skip
    shares = [("paris/nas", 0.52, 0.5), ("paris/disk", 0.2, 0.25), ("rome/nas", 0.28, 0.25)]
    ring = {
        "epoch": 7,
        "copies": 2,
        "targets": [
            {"name": name, "weight": 2, "state": "active", "share": share, "expected_share": wanted}
            for name, share, wanted in shares
        ],
    }
    dots = [Dot(source="home", host="web1", time_ns=NOW_NS - n * DAY_NS) for n in range(0, 120, 1)]
    dots += [Dot(source=HOSTILE, host="web1", time_ns=NOW_NS - n * 3 * DAY_NS) for n in range(1, 30)]
    dots += [Dot(source="", host="laptop", time_ns=NOW_NS - n * 11 * DAY_NS) for n in range(9)]
    runs = tuple(
        RecordedRun(
            f"r{n}", "drill" if n else HOSTILE, "d", "web1", "root", NOW_NS - n * DAY_NS, NOW_NS, verdict, 0, "x",
            (RunObjective("rto", 900.0, 412.5), RunObjective("rpo", 3600.0, None)),
        )
        for n, verdict in enumerate(("passed", "failed", "unproven", "missed", "passed"))
    )  # fmt: skip
    coverage = (
        Coverage("paris", "sample", 3, 2**62, 100, NOW_NS - DAY_NS),
        Coverage("paris", "full", 1, 0, 100, NOW_NS - 9 * DAY_NS),
        Coverage("rome", "full", 2, 0, 100, NOW_NS - 2 * DAY_NS, unsound=True),
    )
    return Overview(
        label=f"acme {HOSTILE}", repository="ab" * 16, now_ns=NOW_NS, version="1.0", host="web1", status=status, ring=ring,
        dots=tuple(dots), held=2, coverage=coverage, runs=runs,
    )  # fmt: skip


class Strict(HTMLParser):
    """A parser that requires closed elements, no active content, and nothing from elsewhere."""

    VOID = ("meta", "br", "hr")

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        assert not [key for key, _ in attrs if key.startswith("on") or key in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_nothing_hostile_gets_through(seen):
    parser = Strict()
    page = overview_page(seen)
    page.encode("utf-8")
    parser.feed(page)
    assert parser.open == []
    assert not parser.seen & {"script", "img", "link", "iframe", "object"}
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page


def test_problems_come_first_and_everything_is_shown(seen):
    page = overview_page(seen)
    assert page.index("2 things need attention") < page.index("Sources</h2>")
    for words in ("rome/nas", "there is no snapshot", "52.0 %", "50.0 % of this round read", "damage was found", "2 held",
                  "6 min 52 s of 15 min", "must pass every", "laptop"):  # fmt: skip
        assert words in page, words


def test_a_healthy_empty_repository(seen):
    status = seen.status | {"healthy": True, "problems": [], "sources": [], "plans": []}
    page = overview_page(replace(seen, status=status, dots=(), runs=(), coverage=()))
    for words in (
        "No problem is known",
        "No snapshots yet",
        "Nothing has been verified yet",
        "No plan has run yet",
    ):
        assert words in page


def test_the_drawing_is_bounded_and_says_what_it_leaves_out():
    dots = [Dot(source=f"s{n % 40:02}", host="h", time_ns=NOW_NS - n * DAY_NS // 50) for n in range(20_000)]
    drawn = str(timeline([*dots, Dot(source="s00", host="h", time_ns=NOW_NS * 2)], NOW_NS))
    assert drawn.count("<rect") <= ROWS * COLUMNS
    assert "24 sources with fewer snapshots are not drawn" in drawn


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.spread(2)
def test_a_browser_shows_it_without_complaint_and_it_fits(seen, tmp_path, width):
    page = tmp_path / "report.html"
    page.write_text(overview_page(seen))
    dom, complaints = chromium.opened(page, tmp_path / "profile", width)
    assert complaints == ""
    assert "Snapshots over time" in dom
    assert "<script" not in dom
    assert chromium.overflow_px(page, tmp_path / "profile", width) <= 0


def test_a_notice_is_shown_apart_and_leaves_the_page_well(seen):
    status = {**seen.status, "healthy": True, "problems": [], "notices": ["target attic/box is draining <b>"]}
    page = overview_page(replace(seen, status=status))
    assert "No problem is known" in page
    assert "target attic/box is draining &lt;b&gt;" in page
    assert "need attention" not in page


def test_a_target_that_refuses_writes_and_a_voter_that_cannot_vote_are_marked(seen):
    (first, *rest) = seen.status["sites"]
    first = {
        **first,
        "voter_problem": "read-only",
        "targets": [target("paris/nas", writable=False, reason="it is read-only")],
    }
    page = overview_page(replace(seen, status={**seen.status, "sites": [first, *rest]}))
    assert "refuses writes" in page
    assert "it is read-only" in page
    assert ">cannot<" in page
