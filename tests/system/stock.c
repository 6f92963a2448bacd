/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows with the distribution's own kernels, unmodified, and the initramfs that
 * scripts/guest packs. What its init understands (test=info and its like) is told
 * in scripts/guest-init.
 *
 * A boot costs seconds, many of them where the engine itself is emulated, so each
 * one shows several things at once.
 */
#include "systest.h"

#include <string.h>

#define MEMORY "256"

struct kernel {
	const char *name, *image, *initrd;
};

#define KERNEL(name)                                                                               \
	{                                                                                          \
		name, "{assets}/guest/" name "/vmlinuz",                                           \
			"--initrd={assets}/guest/" name "/initrd.img"                              \
	}

/* Another kernel is one more line. */
static const struct kernel kernels[] = {KERNEL("cloud"), KERNEL("generic"), KERNEL("686-pae")};

/*
 * Every kernel with every number of CPUs on every console: to user space, and what it finds there.
 */
static void add_info(struct suite *suite, const struct kernel *kernel, unsigned cpus,
		     const char *console, unsigned flags)
{
	const struct test test = {
		.name = suite_text("%s-%u-%s", kernel->name, cpus, console),
		.patience = FOR_STOCK,
		.flags = flags,
		.args = {suite_text("--cpus=%u", cpus), kernel->initrd, MEMORY, kernel->image,
			 suite_text("console=%s", console), "quiet", "panic=-1", "test=info"},
		.seen =
			{
				suite_text("cpus: %u\ndescribed: %u\ninterrupted: %u\n", cpus, cpus,
					   cpus > 1 ? cpus : 0),
				"pci: 0000:00:00.0 0x060000 0x1af4 ",
				"pci: 0000:00:01.0 0x078000 0x1af4 0x1043 virtio-pci\n",
				"0x1b36 0x0011 pvpanic-pci\n",
				suite_text("consoles: %s\n", console),
				"clock: {clock}\n",
				"button: 1\n",
				"complaints: none\n",
			},
		.unseen = {"Kernel panic", "init: no test"},
	};

	suite_add(suite, &test);
}

/* Where time is short, one CPU has the one console, two have the other, and four are left out. */
static void add_infos(struct suite *suite)
{
	static const char *const consoles[] = {"ttyS0", "hvc0"};

	for (size_t i = 0; i < COUNT(kernels); i++)
		for (unsigned cpus = 1; cpus <= 4; cpus *= 2)
			for (size_t j = 0; j < COUNT(consoles); j++)
				add_info(suite, &kernels[i], cpus, consoles[j],
					 cpus == j + 1 ? 0 : ON_REQUEST);
}

#define PROMPT EXPECT("guest:/# ")
/* The shell echoes what was typed; only it can turn this into 42. */
#define ASK	  PROMPT, TYPE("echo $((6*7))\r"), EXPECT("\n42\n"), PROMPT
#define TEN(step) step, step, step, step, step, step, step, step, step, step
/* So many seconds of processes, pipes and arithmetic; says how many different results there were.
 */
#define WORK(seconds)                                                                              \
	"timeout " #seconds                                                                        \
	" sh -c 'while gzip </bin/busybox | md5sum; do :; done' | sort -u | wc -l\r"
#define CLOUD "--initrd={assets}/guest/cloud/initrd.img", MEMORY, "{assets}/guest/cloud/vmlinuz"
#define GENERIC                                                                                    \
	"--initrd={assets}/guest/generic/initrd.img", MEMORY, "{assets}/guest/generic/vmlinuz"

/* A program of ours (tests/users), which is a disk to the guest. */
#define RIGHTS "--soft-without=doubt", "--block={files}/rights,ro"
#define RUN_RIGHTS                                                                                 \
	STEPS(PROMPT, TYPE("cat /dev/vda >/tmp/rights; chmod +x /tmp/rights; /tmp/rights\r"),      \
	      EXPECT("rights: all is well\n"), PROMPT, TYPE("poweroff -f\r"))

