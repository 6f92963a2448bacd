#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
Does what the guide says, as it stands there, and looks whether what it shows appears.

  tests/guide/run.py [OPTION...] [SCENE...]

  --list             the scenes, what each needs, and why it would be skipped
  --book             only what needs no guest: marks, quotes, links, messages
  --jobs=N           that many scenes at a time (1)
  --with=WORD,...    things that are there, and would not be expected: `mirror` (packages may
                     be fetched and installed), `minutes` (there is time)
  --timeout-scale=N  patience
  --keep             leave the folder with all that was made
  --inside=FOLDER    play them in the root file system that is there, which tests/clean-debian
                     has made, with the sources in /root/lguest: one after the other, in one home,
                     as somebody would who reads the guide from its beginning

Without names, all scenes that can be played here. `install` comes first in any case: it makes
what the others begin with. Each scene has a home of its own, in which ~/lguest is this tree. A
network of its own is a namespace, whose way out leads to one other host, 1.1.1.1.

Prints a line for each scene, and counts them in the last one. What the marks in the guide mean
is told in book.py.
"""
import os
import re
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
import book  # noqa: E402
from terminal import Lost, Terminal  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60  # seconds, for a prompt
WORKED = ("examples/device/balloon.c", "examples/device/plug-in.patch")
STAGE = "install"
EXTRAS = {"mirror": "--with=mirror", "minutes": "--with=minutes", "clean": "--inside=FOLDER"}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
PROMPTED = re.compile(r"^(guest:\S*# |root@guest:\S*# |guest login: |\(gdb\) )(.*)$")
PROMPT_KINDS = {"guest:": "guest", "root@g": "guest", "guest ": "login", "(gdb) ": "gdb"}

# The uplink of a network of its own: this host is .2, and all that is beyond is .1.
NETWORK = """
ip link set lo up
ip link add up0 type veth peer name world0 netns "$1"
ip addr add 203.0.113.2/24 dev up0
ip link set up0 up
nsenter --target "$1" --net sh -c '
    ip link set lo up
    ip addr add 1.1.1.1/32 dev lo
    ip addr add 203.0.113.1/24 dev world0
    ip link set world0 up'
