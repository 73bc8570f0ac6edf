"""A repository at three sites with passwords that are cheap to try, as used by tests of keys."""

import shutil
from contextlib import contextmanager

import pytest
from three_sites import PASSWORD, World, fill, noise, set_apart

from drtool.crypto import slots
from drtool.operations.keys import add_key, list_keys, plan_removal, plan_rotation, remove_key, rotate_keys

SECOND = b"battery staple"
THIRD = b"troubadour"


class Cheap:
    """Instead of Argon2id, where its cost is not the question."""

    def __init__(self, **parameters):
        self.parameters = parameters

    def derive(self, password):
        return password.ljust(32, b"\0")


class KeyWorld(World):
    """A world that is opened with a password every time."""

    def open(self, **more):
        return super().open(derive=True, **more)

    def elsewhere(self, host):
        return KeyWorld(self.root, self.targets, host, f"state-{host}", heard=self.heard)

    def add(self, password, label="second", **more):
        with self.open(**more) as repository:
            return add_key(repository, password, label, self.heard.append)

    def remove(self, prefix, *, in_use=False, dry_run=False, **more):
        with self.open(**more) as repository:
            plan = plan_removal(repository, prefix, in_use=in_use)
            return plan if dry_run else remove_key(repository, plan, self.heard.append)

    def rotate(self, *others, drop_others=False, **more):
        with self.open(**more) as repository:
            named = [(f"file {number}", password) for number, password in enumerate(others)]
            plan = plan_rotation(repository, named, drop_others=drop_others)
            return rotate_keys(repository, plan, self.heard.append)

    def keys(self, **more):
        with self.open(**more) as repository:
            return list_keys(repository)

    def problems(self):
        return self.keys().problems

    def store_something(self, seed=1, **more):
        """One snapshot of one file that was never seen before."""
        source = fill(self.root / "source", {"file": noise(30_000, seed)})
        with self.open(**more) as repository:
            return self.run_backup(repository, source).snapshots[0]

    @contextmanager
    def away(self, *sites):
        """Some targets cannot be reached meanwhile."""
        for site in sites:
            self.directory(site).rename(self.root / f"away-{site}")
        try:
            yield
        finally:
            for site in sites:
                (self.root / f"away-{site}").rename(self.directory(site))

    def slot_names(self, site):
        return sorted(path.name for path in self.objects(site, "keys"))


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(slots, "Argon2id", Cheap)


@pytest.fixture(scope="session")
def founded_cheaply(tmp_path_factory):
    """A repository created once with cheap passwords, to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "Argon2id", Cheap)
        set_apart(KeyWorld(root := tmp_path_factory.mktemp("keys") / "founded").found())
        return KeyWorld(root.with_name("founded-apart"))


@pytest.fixture
def keys(place, cheap, founded_cheaply):
    """A founded repository at a, b and c with one password."""
    shutil.copytree(founded_cheaply.root, place, dirs_exist_ok=True)
    return KeyWorld(place)


__all__ = ["PASSWORD", "SECOND", "THIRD", "KeyWorld", "cheap", "founded_cheaply", "keys"]
