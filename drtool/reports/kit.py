"""The recovery kit as a page to print and as plain text: the steps from an empty machine to restored data, in order.

Invariants
    Both forms say the same. The commands are identical, character by character.
    The page is self-contained: no script, font or picture from elsewhere. Text from outside is escaped.
    It fits on one sheet. Long lists are cut, with a note.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import msgspec
import segno
from msgspec import Struct

from drtool.config.urls import scheme_of
from drtool.escaping import printable
from drtool.operations.all_sources import restore_words
from drtool.operations.kit import Kit, KitPlace

PLACES_MAX = 7
SLOTS_MAX = 4
HOSTS_MAX = 4
LABEL_MAX = 60
WIDTH = 92
QR_BORDER = 4


class Step(Struct, frozen=True):
    """One thing to do: a sentence, command lines, and a note."""

    what: str
    commands: tuple[str, ...]
    note: str = ""


def steps(kit: Kit) -> list[Step]:
    """Return the steps from an empty machine to restored files."""
    return [
        Step(
            "Install drtool on any Linux with Python 3.11 or newer (as root, if the files have several owners):",
            (
                "python3 -m venv drtool-venv",
                "drtool-venv/bin/pip install -f drtool-wheels drtool-wheels/drtool-*.whl",
                'PATH="$PWD/drtool-venv/bin:$PATH"',
            ),
            "Keep the directory drtool-wheels with this kit: `pip wheel -w drtool-wheels .` in drtool's source creates it. "
            f"Use version {kit.version} or later.",
        ),
        _connecting(kit),
        Step("List the snapshots:", ("drtool snapshots",)),
        Step(
            "Restore everything into an empty directory, and check the result:",
            tuple(_commands(kit, _into_a_directory)),
            "This restores the newest snapshot of each source of a host. If two sources differ at one path, the older one is put "
            "into the directory `_sources`. For databases it restores the dumps and prints how to load them.",
        ),
        Step(
            "Or restore everything to its original place, replacing files that differ:",
            tuple(_commands(kit, _in_place)),
            _others(kit),
        ),
    ]


def _connecting(kit: Kit) -> Step:
    first = _first(kit)
    note = (
        "A file:// place is a directory: attach and mount its disk, and give the directory that contains drtool.json. "
        "If this place is lost, use another one from the list below that has a key slot and data. "
        "You can also give several, and those that answer are used."
    )
    note = " ".join((note, *_admissions(kit)))
    return Step("Connect, and enter the password when asked:", (f"drtool connect {shlex.quote(first.url)}",), note)


_ADMISSIONS = {
    "sftp": "An sftp:// place needs an SSH key that may log in there, and the server's key in ~/.ssh/known_hosts. "
    "Append ?identity_file=FILE to the URL if the SSH key is not one of ~/.ssh.",
    "s3": "An s3:// place needs its access key, in the environment or in a profile of ~/.aws.",
}


def _admissions(kit: Kit) -> list[str]:
    """Return what a new machine needs besides the password, for each kind of server that the kit names."""
    return [words for scheme, words in _ADMISSIONS.items() if any(scheme_of(row.url) == scheme for row in kit.places)]


def _first(kit: Kit) -> KitPlace:
    """Return the place to begin at. Places are sorted by suitability."""
    return next(place for place in kit.places if place.keys)


def _commands(kit: Kit, words: Callable[[str, list[str]], list[str]]) -> Iterator[str]:
    """Yield one command line per host, or one without a host if there are no snapshots."""
    hosts = _hosts(kit)
    for host in hosts[:HOSTS_MAX]:
        yield shlex.join(("drtool", *words(host, hosts)))
    if not hosts:
        yield shlex.join(word for word in ("drtool", *words("", [])) if word not in ("--host", ""))


def _into_a_directory(host: str, hosts: list[str]) -> list[str]:
    return restore_words(host, hosts or [host])


def _in_place(host: str, _hosts: list[str]) -> list[str]:
    return ["restore", "--all-sources", "--host", host, "--to", "/", "--overwrite", "always"]


def _hosts(kit: Kit) -> list[str]:
    """Return the hosts that have snapshots, starting with the host that made the kit."""
    return sorted({source.host for source in kit.sources}, key=lambda host: (host != kit.host, host))


def _others(kit: Kit) -> str:
    more = len(_hosts(kit)) - HOSTS_MAX
    told = f"{more} more hosts have snapshots. `drtool snapshots` lists them." if more > 0 else ""
    return f"Do this only on the machine that replaces that host. {told}".rstrip() if len(_hosts(kit)) > 1 else told


def closing(kit: Kit) -> str:
    """Return the advice for a catalogue without a quorum, and the number of sites that suffice for recovery."""
    promise = str(kit.promise)
    return (
        f"With fewer than {kit.quorum} of the {kit.voters} voting sites available, add `--manifest-from any` to `snapshots` and "
        f"`restore`. {promise[:1].upper()}{promise[1:]}, once all copies exist. `drtool survive` shows what applies to the data "
        "stored now."
    )


def connect_code(kit: Kit) -> str:
    """Return the text of the first QR code."""
    first = _first(kit)
    return f"drtool connect {shlex.quote(first.url)}\nrepository {kit.repository_id}"


def html_page(kit: Kit) -> str:
    """Return a self-contained page, to be printed on one sheet."""
    kit = _printable(kit)
    parts = (
        _html_head(kit),
        _html_password(kit),
        f"<h2>What to do</h2>\n<ol>{''.join(map(_html_step, steps(kit)))}</ol>\n<p>{_marked(closing(kit))}</p>",
        f"<h2>Where it is</h2>\n<table>{_html_places(kit)}</table>",
        f"<h2>What opens it</h2>\n<ul>{_html_slots(kit)}</ul>",
        f"<footer>{_marked(_ADVICE)}</footer>",
    )
    title = escape(f"drtool recovery kit: {kit.label}")
    return _PAGE.format(title=title, style=_STYLE, body="\n".join(parts))


def text_page(kit: Kit, *, dark: bool = False) -> str:
    """Return the same as plain text. Command lines begin with four spaces and `$ `. `dark` is for dark terminals."""
    kit = _printable(kit)
    parts = [
        f"RECOVERY KIT: {kit.label}",
        f"repository {kit.repository_id}, printed {_day(kit.made_ns)} on {kit.host}, drtool {kit.version}",
        "",
        f"PASSWORD ({_opened_with(kit)})",
        "",
        "    " + (kit.password if kit.password is not None else "_" * 64),
        "",
        "WHAT TO DO",
        "",
    ]
    for number, step in enumerate(steps(kit), 1):
        parts += [f"{number}. {step.what}", *(f"    $ {command}" for command in step.commands)]
        parts += [*(f"   {line}" for line in _wrapped(step.note)), ""]
    parts += [*_wrapped(closing(kit)), "", "WHERE IT IS", ""]
    parts += [f"    {place.name}  {place.url}{_aside(place)}" for place in kit.places[:PLACES_MAX]]
    parts += [*_more(kit.places, PLACES_MAX), "", "WHAT OPENS IT", ""]
    parts += [f"    {line}" for line in _slot_lines(kit)]
    parts += [
        *_more(kit.slots, SLOTS_MAX),
        "",
        *_wrapped(_ADVICE),
        "",
        "CONNECT",
        "",
        _blocks(connect_code(kit), dark=dark),
    ]
    parts += ["PASSWORD", "", _blocks(kit.password, dark=dark)] if kit.password is not None else []
    return "\n".join(parts).rstrip() + "\n"


def _printable(kit: Kit) -> Kit:
    """Return the kit with every text escaped, except the password, which must be typed as it is."""
    return msgspec.convert({**_shown(msgspec.to_builtins(kit)), "password": kit.password}, Kit)


def _shown(value: Any) -> Any:  # noqa: ANN401 - any plain value
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return printable(value) if isinstance(value, str) else value


def _opened_with(kit: Kit) -> str:
    slot = next((slot for slot in kit.slots if slot.in_use), None)
    return f"of key slot {slot.id}, {_short(slot.label)}" if slot else "of any key slot below"


def _short(label: str) -> str:
    return label if len(label) <= LABEL_MAX else label[: LABEL_MAX - 1] + "…"


def _slot_lines(kit: Kit) -> Iterator[str]:
    for slot in kit.slots[:SLOTS_MAX]:
        since = f", since {_day(slot.created_ns)[:10]}" if slot.created_ns else ""
        yield f"{slot.id}  {_short(slot.label)}{since}"


def _aside(place: KitPlace) -> str:
    told = [f"on {place.host}"] if place.host else []
    told += [] if place.keys else ["no key slot"]
    told += [] if place.data else ["no data, only a vote"]
    return f"  ({'; '.join(told)})" if told else ""


def _day(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%d %H:%M} UTC"


def _more(rows: Sequence[object], shown: int) -> list[str]:
    return [f"    … and {len(rows) - shown} more"] if len(rows) > shown else []


def _wrapped(text: str) -> list[str]:
    """Wrap text between words only, because parts of a note may be typed literally."""
    import textwrap

    return textwrap.wrap(text, WIDTH - 3, break_long_words=False, break_on_hyphens=False)


def _html_head(kit: Kit) -> str:
    codes = [("Connect", connect_code(kit))]
    codes += [("Password", kit.password)] if kit.password is not None else []
    figures = "".join(f"<figure>{_svg(text)}<figcaption>{escape(title)}</figcaption></figure>" for title, text in codes)
    made = f"printed {_day(kit.made_ns)} on {escape(kit.host)}, drtool {escape(kit.version)}"
    name = f"<h1>Recovery kit</h1><p class='name'>{escape(kit.label)}</p>"
    about = f"{name}<p>repository <code>{kit.repository_id}</code><br/>{made}</p>"
    return f"<header><div>{about}</div><div class='codes'>{figures}</div></header>"


def _html_password(kit: Kit) -> str:
    inner = "&#160;" if kit.password is None else f"<code>{escape(kit.password)}</code>"
    return (
        f"<section class='password'><p>Password {escape(_opened_with(kit))}</p><p class='blank'>{inner}</p></section>"
    )


def _html_step(step: Step) -> str:
    commands = "\n".join(escape(command) for command in step.commands)
    note = f"<p class='note'>{_marked(step.note)}</p>" if step.note else ""
    return f"<li>{_marked(step.what)}<pre>{commands}</pre>{note}</li>\n"


def _marked(text: str) -> str:
    """Return escaped text, with parts between backquotes as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _html_places(kit: Kit) -> str:
    rows = ["<tr><th>place</th><th>address</th><th>note</th></tr>"]
    for place in kit.places[:PLACES_MAX]:
        cells = (escape(place.name), f"<code>{escape(place.url)}</code>", escape(_aside(place).strip(" ()")))
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    rows += [f"<tr><td colspan='3'>{row.strip()}</td></tr>" for row in _more(kit.places, PLACES_MAX)]
    return "".join(rows)


