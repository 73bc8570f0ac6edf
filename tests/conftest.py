"""What every test can rely on: no test sees the user's own repositories, and slow machines do not make tests fail."""

import gc
import os

import command_zygote
import hypothesis
import pytest
import remembered_keys
import thoroughness

# A machine that is busy with something else must not fail a property; each test's own size bounds its time.
hypothesis.settings.register_profile("drtool", deadline=None, print_blob=True, max_examples=thoroughness.sample(100))
hypothesis.settings.load_profile("drtool")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `thorough`, unless this is `make test-all` or the test was named on the command line."""
    thoroughness.mark_spread(items)
    if thoroughness.THOROUGH or any("::" in argument for argument in config.args):
        return
    left_out = [item for item in items if item.get_closest_marker("thorough")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


def pytest_collection_finish() -> None:
    """Spare collections and forked processes the objects of thousands of tests, which all stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory):
    """No `DRTOOL_*` from outside; configuration, cache and state of this run's own; times of day in UTC."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("DRTOOL_")]:
            patch.delenv(name)
        home = tmp_path_factory.mktemp("home")
        for name, place in (
            ("HOME", ""),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_DATA_HOME", "data"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_STATE_HOME", "state"),
            ("DRTOOL_STATE_DIR", "state/drtool"),  # root's default would be /var/lib/drtool
        ):
            patch.setenv(name, str(home / place))
        yield


@pytest.fixture(scope="session", autouse=True)
def keys_are_derived_once(tmp_path_factory: pytest.TempPathFactory):
    """Here and in the processes that run commands for tests: Argon2id was the largest single cost of the suite in a profile."""
    place = tmp_path_factory.mktemp("keys")
    command_zygote.remember_keys_at(place)
    with remembered_keys.remembering(place):
        yield
