/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows in which a debugger comes: --gdb. Most are about a guest whose addresses are known
 * (tests/guests/debugged.S), and the packets are written out here, since that is what a debugger
 * depends on. Then stock gdb, and a stock kernel.
 */
#include "systest.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GUEST(name)  "{assets}/guests/" name
#define SOCKET	     "--gdb={files}/gdb"
#define CRASHED	     2
#define FAILED_USAGE 1

/* Numbers of registers, in gdb's order. */
#define RBX  "1"
#define RIP  "10"
#define XMM7 "2f"

/* Little-endian, as registers are sent. */
#define AT_ENTRY    "0000100000000000"
#define AT_FUNCTION "0001100000000000"
#define AT_PUSH	    "0101100000000000"
#define AT_MOV	    "0201100000000000"
#define AT_POP	    "0701100000000000"
#define AFTER_WRITE "3c00100000000000"

#define STACK	    "0020100000000000"
#define STACK_BELOW "f81f100000000000"

#define HELLO                                                                                      \
	PACKET("qSupported:swbreak+;hwbreak+",                                                     \
	       "PacketSize=4000;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;"   \
	       "hwbreak+;binary-upload+"),                                                         \
		PACKET("?", "T05thread:1;")

/* Out of its loop, where it looks at its registers and powers off. */
#define LET_IT_END                                                                                 \
	PACKET("P" RBX "=7700000000000000", "OK"),                                                 \
		PACKET("P" XMM7 "=66000000000000000000000000000000", "OK"),                        \
		PACKET("M101010,4:01000000", "OK")

#define WAITING "waiting for a debugger: gdb -ex 'target remote "