ip route add default via 203.0.113.1
"""


class Failed(Exception):
    pass


class Network:
    """Two namespaces: where the scene is played, and the world."""

    def __init__(self):
        self.holders = [subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 1d"],
                                         stdout=subprocess.PIPE) for _ in range(2)]
        for holder in self.holders:
            holder.stdout.readline()
        here, world = (str(holder.pid) for holder in self.holders)
        self.inside = ["nsenter", "--target", here, "--net"]
        done = subprocess.run([*self.inside, "sh", "-euc", NETWORK, "-", world], check=False,
                              capture_output=True, text=True)
        if done.returncode:
            self.close()
            raise Failed("no network of its own: " + done.stderr)

    def close(self):
        for holder in self.holders:
            holder.kill()
            holder.wait()
            holder.stdout.close()


class System:
    """Another root file system, in namespaces that last until close()."""

    def __init__(self, folder):
        self.holder = subprocess.Popen([os.path.join(ROOT, "tests/clean-debian"), "run", folder,
                                        "sh", "-c", "echo; exec sleep 1d"],
                                       stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        pid = str(self.holder.pid)
        while True:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                child = file.read().split()
            if not child:
                break
            pid = child[0]
        self.inside = ["nsenter", "--target", pid, "--mount", "--pid", "--root", "--wd"]

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


def in_path(command):
    return any(os.access(os.path.join(folder, command), os.X_OK)
               for folder in os.environ["PATH"].split(":") + ["/usr/sbin", "/sbin"])


def why_not(scene, extras):
    """Why the scene cannot be played here, or None."""
    for need in scene.needs:
        if need in EXTRAS:
            if need not in extras:
                return f"needs {EXTRAS[need]}"
        elif need == "root":
            if os.geteuid():
                return "needs root"
        elif not in_path(need):
            return f"needs {need}, which is not installed"
    return None


def same_word(shown, word, words):
    """Is a word that appeared the one that was shown, as far as the mark asks?"""
    if "numbers" in words:
        return NUMBER.sub("0", shown) == NUMBER.sub("0", word)
    if "about" in words and shown.isdigit() and word.isdigit():
        return int(shown) <= 2 * int(word) and int(word) <= 2 * int(shown)
    return shown == word


def same_line(shown, line, words):
    """Dots at the beginning stand for words that are not shown."""
    wanted, there = shown.split(), line.split()
    if wanted[0] == "...":
        wanted = wanted[1:]
        there = there[max(0, len(there) - len(wanted)):]
    return len(wanted) == len(there) and all(map(same_word, wanted, there, [words] * len(there)))


def check_shown(place, shown, said, words):
    lines = said.split("\n")
    for line in shown:
        if not line.strip() or line.strip() == "...":
            continue
        while lines and not same_line(line, lines[0], words):
            lines.pop(0)
        if not lines:
            raise Failed(f"{place}: this does not appear: {line.strip()}\n"
                         f"but this did:\n{said}")
        lines.pop(0)


class Play:
    """One scene, being played."""

    def __init__(self, scene, home, options, system):
        self.scene, self.home, self.scale = scene, home, options["timeout-scale"]
        self.system = system
        self.terminals = {}
        self.said = ""
        # Who is not root takes the network that there is.
        self.network = Network() if scene.own_network and not os.geteuid() else None
        self.environment = {
            "HOME": home, "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": f"{home}/.run",
            "PATH": f"{home}/.local/bin:" + os.environ["PATH"] + ":/usr/sbin:/sbin",
        }
        for name in ("http_proxy", "https_proxy", "DEPS"):
            if name in os.environ:
                self.environment[name] = os.environ[name]

    def open_terminal(self):
        inside = self.network.inside if self.network else []
        if self.system:
            terminal = Terminal({"HOME": "/root", "PATH": "/root/.local/bin:" + PATH}, "/",
                                [*inside, *self.system.inside])
            terminal.await_prompt(PATIENCE)
            terminal.type("cd ~/guests 2>/dev/null || cd", PATIENCE)
            return terminal
        folder = os.path.join(self.home, "guests")
        if not os.path.isdir(folder):
            folder = os.path.join(self.home, "lguest")
        terminal = Terminal(self.environment, folder, inside)
        terminal.await_prompt(PATIENCE)
        return terminal

    def terminal(self, block):
        number = block.number("terminal", 1)
        if number not in self.terminals:
            self.terminals[number] = self.open_terminal()
        return self.terminals[number]

    def patience(self, block):
        return block.number("within", PATIENCE) * self.scale

    def check_status(self, block, terminal, line, last):
        """The host's prompt tells. A guest is asked, behind the reader's back."""
        wanted = block.number("status", 0) if last else 0
        if terminal.prompt == "guest" and line:
            told = re.search(r"^status (\d+)$", terminal.type("echo status $?", PATIENCE), re.M)
            terminal.status = int(told[1]) if told else None
        if terminal.prompt in ("host", "guest") and terminal.status != wanted:
            raise Failed(f"{block.place}: status {terminal.status}, not {wanted}, of: {line}\n"
                         f"{self.said}")

    def type_commands(self, block, terminal):
        """A block for the host's shell."""
        self.said = ""
        for line in block.lines:
            last = line is block.lines[-1]
            if last and "stays" in block.words:
                terminal.send(line + "\r")
                time.sleep(1)
                return
            if terminal.prompt not in ("host", "more"):
                raise Failed(f"{block.place}: {terminal.prompt} has the terminal, to type: {line}")
            self.said += terminal.type(line, self.patience(block))
            self.check_status(block, terminal, line, last)
        if "silent" in block.words and self.said.strip():
            raise Failed(f"{block.place}: should print nothing, and does:\n{self.said}")
        if terminal.prompt == "more":
            raise Failed(f"{block.place}: the command is not complete")

    def type_dialogue(self, block, terminal):
        """A block with prompts in it, and answers."""
        self.said = ""
        exchanges = []
        for line in block.lines:
            found = PROMPTED.match(line)
            if found:
                exchanges.append((PROMPT_KINDS[line[:6]], found[2], []))
            else:
                exchanges[-1][2].append(line)
        for at, (prompt, line, answer) in enumerate(exchanges):
            last = at + 1 == len(exchanges)
            if terminal.prompt != prompt:
                raise Failed(f"{block.place}: {terminal.prompt} has the terminal, to type: {line}")
            if last and "stays" in block.words:
                terminal.send(line + "\r")
                time.sleep(1)
                return
            said = terminal.type(line, self.patience(block))
            while last and "ends" in block.words and terminal.prompt != "host":
                said += terminal.await_prompt(self.patience(block))
            self.said += said
            check_shown(block.place, answer, said, block.words)
            self.check_status(block, terminal, line, last)

    def type_block(self, block):
        terminal = self.terminal(block)
        if terminal.prompt is None:
            terminal.await_prompt(self.patience(block))
        if PROMPTED.match(block.lines[0]):
            self.type_dialogue(block, terminal)
        else:
            self.type_commands(block, terminal)
        if "stays" in block.words:
            terminal.prompt = None

    def repeat(self, block, shows):
        """The same again until it shows what it should."""
        end = time.monotonic() + self.patience(block)
        while True:
            self.type_block(block)
            try:
                if shows:
                    check_shown(shows.place, shows.lines, self.said, shows.words)
                return
            except Failed:
                if time.monotonic() > end:
                    raise
                time.sleep(1)

    def press(self, block):
        terminal = self.terminal(block)
        for key in block.name.split():
            if not re.fullmatch(r"\^[A-Z]", key):
                raise book.Wrong(f"{block.place}: {key} is no key that we have")
            terminal.send(chr(ord(key[1]) - ord("@")))
            time.sleep(0.2)
        self.said, terminal.prompt = "", None
        while terminal.prompt != "host":
            self.said += terminal.await_prompt(self.patience(block))
        self.check_status(block, terminal, block.name, True)

    def perform(self):
        for at, block in enumerate(self.scene.blocks):
            following = self.scene.blocks[at + 1] if at + 1 < len(self.scene.blocks) else None
            if block.kind == "key":
                self.press(block)
            elif block.kind == "shows":
                check_shown(block.place, block.lines, self.said, block.words)
            elif "repeat" in block.words:
                self.repeat(block, following)
            else:
                try:
                    self.type_block(block)
                except Lost as lost:
                    terminal = self.terminals.get(block.number("terminal", 1))
                    seen = terminal.unread if terminal else ""
                    raise Failed(f"{block.place}: {lost}; what there was:\n{seen}") from None
        for number, terminal in self.terminals.items():
            if terminal.prompt not in ("host", None):
                raise Failed(f"{self.scene.place}: at the end {terminal.prompt} has terminal "
                             f"{number}")

    def close(self):
        for terminal in self.terminals.values():
            terminal.close()
        if self.network:
            self.network.close()


