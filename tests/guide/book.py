# SPDX-License-Identifier: GPL-2.0-or-later
"""
The guide as a program sees it: chapters, the blocks in them, and what each is for.

Before every block of code in docs/guide.md and docs/guide/*.md is a comment that a
reader does not see, and which says what the block is:

  <!-- type -->               typed as it stands; lines with a guest's or gdb's prompt
                              without that, and the lines behind them are the answer
  <!-- shows -->              what the block before it shows, each line in this order
  <!-- quote FILE -->         these very lines are in that file
  <!-- left: WHY -->          not tried, and why
  <!-- scene NAME: ... -->    what follows, up to the next one or the chapter's end, is played
                              in fresh terminals. It needs WORDs (commands, or root,
                              mirror, minutes, clean: run.py), and may want a network of its own:
                              <!-- scene routed: needs root iptables; own network -->
  <!-- key ^C: status 130 -->  no block: the key is pressed, and the guest ends
  <!-- measured -->           no block: here `make bench` has its table

`type` knows more (after a colon, with semicolons between): `terminal 2`, `status 3` (of the
last command), `within 300` seconds, `stays` (it gives no prompt, and runs on), `ends` (the guest
does, though there may be a prompt of its first), `silent` (it prints nothing), `repeat` (until it
shows what it should). `shows` may say `numbers vary` or `about`, and so may `type` of its answers.

A line of dots stands for lines that are not shown; what else appears between those that
are is of no matter. Words are what is compared: with `numbers vary` numbers may be any, with
`about` at most twice or half as large. run.py plays the scenes.
"""
import os
import re

MARK = re.compile(r"<!-- (scene|type|shows|quote|left|key)\b ?([^:>]*?)(?:: (.*?))? -->$")
WORDS = {
    "type": {"terminal", "status", "within", "stays", "ends", "silent", "repeat", "numbers",
             "about"},
    "shows": {"numbers", "about"},
    "key": {"terminal", "within", "status"},
    "scene": {"needs", "own"},
    "quote": set(),
}


class Wrong(Exception):
    """Something is wrong with the book itself: where, and what."""


class Block:
    def __init__(self, place, kind, name, words, lines):
        self.place, self.kind, self.name, self.lines = place, kind, name, lines
        self.words = {}
        if kind == "left":
            if not words:
                raise Wrong(f"{place}: does not say why it is not tried")
            return
        for word in filter(None, (words or "").split("; ")):
            key, _, value = word.partition(" ")
            if key not in WORDS[kind]:
                raise Wrong(f"{place}: {kind} does not know \"{word}\"")
            self.words[key] = value

    def number(self, word, default):
        return int(self.words.get(word, default))


class Scene:
    def __init__(self, block):
        self.place, self.name, self.blocks = block.place, block.name, []
        self.needs = block.words.get("needs", "").split()
        self.own_network = "own" in block.words


def chapters(root):
    """The files of the guide, in the order in which its first page names them."""
    first = os.path.join(root, "docs/guide.md")
    with open(first, encoding="utf-8") as file:
        named = re.findall(r"\]\((guide/[a-z-]+\.md)\)", file.read())
    order = list(dict.fromkeys(named))
    there = {"guide/" + name for name in os.listdir(os.path.join(root, "docs/guide"))}
    if set(order) != there:
        raise Wrong(f"docs/guide.md: names {sorted(order)}, and there are {sorted(there)}")
    return [first] + [os.path.join(root, "docs", name) for name in order]


def code_end(lines, at):
    """Where the block of code that begins here ends, and its lines; None if none begins."""
    if lines[at].startswith("```"):
        end = at + 1
        while not lines[end].startswith("```"):
            end += 1
        return end + 1, lines[at + 1:end]
    if not lines[at].startswith("    "):
        return None
    end = at
    while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end, [line[4:] for line in lines[at:end]]


