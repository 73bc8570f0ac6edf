"""Pages and help texts: every command line in them parses, and every link leads somewhere."""

import re
from pathlib import Path

import pytest
from drtool_lines import command_lines, named, parse

from drtool.cli.core import parser, registry

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/*.md") for page in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.+\n)+", re.MULTILINE)
SHELL = {"sh", "console", ""}


def name(page):
    return str(page.relative_to(ROOT))


def typed(text):
    """The lines of shell in a page's blocks: those after a prompt where there are prompts."""
    blocks = [block for language, block in FENCE.findall(text) if language in SHELL]
    blocks += INDENTED.findall(FENCE.sub("", text))
    for block in blocks:
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
        typed_here = [line[2:] for line in lines if line.startswith("$ ")] or lines
        yield from (line for line in typed_here if "drtool " in line)


def mentioned(text):
    """The commands that sentences name, as `drtool verify` or as `verify --level full`."""
    for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        words = span.split()
        if "drtool" in words:
            yield from command_lines(span)
        elif any(tuple(words[:n]) in registry.COMMANDS and words[n].startswith("--") for n in (1, 2) if len(words) > n):
            yield words


@pytest.mark.parametrize("path", list(registry.COMMANDS), ids=" ".join)
def test_the_examples_of_a_command_parse_and_show_it(path):
    examples = [words for example in parser.command(path).examples for words in command_lines(example)]
    assert path in [parse(words) for words in examples]


@pytest.mark.parametrize("page", PAGES, ids=name)
@pytest.mark.spread(7)
def test_every_command_line_of_a_page_parses(page):
    text = page.read_text()
    for line in typed(text):
        for words in command_lines(line):
            parse(words)
    for words in mentioned(text):
        named(words)


def test_the_pages_have_command_lines():
    assert sum(len(command_lines(line)) for page in PAGES for line in typed(page.read_text())) > 80
    assert sum(1 for page in PAGES for _ in mentioned(page.read_text())) > 80


@pytest.mark.parametrize(
    "line", ["drtool bakcup", "drtool verify --levle full", "drtool snapshots --latest many", "drtool ls"]
)
def test_one_that_does_not_parse_is_noticed(line):
    with pytest.raises(Exception, match=r"bakcup|levle|many|snapshot"):
        parse(command_lines(line)[0])


def anchors(page):
    """As the common renderers make them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_project_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_table_of_contents_links_every_page_of_docs():
    contents = (ROOT / "docs/README.md").read_text()
    pages = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")
    assert [page for page in pages if f"({page})" not in contents] == []
