# SPDX-License-Identifier: GPL-2.0-or-later
"""The colours of code: which words of C (and of its neighbours) are which.

Good enough to read by, for C, assembly, ASL and linker scripts alike: a comment, a string, a
directive, a keyword, a type, a number, a name that is called.
"""

import re

KEYWORDS = frozenset(
    """asm auto break case const continue default do else enum extern for goto if inline register
    restrict return sizeof static struct switch typedef union volatile while _Atomic _Noreturn
    _Static_assert static_assert __asm__ __attribute__ NULL true false""".split()
)
TYPES = frozenset(
    """bool char double float int long short signed unsigned void u8 u16 u32 u64 s8 s16 s32 s64
    i8 i16 i32 i64 size_t ssize_t off_t""".split()
)

TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)
    |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    |(?P<directive>^[ \t]*\#[ \t]*\w+)
    |(?P<number>\b(?:0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<other>[^A-Za-z_"'/\d#]+|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def tokens(code):
    """`code` in pieces (kind, text): all of it, in order. Kinds: comment, string, directive,
    number, keyword, type, call, and None."""
    for found in TOKEN.finditer(code):
        kind, text = found.lastgroup, found[0]
        if kind == "word":
            if text in KEYWORDS:
                kind = "keyword"
            elif text in TYPES:
                kind = "type"
            elif code.startswith("(", found.end()):
                kind = "call"
            else:
                kind = None
        elif kind == "other":
            kind = None
        yield kind, text


def lines(code):
    """The same, line by line."""
    line = []
    for kind, text in tokens(code):
        pieces = text.split("\n")
        for piece in pieces[:-1]:
            line.append((kind, piece))
            yield line
            line = []
        line.append((kind, pieces[-1]))
    yield line
