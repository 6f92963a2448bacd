# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks: which comments of src/ the tour tells, in which order, and how much code each shows.

A mark is the last line of a comment that begins in the first column:

     * Tour 4.120: How a chain is taken from the ring

Chapter, number within the chapter, title. Without a title the story goes on under the last one
(` * Tour 4.121`). The comment is the prose, and the code is the item below it: a function, a
structure, whatever lasts until a blank line outside of all brackets. Two functions that belong
together are `Tour 4.120, 2 items: ...`; of a table that is too long to show, there is
`Tour 4.120, 20 lines: ...`. The opening comment of a file shows no code unless it asks for some.

Every file has a mark in its opening comment. Marks rise within a file, so that whoever reads the
file reads the story in order, too; and there are no two of a number. All that is wrong is found
at once, and told as a compiler would: file, line, what it is.
"""

import bisect
import dataclasses
import pathlib
import re

SUFFIXES = (".c", ".h", ".S", ".asl", ".ld")
LICENSE = "SPDX-License-Identifier"
NO_MARK = "in no chapter: this comment has no mark (tools/tour/marks.py says how)"

MARK = re.compile(r"Tour (\d+)\.(\d+)(?:, (\d+) (item|line)s?)?(?:: (\S.*))?")
# What somebody may have meant as one.
LIKE_A_MARK = re.compile(r"\W*(?:(?i:tour)\b\W*\d|Tour\b)")


@dataclasses.dataclass(order=True)
class Trouble:
    """What is wrong, and where."""

    path: str
    line: int
    text: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text}"


@dataclasses.dataclass
class Section:
    """A mark with what belongs to it. Lines are counted from 1, and ranges have both ends."""

    chapter: int
    number: int
    title: str | None
    path: str
    line: int  # of the mark
    is_opening: bool
    prose: list  # the comment's lines, without the mark
    comment: tuple  # range of lines
    code: tuple | None = None
    left_out: tuple | None = None  # what of this file comes next, and is not shown

    @property
    def place(self):
        return self.chapter, self.number

    @property
    def name(self):
        return f"{self.chapter}.{self.number}"

    @property
    def shown(self):
        return self.comment[0], (self.code or self.comment)[1]


def find_comments(lines):
    """Comments that begin in the first column, as ranges of lines."""
    begun = None
    for number, line in enumerate(lines, 1):
        if begun is None and line.startswith("/*"):
            begun = number
        if begun is not None and "*/" in line:
            yield begun, number
            begun = None


def comment_text(lines):
    """What a comment says, line by line, without its decoration."""
    text = []
    for line in lines:
        line = line.rstrip().expandtabs(8)
        line = re.sub(r"^/\*+ ?", "", line)
        line = re.sub(r"^ \*(?!/) ?", "", line)
        text.append(re.sub(r" ?\*+/$", "", line).rstrip())
    while text and not text[0]:
        text.pop(0)
    while text and not text[-1]:
        text.pop()
    return text


TOKEN = re.compile(
    r"""(?P<comment>/\*.*?(?:\*/|$)|//.*)|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[][(){}]"""
)


def item_end(lines, first):
    """The last line of the item that begins at line `first`, or of the file."""
    depth = 0
    in_comment = False
    for number in range(first, len(lines) + 1):
        line = lines[number - 1]
        if not line.strip() and not depth and not in_comment:
            return number - 1
        if in_comment:
            if "*/" not in line:
                continue
            line = line.split("*/", 1)[1]
            in_comment = False
        if line.startswith("}"):
            depth = 1
        for token in TOKEN.finditer(line):
            if token["comment"]:
                in_comment = token["comment"].startswith("/*") and "*/" not in token["comment"][2:]
            elif token[0] in "([{":
                depth += 1
            elif token[0] in ")]}":
                depth = max(depth - 1, 0)
    return len(lines)


def next_code(lines, after):
    """The first line after line `after` that is not blank, or None."""
    for number in range(after + 1, len(lines) + 1):
        if lines[number - 1].strip():
            return number
    return None


def find_extent(lines, comment, count, unit):
    """What code a mark shows, as a range of lines; a string says why there is none."""
    first = next_code(lines, comment[1])
    if unit == "item" and count == 0:
        return None
    if first is None:
        return "nothing comes after this mark that it could show"
    if unit == "line":
        end = item_end(lines, first)
        if first + count - 1 > end:
            return f"{count} lines, but the item below has {end - first + 1}"
        return first, first + count - 1
    end = first - 1
    for _ in range(count):
        begin = next_code(lines, end)
        if begin is None:
            return f"{count} items, but the file ends before that"
        end = item_end(lines, begin)
    return first, end


def read_file(path, text):
    """The sections of one file, in its own order, and what is wrong with it."""
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    sections, troubles, seen = [], [], set()
    is_opening = True
    for first, last in find_comments(lines):
        comment = comment_text(lines[first - 1 : last])
        if not comment or comment[0].startswith(LICENSE):
            continue
        like = [n for n in range(first, last + 1) if LIKE_A_MARK.match(lines[n - 1])]
        seen.update(like)
        if like:
            section, wrong = read_comment(path, lines, (first, last), comment, is_opening)
            if wrong:
                troubles.append(Trouble(path, like[0], wrong))
            else:
                section.line = like[0]
                sections.append(section)
        elif is_opening:
            troubles.append(Trouble(path, first, NO_MARK))
        is_opening = False
    if is_opening:
        troubles.append(Trouble(path, 1, "in no chapter: there is no opening comment"))
    for number, line in enumerate(lines, 1):
        if number not in seen and LIKE_A_MARK.match(line) and MARK.search(line):
            troubles.append(
                Trouble(path, number, "a mark ends a comment that begins in the first column")
            )
    add_left_out(sections, lines)
    return sections, troubles


