"""The recovery kit: both forms have the same content, nothing is loaded from elsewhere, and its codes are machine-readable."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest
from msgspec.structs import replace

from drtool.operations.kit import Kit, KitPlace, KitSlot, KitSource
from drtool.operations.survive.promise import Promise
from drtool.reports.kit import connect_code, html_page, steps, text_page

PASSWORD = "correct horse & <battery> staple"
PLACES = [
    KitPlace(name="paris/main", url="file:///mnt/nas/it's here", host="web", keys=True, data=True, reachable=True),
    KitPlace(name="oslo/main", url="file:///mnt/usb", host="web", keys=False, data=True, reachable=True),
    KitPlace(name="rome/main", url="file:///mnt/vote", host="", keys=True, data=False, reachable=False),
]
KIT = Kit(
    label="acme & <sons>",
    repository_id="0123456789abcdef" * 2,
    made_ns=1_764_000_000 * 10**9,
    host="web",
    version="0.1.0",
    places=PLACES,
    slots=[
        KitSlot(id="aa" * 8, label="set at <init>", created_ns=10**18, in_use=True),
        KitSlot(id="bb" * 8, label="safe", created_ns=None, in_use=False),
    ],
    sources=[
        KitSource(host="web", source="home", paths=["/home"], newest_ns=10**18),
        KitSource(host="db", source="", paths=["/srv/x y"], newest_ns=10**18),
    ],
    voters=3,
    quorum=2,
    promise=Promise(sites=3, needed=2),
    password=None,
)
SECRET = replace(KIT, password=PASSWORD)


def parsed(kit):
    """Parse the page strictly, because browsers are lenient."""
    return ET.fromstring(html_page(kit).partition("\n")[2])


def words(element):
    return " ".join("".join(element.itertext()).split())


def commands_of_text(kit):
    return [line.removeprefix("    $ ") for line in text_page(kit).splitlines() if line.startswith("    $ ")]


def test_both_forms_hold_the_same_commands_in_the_same_order():
    expected = [command for step in steps(KIT) for command in step.commands]
    assert commands_of_text(KIT) == expected
    shown = [line for block in parsed(KIT).iter("pre") for line in "".join(block.itertext()).split("\n")]
    assert shown == expected
    assert "drtool connect 'file:///mnt/nas/it'\"'\"'s here'" in expected
    assert expected[-4:] == [
        "drtool restore --all-sources --host web --to restored-web",
        "drtool restore --all-sources --host db --to restored-db",
        "drtool restore --all-sources --host web --to / --overwrite always",
        "drtool restore --all-sources --host db --to / --overwrite always",
    ]


def test_a_repository_without_snapshots_has_a_kit_too():
    assert commands_of_text(replace(KIT, sources=[]))[-2:] == [
        "drtool restore --all-sources --to restored",
        "drtool restore --all-sources --to / --overwrite always",
    ]


@pytest.mark.parametrize("form", [lambda kit: words(parsed(kit)), text_page])
def test_the_kit_contains_everything_needed(form):
    text = form(KIT)
    for place in PLACES:
        assert place.name in text
        assert place.url in text
    for needed in (
        "acme & <sons>",
        KIT.repository_id,
        "set at <init>",
        "bb" * 8,
        "2 of the 3",
        "--manifest-from any",
        "Any 2 of the 3 sites",
    ):
        assert needed in text
    assert "Any 2 of the 3 sites that store restore everything" in " ".join(text.split())
    assert "no key slot" in text
    assert "only a vote" in text


@pytest.mark.parametrize("form", [html_page, text_page])
def test_the_password_is_included_only_on_request(form):
    assert "battery" not in form(KIT)
    assert "battery" in form(SECRET)


def test_the_kit_says_what_its_servers_demand_besides_the_password():
    places = [
        *PLACES,
        KitPlace(name="attic/main", url="sftp://b@attic/srv", host="", keys=True, data=True, reachable=True),
    ]
    shown = " ".join(text_page(replace(KIT, places=places)).split())
    assert "?identity_file=FILE" in shown
    assert "known_hosts" in shown
    assert "s3://" not in shown
    assert "sftp" not in text_page(KIT)


def test_without_the_password_there_is_room_to_write_it():
    assert "_" * 40 in text_page(KIT)
    assert parsed(KIT).find(".//p[@class='blank']") is not None


def test_the_page_is_self_contained():
    page = html_page(SECRET)
    assert page.startswith("<!DOCTYPE html>")
    assert not re.search(r"<script|<img|<link|<iframe|@import|url\(|\bon\w+=|src=", page)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page


def test_long_lists_are_cut_and_say_so():
    many = replace(
        KIT,
        places=[replace(PLACES[0], name=f"s{i}/main") for i in range(12)],
        slots=[replace(KIT.slots[1], id=f"{i:016x}", label="x" * 200) for i in range(12)],
        sources=[replace(KIT.sources[0], host=f"host{i:02}") for i in range(12)],
    )
    text = text_page(many)
    assert "… and 5 more\n" in text
    assert "… and 8 more\n" in text
    assert text.count("drtool restore --all-sources --host host") == 8
    assert "8 more hosts have snapshots" in text
    assert "x" * 100 not in text
    assert words(parsed(many)).count("… and") == 2
    assert max(map(len, text.splitlines())) < 120


# --- the codes ---


def decoded(rows, place):
    """Decode a picture of these modules (True is dark)."""
    if shutil.which("zbarimg") is None:
        if os.environ.get("CI"):
            pytest.fail("zbarimg is missing: install zbar-tools")
        pytest.skip("zbarimg is not installed")
    scale = 6
    lines = [b"".join(b"\0" * scale if bit else b"\xff" * scale for bit in row) * scale for row in rows]
    picture = place / "code.pgm"
    picture.write_bytes(b"P5 %d %d 255\n" % (len(rows[0]) * scale, len(rows) * scale) + b"".join(lines))
    done = subprocess.run(["zbarimg", "--raw", "-q", picture], capture_output=True, check=True)
    return done.stdout.decode().removesuffix("\n")


def modules_of_svg(svg):
    """Return the picture drawn by an inline SVG: `M x y`, `m dx dy`, `h length`, each stroke one module thick."""
    size = int(svg.attrib["viewBox"].split()[2])
    rows = [[False] * size for _ in range(size)]
    stroke = next(path for path in svg if path.attrib.get("stroke") == "#000")
    x = y = 0.0
    for kind, numbers in re.findall(r"([Mmh])([^Mmh]*)", stroke.attrib["d"]):
        values = [float(number) for number in re.findall(r"-?[\d.]+", numbers)]
        if kind == "h":
            for column in range(int(x), int(x + values[0])):
                rows[int(y)][column] = True
            x += values[0]
        else:
            x, y = values if kind == "M" else (x + values[0], y + values[1])
    return rows


def modules_of_text(block, *, dark):
    """Return the picture drawn by half blocks."""
    lines = block.split("\n")
    width = max(map(len, lines)) + 4
    glyphs = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}
    rows = []
    for line in lines:
        pairs = [glyphs[letter] for letter in line.ljust(width)]
        rows += [[(upper != dark) for upper, _ in pairs], [(lower != dark) for _, lower in pairs]]
    return rows


def test_the_codes_on_the_page_can_be_read(tmp_path):
    figures = parsed(SECRET).findall(".//figure")
    read = {words(figure): decoded(modules_of_svg(figure[0]), tmp_path) for figure in figures}
    assert read == {"Connect": connect_code(SECRET), "Password": PASSWORD}
    assert connect_code(SECRET).splitlines() == [
        "drtool connect 'file:///mnt/nas/it'\"'\"'s here'",
        f"repository {KIT.repository_id}",
    ]


@pytest.mark.parametrize("dark", [False, True])
def test_the_codes_in_the_text_can_be_read(tmp_path, dark):
    text = text_page(SECRET, dark=dark)
    _, connect, password = re.split(r"^(?:CONNECT|PASSWORD)$\n\n", text, flags=re.MULTILINE)[-3:]
    assert decoded(modules_of_text(connect.rstrip("\n"), dark=dark), tmp_path) == connect_code(SECRET)
    assert decoded(modules_of_text(password.rstrip("\n"), dark=dark), tmp_path) == PASSWORD
