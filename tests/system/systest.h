/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The system tests: lguest as its user meets it, from the command line to the
 * exit status, with whole guests inside.
 *
 * They are one table. A row says how lguest is called, what it is wired to, what
 * is typed and when, and what must (and must not) have been seen when it is all
 * over. The files that fill the table (bad_input.c, cpu.c, guests.c, rootfs.c,
 * stock.c, violations.c) know guests; runner.c runs a row and knows none; main.c chooses
 * rows and counts. Nothing here is linked with lguest itself: the tests stand
 * where the user stands.
 */
#ifndef SYSTEM_SYSTEST_H
#define SYSTEM_SYSTEST_H

#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define COUNT(a)       (sizeof(a) / sizeof((a)[0]))
#define PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))

#define MAX_ARGS   36
#define MAX_SEEN   8
#define MAX_OTHERS 3

/* On which engines a row is run. */
enum engines {
	EACH_ENGINE,	 /* once on every one that is usable here: --engine=NAME is put in front */
	NO_ENGINE,	 /* once: it must be over before any engine is needed */
	UNUSABLE_ENGINE, /* once on every one that is *not* usable here */
};

/* How long a row may take before it counts as hanging: see runner.c for the seconds. */
enum patience { FOR_GUEST, FOR_USAGE, FOR_STOCK, FOR_TEN_BOOTS, FOR_TEN_MINUTES, FOR_AN_HOUR };

/* What lguest finds at a standard descriptor. Standard error is always a pipe. */
enum wiring {
	A_PIPE,
	A_TERMINAL,
	DEV_NULL,
	DEV_FULL, /* accepts nothing: ENOSPC */
	CLOSED,	  /* the descriptor does not exist at exec */
};

enum flags {
	/* Nobody reads standard output until lguest has ended. */
	UNREAD = 1 << 0,
	/* In a process group that is not the terminal's foreground one: "lguest ... &". */
	IN_BACKGROUND = 1 << 1,
	/* As uid and gid 65534, where the tests run as root, who may read everything. */
	AS_NOBODY = 1 << 2,
	/*
	 * Only where a FILTER names it: others cover the same, and the time of a test run is short.
	 */
	ON_REQUEST = 1 << 3,
	/* What only root can do: not run by anybody else. */
	AS_ROOT = 1 << 4,
	/*
	 * In a network of its own: a loopback, and the address 192.0.2.2 with a gateway behind
	 * which is nothing. Not run by anybody but root.
	 */
	OWN_NETWORK = 1 << 5,
	/* It may not make namespaces, as in a container; and where that is so, it is not run. */
	DENY_NAMESPACES = 1 << 6,
	NEEDS_NAMESPACES = 1 << 7,
	/*
	 * A debugger breaks in. Not run on KVM where qemu emulates the processor: it leaves a
	 * guest's guest the debug registers and int3 as if nobody else wanted them.
	 */
	NEEDS_BREAKPOINTS = 1 << 9,
};

enum step_kind {
	STEP_END,	    /* no more steps: the rest is waiting for the end */
	STEP_EXPECT,	    /* wait for `text` on standard output, after what was expected before */
	STEP_EXPECT_ERROR,  /* the same on standard error */
	STEP_EXPECT_MORE,   /* wait for `number` further bytes of standard output */
	STEP_TYPE,	    /* write `text` in one go */
	STEP_TYPE_KEYS,	    /* write `text` byte by byte, each when the one before has been read */
	STEP_CLOSE_INPUT,   /* the end of a piped standard input */
	STEP_CLOSE_OUTPUT,  /* the reader of a piped standard output goes away */
	STEP_HANG_UP,	    /* the terminal goes away */
	STEP_OUTPUT_FULL,   /* wait until a piped standard output takes no more */
	STEP_SIGNAL,	    /* send signal `number` to lguest */
	STEP_SIGNAL_THREAD, /* send it to the thread of the name `text` */
	STEP_FREEZE_THREAD, /* that thread goes no further, whoever waits for it */
	STEP_TERMINAL_RAW,  /* wait until the terminal is as a guest wants it */
	STEP_REMEMBER,	    /* note descriptors, threads and resident memory */
	STEP_COMPARE,	    /* they are as they were noted, but for `number` KiB */
	STEP_IDLE,	    /* wait until lguest takes less than `number` percent of a processor */
	STEP_RUN,	    /* a shell command succeeds, here, in the network of the row */
	STEP_CLOCK_NOTE,    /* read the guest's clock, at a shell's prompt, and note ours */
	STEP_CLOCK_COMPARE, /* as much time has passed there as here, but for `number` ms */
	STEP_SERVE,	    /* say `text` to whoever calls at port `number` of the loopback */
	STEP_FETCH,	    /* call at port `number` of the loopback until `text` is said */
	STEP_KILL_CHILD,    /* kill lguest's child of the name `text` */
	STEP_AT,	    /* what follows is about guest `number`, which is started if need be */
	STEP_ENDED,	    /* wait for its end */
	STEP_LOCKED,	    /* somebody keeps others from writing to the file `text` of {files} */
	STEP_DEBUGGER,	    /* call at {files}/gdb, where --gdb listens, until somebody answers */
	STEP_TELL,	    /* send that packet; "\x03" interrupts */
	STEP_ASK,  /* the same, and the answer is what is behind the line break in `text` */
	STEP_HEAR, /* the answer to what was told is `text` */
	STEP_DEBUGGER_DIES, /* without a word */
};

