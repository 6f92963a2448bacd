# SPDX-License-Identifier: GPL-2.0-or-later
"""Pictures: drawn with the line characters of Unicode, shown by a terminal as they are, and
turned into SVG for the page. The sources are docs/pictures/*.txt.

    title: What it shows
    (the drawing)

Lines and boxes are ─ │ ┌ ┐ └ ┘ ├ ┤ ┬ ┴ ┼, dashed ┄ ┆, round corners ╭ ╮ ╰ ╯, heads of arrows
▶ ◀ ▲ ▼. A box with a ░, ▒ or ▓ in it is tinted. All else is text. SVG takes its colours from the
page's classes, so it is dark where the page is.
"""

import dataclasses
import html
import re

CELL_WIDTH = 8
CELL_HEIGHT = 17
BASELINE = 12.5
HEAD_LENGTH = 8
HEAD_SIDE = 3.5

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
ARMS = {
    "─": LEFT | RIGHT,
    "│": UP | DOWN,
    "┌": DOWN | RIGHT,
    "┐": DOWN | LEFT,
    "└": UP | RIGHT,
    "┘": UP | LEFT,
    "├": UP | DOWN | RIGHT,
    "┤": UP | DOWN | LEFT,
    "┬": DOWN | LEFT | RIGHT,
    "┴": UP | LEFT | RIGHT,
    "┼": UP | DOWN | LEFT | RIGHT,
    "┄": LEFT | RIGHT,
    "┆": UP | DOWN,
    "╭": DOWN | RIGHT,
    "╮": DOWN | LEFT,
    "╰": UP | RIGHT,
    "╯": UP | LEFT,
    "▶": LEFT,
    "◀": RIGHT,
    "▲": DOWN,
    "▼": UP,
}
DASHED = "┄┆"
ROUND = "╭╮╰╯"
HEADS = {"▶": (1, 0), "◀": (-1, 0), "▲": (0, -1), "▼": (0, 1)}
TINTS = {"░": 1, "▒": 2, "▓": 3}
FUNCTION = re.compile(r"\b[a-z_]\w*(?=\(\))")

PLAIN = str.maketrans("─│┌┐└┘├┤┬┴┼┄┆╭╮╰╯▶◀▲▼░▒▓", "-|+++++++++-:++++><^v.:#")


@dataclasses.dataclass
class Picture:
    """A drawing: what it is called, and its lines, all equally long."""

    title: str
    rows: list

    def at(self, row, column):
        """The character there; a space outside."""
        if 0 <= row < len(self.rows) and 0 <= column < len(self.rows[row]):
            return self.rows[row][column]
        return " "


def read_picture(path, text):
    """A picture from its source; ValueError says what is wrong."""
    lines = [line.rstrip() for line in text.split("\n") if not line.startswith("#")]
    while lines and not lines[0]:
        lines.pop(0)
    if not lines or not lines[0].startswith("title: "):
        raise ValueError(f'{path}:1: a picture begins with "title: "')
    title = lines.pop(0)[len("title: ") :]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    if not lines or any("\t" in line for line in lines):
        raise ValueError(f"{path}:1: nothing is drawn here, or it is drawn with tabs")
    width = max(map(len, lines))
    return Picture(title, [line.ljust(width) for line in lines])


def plain(picture, unicode=True):
    """The picture as a terminal shows it."""
    return [row.rstrip() if unicode else row.rstrip().translate(PLAIN) for row in picture.rows]


def straight_lines(picture):
    """All straight lines, as (x1, y1, x2, y2, is dashed), in half cells; each as long as it is."""
    for across in (True, False):
        before, after = (LEFT, RIGHT) if across else (UP, DOWN)
        outer = len(picture.rows) if across else len(picture.rows[0])
        inner = len(picture.rows[0]) if across else len(picture.rows)
        for fixed in range(outer):
            begun, dashed = None, False
            for at in range(inner + 1):
                char = picture.at(fixed, at) if across else picture.at(at, fixed)
                arms = 0 if char in ROUND else ARMS.get(char, 0)
                changes = arms and (char in DASHED) != dashed
                if begun is not None and (not arms & before or changes):
                    yield line_between(across, fixed, begun, 2 * at, dashed)
                    begun = None
                if arms & before and begun is None:
                    begun, dashed = 2 * at, char in DASHED
                if begun is not None and not arms & after:
                    yield line_between(across, fixed, begun, 2 * at + 1, dashed)
                    begun = None
                if arms & after and begun is None:
                    begun, dashed = 2 * at + 1, char in DASHED


def line_between(across, fixed, begun, ended, dashed):
    """A line along `fixed`'s middle, its ends in half cells."""
    middle = 2 * fixed + 1
    if across:
        return begun, middle, ended, middle, dashed
    return middle, begun, middle, ended, dashed


def find_boxes(picture):
    """The smallest box at each upper left corner: (top, left, bottom, right)."""
    for top, row in enumerate(picture.rows):
        for left in range(len(row)):
            if ARMS.get(row[left], 0) & (DOWN | RIGHT) == DOWN | RIGHT:
                box = smallest_box(picture, top, left)
                if box:
                    yield box