def blocks(path, root):
    """Every block of a chapter with its mark, and the marks that stand alone."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    name = os.path.relpath(path, root)
    mark = place = None
    at = 0
    while at < len(lines):
        found = MARK.match(lines[at])
        code = code_end(lines, at) if not at or not lines[at - 1].strip() or \
            lines[at].startswith("```") else None
        if lines[at].startswith("<!-- ") and not found and lines[at] != "<!-- measured -->":
            raise Wrong(f"{name}:{at + 1}: a comment that says nothing to us")
        if found:
            if mark:
                raise Wrong(f"{place}: no block follows")
            mark, place = found, f"{name}:{at + 1}"
            if mark[1] in ("scene", "key"):
                yield Block(place, mark[1], mark[2], mark[3], [])
                mark = None
        elif code:
            if not mark:
                raise Wrong(f"{name}:{at + 1}: a block without a comment that says what it is")
            yield Block(place, mark[1], mark[2], mark[3], code[1])
            mark = None
            at = code[0]
            continue
        elif lines[at].strip() and mark:
            raise Wrong(f"{place}: no block follows")
        at += 1


def scenes(root):
    """All scenes of the guide; what has to be typed is in one of them."""
    found = []
    for path in chapters(root):
        scene = None
        for block in blocks(path, root):
            if block.kind == "scene":
                scene = Scene(block)
                found.append(scene)
            elif block.kind in ("type", "shows", "key"):
                if not scene:
                    raise Wrong(f"{block.place}: is in no scene")
                scene.blocks.append(block)
    names = [scene.name for scene in found]
    if len(set(names)) != len(names):
        raise Wrong("two scenes have one name: " + " ".join(names))
    return found


def check_quotes(root):
    """Quoted code is what the file has."""
    count = 0
    for path in chapters(root):
        for block in blocks(path, root):
            if block.kind != "quote":
                continue
            with open(os.path.join(root, block.name), encoding="utf-8") as file:
                text = "\n" + file.read()
            if "\n" + "\n".join(block.lines) + "\n" not in text:
                raise Wrong(f"{block.place}: {block.name} has no such lines")
            count += 1
    if not count:
        raise Wrong("docs/guide: quotes nothing, and should quote the worked device")


def check_whole(root, path):
    """All of a file is quoted somewhere: nobody has to guess what was left out."""
    quoted = {line for chapter in chapters(root) for block in blocks(chapter, root)
              if block.kind == "quote" and block.name == path for line in block.lines}
    with open(os.path.join(root, path), encoding="utf-8") as file:
        lines = file.read().splitlines()
    # What is said in front of a patch is for who applies it.
    begin = next((at for at, line in enumerate(lines) if line.startswith("--- ")), 0)
    for number, line in enumerate(lines[begin:], begin + 1):
        if line.strip() and line not in quoted:
            raise Wrong(f"{path}:{number}: is not in the guide")


def anchor(title):
    """What becomes of a headline in a link to it."""
    return re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")


def check_links(root):
    """
    Every link from README.md and docs/ to a file or a headline of ours arrives. The tour has
    headlines of another kind, and looks after itself.
    """
    docs = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(root, "docs"))
            for name in names if name.endswith(".md") and not folder.endswith("/tour")]
    for path in [os.path.join(root, "README.md")] + docs:
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"(?ms)^```.*?^```$", "", file.read())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target):
                continue
            place, _, headline = target.partition("#")
            whole = os.path.normpath(os.path.join(os.path.dirname(path), place)) if place else path
            if not os.path.exists(whole):
                raise Wrong(f"{os.path.relpath(path, root)}: the link to {target} leads nowhere")
            if headline:
                with open(whole, encoding="utf-8") as file:
                    titles = re.findall(r"(?m)^#+ (.*)$", file.read())
                if headline not in map(anchor, titles):
                    raise Wrong(f"{os.path.relpath(path, root)}: {target}: no such headline")


CONVERSION = re.compile(r"%[-0-9.*]*(?:ll|l|z|h|hh)?(?:[sdiuxXcpo]|\0)")


def literals(root):
    """What lguest can say: the literals of its source, with those side by side made one."""
    for folder, _, names in os.walk(os.path.join(root, "src")):
        for name in names:
            if not name.endswith(".c"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = re.sub(r"(?m)^\s*#.*$", "", file.read())
            # "..." PRIu64 "...": the conversion ends where the literal does.
            text = re.sub(r'"\s*PRI[a-zA-Z]+\d*\s*"', "\0", text)
            text = re.sub(r'"\s*PRI[a-zA-Z]+\d*', "\0\"", text)
            text = re.sub(r'"\s*[A-Z_]{4,}\s*"', "%s", text)
            text = re.sub(r'"\s*"', "", text)
            for literal in re.findall(r'"((?:[^"\\\n]|\\.)*)"', text):
                literal = literal.replace('\\"', '"').removesuffix("\\n").strip(" :")
                if len(literal) > 8:
                    yield literal


def says(literal, message):
    """
    Could this literal have come out as that message, or, if that ends with dots, begun so? A third
    of the message must be the literal's own words, and not what was put between them.
    """
    open_end = message.endswith("...")
    message = message.removesuffix("...").rstrip()
    parts = CONVERSION.split(literal)
    if not message.startswith(parts[0]):
        return open_end and parts[0].startswith(message)
    at = own = len(parts[0])
    for part in parts[1:]:
        found = message.find(part, at) if part else at
        if found < 0:
            # The message may end before this part, or within it.
            own += max((n for n in range(len(part)) if message.endswith(part[:n])), default=0)
            return open_end and own * 3 >= len(message)
        at = found + len(part)
        own += len(part)
    return own * 3 >= len(message) and (open_end or at == len(message) or not parts[-1])


def check_messages(root):
    """The tables under "What lguest says" have words of lguest's, and no others."""
    path = os.path.join(root, "docs/guide/trouble.md")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    known = list(literals(root))
    section = re.search(r"(?ms)^## What lguest says$(.*?)(?=^## |\Z)", text)
    count = 0
    for cell in re.findall(r"(?m)^\| (`.*?) \|", section[1] if section else ""):
        for message in re.findall(r"`([^`]*)`", cell):
            # What a caller has put in front.
            shorter = re.sub(r"^(the (kernel|initrd) [A-Z]+|--sharenet=NAME:) ", "", message)
            if not any(says(literal, message) or says(literal, shorter) for literal in known):
                raise Wrong(f"docs/guide/trouble.md: lguest never says \"{message}\"")
            count += 1
    if not count:
        raise Wrong("docs/guide/trouble.md: has no messages under \"What lguest says\"")