struct step {
	enum step_kind kind;
	const char *text;
	int number;
};

/* clang-format off */
#define EXPECT(t)	    {STEP_EXPECT, t, 0}
#define EXPECT_ERROR(t)	    {STEP_EXPECT_ERROR, t, 0}
#define EXPECT_MORE(n)	    {STEP_EXPECT_MORE, NULL, n}
#define TYPE(t)		    {STEP_TYPE, t, 0}
#define TYPE_KEYS(t)	    {STEP_TYPE_KEYS, t, 0}
#define CLOSE_INPUT	    {STEP_CLOSE_INPUT, NULL, 0}
#define CLOSE_OUTPUT	    {STEP_CLOSE_OUTPUT, NULL, 0}
#define HANG_UP		    {STEP_HANG_UP, NULL, 0}
#define OUTPUT_FULL	    {STEP_OUTPUT_FULL, NULL, 0}
#define SIGNAL(n)	    {STEP_SIGNAL, NULL, n}
#define SIGNAL_THREAD(t, n) {STEP_SIGNAL_THREAD, t, n}
#define FREEZE_THREAD(t)    {STEP_FREEZE_THREAD, t, 0}
#define TERMINAL_RAW	    {STEP_TERMINAL_RAW, NULL, 0}
#define REMEMBER	    {STEP_REMEMBER, NULL, 0}
#define COMPARE		    {STEP_COMPARE, NULL, 0}
#define COMPARE_BUT_FOR(kib) {STEP_COMPARE, NULL, kib}
#define IDLE(percent)	    {STEP_IDLE, NULL, percent}
#define CLOCK_NOTE	    {STEP_CLOCK_NOTE, NULL, 0}
#define RUN(t)		    {STEP_RUN, t, 0}
#define CLOCK_COMPARE(ms)   {STEP_CLOCK_COMPARE, NULL, ms}
#define SERVE(port, t)	    {STEP_SERVE, t, port}
#define FETCH(port, t)	    {STEP_FETCH, t, port}
#define KILL_CHILD(t)	    {STEP_KILL_CHILD, t, 0}
#define AT(n)		    {STEP_AT, NULL, n}
#define ENDED		    {STEP_ENDED, NULL, 0}
#define LOCKED(t)	    {STEP_LOCKED, t, 0}
#define DEBUGGER	    {STEP_DEBUGGER, NULL, 0}
#define TELL(packet)	    {STEP_TELL, packet, 0}
#define PACKET(packet, answer) {STEP_ASK, packet "\n" answer, 0}
#define HEAR(answer)	    {STEP_HEAR, answer, 0}
#define DEBUGGER_DIES	    {STEP_DEBUGGER_DIES, NULL, 0}
/* clang-format on */

/* The steps of a row, in order. */
#define STEPS(...) ((const struct step[]){__VA_ARGS__, {STEP_END, NULL, 0}})

/* For `error_lines`: any number, or at least one, rather than exactly so many. */
#define ANY_LINES  (-1)
#define SOME_LINES (-2)

/* For `status`: ended by an uncaught signal, instead of leaving with a status. */
#define DIES_OF(signal) (-(signal))

/*
 * One row. Everything that is not mentioned is zero, and zero is the strict
 * reading: status 0, nothing on standard error, pipes.
 */
struct test {
	const char *name;
	enum engines engines;
	const char *only; /* under EACH_ENGINE: no engine but this one */
	enum patience patience;
	enum wiring input, output;
	unsigned flags;

	const char *program; /* instead of lguest; may begin with {assets} */

	/*
	 * Arguments of lguest, up to the first NULL. {assets} stands for the directory
	 * of --assets, {files} for the one that make_files fills, {engine} for the
	 * engine's name, {clock} for what Linux takes for its clock there, and, in steps, {pid} for
	 * its process. What begins with
	 * {assets} must exist, or the row is not run. Under EACH_ENGINE, --engine=NAME goes before
	 * them.
	 */
	const char *args[MAX_ARGS];

	/* A program that a step runs: where it is not in the PATH, the row is not run. */
	const char *needs;

	/* Makes what the arguments name, in this directory. False with errno: it could not. */
	bool (*make_files)(const char *directory);

	/*
	 * An asset that is put there as well, under its own name, for the row to write to: a copy
	 * of a file, with its holes, or a link to a block device. It must exist, or the row is not
	 * run.
	 */
	const char *copy;

	/* OWN_NETWORK: puts in what else is there. False, and *why says what failed. */
	bool (*extend_network)(char *why, size_t size);

