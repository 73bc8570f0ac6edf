"""Trials of servers: one that breaks a promise of a register may not vote, with the reason; one that keeps them may."""

import pytest
from bad_buckets import BUCKET, BadBucket, bad_bucket

from drtool.stores import MemoryStore
from drtool.stores.probing import verdict_by_probe
from drtool.stores.s3 import S3Store, s3_place


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")


def store_at(bucket: BadBucket, mode="cas") -> S3Store:
    return S3Store.open(s3_place(f"s3://{BUCKET}/there", endpoint=bucket.endpoint, register_mode=mode))


@pytest.mark.parametrize("mode", ["cas", "chain"])
def test_an_honest_server_may_vote_and_nothing_is_left_there(mode):
    with bad_bucket() as bucket:
        store = store_at(bucket, mode)
        verdict = store.vote_verdict()
        assert verdict.can_vote, verdict.reason
        assert bucket.objects == {}
        touched = {key for method, key in bucket.asked if method in ("PUT", "DELETE")}
        assert all(key.startswith("there/probe/") for key in touched)
        store.close()


@pytest.mark.parametrize("mode", ["cas", "chain"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("ignores conditions", "it created an object that existed already"),
        ("checks, then races", "were told that they created the same object"),
        ("lists late", "a listing does not show what was just created"),
        ("forgets what it wrote", "it created an object that existed already"),
        ("may not write", "these credentials may not do that"),
        ("skewed clock", "clock"),
    ],
)
@pytest.mark.spread(7)
def test_a_server_that_breaks_a_promise_may_not_vote(mode, fault, reason):
    with bad_bucket() as bucket:
        store = store_at(bucket, mode)
        bucket.fault = fault
        verdict = store.vote_verdict()
        assert not verdict.can_vote
        assert reason in verdict.reason
        store.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("ignores If-Match", "although the token was outdated"),
        ("races for tokens", "were told that they replaced the same object"),
    ],
)
def test_a_server_that_is_careless_with_tokens_may_not_vote(fault, reason):
    with bad_bucket(fault) as bucket:
        store = store_at(bucket)
        verdict = store.vote_verdict()
        assert not verdict.can_vote
        assert reason in verdict.reason
        store.close()


def test_objects_that_cannot_be_deleted_stay_and_do_not_matter():
    with bad_bucket("may not delete") as bucket:
        store = store_at(bucket)
        assert store.vote_verdict().can_vote
        assert all(key.startswith("there/probe/") for key in bucket.objects)
        assert store.names() == ["probe"]
        store.close()


def test_a_store_in_memory_keeps_every_promise():
    for mode in ("cas", "chain"):
        store = MemoryStore(mode)
        assert verdict_by_probe(store, "memory").can_vote
        assert list(store.list()) == []
