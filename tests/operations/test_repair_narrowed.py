"""A restricted repair never removes a copy that the whole one would have replaced first."""

from drtool.model import SiteName, TargetName
from drtool.operations.repair.narrowing import narrowed
from drtool.repository.expected import Expected
from drtool.repository.reconciling import Job

A, B, C = (TargetName(f"{site}/main") for site in "abc")


def job(name="packs/aa/aa", write=(), bad=(), surplus=(), complete=True):
    expected = Expected(name, 10, (A, B), (A, B), False)
    return Job(expected, (C,), tuple(write), tuple(bad), tuple(surplus), complete)


def test_only_the_objects_that_are_named():
    jobs = [job("packs/aa/aa", write=(A,)), job("packs/bb/bb", write=(A,))]
    assert narrowed(jobs, frozenset({"packs/bb/bb"}), None) == [jobs[1]]
    assert narrowed(jobs, None, None) == jobs


def test_a_site_alone_takes_nothing_away_while_others_lack_their_copy():
    whole = job(write=(A,), surplus=(C,))
    assert narrowed([whole], None, SiteName("c")) == [job(complete=False)]
    assert narrowed([whole], None, SiteName("a")) == [job(write=(A,))]
    both = job(write=(A,), bad=(B,), surplus=(A,))
    assert narrowed([both], None, SiteName("a")) == [job(write=(A,), complete=False)]
    assert narrowed([job(surplus=(C,))], None, SiteName("c")) == [job(surplus=(C,))]