	/* When lguest has ended: are the files there as they should be? False, and *why says what
	 * is not. */
	bool (*check_files)(const char *directory, char *why, size_t size);

	const struct step *steps; /* NULL: only wait for the end */

	/*
	 * Guests 1 and so on, beside the row's own, which is 0. Of these tests counts what says how
	 * lguest is called and what must have been seen.
	 */
	const struct test *others[MAX_OTHERS];

	/* Each must (not) be somewhere in all that was written, carriage returns not counted. */
	const char *seen[MAX_SEEN], *unseen[MAX_SEEN];
	const char *error_seen[MAX_SEEN], *error_unseen[MAX_SEEN];

	bool silent;	 /* nothing at all on standard output */
	int error_lines; /* lines on standard error, each beginning with "lguest: " */
	int status;
};

struct suite {
	struct test *tests;
	size_t count;
};

/* Both end the program when memory runs out; names and texts are kept until it ends anyway. */
void suite_add(struct suite *suite, const struct test *test);
char *suite_text(const char *format, ...) PRINTF(1, 2);

/* The files of the table. */
void suite_add_bad_input(struct suite *suite);
void suite_add_guests(struct suite *suite);
void suite_add_cpu(struct suite *suite);
void suite_add_violations(struct suite *suite);
void suite_add_stock(struct suite *suite);
void suite_add_soft(struct suite *suite);
void suite_add_sandbox(struct suite *suite);
void suite_add_rootfs(struct suite *suite);
void suite_add_work(struct suite *suite);
void suite_add_disks(struct suite *suite);
void suite_add_usernet(struct suite *suite);
void suite_add_networks(struct suite *suite);
void suite_add_gdb(struct suite *suite);

struct settings {
	const char *lguest, *assets;
	const char *without; /* for the soft engine's --soft-without=, or NULL */
	double timeout_scale;
	bool skip_missing, verbose;
};

/* Linux prefers the TSC to kvmclock where it is told that the TSC never changes its pace. */
const char *engine_clock(const char *engine);

enum outcome { PASSED, FAILED, SKIPPED };

struct verdict {
	enum outcome outcome;
	char why[512];
	char *report; /* what was written, for whoever has to find out; or NULL */
};

/*
 * Run one row, in a process of its own that leads no session yet: a terminal
 * makes it the leader of a new one. `engine` is NULL where the row wants none.
 * `directory` is empty and belongs to this run.
 */
void run_test(const struct test *test, const char *engine, const struct settings *settings,
	      const char *directory, struct verdict *verdict);

/*
 * The wires between a row and its lguest: our ends, and the ends that go to the
 * child. -1 where there is none.
 */
struct termios;

struct wires {
	int input, output, errors; /* ours: to type into, to read from. Never block */
	int child[3];
	int terminal;		 /* the terminal that lguest sees, if it sees one */
	struct termios *before;	 /* its settings before lguest came */
	int descriptor_flags[3]; /* O_NONBLOCK and friends of child[] before lguest came */
};

/*
 * False with errno, and *what names the call. Makes this process a session leader where a terminal
 * is wanted.
 */
bool wires_connect(struct wires *wires, const struct test *test, const char **what);

/* Put the child's ends in their place; in the child, before exec. */
void wires_use(const struct wires *wires);

/* The terminal and the descriptors are as lguest found them. False, and *why says what is not. */
bool wires_untouched(const struct wires *wires, char *why, size_t size);

/* Echo, line mode and signals are off, output processing is left alone. */
bool wires_raw(const struct wires *wires);

/* What was typed has been read. */
bool wires_input_read(const struct wires *wires);

/*
 * A far network namespace, behind an interface "cable" that both have, and servers in it; for rows
 * with OWN_NETWORK. `here` and `there` are shell commands for the near and the far end. False, and
 * *why says what failed.
 */
bool world_make(const char *here, const char *there, char *why, size_t size);
/* No interface of lguest's is left behind. False, and *why names one. */
bool world_is_clean(char *why, size_t size);
bool world_run(const char *commands);

/* Ports at the far end: of 64 MiB, of 1 GiB, and of somebody who takes either back. */
enum { WORLD_SENDS = 7001, WORLD_SENDS_LONG = 7002, WORLD_TAKES = 7003 };
#define WORLD_SENDS_TEXT      "7001"
#define WORLD_SENDS_LONG_TEXT "7002"
#define WORLD_TAKES_TEXT      "7003"

/* What a process holds, out of /proc. */
struct resources {
	unsigned descriptors, threads;
	unsigned long resident; /* KiB */
};

/* False with errno. */
bool resources_of(pid_t pid, struct resources *resources);
pid_t thread_named(pid_t pid, const char *name); /* 0: there is none */
pid_t child_named(pid_t pid, const char *name);	 /* the same */

/* Rows that must fail, each for its own reason: does the runner notice? Returns an exit status. */
int self_test(const struct settings *settings);

/* Runs a row in a child of its own and in a directory of its own, and waits. */
void run_isolated(const struct test *test, const char *engine, const struct settings *settings,
		  struct verdict *verdict);

#endif
