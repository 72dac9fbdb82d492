"""Text that somebody else gave, for each medium that could take it for markup.

Names, headers, paths and messages come from files, hubs and libraries. The writers of reports,
comparisons and the terminal pass every one of them through their medium's function here, and
what a reader sees is the text alone: in one line, with nothing hidden and nothing acted on.
"""

from __future__ import annotations

import html as html_
import json
import os
import platform
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import TypeVar
from urllib.parse import quote

T = TypeVar("T")

_BLANK = re.compile(r"[\t\n\v\f\r]")
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # controls: terminal escapes, what XML has no way to write
    "\u2028\u2029"  # line breaks of JavaScript and of str.splitlines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions, which reorder what is read
    "\ufeff\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e007f"  # marks and tags that are not seen
    "\ud800-\udfff]"  # bytes of a file name that were no UTF-8
)
_COMMAND = re.compile(r"##(?=[\w-]*\[)|::")
"""How a line of a CI log is a command to the runner, wherever a wrapped line begins."""
_ACTIVE = re.compile(
    r"[\\`*\[\]|<>&$#@]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # inside a word it is no emphasis
    r"|~(?=\S)"  # a tilde before a blank strikes nothing through
    r"|(?<=\w):(?=//)|(?<=\bwww)\.|(?<=\bgh-)(?=\d)",  # links, and references to issues
    re.IGNORECASE,
)
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "$": "&#36;", ":": "&#58;", ".": "&#46;"}
_APART = {"@": "@\u200b", "#": "\\#\u200b", "": "\u200b"}
"""GitHub looks for users and issues in what is shown, so that no escape keeps it from it."""
_BLOCK = re.compile(r"([-+=])|(\d+)([.)])(?=\s|$)")
"""What begins a list, a rule or an underlined heading, at the start of a line."""
_CREDENTIALS = re.compile(r"(?<=:)//[^/?#\s]*@")
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")
_PATH = re.compile(
    r"(?<![\w.:/~…-])(?:~|(?=/))/(?:[^\s:'\",;()<>]*?site-packages/|(?:[^\s/:'\",;()<>]+/)+)"
    r"([^\s:'\",;()<>]*)"
)
MIN_SECRET = 6
"""Shorter tokens and names of hosts are words, which stand in any text."""
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def plain(text: str) -> str:
    r"""One line: blanks for line breaks and tabs, an escape such as \x1b for what is hidden, and
    no password of a URL."""
    return _HIDDEN.sub(_shown, _BLANK.sub(" ", credentials(text)))


def _shown(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def private(text: str, known: Iterable[str] = ()) -> str:
    """Without what is nobody else's: credentials, and where files lie on this machine.

    Of an absolute path the name is left, or what follows site-packages; `known` are paths that
    a blank would cut short.
    """
    for path in known:
        text = text.replace(path, f"…/{PurePath(path).name}")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if len(os.environ.get(name, "")) >= MIN_SECRET:
            text = text.replace(os.environ[name], "***")
    home = os.path.expanduser("~").rstrip("/")
    text = text.replace(f"{home}/", "~/") if home else text
    text = _PATH.sub(lambda found: f"…/{found[1]}", _TOKEN.sub("***", credentials(text)))
    host = platform.node()
    return re.sub(rf"\b{re.escape(host)}\b", "…", text) if len(host) >= MIN_SECRET else text


def credentials(text: str) -> str:
    """With the user and the password of each URL masked."""
    return _CREDENTIALS.sub("//***@", text)


def terminal(text: str) -> str:
    """For a line of a terminal or a log, in which it moves no cursor and gives CI no command."""
    line = plain(text)
    if "GITHUB_ACTIONS" in os.environ or "TF_BUILD" in os.environ:
        line = _COMMAND.sub(lambda found: " ".join(found[0]), line)
    return line


def markdown(text: str) -> str:
    """For a line, a heading or a cell of GitHub's Markdown: no mention, link or HTML either."""
    line = " ".join(plain(text).split())
    start = _BLOCK.match(line)
    line, head = (line[start.end() :], start) if start else (line, None)
    rest = _ACTIVE.sub(_inert, line)
    if head is None:
        return rest
    return f"\\{head[1]}{rest}" if head[1] else f"{head[2]}\\{head[3]}{rest}"


def _inert(found: re.Match[str]) -> str:
    mark = found[0]
    return _APART.get(mark) or _ENTITIES.get(mark) or f"\\{mark}"


def comment(text: str) -> str:
    """For the inside of an HTML comment, which it cannot end; one to one."""
    return quote(text, safe=" /", errors="surrogatepass").replace("--", "-%2D")


def html(text: str) -> str:
    """For the content of an HTML element, or an attribute in quotes."""
    return html_.escape(plain(text))


def xml(text: str) -> str:
    """What XML 1.0 can write of it; the XML library escapes the rest."""
    return _HIDDEN.sub("", _BLANK.sub(" ", text))


def csv(value: T) -> T | str:
    """A cell that no spreadsheet takes for a formula; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    text = "\n".join(map(plain, value.split("\n")))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def annotation(text: str) -> str:
    """For the message of a GitHub workflow command."""
    return "%0A".join(plain(line).replace("%", "%25") for line in text.split("\n"))


def annotation_property(text: str) -> str:
    """For a property of a GitHub workflow command, such as its title."""
    return annotation(text).replace(":", "%3A").replace(",", "%2C")


def json_ascii(text: str) -> str:
    """JSON that any terminal and any locale can carry: the same values, in ASCII."""
    return re.sub(r"[^\n\x20-\x7e]", lambda found: _unicode(found[0]), text)


def _unicode(character: str) -> str:
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]