static const struct test boots[] = {
	{
		/*
		 * By ACPI's reset register; the second life is as good as the first. Between
		 * the two, a guest that only waits for a key costs next to nothing.
		 */
		.name = "cloud-shell-reboot",
		.patience = FOR_STOCK,
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {"--cpus=2", CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.steps = STEPS(EXPECT(" CPUs, console ttyS0."), ASK, TERMINAL_RAW, IDLE(2),
			       TYPE("reboot -f\r"), EXPECT(" CPUs, console ttyS0."), ASK,
			       TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
	},
	{
		/* Both consoles are there; the last console= has the shell, and gets the input. */
		.name = "cloud-shell-hvc0",
		.patience = FOR_STOCK,
		.input = A_TERMINAL,
		.output = A_TERMINAL,
		.args = {CLOUD, "console=ttyS0", "console=hvc0", "quiet", "panic=-1"},
		.steps = STEPS(EXPECT("1 CPUs, console hvc0."), ASK, TERMINAL_RAW,
			       TYPE("cat /sys/class/tty/console/active\r"),
			       EXPECT("\nttyS0 hvc0\n"), PROMPT, TYPE("exit\r")),
		.unseen = {"Kernel panic"},
	},
	{
		.name = "generic-shell-hvc0",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", "--console=virtio", GENERIC, "console=hvc0", "quiet",
			 "panic=-1"},
		.steps = STEPS(EXPECT(" CPUs, console hvc0."), ASK, TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
	},
	{
		.name = "cloud-panic",
		.patience = FOR_STOCK,
		.args = {CLOUD, "console=ttyS0", "panic=-1", "test=panic"},
		.seen = {"Kernel panic"},
		.error_seen = {"panic"},
		.error_lines = 1,
		.status = 3,
	},
	{
		.name = "generic-panic",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", GENERIC, "console=hvc0", "quiet", "panic=-1", "test=panic"},
		.error_seen = {"panic"},
		.error_lines = 1,
		.status = 3,
	},
	{
		.name = "cloud-triple-fault",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", CLOUD, "console=ttyS0", "quiet", "panic=-1", "test=triple"},
		.error_seen = {"triple fault", "vCPU "},
		.error_lines = 1,
		.status = 2,
	},
	{
		/*
		 * Nothing about consoles: lguest names one, and the kernel's own words are seen
		 * there.
		 */
		.name = "cloud-no-console-keyboard-reset",
		.patience = FOR_STOCK,
		.args = {"--no-reboot", CLOUD, "panic=-1", "test=kbd"},
		.seen = {"Linux version", " test=kbd console=ttyS0\n"},
		.unseen = {"Kernel panic"},
		.error_seen = {"console=ttyS0"},
		.error_lines = 1,
	},
	{
		/* What `make run` does, and the one line that says which engine it got, and why. */
		.name = "cloud-auto",
		.only = "soft",
		.patience = FOR_STOCK,
		.args = {"--engine=auto", CLOUD, "console=ttyS0", "quiet"},
		.steps = STEPS(EXPECT("1 CPUs, console ttyS0."), ASK, TYPE("poweroff -f\r")),
		.error_seen = {"engine ", ": "},
		.error_lines = 1,
	},
	{
		/*
		 * There is no flaw to mitigate where nothing secret is kept, and a kernel that
		 * does it all the same makes its own system calls many times slower.
		 */
		.name = "cloud-vulnerabilities",
		.only = "soft",
		.patience = FOR_STOCK,
		.args = {CLOUD, "console=ttyS0", "quiet", "panic=-1", "test=vulnerabilities"},
		.seen = {"vulnerabilities: 0 of ", "boot log: 0 mitigations\n"},
		.unseen = {"vulnerabilities: 0 of 0"},
	},
	{
		/* CPUs are started again and again, from real mode each time. */
		.name = "cloud-hotplug",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", CLOUD, "console=ttyS0", "quiet", "panic=-1", "test=hotplug"},
		.seen = {"hotplug: 2 CPUs are back\n", "complaints: none\n"},
		.unseen = {"Kernel panic", "when there should be one"},
	},
	{
		/* A kernel of 64 bits has programs of 32: the same work, and the same outcome. */
		.name = "cloud-ia32",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", "--initrd={assets}/guest/ia32/initrd.img", MEMORY,
			 "{assets}/guest/cloud/vmlinuz", "console=ttyS0", "quiet", "panic=-1",
			 "test=ia32"},
		.seen = {"ia32: /ia32/dynamic/busybox is well\n",
			 "ia32: /ia32/static/busybox is well\n", "complaints: none\n"},
		.unseen = {"Kernel panic"},
	},
	{
		/* The kernel hears of the button, tells acpid, and that powers off. */
		.name = "cloud-power-button",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.steps = STEPS(PROMPT, SIGNAL(SIGTERM)),
		.unseen = {"Kernel panic"},
		.error_seen = {"asked the guest to shut down"},
		.error_lines = 1,
	},
	{
		/* The stock driver has taken to our generator, and gets what it asks for. */
		.name = "cloud-rng",
		.patience = FOR_STOCK,
		.args = {"--rng", CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.steps = STEPS(PROMPT, TYPE("cat /sys/class/misc/hw_random/rng_current\r"),
			       EXPECT("\nvirtio_rng.0\n"), PROMPT,
			       TYPE("dd if=/dev/hwrng bs=4096 count=4 | wc -c\r"),
			       EXPECT("\n16384\n"), PROMPT, TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic"},
	},
	{
		/* User code that runs as it is, whether that pays or not. */
		.name = "cloud-rights",
		.only = "soft",
		.patience = FOR_STOCK,
		.args = {RIGHTS, CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.copy = "users/rights",
		.steps = RUN_RIGHTS,
		.unseen = {"Kernel panic"},
	},
	{
		.name = "cloud-rights-2",
		.only = "soft",
		.patience = FOR_STOCK,
		.args = {RIGHTS, "--cpus=2", CLOUD, "console=ttyS0", "quiet", "panic=-1"},
		.copy = "users/rights",
		.steps = RUN_RIGHTS,
		.unseen = {"Kernel panic"},
	},
	{
		/*
		 * Now and then an engine loses an interrupt, and its guest hangs. Warnings are to
		 * be seen on the console.
		 */
		.name = "cloud-ten-boots",
		.only = "soft",
		.patience = FOR_TEN_BOOTS,
		.args = {CLOUD, "console=ttyS0", "loglevel=5", "panic=-1", "test=reboot"},
		.steps = STEPS(TEN(EXPECT("init: test reboot\n")), SIGNAL(SIGINT)),
		.unseen = {"Kernel panic", "Call Trace", " stall", "lockup", "unstable"},
		.error_seen = {"signal"},
		.error_lines = 1,
		.status = 128 + SIGINT,
	},
	{
		/*
		 * Ten minutes of work that comes to the same each time; and then it is as much
		 * later for the guest as it is for us.
		 */
		.name = "cloud-busy",
		.only = "soft",
		.patience = FOR_TEN_MINUTES,
		.flags = ON_REQUEST,
		.args = {CLOUD, "console=ttyS0", "loglevel=5", "panic=-1"},
		.steps = STEPS(PROMPT, CLOCK_NOTE, PROMPT, TYPE(WORK(600)), EXPECT("\n1\n"), PROMPT,
			       CLOCK_COMPARE(100), TYPE("poweroff -f\r")),
		.unseen = {"Kernel panic", "Call Trace", " stall", "lockup", "unstable"},
	},
};

void suite_add_stock(struct suite *suite)
{
	add_infos(suite);
	for (size_t i = 0; i < COUNT(boots); i++)
		suite_add(suite, &boots[i]);
}