def smallest_box(picture, top, left):
    """The smallest closed box whose upper left corner this is, or None."""

    def has(row, column, arms):
        return ARMS.get(picture.at(row, column), 0) & arms == arms

    right = left + 1
    while has(top, right, LEFT):
        if has(top, right, LEFT | DOWN):
            bottom = top + 1
            while has(bottom, left, UP) and has(bottom, right, UP):
                if has(bottom, left, UP | RIGHT) and has(bottom, right, UP | LEFT):
                    if all(has(bottom, x, LEFT | RIGHT) for x in range(left + 1, right)):
                        return top, left, bottom, right
                bottom += 1
        right += 1
    return None


def find_tints(picture):
    """The tints of boxes: each mark is for the smallest box that it is in."""
    boxes = sorted(find_boxes(picture), key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    tints = {}
    for at, row in enumerate(picture.rows):
        for column, char in enumerate(row):
            around = [
                box for box in boxes if box[0] < at < box[2] and box[1] < column < box[3]
            ]
            if char in TINTS and around:
                tints[around[0]] = TINTS[char]
    return tints


def texts(picture):
    """All texts, as (row, column, string): what has no two spaces in it, and no drawing."""
    drawn = dict.fromkeys(map(ord, [*ARMS, *TINTS]), "\0")
    for at, row in enumerate(picture.rows):
        for found in re.finditer(r"[^\s\0]+(?: [^\s\0]+)*", row.translate(drawn)):
            yield at, found.start(), found[0]


def number(value):
    """A coordinate without needless digits."""
    return f"{value:g}"


def text_elements(row, column, text, find):
    """A text, cut at names of functions that the page has a link for."""
    end = 0
    pieces = []
    for found in FUNCTION.finditer(text):
        target = find(found[0])
        if not target:
            continue
        pieces.append((end, text[end : found.start()], None))
        end = found.end() + len("()")
        pieces.append((found.start(), found[0] + "()", target))
    pieces.append((end, text[end:], None))
    for offset, piece, target in pieces:
        offset += len(piece) - len(piece.lstrip())
        piece = piece.strip()
        if not piece:
            continue
        element = (
            f'<text x="{(column + offset) * CELL_WIDTH}" '
            f'y="{number(row * CELL_HEIGHT + BASELINE)}" '
            f'textLength="{len(piece) * CELL_WIDTH}">{html.escape(piece)}</text>'
        )
        yield f'<a href="{target}">{element}</a>' if target else element


def svg(picture, find=lambda name: None):
    """The picture as an SVG element. find(name) gives the address of a function, or None."""
    half_width, half_height = CELL_WIDTH / 2, CELL_HEIGHT / 2
    width, height = len(picture.rows[0]) * CELL_WIDTH, len(picture.rows) * CELL_HEIGHT
    out = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<title>{html.escape(picture.title)}</title>",
    ]
    for (top, left, bottom, right), tint in sorted(find_tints(picture).items()):
        out.append(
            f'<rect class="tint{tint}" x="{number((2 * left + 1) * half_width)}" '
            f'y="{number((2 * top + 1) * half_height)}" '
            f'width="{(right - left) * CELL_WIDTH}" '
            f'height="{(bottom - top) * CELL_HEIGHT}"/>'
        )
    for dashed in (False, True):
        path = "".join(
            f"M{number(x1 * half_width)} {number(y1 * half_height)}"
            + (f"H{number(x2 * half_width)}" if y1 == y2 else f"V{number(y2 * half_height)}")
            for x1, y1, x2, y2, is_dashed in straight_lines(picture)
            if is_dashed == dashed
        )
        if not dashed:
            path += "".join(corners(picture, half_width, half_height))
        if path:
            out.append(f'<path class="{"dashed" if dashed else "line"}" d="{path}"/>')
    out += heads(picture, half_width, half_height)
    for row, column, text in texts(picture):
        out += text_elements(row, column, text, find)
    out.append("</svg>")
    return "\n".join(out)


def corners(picture, half_width, half_height):
    """Round corners, from the middle of one edge of a cell to that of another."""
    for at, row in enumerate(picture.rows):
        for column, char in enumerate(row):
            if char not in ROUND:
                continue
            x, y = (2 * column + 1) * half_width, (2 * at + 1) * half_height
            edge_x = x + (half_width if ARMS[char] & RIGHT else -half_width)
            edge_y = y + (half_height if ARMS[char] & DOWN else -half_height)
            begin, corner, end = (edge_x, y), (x, y), (x, edge_y)
            begin, corner, end = (f"{number(a)} {number(b)}" for a, b in (begin, corner, end))
            yield f"M{begin}Q{corner} {end}"


def heads(picture, half_width, half_height):
    """Heads of arrows. One that comes to a line touches it."""
    for at, row in enumerate(picture.rows):
        for column, char in enumerate(row):
            if char not in HEADS:
                continue
            right, down = HEADS[char]
            x, y = (2 * column + 1) * half_width, (2 * at + 1) * half_height
            reach = half_width if right else half_height
            if picture.at(at + down, column + right) in ARMS:
                reach *= 2
            tip = x + right * reach, y + down * reach
            back = tip[0] - right * HEAD_LENGTH, tip[1] - down * HEAD_LENGTH
            one = back[0] + down * HEAD_SIDE, back[1] + right * HEAD_SIDE
            two = back[0] - down * HEAD_SIDE, back[1] - right * HEAD_SIDE
            points = " ".join(f"{number(px)},{number(py)}" for px, py in (tip, one, two))
            yield f'<path class="line" d="M{number(x)} {number(y)}L{points.split()[0]}"/>'
            yield f'<polygon class="head" points="{points}"/>'
