# SPDX-License-Identifier: GPL-2.0-or-later
"""
A terminal with a shell in it, and somebody who types.

Who has the terminal is known by the prompt: the host's shell, a guest's, gdb. The
host's says how the last command ended. Nothing here knows what a guide is.
"""
import os
import re
import select
import signal
import time

PROMPTS = {
    "host": re.compile(r"(?:^|\n)host (\d+)> \Z"),
    "more": re.compile(r"(?:^|\n)more> \Z"),
    "guest": re.compile(r"(?:guest:[^\n# ]*)# \Z"),
    "login": re.compile(r"\n\w+ login: \Z"),
    "gdb": re.compile(r"\(gdb\) \Z"),
}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>78]|\r")
HALF_ESCAPE = re.compile(r"\x1b(\[[0-9;?]*)?\Z")


class Lost(Exception):
    """The prompt that was waited for did not come."""


class Terminal:
    def __init__(self, environment, folder, inside=()):
        """`inside`: a command that runs what follows it elsewhere, such as nsenter."""
        shell = [*inside, "bash", "--norc", "--noprofile", "--noediting", "-i"]
        self.pid, self.fd = os.forkpty()
        if not self.pid:
            os.chdir(folder)
            os.execvpe(shell[0], shell, {**environment, "TERM": "dumb", "PS1": r"host $?> ",
                                         "PS2": "more> ", "HISTFILE": ""})
        self.cut = ""     # an escape sequence, of which the rest is to come
        self.unread = ""  # what was seen since the last prompt
        self.prompt = None
        self.status = 0

    def receive(self, seconds):
        """True: something came."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            got = os.read(self.fd, 65536).decode(errors="replace")
        except OSError:
            raise Lost("the terminal's shell is gone") from None
        got = ESCAPES.sub("", self.cut + got)
        half = HALF_ESCAPE.search(got)
        self.cut = half[0] if half else ""
        self.unread += got.removesuffix(self.cut)
        return True

    def await_prompt(self, seconds):
        """What was said until then, without the prompt."""
        end = time.monotonic() + seconds
        while True:
            for name, pattern in PROMPTS.items():
                found = pattern.search(self.unread)
                if not found:
                    continue
                # It may be part of something longer: let that come.
                if self.receive(0.05):
                    break
                self.prompt = name
                if name == "host":
                    self.status = int(found[1])
                said, self.unread = self.unread[:found.start()], ""
                return said
            else:
                left = end - time.monotonic()
                if left <= 0 or not self.receive(min(left, 1)) and left <= 1:
                    raise Lost(f"no prompt in {seconds} s")

    def send(self, text):
        data = text.encode()
        while data:
            data = data[os.write(self.fd, data):]

    def type(self, line, seconds):
        """Type a line, and have what it says: without the line itself, which is echoed."""
        self.send(line + "\r")
        said = self.await_prompt(seconds)
        return (said.partition("\n")[2] if line in said.partition("\n")[0] else said) + "\n"

    def close(self):
        """As if somebody closed the window."""
        try:
            os.kill(self.pid, signal.SIGHUP)
            os.close(self.fd)
            for _ in range(50):
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
                time.sleep(0.1)
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (OSError, ChildProcessError):
            pass
