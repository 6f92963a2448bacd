/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows with freestanding guests (tests/guests): small kernels that check one thing
 * each and leave through --debug-exit with status 33 when all was well, 35 when it
 * was not. They are also the ones that misbehave when the launcher's own behaviour
 * is at stake: signals, broken pipes, terminals, reboots.
 */
#include "systest.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define GUEST(name) "{assets}/guests/" name
#define ALL_WELL    33

/* What each checking guest says at its end, and what it must not have said before. */
#define NO_FAILURE ", 0 failed"
#define FAILURE	   "FAILED: "

/* The text whose CRC-32 every description of that algorithm gives: hello prints it. */
static bool make_initrd(const char *directory)
{
	static const char text[] = "123456789";
	int fd = open(suite_text("%s/initrd", directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool made = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return made;
}

#define INITRD_SEEN "initrd: 9 bytes, crc32 cbf43926"

/* The four ways into a kernel, with everything that a loader hands over. */
static void add_hellos(struct suite *suite)
{
	static const struct {
		const char *guest, *greeting;
	} hellos[] = {
		{"hello-pvh", "hello: entered by PVH"},
		{"hello-multiboot", "hello: entered by Multiboot"},
		{"hello-linux64", "hello: entered by Linux, 64 bits"},
		{"hello-linux32", "hello: entered by Linux, 32 bits"},
	};

	for (size_t i = 0; i < COUNT(hellos); i++) {
		const char *path = suite_text("{assets}/guests/%s", hellos[i].guest);
		const struct test test = {
			.name = hellos[i].guest,
			.args = {"--debug-exit", "--initrd={files}/initrd", "64", path, "one=1",
				 "two"},
			.make_files = make_initrd,
			.seen = {hellos[i].greeting, "command line: one=1 two\n", INITRD_SEEN,
				 NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
}

/* Guests that check by themselves and say how it went. */
static void add_checks(struct suite *suite)
{
	static const char *const guests[] = {"io", "pci", "irq"};
	static const char *const cpus[] = {"1", "2", "4"};

	for (size_t i = 0; i < COUNT(guests); i++) {
		const char *path = suite_text("{assets}/guests/%s", guests[i]);
		const struct test test = {
			.name = guests[i],
			.args = {"--debug-exit", "64", path},
			.seen = {NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
	for (size_t i = 0; i < COUNT(cpus); i++) {
		const struct test test = {
			.name = suite_text("smp-%s", cpus[i]),
			.args = {"--debug-exit", "--cpus", cpus[i], "64", GUEST("smp")},
			.seen = {NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
}

/* A guest that does not know its power button is asked in vain; it takes a second SIGTERM. */
#define TERMINATE SIGNAL(SIGTERM), EXPECT_ERROR("asked the guest"), SIGNAL(SIGTERM)

/* Each signal that ends lguest, while a guest spins on the terminal. */
static void add_signals(struct suite *suite)
{
	static const struct {
		const char *name;
		int number, lines;
	} signals[] = {
		{"sigterm", SIGTERM, 2},
		{"sighup", SIGHUP, 1},
		{"sigint", SIGINT, 1},
		{"sigquit", SIGQUIT, 1},
	};
	static const struct step steps[COUNT(signals)][6] = {
		{EXPECT("spin: ready"), TERMINAL_RAW, TERMINATE},
		{EXPECT("spin: ready"), TERMINAL_RAW, SIGNAL(SIGHUP)},
		{EXPECT("spin: ready"), TERMINAL_RAW, SIGNAL(SIGINT)},
		{EXPECT("spin: ready"), TERMINAL_RAW, SIGNAL(SIGQUIT)},
	};

	for (size_t i = 0; i < COUNT(signals); i++) {
		const struct test test = {
			.name = suite_text("%s-while-spinning", signals[i].name),
			.input = A_TERMINAL,
			.output = A_TERMINAL,
			.args = {"64", GUEST("spin")},
			.steps = steps[i],
			.error_seen = {"ended by signal"},
			.error_lines = signals[i].lines,
			.status = 128 + signals[i].number,
		};

		suite_add(suite, &test);
	}
}

static const struct test devices[] = {
	{
		/* The guest cannot see its own lines come out; what it took back must not. */
		.name = "queue",
		.args = {"--debug-exit", "64", GUEST("queue")},
		.seen = {"hvc: emergency, and no driver in sight\n", "hvc: in one piece\n",
			 "hvc: cut into single bytes\n", "hvc: notified with 32 bits\n",
			 "hvc: after the queues were reset\n", "hvc: after the reset\n",
			 "hvc: a queue of 256\n", NO_FAILURE},
		.unseen = {FAILURE, "MUST NOT BE SEEN"},
		.error_seen = {"the guest gave the device up"},
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "queue-packed",
		.args = {"--debug-exit", "64", GUEST("queue"), "packed=1"},
		.seen = {"hvc: emergency, and no driver in sight\n", "hvc: in one piece\n",
			 "hvc: cut into single bytes\n", "hvc: indirect table\n",
			 "hvc: after the queues were reset\n", "hvc: after the reset\n",
			 "hvc: a queue of three, once, twice, and round the end\n", NO_FAILURE},
		.unseen = {FAILURE, "MUST NOT BE SEEN"},
		.error_seen = {"the guest gave the device up"},
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "rng",
		.args = {"--debug-exit", "--rng", "64", GUEST("rng")},
		.seen = {"ok: a chain of 4 GiB is begun", NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "irq-configuration",
		.args = {"--debug-exit", "64", GUEST("irq"), "config=1"},
		.seen = {"ok: MSI-X: the vector for configuration changes", NO_FAILURE},
		.unseen = {FAILURE},
		.error_seen = {"VT-8: "},
		.error_lines = 1,
		.status = ALL_WELL,
	},
};

static const struct test options[] = {
	{
		.name = "options-after-kernel",
		.args = {"64", GUEST("hello-linux64"), "--debug-exit", "--cpus", "2", "one",
			 "--strict"},
		.seen = {"command line: one --strict\n"},
		.error_seen = {"--strict is behind one, "},
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "options-end-at-dashes",
		.args = {"--debug-exit", "64", GUEST("hello-linux64"), "--", "--cpus=0", "--", "x"},
		.seen = {"command line: --cpus=0 -- x\n"},
		.status = ALL_WELL,
	},
	{
		.name = "no-arguments-for-the-kernel",
		.args = {"--debug-exit", "64", GUEST("hello-linux64")},
		.seen = {"command line: \n", "initrd: 0 bytes"},
		.status = ALL_WELL,
	},
	{
		.name = "memory-least",
		.args = {"--debug-exit", "4", GUEST("hello-pvh")},
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "memory-suffix-K",
		.args = {"--debug-exit", "16384K", GUEST("hello-pvh")},
		.seen = {"-0000000001000000 type 1\n", NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "memory-suffix-M",
		.args = {"--debug-exit", "16M", GUEST("hello-pvh")},
		.seen = {"-0000000001000000 type 1\n", NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* 3 GiB below the hole for devices, and what is left from 4 GiB on. */
		.name = "memory-past-the-hole",
		.args = {"--debug-exit", "5G", GUEST("hello-pvh")},
		.seen = {"-00000000c0000000 type 1\n",
			 "map: 0000000100000000-0000000180000000 type 1\n", NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "verbose",
		.args = {"--verbose", "--debug-exit", "--initrd={files}/initrd", "64",
			 GUEST("hello-pvh")},
		.make_files = make_initrd,
		.seen = {INITRD_SEEN},
		.error_seen = {"initrd", "64 MiB", "console"},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
	{
		.name = "engine-auto",
		.args = {"--engine=auto", "--debug-exit", "64", GUEST("hello-pvh")},
		.seen = {NO_FAILURE},
		.error_seen = {"engine "},
		.error_lines = 1,
		.status = ALL_WELL,
	},
};

/* How a machine ends, and what its exit status says about that (RUN-2). */
static const struct test endings[] = {
	{
		.name = "poweroff",
		.args = {"64", GUEST("poweroff")},
		.silent = true,
	},
	{
		.name = "poweroff-4-cpus",
		.args = {"--cpus=4", "64", GUEST("poweroff")},
		.silent = true,
	},
	{
		.name = "no-reboot-acpi",
		.args = {"--no-reboot", "64", GUEST("reset-acpi")},
		.seen = {"reset-acpi: now"},
		.unseen = {FAILURE},
	},
	{
		.name = "no-reboot-keyboard",
		.args = {"--no-reboot", "64", GUEST("reset-keyboard")},
		.seen = {"reset-keyboard: now"},
		.unseen = {FAILURE},
	},
	{
		.name = "reboot-keyboard",
		.args = {"64", GUEST("reset-keyboard")},
		.steps = STEPS(EXPECT("reset-keyboard: now"), EXPECT("reset-keyboard: now"),
			       EXPECT("reset-keyboard: now"), TERMINATE),
		.unseen = {FAILURE},
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		/* Asked by SIGTERM, the guest powers off: an ordinary end. */
		.name = "power-button",
		.args = {"64", GUEST("button")},
		.steps = STEPS(EXPECT("button: ready\n"), SIGNAL(SIGTERM)),
		.seen = {"button: pressed\n"},
		.unseen = {FAILURE},
		.error_seen = {"asked the guest to shut down"},
		.error_lines = 1,
	},
	{
		/* A new life has not heard of it, but has no more time than the old one had. */
		.name = "power-button-reboots",
		.patience = FOR_STOCK,
		.flags = ON_REQUEST,
		.args = {"64", GUEST("button"), "reboot=1"},
		.steps = STEPS(EXPECT("button: ready\n"), SIGNAL(SIGTERM),
			       EXPECT("button: pressed\n"), EXPECT("button: ready\n")),
		.unseen = {FAILURE},
		.error_seen = {"asked the guest to shut down", "did not shut down in time"},
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		.name = "power-button-in-vain",
		.patience = FOR_STOCK,
		.flags = ON_REQUEST,
		.args = {"64", GUEST("spin")},
		.steps = STEPS(EXPECT("spin: ready\n"), SIGNAL(SIGTERM)),
		.error_seen = {"asked the guest to shut down", "did not shut down in time"},
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		.name = "triplefault",
		.args = {"64", GUEST("triplefault")},
		.seen = {"triplefault: now"},
		/* Where it was (rip ...), or that nobody can know any more (... lost its state). */
		.error_seen = {"triple fault", "vCPU 0 "},
		.error_lines = 1,
		.status = 2,
	},
	{
		.name = "option-misspelt",
		.args = {"64", GUEST("pvpanic"), "--no-reboots", "--strict"},
		.error_seen = {"--no-reboots is no option of lguest's", "panic"},
		.error_lines = 2,
		.status = 3,
	},
	{
		.name = "pvpanic",
		.args = {"64", GUEST("pvpanic")},
		.seen = {"pvpanic: panicked"},
		.unseen = {FAILURE},
		.error_seen = {"panic"},
		.error_lines = 1,
		.status = 3,
	},
	{
		.name = "pvpanic-crash-kernel",
		.args = {"64", GUEST("pvpanic"), "crashload=1"},
		.seen = {"pvpanic: the crash kernel powers off"},
		.unseen = {FAILURE},
		.error_lines = ANY_LINES,
	},
	{
		/* Nobody listens to the port unless asked: the guest says so and powers off. */
		.name = "no-debug-exit",
		.args = {"64", GUEST("hello-pvh")},
		.seen = {"this guest wants --debug-exit"},
		.status = 0,
	},
};

/* Bytes that a terminal makes something of, unless told not to; and CR is not NL. */
#define CONTROL_KEYS "\x1a\x1c\x13\x11\x04\x16\x7f\r\n"
#define CONTROL_SEEN "<1a><1c><13><11><04><16><7f><0d><0a>"

/*
 * The guest that echoes on the virtio console also talks on the serial port, and the two
 * meet on our standard output as they come: signs that are in none of its words are looked
 * for one by one.
 */
#define ECHOED_SIGNS EXPECT("#"), EXPECT("@")

/*
 * How much a flooding guest must have written before it is believed to run on: more than
 * lguest writes at a time, so what comes last was written after what we did to it.
 */
#define SOME_TIME 5000

static const struct test consoles[] = {
	{
		.name = "echo-terminal",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps =
			STEPS(EXPECT("echo: ready\n"), TERMINAL_RAW, TYPE("hello"), EXPECT("hello"),
			      TYPE(CONTROL_KEYS), EXPECT(CONTROL_SEEN), TYPE("q")),
		/* All in one: that the terminal does not echo as well. */
		.seen = {"echo: ready\nhello" CONTROL_SEEN "q\necho: done\n"},
		.status = ALL_WELL,
	},
	{
		.name = "echo-pipe",
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready\n"), TYPE("hello\n"), EXPECT("hello<0a>"),
			       TYPE("q")),
		.seen = {"echo: ready\nhello<0a>q\necho: done\n"},
		.status = ALL_WELL,
	},
	{
		/* Output on a terminal and input from elsewhere: nothing to make raw. */
		.name = "echo-pipe-to-terminal",
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready\n"), TYPE("hello"), EXPECT("hello"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		.name = "echo-terminal-to-pipe",
		.input = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready\n"), TERMINAL_RAW, TYPE("hello"),
			       EXPECT("hello"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		.name = "end-of-input",
		.args = {"64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready\n"), TYPE("last words"), CLOSE_INPUT,
			       EXPECT("last words"), TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		.name = "end-of-input-goes-on",
		.args = {"64", GUEST("flood")},
		.steps = STEPS(EXPECT("flood: ready"), CLOSE_INPUT, EXPECT_MORE(SOME_TIME),
			       TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		.name = "input-from-dev-null",
		.input = DEV_NULL,
		.args = {"64", GUEST("flood")},
		.steps = STEPS(EXPECT_MORE(SOME_TIME), TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		.name = "input-closed",
		.input = CLOSED,
		.args = {"64", GUEST("flood")},
		.steps = STEPS(EXPECT_MORE(SOME_TIME), TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		/* What is opened next must not become standard output: the kernel file, say. */
		.name = "output-closed",
		.output = CLOSED,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT_ERROR("standard output"), TYPE("hello q")),
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "output-and-input-closed",
		.input = CLOSED,
		.output = CLOSED,
		.args = {"--debug-exit", "64", GUEST("hello-pvh")},
		.error_seen = {"standard output"},
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "output-to-full-device",
		.output = DEV_FULL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT_ERROR("standard output"), TYPE("hello q")),
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "output-to-broken-pipe",
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready\n"), CLOSE_OUTPUT, TYPE("x"),
			       EXPECT_ERROR("standard output"), TYPE("hello q")),
		.error_lines = 1,
		.status = ALL_WELL,
	},
	{
		.name = "flood-into-broken-pipe",
		.args = {"64", GUEST("flood")},
		.steps = STEPS(EXPECT_MORE(1000), CLOSE_OUTPUT, EXPECT_ERROR("standard output"),
			       TERMINATE),
		.error_lines = 3,
		.status = 128 + SIGTERM,
	},
	{
		.name = "flood-into-full-pipe",
		.flags = UNREAD,
		.args = {"64", GUEST("flood")},
		.steps = STEPS(OUTPUT_FULL, TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
	{
		/* The guest is stuck in its output, and the user still gets out. */
		.name = "flood-into-full-pipe-three-interrupts",
		.flags = UNREAD,
		.input = A_TERMINAL,
		.args = {"64", GUEST("flood")},
		.steps = STEPS(OUTPUT_FULL, TERMINAL_RAW, TYPE_KEYS("\3\3\3")),
		.error_lines = 1,
		.status = 130,
	},
	{
		.name = "hvcecho",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("hvcecho"), "console=hvc0"},
		.steps = STEPS(EXPECT("hvcecho: ready\n"), TERMINAL_RAW, TYPE("#@"), ECHOED_SIGNS,
			       TYPE(CONTROL_KEYS), EXPECT("<1a>"), EXPECT("<1c>"), EXPECT("<13>"),
			       EXPECT("<11>"), EXPECT("<04>"), EXPECT("<16>"), EXPECT("<7f>"),
			       EXPECT("<0d>"), EXPECT("<0a>"), TYPE("q")),
		.seen = {"hvcecho: done\n", NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* Some device never comes to rest. Once the user knows, one more signal will do. */
		.name = "stuck-device",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("hvcecho"), "console=hvc0"},
		.steps = STEPS(EXPECT("hvcecho: ready\n"), TERMINAL_RAW, FREEZE_THREAD("console/0"),
			       SIGNAL(SIGINT), EXPECT_ERROR("does not come to rest"),
			       SIGNAL(SIGTERM)),
		.error_seen = {"ended by signal 2 "},
		.error_lines = 2,
		.status = 128 + SIGINT,
	},
	{
		/* By a key, as the terminal is the user's again. */
		.name = "stuck-device-by-keys",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("hvcecho"), "console=hvc0"},
		.steps = STEPS(EXPECT("hvcecho: ready\n"), TERMINAL_RAW, FREEZE_THREAD("console/0"),
			       TYPE_KEYS("\3\3\3"), EXPECT_ERROR("does not come to rest"),
			       TYPE("\3")),
		.error_seen = {"three ^C: ended by the user"},
		.error_lines = 2,
		.status = 128 + SIGINT,
	},
	{
		.name = "hvcecho-last-console",
		.args = {"--debug-exit", "64", GUEST("hvcecho"), "console=ttyS0,115200",
			 "console=hvc0"},
		.steps = STEPS(EXPECT("hvcecho: ready\n"), TYPE("#@"), ECHOED_SIGNS, TYPE("q")),
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* Without a word about consoles, input would be the serial port's. */
		.name = "hvcecho-console-virtio",
		.args = {"--debug-exit", "--console=virtio", "64", GUEST("hvcecho")},
		.steps = STEPS(EXPECT("hvcecho: ready\n"), TYPE("#@"), ECHOED_SIGNS, TYPE("q")),
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "echo-console-serial",
		.args = {"--debug-exit", "--console=serial", "64", GUEST("echo"), "console=hvc0"},
		.steps = STEPS(EXPECT("echo: ready\n"), TYPE("hello"), EXPECT("hello"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		/* No driver for the virtio console: input stays with the serial port. */
		.name = "echo-console-hvc0-without-driver",
		.args = {"--debug-exit", "64", GUEST("echo"), "console=hvc0"},
		.steps = STEPS(EXPECT("echo: ready\n"), TYPE("hello"), EXPECT("hello"), TYPE("q")),
		.status = ALL_WELL,
	},
};

/* A thread of the virtio console's receive queue; it lives while the queue is enabled. */
#define DEVICE_THREAD "console/0"

static const struct test interruptions[] = {
	{
		.name = "three-interrupts",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("spin")},
		.steps = STEPS(EXPECT("spin: ready"), TERMINAL_RAW, TYPE_KEYS("\3\3\3")),
		.error_lines = 1,
		.status = 130,
	},
	{
		.name = "three-interrupts-4-cpus",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--cpus=4", "64", GUEST("spin")},
		.steps = STEPS(EXPECT("spin: ready"), TERMINAL_RAW, TYPE_KEYS("\3\3\3")),
		.error_lines = 1,
		.status = 130,
	},
	{
		/* Someone pasted them, or a program sent them to the guest. */
		.name = "three-interrupts-at-once",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready"), TERMINAL_RAW, TYPE("\3\3\3"),
			       EXPECT("<03><03><03>"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		.name = "three-interrupts-interrupted",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready"), TERMINAL_RAW, TYPE_KEYS("\3\3x\3"),
			       EXPECT("<03><03>x<03>"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		/* DEV-1: they are delivered to the guest as well. */
		.name = "two-interrupts",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--debug-exit", "64", GUEST("echo")},
		.steps = STEPS(EXPECT("echo: ready"), TERMINAL_RAW, TYPE_KEYS("\3\3"),
			       EXPECT("<03><03>"), TYPE("q")),
		.status = ALL_WELL,
	},
	{
		.name = "terminal-hung-up",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("spin")},
		.steps = STEPS(EXPECT("spin: ready"), HANG_UP),
		.error_lines = ANY_LINES,
		.status = 128 + SIGHUP,
	},
	{
		.name = "fault-in-a-device-thread",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("hvcecho"), "console=hvc0"},
		.steps = STEPS(EXPECT("hvcecho: ready"), TERMINAL_RAW,
			       SIGNAL_THREAD(DEVICE_THREAD, SIGSEGV)),
		.error_lines = ANY_LINES,
		.status = DIES_OF(SIGSEGV),
	},
	{
		.name = "fault-in-a-vcpu-thread",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"64", GUEST("spin")},
		.steps =
			STEPS(EXPECT("spin: ready"), TERMINAL_RAW, SIGNAL_THREAD("vcpu0", SIGSEGV)),
		.error_lines = ANY_LINES,
		.status = DIES_OF(SIGSEGV),
	},
	{
		/* "lguest ... &": the terminal belongs to somebody else. */
		.name = "in-background",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.flags = IN_BACKGROUND,
		.args = {"--debug-exit", "64", GUEST("hello-pvh")},
		.seen = {NO_FAILURE},
		.status = ALL_WELL,
	},
	{
		/* Long enough for it to look at its input, which it must not wait for or stop at.
		 */
		.name = "in-background-goes-on",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.flags = IN_BACKGROUND,
		.args = {"64", GUEST("flood")},
		.steps = STEPS(EXPECT_MORE(SOME_TIME), TERMINATE),
		.error_lines = 2,
		.status = 128 + SIGTERM,
	},
};

/* One life, up to where it has nothing more to do than to wait for us. */
#define LIFE   EXPECT("reboot-loop: a new life"), EXPECT("r or q?")
#define REBOOT LIFE, TYPE("r")
#define FIVE   REBOOT, REBOOT, REBOOT, REBOOT, REBOOT

static const struct test reboots[] = {
	{
		/* The first lives may still find something to set up; from then on, nothing grows.
		 */
		.name = "reboot-20-times",
		.args = {"--debug-exit", "64", GUEST("reboot-loop"), "input=1"},
		.steps = STEPS(REBOOT, REBOOT, REBOOT, LIFE, REMEMBER, TYPE("r"), REBOOT, FIVE,
			       FIVE, FIVE, LIFE, COMPARE, TYPE("q")),
		.seen = {"reboot-loop: power off"},
		.unseen = {FAILURE},
	},
	{
		.name = "reboot-20-times-2-cpus-terminal",
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--cpus=2", "--debug-exit", "64", GUEST("reboot-loop"), "input=1"},
		.steps = STEPS(REBOOT, REBOOT, REBOOT, LIFE, REMEMBER, TERMINAL_RAW, TYPE("r"),
			       REBOOT, FIVE, FIVE, FIVE, LIFE, COMPARE, TERMINAL_RAW, TYPE("q")),
		.seen = {"reboot-loop: power off"},
		.unseen = {FAILURE},
	},
};

static void add_all(struct suite *suite, const struct test *tests, size_t count)
{
	for (size_t i = 0; i < count; i++)
		suite_add(suite, &tests[i]);
}

void suite_add_guests(struct suite *suite)
{
	add_hellos(suite);
	add_all(suite, options, COUNT(options));
	add_checks(suite);
	add_all(suite, devices, COUNT(devices));
	add_all(suite, endings, COUNT(endings));
	add_all(suite, consoles, COUNT(consoles));
	add_all(suite, interruptions, COUNT(interruptions));
	add_signals(suite);
	add_all(suite, reboots, COUNT(reboots));
}
