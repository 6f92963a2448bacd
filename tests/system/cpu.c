/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows with guests that check the CPU they run on, instruction by instruction and
 * fault by fault (tests/guests). Under KVM that is mostly the hardware, and it is
 * the guests' expectations that are tested; an engine that makes a CPU out of
 * software has to give the same answers.
 */
#include "systest.h"

#define GUEST(name) "{assets}/guests/" name
#define ALL_WELL    33
#define CRASHED	    2
#define NO_FAILURE  ", 0 failed"
#define FAILURE	    "FAILED: "

/* Guests that need nothing but themselves. */
static void add_checks(struct suite *suite)
{
	static const char *const guests[] = {
		"exceptions",  "pagefaults", "selfmodify", "tlb",   "shadows",	"jumps",
		"doublefault", "syscalls",   "fpuimages",  "timer", "nonsense", "pcid",
		"keys",	       "paging32",   "avx512",	   "rings", "v86",	"tasks",
		"segments",    "returns",    "privileges", "groups"};

	for (size_t i = 0; i < COUNT(guests); i++) {
		const struct test test = {
			.name = guests[i],
			.args = {"--debug-exit", "64", suite_text("{assets}/guests/%s", guests[i])},
			.seen = {NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
}

/* And those that are about several CPUs. */
static void add_several(struct suite *suite)
{
	static const struct {
		const char *guest, *cpus;
	} rows[] = {
		{"init", "2"},	    {"ipi", "2"},	 {"ipi", "4"},	       {"shootdown", "2"},
		{"shootdown", "4"}, {"splitlocks", "2"}, {"crossmodify", "2"}, {"crossmodify", "4"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct test test = {
			.name = suite_text("%s-%s", rows[i].guest, rows[i].cpus),
			.args = {"--debug-exit", "--cpus", rows[i].cpus, "64",
				 suite_text("{assets}/guests/%s", rows[i].guest)},
			.seen = {NO_FAILURE},
			.unseen = {FAILURE},
			.status = ALL_WELL,
		};

		suite_add(suite, &test);
	}
}

/* mov $..., %eax; ret */
#define CODE_1 "\xb8\x44\x33\x22\x11\xc3"
#define CODE_2 "\xb8\x88\x77\x66\x55\xc3"

static const struct test others[] = {
	{
		.name = "breakpoints",
		.args = {"--debug-exit", "64", GUEST("breakpoints"), "engine={engine}"},
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		.name = "nonsense-devices",
		.args = {"--debug-exit", "64", GUEST("nonsense"), "what=devices"},
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* Much code, in small pieces: half a million of them. */
		.name = "nonsense-chain",
		.args = {"--debug-exit", "64", GUEST("nonsense"), "what=chain", "size=8"},
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* More than any cache of translations holds; emulators of emulators take a minute.
		 */
		.name = "nonsense-long-chain",
		.flags = ON_REQUEST,
		.patience = FOR_STOCK,
		.args = {"--debug-exit", "128", GUEST("nonsense"), "what=chain", "size=64"},
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
	{
		/* There is no firmware that it could run, and KVM finds no memory there. */
		.name = "init-first",
		.args = {"--debug-exit", "--cpus", "2", "64", GUEST("init"), "first=1"},
		.seen = {"init: now the first"},
		.unseen = {FAILURE},
		.error_seen = {"vCPU 0"},
		.error_lines = 1,
		.status = CRASHED,
	},
	{
		.name = "doublefault-triple",
		.args = {"--debug-exit", "64", GUEST("doublefault"), "triple=1"},
		.seen = {"doublefault: and a third one"},
		.unseen = {FAILURE},
		.error_seen = {"triple fault", "vCPU 0 "},
		.error_lines = 1,
		.status = CRASHED,
	},
	{
		/* What is typed is code, and the device writes it over code that was run. */
		.name = "selfmodify-by-device",
		.args = {"--debug-exit", "64", GUEST("selfmodify"), "input=1", "console=hvc0"},
		.steps = STEPS(EXPECT("selfmodify: round 0\n"), TYPE(CODE_1),
			       EXPECT("received code says 11223344\n"),
			       EXPECT("selfmodify: round 1\n"), TYPE(CODE_2),
			       EXPECT("received code says 55667788\n")),
		.seen = {NO_FAILURE},
		.unseen = {FAILURE},
		.status = ALL_WELL,
	},
};

/*
 * Nonsense that ends in a triple fault; or in KVM's word that it cannot go on, which is as good an
 * end. Not among them are page tables where there is no memory: KVM tries to read them for ever.
 */
static void add_ends(struct suite *suite)
{
	static const char *const ends[] = {
		"cr3-zeroes",	"cr3-ones",	 "cr3-itself",	"idt-empty",   "idt-zeroes",
		"idt-ones",	"idt-unmapped",	 "idt-nowhere", "gdt-empty",   "gdt-zeroes",
		"gdt-unmapped", "no-task-stack", "no-task",	"jump-device", "jump-nowhere",
	};

	for (size_t i = 0; i < COUNT(ends); i++) {
		const char *name = suite_text("nonsense-%s", ends[i]);
		const struct test test = {
			.name = name,
			.args = {"--debug-exit", "64", GUEST("nonsense"),
				 suite_text("what=%s", ends[i])},
			.seen = {suite_text("nonsense: %s\n", ends[i])},
			.unseen = {FAILURE},
			.error_seen = {"vCPU 0"},
			.error_lines = 1,
			.status = CRASHED,
		};

		suite_add(suite, &test);
	}
}

void suite_add_cpu(struct suite *suite)
{
	add_checks(suite);
	add_several(suite);
	add_ends(suite);
	for (size_t i = 0; i < COUNT(others); i++)
		suite_add(suite, &others[i]);
}