def make_home(scratch, scene, stage):
    """A home as `install` left it; or, for that, one with nothing but the sources in it."""
    home = os.path.join(scratch, scene.name)
    if scene.name == STAGE:
        os.makedirs(os.path.join(home, ".run"), mode=0o700)
        os.symlink(ROOT, os.path.join(home, "lguest"))
    else:
        subprocess.run(["cp", "-a", stage, home], check=True)
    return home


def play(scene, scratch, options, system):
    """None, or what went wrong."""
    begun = time.monotonic()
    performance = None
    try:
        home = "/root" if system else make_home(scratch, scene, os.path.join(scratch, STAGE))
        performance = Play(scene, home, options, system)
        performance.perform()
        wrong = None
    except (Failed, Lost, book.Wrong) as failed:
        wrong = str(failed)
    finally:
        if performance:
            performance.close()
    took = f"({time.monotonic() - begun:.1f} s)"
    if wrong:
        print(f"FAIL {scene.name} {took}: " + wrong.replace("\n", "\n    "), flush=True)
    else:
        print(f"PASS {scene.name} {took}", flush=True)
    return wrong


def play_all(scenes, scratch, options):
    """How many went well, and how many did not. The first has to, or the others cannot."""
    waiting, results = list(scenes), []
    if play(waiting.pop(0), scratch, options, None):
        return 0, 1 + len(waiting)

    def worker():
        while waiting:
            results.append(play(waiting.pop(0), scratch, options, None))

    workers = [threading.Thread(target=worker) for _ in range(options["jobs"])]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    failed = sum(1 for wrong in results if wrong)
    return 1 + len(results) - failed, failed


