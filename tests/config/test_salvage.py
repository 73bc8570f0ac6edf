"""The usable part of a faulty configuration."""

import pytest

from drtool.config import Config
from drtool.config.salvage import salvage

GOOD = "repository: home\nsites: {a: {main: {url: /a}}, b: {main: {url: /b}}}\nsources: {x: {paths: [/x]}}\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "drtool.yaml").write_text(text)
        return salvage(tmp_path / "drtool.yaml")

    return write


def test_a_configuration_without_faults_is_kept_whole(written):
    config, fault = written(GOOD)
    assert fault is None
    assert (config.repository, list(config.sites), list(config.sources)) == ("home", ["a", "b"], ["x"])


@pytest.mark.parametrize("extra", ["unknown: 1\n", "limits: {workers: many}\n", "objectives: {x: 1}\n"])
def test_one_bad_key_leaves_the_others(written, extra):
    config, fault = written(GOOD + extra)
    assert fault is not None
    assert (config.repository, list(config.sites), list(config.sources)) == ("home", ["a", "b"], ["x"])
    assert config.limits == Config().limits


def test_one_bad_target_or_source_leaves_the_others(written):
    config, fault = written(GOOD.replace("url: /b", "url: 'ftp://b'").replace("paths: [/x]", "paths: []"))
    assert "ftp" in str(fault)
    assert {site: list(targets) for site, targets in config.sites.items()} == {"a": ["main"], "b": []}
    assert config.sources == {}


@pytest.mark.parametrize("text", ["sites: [\n", "- a\n", "3\n", "\x00"])
def test_a_file_that_is_not_a_mapping_leaves_nothing(written, text):
    config, fault = written(text)
    assert fault is not None
    assert config == Config()
