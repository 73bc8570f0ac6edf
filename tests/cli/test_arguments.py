"""The pass over argv: global options work on both sides of the command, and nothing else moves."""

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from drtool.cli.core import parser, registry
from drtool.cli.core.arguments import COMMAND_VALUES, GLOBAL_FLAGS, GLOBAL_VALUES, arrange

flags = st.sampled_from(sorted(GLOBAL_FLAGS)).map(lambda flag: [flag])
valued = st.sampled_from(sorted(GLOBAL_VALUES))
anything = st.sampled_from(["x", "-q", "--json", "", "--config", "a b", "-"])
plain = st.sampled_from(["backup", "/home", "-", "latest:/x", "--dry-run", "-l", "-R"]).map(lambda word: [word])
command_options = st.tuples(st.sampled_from(sorted(COMMAND_VALUES)), anything).map(list)
tails = st.just([]) | st.lists(anything | st.just("--"), max_size=4).map(lambda words: ["--", *words])


@given(
    st.lists(st.tuples(st.booleans(), st.one_of(plain, command_options, flags, st.tuples(valued, anything).map(list)))),
    tails,
)
def test_global_options_move_and_the_other_words_keep_their_order(pieces, tail):
    words = [word for _, piece in pieces for word in piece] + tail
    moved = [piece for _, piece in pieces if piece[0] in GLOBAL_FLAGS | GLOBAL_VALUES]
    rest = [piece for _, piece in pieces if piece[0] not in GLOBAL_FLAGS | GLOBAL_VALUES]
    found = arrange(words)
    assert list(found.moved) == [word for piece in moved for word in piece]
    assert list(found.rest) == [word for piece in rest for word in piece] + tail


@given(st.lists(anything | st.sampled_from(["--", "backup", "-vq", "-lq", "-cFILE", "--tag"]), max_size=8))
def test_no_word_is_lost_and_a_second_pass_changes_nothing(words):
    once = arrange(words)
    assert once.dangling or arrange(once.argv).argv == once.argv
    letters = sorted("".join(word if word.startswith("--") else word.replace("-", "") for word in words))
    assert sorted("".join(w if w.startswith("--") else w.replace("-", "") for w in once.argv)) == letters


@pytest.mark.parametrize(
    ("words", "moved", "rest"),
    [
        ("snapshots -q --json", "-q --json", "snapshots"),
        ("backup -c f.yaml /home", "-c f.yaml", "backup /home"),
        ("backup --config=f.yaml /home", "--config=f.yaml", "backup /home"),
        ("backup --tag -q", "", "backup --tag -q"),
        ("backup --tag=-q -q", "-q", "backup --tag=-q"),
        ("backup -- -q --json", "", "backup -- -q --json"),
        ("ls -lqR latest", "-q", "ls -lR latest"),
        ("ls -vcf.yaml latest", "-v -cf.yaml", "ls latest"),
        ("ls -vc f.yaml latest", "-v -c f.yaml", "ls latest"),
        ("manifest log --limit 5 -v", "-v", "manifest log --limit 5"),
        ("backup -", "", "backup -"),
        ("backup --config", "--config", "backup"),
    ],
)
def test_examples(words, moved, rest):
    found = arrange(words.split())
    assert (" ".join(found.moved), " ".join(found.rest)) == (moved, rest)


def test_the_table_of_options_with_values_agrees_with_the_parser():
    """Exactly for built commands. The table already has the options of commands that are not built yet."""
    taking, flags_ = set(), set()
    for path in registry.COMMANDS:
        for option in parser.command(path).params:
            if option.param_type_name == "option":
                names = {name for name in option.opts if name not in ("-h", "--help")}
                (flags_ if option.is_flag else taking).update(names)
    assert taking <= COMMAND_VALUES
    assert all(name.startswith("--") for name in COMMAND_VALUES)
    assert not flags_ & COMMAND_VALUES
    assert not (taking | flags_) & (GLOBAL_FLAGS | GLOBAL_VALUES)


def test_the_root_accepts_exactly_the_global_options():
    from drtool.cli.core.app import build
    from drtool.cli.core.call import Call
    from drtool.cli.core.render import Form, Screen

    root = build(Call(Screen(Form()), ()))
    options = {name for option in root.params for name in option.opts} - {"--install-completion", "--show-completion"}
    assert options == GLOBAL_FLAGS | GLOBAL_VALUES
    assert isinstance(root, typer.core.TyperGroup)