static const struct test tests[] = {
	{
		.name = "gdb-break-step-watch",
		.flags = NEEDS_BREAKPOINTS,
		.args = {SOCKET, "--gdb-wait", "64", GUEST("debugged")},
		.steps = STEPS(EXPECT_ERROR(WAITING), DEBUGGER, HELLO, PACKET("p" RIP, AT_ENTRY),
			       PACKET("Z0,100101,1", "OK"), PACKET("m100100,3", "9053b9"),
			       PACKET("vCont;c", "T05thread:1;swbreak:;"), PACKET("p" RIP, AT_PUSH),
			       PACKET("p" RBX, "8877665544332211"),
			       PACKET("p" XMM7, "000102030405060708090a0b0c0d0e0f"),
			       /* It is met again, for as long as it is there. */
			       PACKET("c", "T05thread:1;swbreak:;"), PACKET("z0,100101,1", "OK"),
			       PACKET("s", "T05thread:1;"), PACKET("p" RIP, AT_MOV),
			       PACKET("vCont;s:1", "T05thread:1;"), PACKET("p" RIP, AT_POP),
			       /* Its own int3 comes to it, whoever else has some. */
			       PACKET("Z0,100102,1", "OK"), PACKET("Z2,101000,8", "OK"),
			       PACKET("c", "T05thread:1;watch:101000;"),
			       PACKET("p" RIP, AFTER_WRITE),
			       PACKET("m101000,c", "5a0000000000000001000000"),
			       PACKET("z2,101000,8", "OK"), PACKET("z0,100102,1", "OK"), LET_IT_END,
			       PACKET("c", "W00"), ENDED),
		.error_lines = 1,
	},
	{
		/* Reading counts, and the processor's own breakpoints. */
		.name = "gdb-hard-access",
		.flags = NEEDS_BREAKPOINTS,
		.args = {SOCKET, "--gdb-wait", "64", GUEST("debugged")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("Z1,100100,1", "OK"),
			       PACKET("Z4,101010,4", "OK"), PACKET("c", "T05thread:1;hwbreak:;"),
			       PACKET("p" RIP, AT_FUNCTION), PACKET("z1,100100,1", "OK"),
			       PACKET("c", "T05thread:1;awatch:101010;"),
			       /* By then it has single-stepped itself, too, and has seen it. */
			       PACKET("m10100c,4", "01000000"), PACKET("z4,101010,4", "OK"),
			       LET_IT_END, PACKET("c", "W00"), ENDED),
		.error_lines = 1,
	},
	{
		.name = "gdb-interrupt-detach",
		.args = {SOCKET, "64", GUEST("debugged")},
		.steps =
			STEPS(DEBUGGER, HELLO, TELL("c"), EXPECT("!"), TELL("\x03"),
			      HEAR("T02thread:1;"), TELL("vCont;c"), PACKET("\x03", "T02thread:1;"),
			      LET_IT_END, PACKET("D", "OK"), ENDED),
	},
	{
		/* It was killed: what it left behind does not stop the guest. */
		.name = "gdb-killed",
		.flags = NEEDS_BREAKPOINTS,
		.args = {SOCKET, "--gdb-wait", "64", GUEST("debugged")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("Z0,10004f,1", "OK"),
			       PACKET("Z2,101014,4", "OK"), PACKET("c", "T05thread:1;swbreak:;"),
			       DEBUGGER_DIES, DEBUGGER, HELLO, LET_IT_END, TELL("c"), DEBUGGER_DIES,
			       ENDED),
		.error_lines = 1,
	},
	{
		/* A point survives the reset: it is set anew. */
		.name = "gdb-reset",
		.flags = NEEDS_BREAKPOINTS,
		.args = {SOCKET, "--gdb-wait", "64", GUEST("debugged")},
		.steps =
			STEPS(DEBUGGER, HELLO, PACKET("Z1,100100,1", "OK"),
			      PACKET("c", "T05thread:1;hwbreak:;"),
			      PACKET("qRcmd,7265736574", "OK"), PACKET("p" RIP, AT_ENTRY),
			      PACKET("c", "T05thread:1;hwbreak:;"), PACKET("vKill;1", "OK"), ENDED),
		.error_seen = {"ended by the debugger"},
		.error_lines = 2,
		.status = 128 + SIGINT,
	},
	{
		/* Without a single breakpoint: in steps, and to where it is told to go. */
		.name = "gdb-steps",
		.args = {SOCKET, "--gdb-wait", "--cpus=2", "64", GUEST("debugged")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("qfThreadInfo", "m1,2"), PACKET("T2", "OK"),
			       PACKET("T3", "E16"), PACKET("qThreadExtraInfo,2", "764350552031"),
			       PACKET("Hg2", "OK"), PACKET("p" RIP, "f0ff000000000000"),
			       PACKET("Hg1", "OK"), PACKET("p" RIP, AT_ENTRY),
			       PACKET("vCont;s:1", "T05thread:1;"),
			       PACKET("p" RIP, "0800100000000000"),
			       PACKET("P" RIP "=" AT_FUNCTION, "OK"), PACKET("P7=" STACK, "OK"),
			       PACKET("vCont;s:1;c", "T05thread:1;"), PACKET("p" RIP, AT_PUSH),
			       PACKET("s", "T05thread:1;"), PACKET("p7", STACK_BELOW),
			       PACKET("p" RIP, AT_MOV), PACKET("P" RIP "=" AT_ENTRY, "OK"),
			       TELL("vCont;c"), EXPECT("!"), PACKET("\x03", "T02thread:1;"),
			       PACKET("qRcmd,7265736574", "OK"), PACKET("p" RIP, AT_ENTRY),
			       TELL("c"), EXPECT("!"), PACKET("\x03", "T02thread:1;"), LET_IT_END,
			       PACKET("c", "W00"), ENDED),
		.error_lines = 1,
	},
	{
		.name = "gdb-crash",
		.args = {SOCKET, "--gdb-wait", "64", GUEST("triplefault")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("c", "W02"), ENDED),
		.error_seen = {"triple fault"},
		.error_lines = 2,
		.status = CRASHED,
	},
	{
		/* One of them waits for INIT all the time, and is a thread like any other. */
		.name = "gdb-cpus",
		.flags = NEEDS_BREAKPOINTS,
		.args = {SOCKET, "--gdb-wait", "--cpus=2", "64", GUEST("debugged")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("Z0,100101,1", "OK"),
			       PACKET("vCont;c", "T05thread:1;swbreak:;"),
			       PACKET("z0,100101,1", "OK"), PACKET("vCont;s:1;c", "T05thread:1;"),
			       PACKET("p" RIP, AT_MOV), TELL("vCont;c"), EXPECT("!"),
			       PACKET("\x03", "T02thread:1;"), LET_IT_END, PACKET("c", "W00"),
			       ENDED),
		.error_lines = 1,
	},
};

