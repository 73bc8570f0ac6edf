"""The list of known targets: its contents, the entries it never trusts, and its use."""

from types import SimpleNamespace

from three_sites import World

from drtool.config.urls import Access
from drtool.events import ignore
from drtool.manifest.records import Target
from drtool.model import RepositoryId, TargetName
from drtool.operations.placing import add_target
from drtool.repository import RepositorySpec, TargetSpec
from drtool.repository.beyond import reach_known, reach_more
from drtool.repository.known_targets import Known, Reached, recall, remember, repository_at

CLOUD = TargetName("cloud/main")
URL = "s3://acme/drtool"


def test_an_older_view_does_not_take_the_list_back(world):
    with world.open() as repository:
        before = repository.view
        new = TargetSpec(name=TargetName("d/main"), url=str(world.directory("d")))
        add_target(repository, new, None, dry_run=False, emit=ignore)
        after = recall(repository.spec.state_dir, repository.id)
        assert [row.name for row in after.targets] == ["a/main", "b/main", "c/main", "d/main"]
        assert ("d/main", f"file://{world.directory('d')}") in after.seen
        remember(repository.spec, repository.id, before, repository.targets)
        assert recall(repository.spec.state_dir, repository.id) == after


def test_a_configuration_leads_to_the_repository_that_was_reached_at_its_places(world, tmp_path):
    with world.open() as repository:
        spec, id_ = repository.spec, repository.id
    assert repository_at(spec.state_dir, spec.targets).repository_id == id_
    moved = [TargetSpec(name=row.name, url=f"{row.url}.elsewhere") for row in spec.targets]
    assert repository_at(spec.state_dir, moved) is None
    renamed = [TargetSpec(name=TargetName(f"x{row.name}"), url=row.url) for row in spec.targets]
    assert repository_at(spec.state_dir, renamed) is None
    assert repository_at(tmp_path / "no such state", spec.targets) is None
    twice = World(world.root, host=world.host)
    for site in "abc":
        world.directory(site).rename(world.root / f"{site}.first")
    with twice.found().open() as repository:
        assert repository.id != id_
    assert repository_at(spec.state_dir, spec.targets) is None, "two repositories were at these places"


def test_a_dry_run_leaves_the_list_alone(world):
    with world.open() as repository:
        path = repository.spec.state_dir / "repositories" / repository.id.hex() / "targets.json"
    path.unlink()
    with world.open(read_only=True):
        pass
    assert not path.exists()


class Tried:
    """Stands in for targets: records requested targets, and reaches them."""

    def __init__(self, configured=()):
        self.specs = {spec.name: spec for spec in configured}
        self.markers = {}
        self.suspects = {}
        self.asked = []

    def reachable(self, name):
        return any(spec.name == name for spec in self.asked)

    def extend(self, spec, _repository):
        self.asked.append(spec)
        return True

    def keep_only(self, _authentic):
        """Everything is authentic."""

    def of_site(self, site):
        return [spec.name for spec in self.asked if spec.site == site]

    def register(self, name):
        return name

    def store(self, name):
        return name


def known(**more):
    row = Target(name=CLOUD, weight=1, state="active", url=URL, host="here", **more)
    return row, Known(repository="00" * 16, targets=(row,), reached=(Reached(CLOUD, URL, Access(profile="backup")),))


def spec_of(tmp_path, **more):
    return RepositorySpec(
        label="x", targets=(), cache_dir=tmp_path, state_dir=tmp_path, password=lambda: b"", host="here", **more
    )


def test_a_target_that_the_configuration_does_not_name_is_reached_as_it_was_when_it_was_added(tmp_path):
    row, list_ = known()
    keyring = SimpleNamespace(repository=RepositoryId(bytes(16)))
    targets = Tried()
    reach_more(spec_of(tmp_path), targets, keyring, [row], list_)
    assert [(spec.url, spec.access.profile) for spec in targets.asked] == [(URL, "backup")]
    targets = Tried()
    assert reach_known(spec_of(tmp_path), targets, list_) == [CLOUD]
    assert targets.asked[0].access.profile == "backup"


def test_a_configured_place_overrides_the_list_unless_the_target_left_it(tmp_path):
    configured = TargetSpec(name=CLOUD, url="s3://other/drtool")
    _, list_ = known()
    assert reach_known(spec_of(tmp_path), Tried([configured]), list_) == []
    _, replaced = known(id="ab")
    assert reach_known(spec_of(tmp_path), Tried([configured]), replaced) == [CLOUD]
    same = TargetSpec(name=CLOUD, url=URL)
    assert reach_known(spec_of(tmp_path), Tried([same]), replaced) == [], "it was tried already"


def test_a_lost_target_and_another_hosts_directory_are_not_tried(tmp_path):
    lost = Known(repository="00" * 16, targets=(Target(name=CLOUD, weight=1, state="lost", url=URL),))
    assert reach_known(spec_of(tmp_path), Tried(), lost) == []
    far = Target(name=CLOUD, weight=1, state="active", url="file:///mnt/x", host="far")
    theirs = Known(repository="00" * 16, targets=(far,))
    assert reach_known(spec_of(tmp_path), Tried(), theirs) == []
    assert reach_known(spec_of(tmp_path, anywhere=True), Tried(), theirs) == [CLOUD]
