"""drtool.yaml: every key of the contract is recognised. A key that is not built yet is refused, never ignored."""

from pathlib import Path

import pytest

from drtool.config import load_config
from drtool.config.units import UNLIMITED, Span, keep_count, size_bytes, span
from drtool.config.urls import NO_ACCESS, read_url
from drtool.errors import ConfigError

GOOD = """\
repository: acme
password_file: /etc/drtool/password
sites:
  paris:
    nas: {url: "file:///mnt/nas/drtool", weight: 4}
    disk: {url: /mnt/usb/drtool, keys: false, vote: true}
redundancy: {copies: 2, minimum: 1}
sources:
  home: {paths: [/home, /srv], exclude: ["*.tmp"], exclude_caches: true, one_file_system: true}
limits: {memory: 256MiB, workers: 3, upload: 20MiB/s, download: null}
plans: drills
retention: {keep_last: 3, keep_daily: unlimited, keep_within_weekly: 1y2m3d4h, keep_tag: gold, timezone: Europe/Berlin}
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "drtool.yaml"
    path.write_text(text)
    return load_config(path)


def test_every_supported_key_is_read(tmp_path):
    config = load(tmp_path, GOOD)
    assert config.sites["paris"]["nas"].weight == 4
    assert not config.sites["paris"]["disk"].keys
    assert [config.sites["paris"][name].vote for name in ("nas", "disk")] == ["auto", "true"]
    assert config.sources["home"].exclude == ("*.tmp",)
    assert config.limits.memory == 256 * 2**20
    assert (config.redundancy.copies, config.limits.workers) == (2, 3)
    assert (config.limits.upload, config.limits.download) == (20 * 2**20, None)
    assert config.plans == "drills"
    kept = config.retention
    assert (kept.keep_last, kept.keep_daily, kept.keep_hourly, kept.keep_tag) == (3, UNLIMITED, 0, ("gold",))
    assert (kept.keep_within_weekly, kept.keep_within, kept.timezone) == (Span(1, 2, 3, 4), Span(), "Europe/Berlin")


@pytest.mark.parametrize(
    "key",
    [
        "redundancy: {data: 4, parity: 2}",
        "sites: {f: {b: {url: /x, max_bytes: 5}}}",
    ],
)
def test_a_key_that_is_not_built_yet_is_refused(tmp_path, key):
    with pytest.raises(ConfigError, match="not built yet") as caught:
        load(tmp_path, key)
    assert caught.value.exit_code == 2
    assert "is missing" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("repositry: acme", "1:1: repositry: unknown key 'repositry'; the nearest known one is 'repository'"),
        ("sites: {a b: {c: {url: /x}}}", "'a b' is not a valid name"),
        ("sites: {../x: {c: {url: /x}}}", "is not a valid name"),
        ("sites: {a: {b: {url: http://x/}}}", "not a kind of target"),
        ('sites: {a: {b: {url: "file://x"}}}', "absolute path"),
        ("sites: {a: {b: {weight: 2}}}", "'url' is missing"),
        ("redundancy: {copies: 1, minimum: 2}", "minimum 2 is more than copies 1"),
        ("sources: {home: {}}", "'paths' is missing"),
        ("sources: {home: {paths: [a], stream: {command: [b]}}}", "paths and stream: a source has one kind"),
        ("sources: {home: {stream: {command: [b]}, exclude: [c]}}", "not for stream"),
        ("sources: {home: {stream: {command: []}}}", "length"),
        ("sources: {home: {postgresql: {dns: x}}}", "nearest known one is 'dsn'"),
        ("sources: {home: {stream: {comand: [b]}}}", "nearest known one is 'command'"),
        ("limits: {memory: lots}", "not a size"),
        ("limits: {upload: 20MiB}", "not a rate (write 20MiB/s"),
        ("limits: {download: 5/s}", "must be at least 1KiB/s"),
        ("limits: {workers: 0}", "workers"),
        ("retention: {keep_last: -1}", "1:13: retention.keep_last: not a number to keep (write 7, or unlimited): -1"),
        ("retention: {keep_daily: true}", "not a number to keep"),
        (
            "retention: {keep_within: 2w}",
            "not a time span (write 1y2m3d4h: years, months, days, hours; a week is 7d): '2w'",
        ),
        ("retention: {keep_dayly: 3}", "the nearest known one is 'keep_daily'"),
        ("retention: {keep_tag: ['']}", "expected a word, or a list of words"),
        ("retention: {timezone: 'CET-1CEST,M3.5.0'}", "expected the name of a time zone"),
    ],
)
def test_an_error_names_its_place(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "count_bytes"),
    [("0", 0), ("512", 512), (7, 7), ("20MB", 20_000_000), ("1.5 KiB", 1536), ("2g", 2 * 10**9), ("3GiB", 3 * 2**30)],
)
def test_sizes(text, count_bytes):
    assert size_bytes(text) == count_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-3", "1 banana", True, None, "1e3"])
def test_invalid_sizes_are_refused(text):
    with pytest.raises(ValueError, match="not a size"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1y2m3d4h", (1, 2, 3, 4)),
        ("7d", (0, 0, 7, 0)),
        ("4h1y", (1, 0, 0, 4)),
        (" 9999y ", (9999, 0, 0, 0)),
        ("0h", (0,) * 4),
    ],
)
def test_spans(text, wanted):
    assert span(text) == wanted
    assert span(str(span(text))) == wanted


@pytest.mark.parametrize("text", ["", "d", "7", "1w", "1d1d", "1d 2h", "-1d", "1.5d", "1D", "1000000y", 7, True, None])
def test_invalid_spans_are_refused(text):
    with pytest.raises(ValueError, match="not a time span"):
        span(text)


@pytest.mark.parametrize(("text", "wanted"), [("0", 0), (7, 7), ("07", 7), ("unlimited", UNLIMITED)])
def test_numbers_to_keep(text, wanted):
    assert keep_count(text) == wanted


@pytest.mark.parametrize("text", ["", "-1", -1, "x", "1e3", 1.5, True, None, "10000000000", "\u0663"])
def test_invalid_numbers_to_keep_are_refused(text):
    with pytest.raises(ValueError, match="not a number to keep"):
        keep_count(text)


def test_a_plain_path_is_a_file_url_beside_the_configuration():
    assert read_url("data/x", Path("/etc/drtool")) == ("file:///etc/drtool/data/x", NO_ACCESS)
    assert read_url("/mnt/a b%20", Path("/etc")) == ("file:///mnt/a b%20", NO_ACCESS)
    assert read_url("file:///mnt/x", Path("/etc")) == ("file:///mnt/x", NO_ACCESS)


def test_the_example_in_the_documentation_is_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    config = load(tmp_path, page.partition("```yaml\n")[2].partition("```")[0])
    assert (config.repository, list(config.sites), list(config.sources)) == (
        "acme",
        ["paris", "attic", "cloud"],
        ["home", "orders"],
    )
    assert config.objectives["home"].rpo == 26 * 3600
    assert config.hooks.on_failure == (("https://hc-ping.com/d0e4/fail",),)


@pytest.mark.parametrize(("text", "found"), [("50%", 0.5), ("99.5 %", 0.995), ("off", None), ("'100%'", 1.0)])
def test_a_share_that_may_be_gone_is_a_percentage_or_off(tmp_path, text, found):
    path = tmp_path / "drtool.yaml"
    path.write_text(f"sources: {{a: {{paths: [/a], max_shrink: {text}}}}}\n")
    assert load_config(path).sources["a"].max_shrink == found


@pytest.mark.parametrize("text", ["0.5", "0%", "101%", "half", "-5%"])
def test_other_shares_are_refused(tmp_path, text):
    path = tmp_path / "drtool.yaml"
    path.write_text(f"sources: {{a: {{paths: [/a], max_shrink: {text}}}}}\n")
    with pytest.raises(ConfigError, match="not a share"):
        load_config(path)
