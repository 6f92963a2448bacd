/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows about the small room that lguest locks itself into. That guests live in it
 * happily, all other rows show: it is shut in every one. Here somebody tries to get out
 * (tests/prisoner), and lguest becomes another user in an empty root.
 */
#include "systest.h"

#include <signal.h>
#include <sys/stat.h>

#define ALL_WELL 33
#define PRISONER "{assets}/prisoner"
#define GUEST	 "--rng", "--debug-exit", "64", "{assets}/guests/rng"
#define LET_OUT	 "was let through"
#define CLOUD	 "--initrd={assets}/guest/cloud/initrd.img", "256", "{assets}/guest/cloud/vmlinuz"
#define NOBODY	 "--username=nobody", "--chroot={files}/root"

/*
 * What the prisoner can be told to try, which is what the message has to name. What is
 * denied does not depend on the engine, so only the first few are tried on each.
 */
#define ON_EACH_ENGINE 5
static const char *const calls[] = {
	"open",		"execve",	  "socket",	 "ptrace",
	"mmap",		"openat",	  "creat",	 "unlink",
	"fork",		"clone",	  "mprotect",	 "pkey_mprotect",
	"kill",		"tgkill",	  "personality", "process_vm_readv",
	"bpf",		"io_uring_setup", "mount",	 "unshare",
	"memfd_create", "setresuid",	  "prctl",	 "ioctl",
	"seccomp",
};

static const struct {
	const char *who, *name;
} threads[] = {{"queue", "rng0/0"}, {"vcpu", "vcpu0"}};

static void add_attempts(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(threads); i++)
		for (size_t j = 0; j < COUNT(calls); j++) {
			const struct test test = {
				.name = suite_text("sandbox/%s-%s", threads[i].who, calls[j]),
				.only = j < ON_EACH_ENGINE ? NULL : "soft",
				.program = PRISONER,
				.args = {suite_text("--try=%s:%s", threads[i].who, calls[j]),
					 GUEST},
				.error_seen = {suite_text("lguest: %s: the sandbox denied %s(",
							  threads[i].name, calls[j])},
				.error_lines = 1,
				.status = 2,
			};

			suite_add(suite, &test);
		}
}

static bool make_root(const char *directory)
{
	return mkdir(suite_text("%s/root", directory), 0755) == 0;
}

static const struct test tests[] = {
	{
		/* The rows above would notice if nothing were denied. */
		.name = "sandbox/none",
		.program = PRISONER,
		.args = {"--no-sandbox", "--try=queue:openat", GUEST},
		.seen = {", 0 failed"},
		.error_seen = {"--no-sandbox: ", "openat " LET_OUT},
		.error_lines = ANY_LINES, /* each time the queue is served */
		.status = ALL_WELL,
	},
	{
		.name = "sandbox/denied-on-a-terminal",
		.program = PRISONER,
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--try=queue:execve", GUEST},
		.error_seen = {"the sandbox denied execve("},
		.error_lines = 1,
		.status = 2,
	},
	{
		/* Signals and the terminal, as somebody else and without a single file. */
		.name = "sandbox/nobody",
		.flags = AS_ROOT,
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.make_files = make_root,
		.args = {NOBODY, "--debug-exit", "64", "{assets}/guests/reboot-loop", "input=1"},
		.steps = STEPS(EXPECT("r or q?"), TERMINAL_RAW, TYPE("r"), EXPECT("r or q?"),
			       SIGNAL(SIGWINCH), SIGNAL(SIGCONT), TYPE("r"), EXPECT("r or q?"),
			       TERMINAL_RAW, TYPE("q")),
	},
	{
		.name = "sandbox/nobody-without-a-sandbox",
		.flags = AS_ROOT,
		.make_files = make_root,
		.args = {NOBODY, "--no-sandbox", "-v", "--debug-exit", "64",
			 "{assets}/guests/hello-pvh"},
		.seen = {", 0 failed"},
		.error_seen = {"--no-sandbox: ", "{files}/root is the root directory now\n",
			       "privileges dropped: user nobody ("},
		.error_unseen = {"locked in: "},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
	{
		/* The kernel and its initrd are loaded again from behind the shut door. */
		.name = "cloud-nobody-reboot",
		.flags = AS_ROOT,
		.patience = FOR_STOCK,
		.make_files = make_root,
		.args = {NOBODY, "--rng", "-v", CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.steps = STEPS(EXPECT("guest:/# "), TYPE("reboot -f\r"), EXPECT("guest:/# "),
			       TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
		.error_seen = {"{files}/root is the root directory now\n",
			       "privileges dropped: user nobody (", "locked in: "},
		.error_lines = SOME_LINES,
	},
};

void suite_add_sandbox(struct suite *suite)
{
	add_attempts(suite);
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
}
