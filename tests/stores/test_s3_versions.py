"""Buckets with versions, and buckets with locks: replaced and deleted objects at a real server."""

from datetime import UTC, datetime, timedelta

import pytest
import seaweed
from msgspec.structs import replace

from drtool.errors import ObjectMissing
from drtool.stores.s3 import S3Store


@pytest.fixture(params=["versions", "locks"])
def store(request, tmp_path):
    place = seaweed.shared().place(tmp_path)
    client = seaweed.shared().client()
    bucket = f"keeps-{request.param}"
    if bucket not in {row["Name"] for row in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=request.param == "locks")
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        if request.param == "locks":
            rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
            lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
            client.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=lock)
    client.close()
    store = S3Store.open(replace(place, bucket=bucket))
    yield store
    store.close()


def versions(store: S3Store) -> list[dict]:
    client = seaweed.shared().client()
    answer = client.list_object_versions(Bucket=store.place.bucket, Prefix=store.place.prefix)
    client.close()
    return answer.get("Versions", [])


def test_a_bucket_keeps_the_old_versions_of_replaced_and_deleted_objects(store):
    store.put("packs/aa/aa01", b"first")
    store.put("packs/aa/aa01", b"second")
    assert store.get("packs/aa/aa01") == b"second"
    store.delete("packs/aa/aa01")
    assert list(store.list()) == []
    with pytest.raises(ObjectMissing):
        store.get("packs/aa/aa01")
    with pytest.raises(ObjectMissing):
        store.stat("packs/aa/aa01")
    assert store.read_tagged("packs/aa/aa01") is None
    assert len(versions(store)) == 2


def test_a_deleted_object_can_be_created_again_once(store):
    assert store.put_if_absent("v-1", b"a") is True
    assert store.put_if_absent("v-1", b"b") is False
    store.delete("v-1")
    store.delete("v-1")
    assert store.put_if_absent("v-1", b"c") is True
    assert store.put_if_absent("v-1", b"d") is False
    assert store.get("v-1") == b"c"


def test_a_register_moves_on_and_old_tokens_stay_refused(store):
    first = store.compare_and_swap("register", b"1", None)
    second = store.compare_and_swap("register", b"2", first)
    assert second is not None
    assert store.compare_and_swap("register", b"3", first) is None
    assert store.compare_and_swap("register", b"3", None) is None
    found = store.read_tagged("register")
    assert (found.data, found.tag) == (b"2", second)


def test_a_put_object_is_really_locked(store):
    if store.place.bucket != "keeps-locks":
        pytest.skip("this bucket has none")
    store.put("packs/aa/aa01", b"kept")
    client = seaweed.shared().client()
    key = store.place.prefix + "packs/aa/aa01"
    until = client.head_object(Bucket=store.place.bucket, Key=key)["ObjectLockRetainUntilDate"]
    client.close()
    assert until > datetime.now(UTC) + timedelta(hours=20)