/* Somebody is there already: a file, or another who listens. */
static bool make_file(const char *directory)
{
	int fd = open(suite_text("%s/gdb", directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd >= 0 && close(fd) == 0;
}

/* As a lguest that has ended leaves it. */
static bool make_abandoned_socket(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *path = suite_text("%s/gdb", directory);
	bool made;

	for (size_t i = 0; i < sizeof(address.sun_path) - 1 && path[i]; i++)
		address.sun_path[i] = path[i];
	made = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
	if (fd >= 0)
		close(fd);
	return made;
}

/* What gdb is told: the guest is reset, and found again in its kernel's first function. */
static bool make_script(const char *directory)
{
	static const char script[] = "set pagination off\n"
				     "set confirm off\n"
				     "monitor reset\n"
				     "maintenance flush register-cache\n"
				     "break start_kernel\n"
				     "continue\n"
				     "stepi\n"
				     "stepi\n"
				     "backtrace 2\n"
				     "x/s &linux_banner\n"
				     "delete\n"
				     "watch *(int *)&system_state\n"
				     "continue\n"
				     "delete\n"
				     "break run_init_process\n"
				     "continue\n"
				     "backtrace 2\n"
				     "info threads\n"
				     "delete\n"
				     "detach\n";
	int fd = open(suite_text("%s/script", directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool made = fd >= 0 && write(fd, script, strlen(script)) == (ssize_t)strlen(script);
	int disk = open(suite_text("%s/disk", directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	made = made && disk >= 0 && ftruncate(disk, 16 << 20) == 0;
	if (fd >= 0)
		close(fd);
	if (disk >= 0)
		close(disk);
	return made;
}

#define PROMPT	EXPECT("guest:/# ")
#define SEEN(t) RUN("grep -q '" t "' {files}/seen || { cat {files}/seen >&2; false; }")

/* The guest gives its own symbols away, for gdb to know the kernel by; and lives on in the end. */
static const struct test stock = {
	.name = "gdb-stock",
	.patience = FOR_STOCK,
	.needs = "gdb",
	.flags = NEEDS_BREAKPOINTS,
	.make_files = make_script,
	.args = {SOCKET, "--cpus=2", "--block={files}/disk",
		 "--initrd={assets}/guest/cloud/initrd.img", "256", "{assets}/guest/cloud/vmlinuz",
		 "console=ttyS0", "quiet", "panic=-1", "nokaslr"},
	.steps = STEPS(PROMPT, TYPE("cat /proc/kallsyms >/dev/vda; sync; echo it has $((6*7))\r"),
		       EXPECT("it has 42\n"), PROMPT,
		       RUN("scripts/symbols <{files}/disk >{files}/symbols"),
		       RUN("gdb -nx -batch {files}/symbols -ex 'target remote {files}/gdb' "
			   "-x {files}/script >{files}/seen 2>&1"),
		       SEEN("hit Breakpoint 1\\|^Breakpoint 1, .* in start_kernel ()"),
		       SEEN("^#1 .* in start_kernel ()"), SEEN("\"Linux version "),
		       SEEN("^New value = 1"), SEEN("^0x.* in rest_init ()"),
		       SEEN("^#0 .* in run_init_process ()"), SEEN("^#1 .* in kernel_init ()"),
		       SEEN("Thread 1 (vCPU 0)"), SEEN("detached"), PROMPT, TYPE("echo $((6*7))\r"),
		       EXPECT("\n42\n"), PROMPT, TYPE("poweroff -f\r")),
	.unseen = {"Kernel panic"},
};

#define A_LONG_NAME "0123456789012345678901234567890123456789"

static const struct test usage[] = {
	{
		.name = "usage/gdb-empty",
		.engines = NO_ENGINE,
		.args = {"--gdb=", "64", "k"},
		.silent = true,
		.error_seen = {"--gdb=: wants a port"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "usage/gdb-port-70000",
		.engines = NO_ENGINE,
		.args = {"--gdb=70000", "64", "k"},
		.silent = true,
		.error_seen = {"not a port from 1 to 65535"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "usage/gdb-wait-for-whom",
		.engines = NO_ENGINE,
		.args = {"--gdb-wait", "64", "k"},
		.silent = true,
		.error_seen = {"--gdb-wait: for whom?"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "usage/gdb-long-path",
		.engines = NO_ENGINE,
		.args = {"--gdb={files}/" A_LONG_NAME A_LONG_NAME A_LONG_NAME, "64", GUEST("echo")},
		.silent = true,
		.error_seen = {"has 107 characters at most"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "usage/gdb-no-folder",
		.engines = NO_ENGINE,
		.args = {"--gdb={files}/none/gdb", "64", GUEST("echo")},
		.silent = true,
		.error_seen = {"cannot listen there: No such file"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "usage/gdb-file-exists",
		.engines = NO_ENGINE,
		.make_files = make_file,
		.args = {SOCKET, "64", GUEST("echo")},
		.silent = true,
		.error_seen = {"exists already"},
		.error_lines = 1,
		.status = FAILED_USAGE,
	},
	{
		.name = "gdb-abandoned-socket",
		.make_files = make_abandoned_socket,
		.args = {SOCKET, "--gdb-wait", "64", GUEST("poweroff")},
		.steps = STEPS(DEBUGGER, HELLO, PACKET("D", "OK"), ENDED,
			       RUN("test \"$(stat -c %a {files}/gdb)\" = 600")),
		.error_lines = 1,
	},
	{
		/* Two of them at one port: the second is told. */
		.name = "gdb-port-in-use",
		.only = "soft", /* one is as good as another */
		.flags = OWN_NETWORK,
		.args = {"--gdb=1234", "--gdb-wait", "64", GUEST("poweroff")},
		.steps = STEPS(EXPECT_ERROR("localhost:1234"), AT(1), ENDED, AT(0), SIGNAL(SIGINT)),
		.others = {&(const struct test){
			.engines = EACH_ENGINE,
			.args = {"--gdb=1234", "64", GUEST("poweroff")},
			.error_seen = {"somebody else listens at that port"},
			.error_lines = 1,
			.status = FAILED_USAGE,
		}},
		.error_seen = {"ended by signal 2"},
		.error_lines = 2,
		.status = 128 + SIGINT,
	},
};

void suite_add_gdb(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
	suite_add(suite, &stock);
	for (size_t i = 0; i < COUNT(usage); i++)
		suite_add(suite, &usage[i]);
}
