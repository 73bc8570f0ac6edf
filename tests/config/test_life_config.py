"""`schedule`, `hooks`, `objectives`, `metrics_file` of drtool.yaml."""

import pytest

from drtool.config import load_config
from drtool.config.cron import parse_when
from drtool.errors import ConfigError

SITES = "sites: {a: {main: {url: /x}}}\nsources: {home: {paths: [/]}}\n"


def load(tmp_path, text):
    (tmp_path / "drtool.yaml").write_text(SITES + text)
    return load_config(tmp_path / "drtool.yaml")


def test_everyday_life_is_read(tmp_path):
    config = load(
        tmp_path,
        'schedule: {backup: "daily 02:00", status: off, jitter: 10m}\n'
        'hooks: {before_backup: [mount, /mnt], after_backup: ["https://hc/x", [a, b]], on_failure: "https://x/y"}\n'
        "objectives: {home: {rpo: 26h, copies: 2, proven: 8d}}\nmetrics_file: /x/drtool.prom\n",
    )
    assert config.schedule is not None
    assert set(config.schedule.times()) == {"backup", "prune", "verify"}
    assert config.schedule.jitter == 600
    assert config.hooks.before_backup == (("mount", "/mnt"),)
    assert config.hooks.after_backup == (("https://hc/x",), ("a", "b"))
    assert config.hooks.on_failure == (("https://x/y",),)
    assert load(tmp_path, 'hooks: {on_failure: [curl, "https://x/y"]}').hooks.on_failure == (("curl", "https://x/y"),)
    assert (config.objectives["home"].rpo, config.objectives["home"].proven) == (26 * 3600, 8 * 86_400)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('schedule: {backup: "dayly 02:00"}', "not a time to run"),
        ('schedule: {backup: "daily 25:00"}', "hour"),
        ("schedule: {backupp: off}", "'backup'"),
        ("schedule: {jitter: soon}", "not a duration"),
        ("hooks: {before_backup: [[1]]}", "list of words"),
        ("hooks: {before_backup: [[]]}", "list of words"),
        ("hooks: {on_failure: notify:ops}", "no channel 'ops'"),
        ("objectives: {hoem: {rpo: 1d}}", "no source 'hoem'"),
        ("objectives: {home: {rpo: 1 day}}", "not a duration"),
    ],
)
def test_an_error_names_its_line(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, text)
    assert ":3:" in caught.value.message


@pytest.mark.parametrize(
    ("words", "cron"),
    [
        ("hourly", "0 * * * *"),
        ("daily 02:05", "5 2 * * *"),
        ("weekly sun 3:00", "0 3 * * sun"),
        ("monthly 1 04:00", "0 4 1 * *"),
        ("*/5 1 * * 1-5", "*/5 1 * * 1-5"),
    ],
)
def test_words_mean_cron_fields(words, cron):
    assert parse_when(words).text == cron
