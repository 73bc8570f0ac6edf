"""The answers of a bucket, and missing answers, to each kind of request: the resulting knowledge, and the messages."""

import socket
import time

import pytest
from bad_buckets import BUCKET, BadBucket, bad_bucket

from drtool.errors import (
    ObjectMissing,
    StoreError,
    TargetOffline,
    TargetReadOnly,
    TargetUnanswered,
)
from drtool.manifest.drive import Driver
from drtool.manifest.ports import Failed, PutIfAbsent, ReadTagged, Swap
from drtool.stores import s3_client
from drtool.stores.s3 import S3Store, s3_place


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")


@pytest.fixture
def bucket():
    with bad_bucket() as bucket:
        yield bucket


@pytest.fixture
def store(bucket):
    store = S3Store.open(s3_place(f"s3://{BUCKET}/there", endpoint=bucket.endpoint))
    yield store
    store.close()


def writes(store: S3Store):
    return (
        lambda: store.put("x", b"1"),
        lambda: store.put_if_absent("y", b"1"),
        lambda: store.compare_and_swap("z", b"1", None),
    )


@pytest.mark.parametrize("fault", ["does it and hangs up", "does it and says 500"])
def test_a_write_whose_answer_is_lost_is_not_known_to_have_failed(bucket: BadBucket, store, fault):
    bucket.fault = fault
    for write in writes(store):
        with pytest.raises(TargetUnanswered) as caught:
            write()
        assert caught.value.transient
    assert set(bucket.objects) == {"there/x", "there/y", "there/z"}
    assert len([key for method, key in bucket.asked if method == "PUT"]) == 3


def test_a_write_that_could_not_be_sent_is_known_to_have_failed(bucket, store):
    store.put("x", b"1")
    bucket.close()
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    gone = S3Store.unasked(s3_place(f"s3://{BUCKET}/there", endpoint=f"http://127.0.0.1:{port}"))
    for write in writes(gone):
        with pytest.raises(TargetOffline) as caught:
            write()
        assert type(caught.value) is TargetOffline
    gone.close()


def test_the_manifest_treats_only_unsent_requests_as_definite_failures(bucket, store):
    driver = Driver({"site": store}, local=None)
    bucket.fault = "does it and hangs up"
    for request in (PutIfAbsent("site", "v-1", b"1"), Swap("site", "v-2", b"1", None)):
        reply = driver.ask(request)
        assert isinstance(reply, Failed)
        assert not reply.definite
    bucket.close()
    gone = s3_place(f"s3://{BUCKET}/there", endpoint="http://127.0.0.1:9")
    driver = Driver({"site": S3Store.unasked(gone)}, local=None)
    assert driver.ask(PutIfAbsent("site", "v-1", b"1")).definite
    driver.sites["site"].close()


@pytest.mark.parametrize("fault", ["404 without a body", "404 of a proxy"])
def test_a_404_that_is_not_the_server_s_own_word_is_not_absence(bucket, store, fault):
    store.put("x", b"here")
    bucket.fault = fault
    for read in (lambda: store.get("x"), lambda: store.read_tagged("x"), lambda: store.get("x", 1, 2)):
        with pytest.raises(TargetOffline, match="is not an S3 server"):
            read()
    assert isinstance(Driver({"site": store}, local=None).ask(ReadTagged("site", "x")), Failed)
    assert store.stat("x") == 4  # by a listing
    with pytest.raises(ObjectMissing):
        store.stat("never-put")


def test_a_longer_name_beside_it_is_not_the_object(store):
    store.put("x0", b"12345")
    with pytest.raises(ObjectMissing):
        store.stat("x")
    with pytest.raises(ObjectMissing):
        store.get("x", 0, 0)


def test_an_occasional_503_is_reported_and_never_retried_by_the_client(bucket, store):
    bucket.fault = "503 every third request"
    failed = 0
    for n in range(9):
        try:
            store.put(f"o{n}", b"1")
        except TargetUnanswered:
            failed += 1
    assert failed == 3
    assert len(bucket.objects) == 6


def test_a_server_that_never_answers_is_abandoned_in_bounded_time(bucket, store, monkeypatch):
    monkeypatch.setattr(s3_client, "READ_TIMEOUT_S", 1)
    patient = S3Store.unasked(store.place)
    bucket.fault = "never answers"
    began = time.monotonic()
    with pytest.raises(TargetUnanswered):
        patient.put("x", b"1" * 100_000)
    with pytest.raises(TargetOffline):
        patient.get("x")
    assert time.monotonic() - began < 40
    patient.close()


def test_an_incomplete_body_is_not_an_object(bucket, store):
    store.put("x", b"whole" * 1000)
    bucket.fault = "closes in mid-body"
    for read in (lambda: store.get("x"), lambda: store.read_tagged("x"), lambda: store.get("x", 5, 2000)):
        with pytest.raises(TargetOffline):
            read()


@pytest.mark.parametrize(
    ("fault", "kind", "words", "hint"),
    [
        ("skewed clock", StoreError, "clock differs", "set the clock"),
        ("wrong region", StoreError, "another region", "eu-north-1"),
        ("in cold storage", StoreError, "in cold storage", "restore it from there first"),
    ],
)
def test_each_failure_gives_one_clear_sentence(bucket, store, fault, kind, words, hint):
    store.put("x", b"1")
    bucket.fault = fault
    with pytest.raises(StoreError, match=words) as caught:
        store.get("x")
    assert type(caught.value) is kind
    assert not caught.value.transient
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_read_only_credentials_are_reported_at_the_first_put(bucket, store):
    store.put("x", b"1")
    bucket.fault = "may not write"
    assert store.get("x") == b"1"
    for write in writes(store):
        with pytest.raises(TargetReadOnly, match="may not do that"):
            write()


def test_credentials_that_may_not_delete_keep_what_is_there(bucket, store):
    store.put("x", b"1")
    bucket.fault = "may not delete"
    with pytest.raises(TargetReadOnly):
        store.delete("x")
    assert store.get("x") == b"1"


def test_data_damaged_in_transit_is_refused(bucket, store):
    bucket.fault = "damages what arrives"
    for data in (b"packs", memoryview(bytearray(b"packs"))):
        with pytest.raises(TargetOffline, match="arrived damaged") as caught:
            store.put("x", data)
        assert type(caught.value) is TargetOffline  # refused, so it is known not to be stored
    assert bucket.objects == {}


def test_names_are_all_names_at_the_prefix(bucket, store):
    assert store.names() == []
    for name in ("packs/aa/aa01", "packs/bb/bb01", "index", "probe/x"):
        store.put(name, b"1")
    bucket.objects["there/Not An Object"] = b""
    bucket.put_at["there/Not An Object"] = 0.0
    bucket.objects["elsewhere"] = b""
    bucket.put_at["elsewhere"] = 0.0
    assert store.names() == ["Not An Object", "index", "packs", "probe"]
