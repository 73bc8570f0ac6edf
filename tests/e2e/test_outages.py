"""An outage of the only server, begun at each kind of request: every command waits and ends with the right result."""

import pytest
from bad_buckets import BadBucket
from outage_world import KINDS, prepared, s3_shell
from three_sites import portrait

OUTAGE_S = 4.0
"""Longer than the tries of a single request last."""


@pytest.fixture
def servers():
    buckets = [BadBucket(), BadBucket()]
    yield buckets
    for bucket in buckets:
        bucket.close()


@pytest.fixture
def shell(tmp_path):
    return s3_shell(tmp_path)


@pytest.mark.thorough
@pytest.mark.parametrize(("verb", "method", "part"), [(verb, *kind) for verb, kinds in KINDS.items() for kind in kinds])
def test_an_outage_at_any_request_is_waited_out(verb, method, part, tmp_path, shell, servers):
    words, server = prepared(verb, tmp_path, shell, servers)
    server.outage = (method, part, OUTAGE_S)
    done = shell(*words)
    assert done.code == 0, done.out + done.err
    assert "Traceback" not in done.err
    if verb == "restore":
        assert portrait(tmp_path / "out") == portrait(tmp_path / "source")
    elif verb != "status":
        assert shell("verify", "--level", "full").code == 0
