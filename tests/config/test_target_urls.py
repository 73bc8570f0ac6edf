"""Target URLs as users write them, and their meaning."""

from pathlib import Path

import pytest

from drtool.config import load_config
from drtool.config.urls import NO_ACCESS, Access, read_url, told_with
from drtool.errors import ConfigError

HERE = Path("/etc/drtool")


@pytest.mark.parametrize(
    ("text", "url", "access"),
    [
        ("s3://acme-dr/drtool", "s3://acme-dr/drtool", NO_ACCESS),
        ("s3://acme-dr", "s3://acme-dr", NO_ACCESS),
        ("s3://acme-dr//a/b/", "s3://acme-dr/a/b", NO_ACCESS),
        (
            "s3://acme/d?region=eu&endpoint=https://s3.example.org/&profile=backup",
            "s3://acme/d?endpoint=https://s3.example.org&region=eu",
            Access(profile="backup"),
        ),
        ("sftp://backup@attic:2222/srv/drtool/", "sftp://backup@attic:2222/srv/drtool", NO_ACCESS),
        (
            "sftp://attic/srv?identity_file=id&known_hosts=/k",
            "sftp://attic/srv",
            Access(identity_file="/etc/drtool/id", known_hosts="/k"),
        ),
        ("sftp://[::1]:22/srv", "sftp://[::1]:22/srv", NO_ACCESS),
    ],
)
def test_location_and_access_are_separated(text, url, access):
    assert read_url(text, HERE) == (url, access)
    assert read_url(told_with(url, access), HERE) == (url, access)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a URL"),
        ("s3://UPPER/x", "not a valid bucket name"),
        ("s3://acme/Up", "not a valid prefix"),
        ("s3://acme/a/../b", "not a valid prefix"),
        ("s3://key:secret@acme/x", "must not contain a password"),
        ("sftp://me:secret@attic/srv", "must not contain a password"),
        ("s3://acme/x?endpoint=https://me:secret@s3.example.org", "must not contain a user name or a password"),
        ("s3://acme/x?endpoint=s3.example.org", "is not like https://"),
        ("s3://acme/x?endpoint=http://s3.example.org:527272", "is not like https://"),
        ("s3://acme/x?endpiont=https://s3.example.org", "use endpoint, region, path_style, profile, storage_class"),
        ("s3://acme/x?identity_file=/x", "not an option of s3:// targets"),
        ("s3://acme/x?endpoint", "not KEY=VALUE"),
        ("s3://acme/x?profile=", "profile is empty"),
        ("s3://acme/x?path_style=maybe", "true or false"),
        ("sftp://attic", "the absolute path of a directory"),
        ("sftp:///srv", "needs a server"),
        ("sftp://attic:x/srv", "needs a server"),
        ("sftp://attic/srv/../x", "the absolute path of a directory"),
        ("ftp://x/y", "not a kind of target"),
    ],
)
def test_an_invalid_url_is_refused_with_the_reason(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        read_url(text, HERE)
    assert "secret" not in str(caught.value)


def test_keys_beside_the_url_mean_the_same(tmp_path):
    file = tmp_path / "drtool.yaml"
    file.write_text(
        "sites:\n"
        "  frankfurt: {bucket: {url: 's3://acme-dr-eu/drtool', endpoint: 'https://s3.example.org', profile: backup,"
        " path_style: true, storage_class: STANDARD_IA}}\n"
        "  attic: {box: {url: 'sftp://backup@attic:22/srv/drtool', identity_file: id_ed25519}}\n"
    )
    sites = load_config(file).sites
    url, access = sites["frankfurt"]["bucket"].place(tmp_path)
    assert url == "s3://acme-dr-eu/drtool?endpoint=https://s3.example.org&path_style=true"
    assert access == Access(profile="backup", storage_class="STANDARD_IA")
    assert sites["attic"]["box"].place(tmp_path)[1] == Access(identity_file=str(tmp_path / "id_ed25519"))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("url: /x, profile: backup", "a directory has no options"),
        ("url: 's3://acme/x?region=eu', region: us", "the URL has region=eu, but the key region is us"),
        ("url: 'sftp://attic/srv', storage_class: X", "an option of sftp:// targets"),
    ],
)
def test_keys_of_another_kind_of_target_are_refused(tmp_path, keys, words):
    file = tmp_path / "drtool.yaml"
    file.write_text(f"sites: {{a: {{b: {{{keys}}}}}}}")
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(file)
    assert "drtool.yaml:1:" in caught.value.message