def read_comment(path, lines, comment, text, is_opening):
    """The section of a comment that seems to have a mark: (section, what is wrong)."""
    mark = MARK.fullmatch(text[-1])
    if not mark or sum(bool(LIKE_A_MARK.match(line)) for line in text) > 1:
        return None, 'malformed: a mark is the last line of its comment, "Tour 4.120: Title"'
    count, unit = int(mark[3] or not is_opening), mark[4] or "item"
    prose = text[:-1]
    while prose and not prose[-1]:
        prose.pop()
    if not prose:
        return None, "malformed: this mark has no prose above it"
    if mark[3] and not count:
        return None, "malformed: none is no extent"
    extent = find_extent(lines, comment, count, unit)
    if isinstance(extent, str):
        return None, extent
    return (
        Section(
            chapter=int(mark[1]),
            number=int(mark[2]),
            title=mark[5],
            path=path,
            line=comment[1],
            is_opening=is_opening,
            prose=prose,
            comment=comment,
            code=extent,
        ),
        None,
    )


def add_left_out(sections, lines):
    """Tell each section which lines of its file come between it and the next one."""
    for section, following in zip(sections, sections[1:] + [None]):
        first = next_code(lines, section.shown[1])
        last = following.comment[0] - 1 if following else len(lines)
        while first and last >= first and not lines[last - 1].strip():
            last -= 1
        if first and last >= first:
            section.left_out = first, last


def check_order(sections):
    """What is wrong with the sections of one file, beside one another."""
    for before, section in zip(sections, sections[1:]):
        if section.place < before.place:
            yield Trouble(
                section.path,
                section.line,
                f"out of order: {section.name} comes after {before.name} of line {before.line}",
            )
        if section.comment[0] <= before.shown[1]:
            yield Trouble(
                section.path,
                section.line,
                f"{section.name} lies in what {before.name} of line {before.line} shows already",
            )


def check_all(sections, chapters):
    """What is wrong with all of them together."""
    places = {}
    for section in sections:
        if section.chapter not in chapters:
            yield Trouble(
                section.path,
                section.line,
                f"{section.name}: no chapter {section.chapter}; docs/tour has "
                f"{min(chapters)} to {max(chapters)}",
            )
        other = places.setdefault(section.place, section)
        if other is not section:
            yield Trouble(
                section.path,
                section.line,
                f"duplicate: {section.name} is at {other.path}:{other.line} as well",
            )


def source_files(root):
    """All files of src/ that have to be in the tour, by their paths from `root`."""
    src = pathlib.Path(root) / "src"
    return sorted(
        path.relative_to(root).as_posix()
        for path in src.rglob("*")
        if path.is_file() and path.suffix in SUFFIXES
    )


def read_sources(root, chapters):
    """All sections in reading order, and all that is wrong with them, in the files' order."""
    sections, troubles = [], []
    for path in source_files(root):
        try:
            text = (pathlib.Path(root) / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            troubles.append(Trouble(path, 1, "is not UTF-8"))
            continue
        found, wrong = read_file(path, text)
        troubles += wrong
        troubles += check_order(found)
        sections += found
    troubles += check_all(sections, chapters)
    sections.sort(key=lambda section: (section.place, section.path))
    return sections, sorted(troubles)


class Names:
    """Where in the tour a function or a file is found."""

    FUNCTION = re.compile(r"^[a-z_][\w \t*]*?\b(\w+)\(", re.IGNORECASE)

    def __init__(self, sections, sources):
        self.files, self.functions, self.here = {}, {}, {}
        ambiguous = set()
        self.paths = sorted(path[::-1] for path in sources)
        for section in sections:
            if section.is_opening:
                self.files[section.path] = section
            if not section.code:
                continue
            first, last = section.code
            for name in self.defined(sources[section.path][first - 1 : last]):
                self.here[section.path, name] = section
                if self.functions.setdefault(name, section) is not section:
                    ambiguous.add(name)
        # Static functions of several files may have one name: then it is known in these files.
        for name in ambiguous:
            del self.functions[name]

    @classmethod
    def defined(cls, lines):
        """Names of the functions whose bodies are among these lines."""
        for number, line in enumerate(lines):
            if line != "{":
                continue
            head = number
            while head and lines[head - 1].strip() and not lines[head - 1].rstrip().endswith("*/"):
                head -= 1
            found = cls.FUNCTION.match(" ".join(lines[head:number]))
            if found:
                yield found[1]

    def function(self, name, path=None):
        """The section that shows a function, if one does."""
        return self.here.get((path, name)) or self.functions.get(name)

    def file(self, name, path=None):
        """The section that opens a file, which prose calls by the end of its path."""
        wanted = name[::-1]
        found = []
        for reverse in self.paths[bisect.bisect_left(self.paths, wanted) :]:
            if not reverse.startswith(wanted):
                break
            if len(reverse) == len(wanted) or reverse[len(wanted)] == "/":
                found.append(reverse[::-1])
        if len(found) > 1 and path:
            folder = path.rsplit("/", 1)[0]
            found = [one for one in found if one.rsplit("/", 1)[0] == folder] or found
        return self.files.get(found[0]) if len(found) == 1 else None
