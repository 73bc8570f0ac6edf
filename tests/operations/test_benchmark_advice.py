"""The advice from measurements: pure, with the arithmetic done by hand."""

from drtool.operations.benchmarking.advice import GIB, MIB, Setup, advise
from drtool.operations.benchmarking.results import MachineSpeed, TargetSpeed


def machine(**more):
    known = {
        "cpus": 4,
        "workers": 4,
        "chunk_bytes_per_second": 1000.0 * MIB,
        "hash_bytes_per_second": 1000.0 * MIB,
        "seal_bytes_per_second": 1000.0 * MIB,
        "compression": [],
        "pack_random_bytes_per_second": 200.0 * MIB,
        "pack_text_bytes_per_second": 100.0 * MIB,
        "all_workers_pack_random_bytes_per_second": 800.0 * MIB,
        "all_workers_pack_text_bytes_per_second": 400.0 * MIB,
        "disk_read_bytes_per_second": 400.0 * MIB,
        "disk_read_directory": "/cache",
    }
    return MachineSpeed(**(known | more))


def far(name, one, several):
    return TargetSpeed(
        name=name,
        near=False,
        parallel=3,
        put_bytes_per_second=one * MIB,
        parallel_put_bytes_per_second=several * MIB,
    )


def setup(*names, copies=2, **more):
    return Setup(copies=copies, weights=dict.fromkeys(names, 1), **more)


def test_without_targets_the_slowest_step_here_is_the_bottleneck():
    advice = advise(machine(), [], setup())
    assert "4.0 times as much as one (800 MiB/s against 200 MiB/s): leave limits.workers: auto" in advice[0]
    assert f"about {100 * GIB / (400 * MIB) / 60:.0f} min (400 MiB/s); the bottleneck is reading" in advice[-1]
    unread = advise(machine(disk_read_bytes_per_second=None), [], setup())
    assert "the bottleneck is packing on this machine" in unread[-1]


def test_a_target_gets_its_share_of_the_copies():
    targets = [far("a/x", 10, 20), far("b/x", 40, 30), far("c/x", 40, 40)]
    advice = advise(machine(), targets, setup("a/x", "b/x", "c/x"))
    # two copies on three equal targets: each gets two thirds, and a takes 20 MiB/s, so 30 MiB/s of new data go through
    assert "the bottleneck is target a/x, which gets 67% of it at 20 MiB/s" in advice[-1]
    assert "(30 MiB/s)" in advice[-1]
    assert f"about {100 * GIB / (30 * MIB) / 60:.0f} min" in advice[-1]
    assert "one worker packs faster" in advice[1]
    assert any("to a/x carry 2.0 times as much" in text for text in advice)
    assert any("a/x free: limits.upload: 16MiB/s" in text for text in advice)


def test_a_limit_applies_and_is_named_where_it_is_the_bottleneck():
    advice = advise(machine(), [far("a/x", 50, 50)], setup("a/x", copies=1, upload_bytes_s=5 * MIB))
    assert any("limits.upload (5.00 MiB/s) is less than a/x can accept" in text for text in advice)
    assert f"{100 * GIB / (5 * MIB) / 3600:.1f} h (5.00 MiB/s)" in advice[-1]


def test_missing_measurements_are_in_no_figure_and_are_named():
    away = TargetSpeed(name="b/x", near=False, problem="away")
    advice = advise(machine(), [far("a/x", 50, 50), away], setup("a/x", "b/x", copies=1))
    assert "b/x not measured and left out" in advice[-1]
    assert not any("to b/x" in text for text in advice)


def test_an_arbiter_gets_nothing():
    advice = advise(machine(), [far("a/x", 50, 50), far("v/x", 1, 1)], setup("a/x", copies=1))
    assert "target a/x" in advice[-1]


def test_every_sentence_says_how_it_is_known():
    advice = advise(machine(workers=1), [far("a/x", 10, 20)], setup("a/x", "b/x"))
    assert all(text.startswith(("measured: ", "computed: ")) for text in advice)