def play_here(scenes, options):
    made = subprocess.run(["mktemp", "-d", "/tmp/lguest-guide.XXXXXX"], check=True, text=True,
                          stdout=subprocess.PIPE)
    scratch = made.stdout.strip()
    try:
        return play_all(scenes, scratch, options)
    finally:
        if not options["keep"]:
            subprocess.run(["rm", "-rf", scratch], check=False)


def play_inside(scenes, options):
    """In the order of the guide; what comes after something that fails is not played."""
    system = System(options["inside"])
    try:
        for at, scene in enumerate(scenes):
            if play(scene, None, options, system):
                return at, len(scenes) - at
    finally:
        system.close()
    return len(scenes), 0


def check_book():
    book.scenes(ROOT)
    book.check_quotes(ROOT)
    for path in WORKED:
        book.check_whole(ROOT, path)
    book.check_links(ROOT)
    book.check_messages(ROOT)


def parse(arguments):
    options = {"list": False, "book": False, "keep": False, "jobs": 1, "with": "", "inside": "",
               "timeout-scale": 1}
    names = []
    for argument in arguments:
        key, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            names.append(argument)
        elif key not in options or bool(equals) == isinstance(options[key], bool):
            sys.exit(f"run.py: no option {argument}: see the head of this file")
        elif not equals:
            options[key] = True
        else:
            options[key] = int(value) if isinstance(options[key], int) else value
    return options, names


def choose(scenes, names, extras):
    """What is to be played; and how many are skipped, after saying why."""
    unknown = set(names) - {scene.name for scene in scenes}
    if unknown:
        sys.exit("run.py: no scene " + " ".join(sorted(unknown)) + ": --list has them")
    chosen, skipped = [], 0
    for scene in scenes:
        if scene.name == STAGE:
            chosen.append(scene)
        elif not names or scene.name in names:
            why = why_not(scene, extras)
            if why:
                # Who did not ask for what an option brings does not miss it.
                asked = scene.name in names or why.removeprefix("needs ") not in EXTRAS.values()
                skipped += asked
                print(f"{'SKIP' if asked else 'LEFT'} {scene.name}: {why}")
            else:
                chosen.append(scene)
    return chosen, skipped


def main():
    options, names = parse(sys.argv[1:])
    extras = options["with"].split(",") + (["clean"] if options["inside"] else [])
    try:
        check_book()
        scenes = book.scenes(ROOT)
    except book.Wrong as wrong:
        print(f"FAIL book: {wrong}\n0 passed, 1 failed, 0 skipped")
        return 1
    if options["list"]:
        for scene in scenes:
            print(f"{scene.name:20} {' '.join(scene.needs):30} {why_not(scene, extras) or ''}")
        return 0
    print("PASS book")
    if options["book"]:
        print("1 passed, 0 failed, 0 skipped")
        return 0
    chosen, skipped = choose(scenes, names, extras)
    if options["inside"]:
        passed, failed = play_inside(chosen, options)
    else:
        # What makes the stage for the others goes first.
        chosen.sort(key=lambda scene: scene.name != STAGE)
        passed, failed = play_here(chosen, options)
    print(f"{passed + 1} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
