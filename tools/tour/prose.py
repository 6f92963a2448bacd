# SPDX-License-Identifier: GPL-2.0-or-later
"""Prose: comments, and the chapters' introductions in docs/tour/, as blocks.

Comments are written to be read in place, so they have paragraphs, lists with "- ", and lines
that are indented where somebody drew a table. Introductions are Markdown, of which this knows
what they use: headings, paragraphs, lists, fenced blocks, links, pictures.

A block is (kind, content): ("p", text), ("ul", [text...]), ("ol", [text...]), ("pre", lines),
("picture", (path, what it shows)). What stands inside a text is told apart by spans().
"""

import dataclasses
import re


def comment_blocks(lines):
    """The blocks of a comment's text."""
    blocks = []
    open_block = None  # "p", "ul", "pre", or None after a blank line
    for line in lines:
        if not line.strip():
            if open_block == "pre":
                blocks[-1][1].append("")
            else:
                open_block = None
        elif open_block != "p" and line.startswith("  ") and open_block != "ul":
            if open_block != "pre":
                blocks.append(("pre", []))
                open_block = "pre"
            blocks[-1][1].append(line)
        elif line.startswith("- "):
            if open_block != "ul" and not (blocks and blocks[-1][0] == "ul" and not open_block):
                blocks.append(("ul", []))
            blocks[-1][1].append(line[2:].strip())
            open_block = "ul"
        elif open_block == "ul":
            blocks[-1][1][-1] += " " + line.strip()
        elif open_block == "p":
            blocks[-1] = ("p", blocks[-1][1] + " " + line.strip())
        else:
            blocks.append(("p", line.strip()))
            open_block = "p"
    return [close_pre(block) for block in blocks]


def close_pre(block):
    """A drawn block without the indentation that all of it has, and without blank lines around."""
    kind, lines = block
    if kind != "pre":
        return block
    while lines and not lines[-1].strip():
        lines.pop()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return kind, [line[margin:] for line in lines]


def markdown_blocks(lines):
    """The blocks of a piece of Markdown without headings."""
    blocks, fence, open_block = [], None, None
    for line in lines:
        if fence is not None:
            if line.startswith("```"):
                blocks.append(("pre", fence))
                fence = None
            else:
                fence.append(line)
            continue
        picture = re.fullmatch(r"!\[([^]]*)\]\(([^)]*)\)", line.strip())
        bullet = re.match(r"(- |\d+\. )(.*)", line)
        if line.startswith("```"):
            fence, open_block = [], None
        elif not line.strip():
            open_block = None
        elif picture:
            blocks.append(("picture", (picture[2], picture[1])))
            open_block = None
        elif bullet:
            kind = "ul" if bullet[1] == "- " else "ol"
            if not blocks or blocks[-1][0] != kind:
                blocks.append((kind, []))
            blocks[-1][1].append(bullet[2])
            open_block = kind
        elif open_block in ("ul", "ol"):
            blocks[-1][1][-1] += " " + line.strip()
        elif open_block == "p":
            blocks[-1] = ("p", blocks[-1][1] + " " + line.strip())
        else:
            blocks.append(("p", line.strip()))
            open_block = "p"
    if fence is not None:
        raise ValueError("a block that begins with ``` never ends")
    return blocks


@dataclasses.dataclass
class Part:
    """A part of a chapter: what introduces the marks from a number on. The first has no title."""

    number: int
    title: str | None
    blocks: list


@dataclasses.dataclass
class Chapter:
    """One file of docs/tour/."""

    number: int
    title: str
    path: str
    parts: list


PART = re.compile(r"## (\d+): (\S.*)")


def read_chapter(path, text):
    """A chapter from its file, N-name.md: "# Title", then parts, "## 100: Title".

    ValueError says what is wrong, with a line number in front.
    """
    number = int(re.match(r".*?(\d+)-[^/]*$", path)[1])
    title, parts, begun = None, [Part(0, None, [])], 1
    pending = []

    def finish():
        try:
            parts[-1].blocks = markdown_blocks(pending)
        except ValueError as why:
            raise ValueError(f"{path}:{begun}: {why}") from None
        pending.clear()

    for at, line in enumerate(text.split("\n"), 1):
        if line.startswith("<!--") and line.endswith("-->"):
            continue
        if line.startswith("# ") and title is None:
            title = line[2:].strip()
        elif line.startswith("## "):
            heading = PART.fullmatch(line)
            if not heading:
                raise ValueError(f'{path}:{at}: a part is "## NUMBER: Title"')
            finish()
            begun = at
            if int(heading[1]) <= parts[-1].number:
                raise ValueError(f"{path}:{at}: part {heading[1]} is out of order")
            parts.append(Part(int(heading[1]), heading[2], []))
        else:
            pending.append(line)
    finish()
    if title is None:
        raise ValueError(f'{path}:1: a chapter begins with "# Title"')
    return Chapter(number, title, path, parts)


SPAN = re.compile(
    r"`(?P<code>[^`]+)`"
    r"|\*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*"
    r"|(?<![\w*])\*(?P<em>[^*\s](?:[^*]*[^*\s])?)\*(?![\w*])"
    r"|\[(?P<link>[^]]+)\]\((?P<target>[^)\s]+)\)"
    r"|(?P<function>\b[a-z_]\w*)\(\)"
    r"|(?P<file>(?:\b[\w-]+/)*[\w-]+\.(?:c|h|S|asl|ld)\b)(?!\()"
    # What has an underscore is a name of the program's, whether or not it says so.
    r"|(?P<name>\b[A-Za-z]\w*_\w+(?:\.\w+)*(?:\(\))?)"
)


def known_code(text):
    """A span of code, which may be the name of a function or of a file."""
    name = SPAN.fullmatch(text)
    if name and name.lastgroup in ("function", "file"):
        return name.lastgroup, name[name.lastgroup], None
    return "code", text, None


def spans(text):
    """A text in pieces (kind, string, target): "text", "code", "strong", "em", "link",
    "function", "file"."""
    end = 0
    for found in SPAN.finditer(text):
        if found.start() > end:
            yield "text", text[end : found.start()], None
        end = found.end()
        kind = found.lastgroup
        if kind == "target":
            yield "link", found["link"], found["target"]
        elif kind == "name":
            yield "code", found["name"], None
        elif kind == "code":
            yield known_code(found["code"])
        else:
            yield kind, found[kind], None
    if end < len(text):
        yield "text", text[end:], None
