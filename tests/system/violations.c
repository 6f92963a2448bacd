/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows for every rule that a virtio driver can break: the lines of
 * tests/guests/violations.h once more, each as two rows for each type of device.
 * By default the device sulks until it is reset, one line on stderr names the rule,
 * and the guest, which looks whether all that is so, lives on. Under --strict that line is the end.
 */
#include "systest.h"

#include "../guests/targets.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALL_WELL 33
#define CRASHED	 2

#define INPUT "some input for the guest"

struct violation {
	const char *rule, *number;
	enum kind kind;
	unsigned devices;
	const char *stage;
};

static const struct violation violations[] = {
#define VIOLATION(part, rule, number, kind, devices, stage, features, what, action)                \
	{#part "-" #rule, #number, kind, devices, #stage},
#include "../guests/violations.h"
#undef VIOLATION
};

/* Who suffers it, and what lguest is told so that there is one. */
struct target {
	const char *name;
	enum devices bit;
	const char *option; /* NULL: a network and its twin, which it gets its input from */
	unsigned flags;
	bool (*make_files)(const char *directory);
	bool (*check_files)(const char *directory, char *why, size_t size);
};

#define DISK_SIZE (1 << 20)

static bool make_disk(const char *directory)
{
	int fd = open(suite_text("%s/disk", directory), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	bool made = fd >= 0 && ftruncate(fd, DISK_SIZE) == 0;

	if (fd >= 0)
		close(fd);
	return made;
}

static bool check_disk(const char *directory, char *why, size_t size)
{
	struct stat disk;

	if (stat(suite_text("%s/disk", directory), &disk) == 0 && disk.st_size == DISK_SIZE)
		return true;
	snprintf(why, size, "the disk is no longer %d bytes long", DISK_SIZE);
	return false;
}

static const struct target targets[] = {
	{"console", CONSOLE, "--console=virtio", 0, NULL, NULL},
	{"block", BLOCK, "--block={files}/disk", 0, make_disk, check_disk},
	{"net", NET, NULL, 0, NULL, NULL},
	{"rng", RNG, "--rng", 0, NULL, NULL},
};

static bool possible(const struct violation *violation, const struct target *target, bool packed)
{
	return violation->devices & target->bit &&
	       !(violation->devices & (packed ? ONLY_SPLIT : ONLY_PACKED));
}

/* The console, which is first in the table, goes without its name. */
static const char *row_name(const struct target *target, bool packed, const char *name, bool strict)
{
	return suite_text("violation/%s%s%s%s%s", target->bit == CONSOLE ? "" : target->name,
			  target->bit == CONSOLE ? "" : "/", packed ? "packed/" : "", name,
			  strict ? "-strict" : "");
}

/* Rows run beside one another: each has a segment for itself. */
static char *segment(const char *what, bool packed, bool strict)
{
	return suite_text("--sharenet=%s%s%s", what, packed ? "-packed" : "",
			  strict ? "-strict" : "");
}

static void set_arguments(struct test *test, const struct target *target, bool packed, bool strict,
			  const char *what)
{
	const char *const after[] = {strict ? "--strict" : "--debug-exit",
				     "64",
				     "{assets}/guests/violate",
				     suite_text("device=%s", target->name),
				     suite_text("violation=%s", what),
				     packed ? "packed=1" : NULL};
	unsigned count = 0;

	if (target->option)
		test->args[count++] = target->option;
	else
		while (count < 2)
			test->args[count++] = segment(what, packed, strict);
	for (size_t i = 0; i < COUNT(after); i++)
		test->args[count++] = after[i];
}

/*
 * No engine knows which device this is, or what kind of rings it has: on those that cost time in
 * the tests, the console will do.
 */
static const char *only_engine(const struct target *target, bool packed)
{
	return target->bit == CONSOLE && !packed ? NULL : "soft";
}

static void add_violation(struct suite *suite, const struct violation *violation,
			  const struct target *target, bool packed, bool strict)
{
	static const struct step steps[] = {TYPE(INPUT), {STEP_END, NULL, 0}};
	const char *name = suite_text("%s.%s", violation->rule, violation->number);
	bool told = strict || violation->kind == BREAKS;
	struct test test = {
		.name = row_name(target, packed, name, strict),
		.only = only_engine(target, packed),
		.steps = strcmp(violation->stage, "LIVE_INPUT") ? NULL : steps,
		.make_files = target->make_files,
		.check_files = target->check_files,
		/* What the default mode makes of each is also seen in one go: see below. */
		.flags = target->flags | (strict ? 0 : ON_REQUEST),
		.unseen = {"FAILED"},
		.error_lines = told,
		.status = strict ? CRASHED : ALL_WELL,
	};

	set_arguments(&test, target, packed, strict, name);
	if (!strict)
		test.seen[0] = suite_text("violated %s\n", name);
	if (told)
		test.error_seen[0] = suite_text("%s: ", violation->rule);
	suite_add(suite, &test);
}

/*
 * One after the other in one guest: a device that was reset has forgotten what was. On
 * stderr, one line for each that breaks the device, in this order, and no others.
 */
static void add_all_in_one(struct suite *suite, const struct target *target, bool packed)
{
	struct step *steps = calloc(COUNT(violations) + 2, sizeof(*steps));
	struct step *step = steps;
	struct test test = {
		.name = row_name(target, packed, "all", false),
		.only = only_engine(target, packed),
		.flags = target->flags,
		.patience = FOR_STOCK,
		.make_files = target->make_files,
		.check_files = target->check_files,
		.steps = steps,
		.seen = {", 0 failed"},
		.unseen = {"FAILED"},
		.status = ALL_WELL,
	};

	if (!steps)
		err(EXIT_FAILURE, "out of memory");
	set_arguments(&test, target, packed, false, "all");
	*step++ = (struct step)TYPE(INPUT);
	for (size_t i = 0; i < COUNT(violations); i++) {
		if (violations[i].kind != BREAKS || !possible(&violations[i], target, packed))
			continue;
		*step++ = (struct step)EXPECT_ERROR(suite_text("%s: ", violations[i].rule));
		test.error_lines++;
	}
	suite_add(suite, &test);
}

/*
 * All of it at once: tests/guests/hostile.c. A tap has offloads to offer, and so more to be asked
 * for than a shared segment has.
 */
#define HOSTILE(network)                                                                           \
	"--rng", "--block={files}/disk", network, "--debug-exit", "64", "{assets}/guests/hostile"
#define VICTIMS "victim: console", "victim: rng", "victim: block", "victim: net"

static const struct test hostile[] = {
	{
		/* From as many CPUs as there are. */
		.name = "hostile-cpus",
		.patience = FOR_STOCK,
		.args = {"--cpus=2", HOSTILE("--sharenet=hostile-cpus"), "rounds=1000"},
		.make_files = make_disk,
		.check_files = check_disk,
		.seen = {VICTIMS, ", 0 failed"},
		.unseen = {"FAILED"},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
	{
		/* So much of it that a device has used up what it may say. */
		.name = "hostile-long",
		.only = "soft",
		.args = {HOSTILE("--sharenet=hostile-long"), "seed=2", "rounds=20000"},
		.make_files = make_disk,
		.check_files = check_disk,
		.seen = {VICTIMS, ", 0 failed"},
		.unseen = {"FAILED"},
		.error_seen = {"console: 1000 lines were about this device"},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
	{
		.name = "hostile-tap",
		.only = "soft",
		.flags = AS_ROOT,
		.args = {HOSTILE("--tunnet=192.168.250.1"), "seed=3", "rounds=10000"},
		.make_files = make_disk,
		.check_files = check_disk,
		.seen = {VICTIMS, ", 0 failed"},
		.unseen = {"FAILED"},
		.error_lines = SOME_LINES,
		.status = ALL_WELL,
	},
};

/* On a segment they are refused because they were not offered; a tap offers them. */
static void add_dependency(struct suite *suite, const char *name)
{
	const struct test test = {
		.name = suite_text("violation/net/tap-%s-strict", name),
		.only = "soft",
		.flags = AS_ROOT,
		.args = {"--strict", "--tunnet=192.168.250.1", "64", "{assets}/guests/violate",
			 "device=net", suite_text("violation=%s", name)},
		.unseen = {"FAILED"},
		.error_seen = {"VT-3: features ", ": one needs another that is missing"},
		.error_lines = 1,
		.status = CRASHED,
	};

	suite_add(suite, &test);
}

static void add_target(struct suite *suite, const struct target *target, bool packed)
{
	for (size_t i = 0; i < COUNT(violations); i++) {
		const struct violation *violation = &violations[i];

		if (!possible(violation, target, packed))
			continue;
		/* What has nothing to do with rings is the same with both. */
		if (packed && strncmp(violation->rule, "VQ", 2) &&
		    !(violation->devices & ONLY_PACKED))
			continue;
		add_violation(suite, violation, target, packed, false);
		add_violation(suite, violation, target, packed, true);
	}
	add_all_in_one(suite, target, packed);
}

void suite_add_violations(struct suite *suite)
{
	for (const struct target *target = targets; target < targets + COUNT(targets); target++) {
		add_target(suite, target, false);
		add_target(suite, target, true);
	}
	add_dependency(suite, "VT-3.7");
	add_dependency(suite, "VT-3.8");
	for (size_t i = 0; i < COUNT(hostile); i++)
		suite_add(suite, &hostile[i]);
}
