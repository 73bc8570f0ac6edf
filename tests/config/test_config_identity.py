"""Every spelling of a configuration's path means one configuration."""

from pathlib import Path

from drtool.config import Config
from drtool.config.identity import one_spelling
from drtool.config.schema import SourceConfig, TargetConfig


def test_links_and_dots_make_no_second_configuration_unless_it_depends_on_its_place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "links").symlink_to("real")
    file = tmp_path / "real/drtool.yaml"
    file.touch()
    link = tmp_path / "drtool.yaml"
    link.symlink_to(file)
    config = Config(
        sites={"a": {"nas": TargetConfig(url="/mnt/nas")}}, sources={"home": SourceConfig(paths=("/home",))}
    )
    for path in (file, link, tmp_path / "links/drtool.yaml", tmp_path / "real/../links/./drtool.yaml"):
        assert one_spelling(path, config) == file
    for other in (
        Config(sites={"a": {"nas": TargetConfig(url="nas")}}),
        Config(sources={"home": SourceConfig(paths=("home",))}),
        Config(password_file="password"),
    ):
        assert one_spelling(link, other) == link
    assert one_spelling(Path(tmp_path / "links/gone.yaml")) == tmp_path / "real/gone.yaml"
