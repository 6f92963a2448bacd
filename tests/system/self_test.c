/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who tests the tests? A check that cannot fail is worth nothing, so each of the
 * runner's is shown something that it must refuse: shell scripts in the place of
 * lguest that misbehave in one way each. Run by systest --self-test, and needs no
 * lguest.
 */
#include "systest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct trial {
	const char *refusal; /* part of the reason that the runner must give; NULL: it must pass */
	struct test test;
};

#define SCRIPT(text)                                                                               \
	{                                                                                          \
		"-c", text                                                                         \
	}

/* Never content with what is there. */
static bool never_right(const char *directory, char *why, size_t size)
{
	snprintf(why, size, "not what was wanted in %s", directory);
	return false;
}

static const struct trial trials[] = {
	{NULL,
	 {.name = "well-behaved",
	  .args = SCRIPT("echo hello; exit 3"),
	  .seen = {"hello"},
	  .unseen = {"bye"},
	  .status = 3}},
	{NULL, {.name = "silent", .args = SCRIPT(":"), .silent = true}},
	{NULL,
	 {.name = "one-line",
	  .args = SCRIPT("echo lguest: no >&2; exit 1"),
	  .error_seen = {"no"},
	  .silent = true,
	  .error_lines = 1,
	  .status = 1}},
	{NULL,
	 {.name = "answers",
	  .args = SCRIPT("echo name?; read a; echo you are $a"),
	  .steps = STEPS(EXPECT("name?"), TYPE("Rusty\n"), EXPECT("you are Rusty"))}},
	{NULL,
	 {.name = "end-of-input",
	  .args = SCRIPT("cat; echo end"),
	  .steps = STEPS(TYPE("some"), EXPECT("some"), CLOSE_INPUT, EXPECT("end"))}},
	{NULL, {.name = "dies", .args = SCRIPT("kill -9 $$"), .status = DIES_OF(SIGKILL)}},
	{NULL,
	 {.name = "signal",
	  .args = SCRIPT("trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"),
	  .steps = STEPS(EXPECT("up"), SIGNAL(SIGTERM)),
	  .status = 7}},
	{NULL,
	 {.name = "raw-and-back",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("old=$(stty -g); stty -echo -icanon -isig; echo up; k=$(head -c 2);"
			 " stty $old; echo lguest: $k >&2"),
	  .steps = STEPS(EXPECT("up"), TERMINAL_RAW, TYPE_KEYS("lg")),
	  .error_seen = {": lg\n"},
	  .error_lines = 1,
	  .unseen = {"lg"}}},
	{NULL,
	 {.name = "hang-up",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("echo up; exec sleep 60"),
	  .steps = STEPS(EXPECT("up"), HANG_UP),
	  .status = DIES_OF(SIGHUP)}},
	{NULL,
	 {.name = "no-descriptors",
	  .input = CLOSED,
	  .output = CLOSED,
	  .args = SCRIPT("if [ -e /proc/$$/fd/0 ] || [ -e /proc/$$/fd/1 ]; then exit 1; fi")}},
	{NULL,
	 {.name = "full",
	  .output = DEV_FULL,
	  .args = SCRIPT("(echo x) 2>/dev/null || exit 5"),
	  .status = 5}},
	{NULL,
	 {.name = "unread",
	  .flags = UNREAD,
	  .args = SCRIPT("exec yes"),
	  .steps = STEPS(OUTPUT_FULL, SIGNAL(SIGTERM)),
	  .status = DIES_OF(SIGTERM)}},
	{NULL,
	 {.name = "same-resources",
	  .args = SCRIPT("echo up; read a; echo on; read a"),
	  .steps = STEPS(EXPECT("up"), REMEMBER, TYPE("x\n"), EXPECT("on"), COMPARE, TYPE("x\n"))}},
	{NULL,
	 {.name = "thread",
	  .args = SCRIPT("while :; do :; done"),
	  .steps = STEPS(SIGNAL_THREAD("sh", SIGSEGV)),
	  .status = DIES_OF(SIGSEGV)}},

	{NULL,
	 {.name = "idle",
	  .args = SCRIPT("echo up; exec sleep 60"),
	  .steps = STEPS(EXPECT("up"), IDLE(2), SIGNAL(SIGTERM)),
	  .status = DIES_OF(SIGTERM)}},
	{NULL,
	 {.name = "clock",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("while read a; do eval \"$a\"; done"),
	  .steps = STEPS(CLOCK_NOTE, TYPE("sleep 0.5\r"), CLOCK_COMPARE(50), TYPE("exit\r"))}},

	{"exit status 1, expected exit status 0",
	 {.name = "wrong-status", .args = SCRIPT("exit 1")}},
	{"died of SIGTERM, expected exit status 143",
	 {.name = "signal-or-status", .args = SCRIPT("kill -TERM $$"), .status = 143}},
	{"not seen on stdout: \"hello\"",
	 {.name = "unseen", .args = SCRIPT("echo bye"), .seen = {"hello"}}},
	{"seen on stdout: \"bye\"",
	 {.name = "seen", .args = SCRIPT("echo bye"), .unseen = {"bye"}}},
	{"not seen on stderr: \"no\"",
	 {.name = "error-unseen", .args = SCRIPT(":"), .error_seen = {"no"}}},
	{"something was written to stdout",
	 {.name = "not-silent", .args = SCRIPT("echo"), .silent = true}},
	{"1 lines on stderr, expected 0", {.name = "noise", .args = SCRIPT("echo lguest: no >&2")}},
	{"0 lines on stderr, expected at least 1",
	 {.name = "no-noise", .args = SCRIPT(":"), .error_lines = SOME_LINES}},
	{"does not begin with \"lguest: \"",
	 {.name = "prefix", .args = SCRIPT("echo error >&2"), .error_lines = 1}},
	{"has no end",
	 {.name = "half-line", .args = SCRIPT("printf lguest:\\ x >&2"), .error_lines = 1}},
	{"ended while waiting for stdout \"hello\"",
	 {.name = "ends-early", .args = SCRIPT("echo bye"), .steps = STEPS(EXPECT("hello"))}},
	{"out of time while waiting for stdout \"b\"",
	 {.name = "order",
	  .args = SCRIPT("echo b; echo a; sleep 60"),
	  .steps = STEPS(EXPECT("a"), EXPECT("b"))}},
	{"ended after 2 of 5",
	 {.name = "too-little",
	  .args = SCRIPT("sleep 0.1; echo a"),
	  .steps = STEPS(EXPECT_MORE(5))}},
	{"still running", {.name = "hangs", .args = SCRIPT("exec sleep 60")}},
	{"out of time while waiting for a key to be read",
	 {.name = "keys", .args = SCRIPT("sleep 60"), .steps = STEPS(TYPE_KEYS("ab"))}},
	{"the terminal was not restored",
	 {.name = "terminal-changed",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("stty -echo")}},
	{"the terminal was not restored",
	 {.name = "terminal-sane",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("stty sane")}},
	{"out of time while waiting for a raw terminal",
	 {.name = "not-raw",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("stty -echo -icanon -isig -opost; echo; sleep 60"),
	  .steps = STEPS(TERMINAL_RAW)}},
	{"stopped by SIGTTIN",
	 {.name = "background",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .flags = IN_BACKGROUND,
	  .args = SCRIPT("head -c 1")}},
	{"a child process was left behind", {.name = "child", .args = SCRIPT("sleep 60 & exit 0")}},
	{"a file was left behind: core", {.name = "file", .args = SCRIPT(": >core")}},
	{"a file was left behind: x", {.name = "temporary-file", .args = SCRIPT(": >$TMPDIR/x")}},
	{"descriptors, threads, resident KiB:",
	 {.name = "leak",
	  .args = SCRIPT("echo up; read a; exec 9</dev/null; echo on; read a"),
	  .steps = STEPS(EXPECT("up"), REMEMBER, TYPE("x\n"), EXPECT("on"), COMPARE)}},
	{"descriptors, threads, resident KiB:",
	 {.name = "memory-leak",
	  .args = SCRIPT(
		  "echo up; read a; b=$(head -c 2000000 /dev/zero | tr '\\0' x); echo on; read a"),
	  .steps = STEPS(EXPECT("up"), REMEMBER, TYPE("x\n"), EXPECT("on"), COMPARE)}},
	{"out of time while taking",
	 {.name = "not-idle",
	  .args = SCRIPT("echo up; while :; do :; done"),
	  .steps = STEPS(EXPECT("up"), IDLE(2))}},
	{"s passed for the guest,",
	 {.name = "wrong-clock",
	  .input = A_TERMINAL,
	  .output = A_TERMINAL,
	  .args = SCRIPT("for i in 1 2; do read a; echo; echo \"<${i}00.00>\"; done; read a"),
	  .steps = STEPS(CLOCK_NOTE, CLOCK_COMPARE(100))}},
	{"out of time while waiting for a thread named",
	 {.name = "no-thread",
	  .args = SCRIPT("sleep 60"),
	  .steps = STEPS(SIGNAL_THREAD("console/0", SIGSEGV))}},
	{"there is no", {.name = "missing", .args = {"{assets}/no-such-guest"}}},
	{"there is no", {.name = "missing-copy", .args = SCRIPT(":"), .copy = "no-such-file"}},
	{"this failed: false",
	 {.name = "run", .args = SCRIPT("read a"), .steps = STEPS(RUN("true"), RUN("false"))}},
	{"not what was wanted in /",
	 {.name = "files", .args = SCRIPT(":"), .check_files = never_right}},
};