def _html_slots(kit: Kit) -> str:
    rows = [f"<code>{id_}</code> {escape(what)}" for id_, _, what in (row.partition("  ") for row in _slot_lines(kit))]
    rows += [row.strip() for row in _more(kit.slots, SLOTS_MAX)]
    return "".join(f"<li>{row}</li>" for row in rows)


def _svg(text: str) -> str:
    return segno.make_qr(text, error="m").svg_inline(border=QR_BORDER, omitsize=True, light="#fff")


def _blocks(text: str, *, dark: bool) -> str:
    """Return a QR code in half blocks, two rows per line. Ink is dark on paper, and light on a `dark` terminal."""
    rows = [[bool(bit) != dark for bit in row] for row in segno.make_qr(text, error="m").matrix_iter(border=QR_BORDER)]
    if len(rows) % 2:
        rows.append([dark] * len(rows[0]))
    glyphs = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(glyphs[pair] for pair in zip(*two, strict=True)).rstrip() for two in pairs) + "\n"


_ADVICE = (
    "Keep one copy at a place that no loss of a site affects, with the password apart from it or in a sealed envelope. Print "
    "it again (`drtool key kit`) when places or passwords change. Try it once a year on an empty machine."
)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""

_STYLE = """@page { size: A4; margin: 12mm 15mm; }
* { box-sizing: border-box; }
body { font: 9.3pt/1.3 "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; color: #111; background: #fff;
  max-width: 180mm; margin: 8mm auto; }
@media print { body { margin: 0; max-width: none; } }
header { display: flex; justify-content: space-between; gap: 6mm; border-bottom: 1.2pt solid #111; padding-bottom: 3mm; }
h1 { font-size: 22pt; margin: 0; letter-spacing: -.01em; }
.name { font-size: 13pt; font-weight: bold; margin: 0 0 1.5mm; overflow-wrap: anywhere; }
h2 { font-size: 11pt; margin: 3mm 0 1mm; }
p { margin: 0 0 1.5mm; }
.codes { display: flex; gap: 4mm; flex: none; }
figure { margin: 0; text-align: center; }
figure svg { width: 29mm; height: 29mm; display: block; }
figcaption { font-size: 8.5pt; }
.password { border: .8pt solid #111; padding: 2mm 3mm; margin: 4mm .5mm 0; break-inside: avoid; }
.password p { font-size: 9pt; margin: 0; }
.password .blank { font-size: 13pt; min-height: 9mm; padding-top: 2.5mm; border-bottom: .6pt dotted #111; }
.password .blank code { font-size: 12pt; }
ol, ul { margin: 0 0 1.5mm; padding-left: 6mm; }
ol li { margin-bottom: 1.1mm; break-inside: avoid; }
code, pre { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 8.2pt; overflow-wrap: anywhere; }
pre { margin: .6mm 0; padding: .9mm 2.5mm; background: #f1f1ee; border-left: 2pt solid #777; white-space: pre-wrap;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.note { font-size: 8.2pt; color: #333; margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: 8.2pt; }
td:first-child { white-space: nowrap; }
td:nth-child(2) { width: 56%; }
td code { font-size: 7.6pt; }
th { text-align: left; font-weight: normal; color: #444; border-bottom: .6pt solid #777; padding: .2mm 3mm .2mm 0; }
td { vertical-align: top; padding: .3mm 3mm .3mm 0; border-bottom: .3pt solid #ccc; }
ul { list-style: none; padding-left: 0; font-size: 8.2pt; }
footer { margin-top: 3mm; border-top: .6pt solid #777; padding-top: 1.2mm; font-size: 8pt; color: #333; }
"""
