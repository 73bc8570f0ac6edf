"""A plan's run as JUnit XML: each step is a case, a failed step a failure, an unproven one an error.

Invariants
    A step that never ran is skipped, never passed. A run that died has an error of its own.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from drtool.escaping import printable_lines
from drtool.reports.plan_story import Story, Work

_FAILED = ("failed", "aborted")
_SKIPPED = ("skipped", "blocked", "simulated")


def junit(story: Story, problem: str = "") -> str:
    """Return one test suite. `problem` is why the journal is not valid evidence."""
    suite = Element(
        "testsuite", name=_clean(story.run.plan), timestamp=story.run.at[:19], hostname=_clean(story.run.host)
    )
    properties = SubElement(suite, "properties")
    for name, value in _properties(story):
        SubElement(properties, "property", name=name, value=_clean(value))
    for work in story.works:
        _case(suite, story, work)
    for goal in story.goals:
        if goal.target is not None:
            case = SubElement(
                suite, "testcase", classname=_clean(story.run.plan), name=f"objective {goal.name}", time="0"
            )
            if goal.measured is None:
                SubElement(case, "error", message="it was not measured", type="unproven")
            elif goal.met is False:
                message = f"{goal.measured} s, more than the objective of {goal.target} s"
                SubElement(case, "failure", message=message, type="missed")
    if problem:
        case = SubElement(suite, "testcase", classname=_clean(story.run.plan), name="the journal", time="0")
        SubElement(case, "error", message=_clean(problem), type="damaged")
    if story.ended is None:
        case = SubElement(suite, "testcase", classname=_clean(story.run.plan), name="the run itself", time="0")
        SubElement(case, "error", message="it is unfinished", type="unfinished")
    cases = suite.findall("testcase")
    for name, kind in (("tests", ""), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(len(cases) if not kind else sum(case.find(kind) is not None for case in cases)))
    suite.set("time", f"{story.wall_s:.3f}")
    indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def _properties(story: Story) -> list[tuple[str, str]]:
    run = story.run
    return [
        ("run_id", run.run),
        ("verdict", story.verdict),
        ("plan_digest", run.digest),
        ("journal_digest", story.digest),
        ("version", run.version),
        ("user", run.user),
    ]


def _case(suite: Element, story: Story, work: Work) -> None:
    case = SubElement(
        suite, "testcase", classname=_clean(story.run.plan), name=_clean(work.key), time=f"{work.seconds:.3f}"
    )
    detail = _clean(work.detail)
    if work.status in _FAILED:
        SubElement(case, "failure", message=detail, type=work.status)
    elif work.status in ("unproven", ""):
        SubElement(case, "error", message=detail or "its end is unknown", type=work.status or "unknown")
    elif work.status in _SKIPPED:
        SubElement(case, "skipped", message=detail or work.status)
    elif detail:
        SubElement(case, "system-out").text = detail


def _clean(text: str) -> str:
    """Escape characters that XML does not have, and those that change the text direction."""
    return printable_lines(text)