static bool is_right(const struct trial *trial, const struct verdict *verdict)
{
	if (!trial->refusal)
		return verdict->outcome == PASSED;
	return verdict->outcome == FAILED && strstr(verdict->why, trial->refusal);
}

int self_test(const struct settings *settings)
{
	struct settings of_shell = *settings;
	unsigned wrong = 0;

	of_shell.lguest = "/bin/sh";
	of_shell.assets = "/nowhere";
	/*
	 * Many of the trials are about running out of time: a fifth of 10 s is enough for a script.
	 */
	of_shell.timeout_scale = settings->timeout_scale / 5;
	for (size_t i = 0; i < COUNT(trials); i++) {
		struct test test = trials[i].test;
		struct verdict verdict = {.outcome = FAILED};

		test.engines = NO_ENGINE;
		test.patience = FOR_USAGE;
		run_isolated(&test, NULL, &of_shell, &verdict);
		if (is_right(&trials[i], &verdict)) {
			printf("PASS self-test/%s\n", test.name);
		} else {
			printf("FAIL self-test/%s: %s; should have %s%s\n%s", test.name,
			       verdict.outcome == PASSED ? "passed" : verdict.why,
			       trials[i].refusal ? "been refused: " : "passed",
			       trials[i].refusal ? trials[i].refusal : "",
			       verdict.report ? verdict.report : "");
			wrong++;
		}
		fflush(stdout);
		free(verdict.report);
	}
	printf("%zu passed, %u failed, 0 skipped\n", COUNT(trials) - wrong, wrong);
	return wrong != 0;
}
