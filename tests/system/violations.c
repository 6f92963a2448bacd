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
	const char *option;
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
	snprintf(why, size, "the disk is no longer %u bytes long", DISK_SIZE);
	return false;
}

static const struct target targets[] = {
	{"console", CONSOLE, "--console=serial", 0, NULL, NULL},
	{"block", BLOCK, "--block={files}/disk", 0, make_disk, check_disk},
	{"net", NET, "--tunnet=192.168.250.1", AS_ROOT, NULL, NULL},
	{"rng", RNG, "--rng", 0, NULL, NULL},
};

/* Broken in the receive queue, which is looked at when there is something to receive. */
static void give_input(struct test *test)
{
	static const struct step steps[] = {TYPE(INPUT), {STEP_END, NULL, 0}};

	test->args[0] = "--console=virtio";
	test->steps = steps;
}

static bool wants_input(const struct violation *violation, const struct target *target)
{
	return target->bit == CONSOLE && !strcmp(violation->stage, "LIVE_INPUT");
}

/* The console, which is first in the table, goes without its name. */
static const char *row_name(const struct target *target, const char *name, bool strict)
{
	return suite_text("violation/%s%s%s%s", target->bit == CONSOLE ? "" : target->name,
			  target->bit == CONSOLE ? "" : "/", name, strict ? "-strict" : "");
}

/* Registers are the same for all devices, and no engine knows which one it is. */
static const char *only_engine(const struct violation *violation, const struct target *target)
{
	return target->bit == CONSOLE || !strncmp(violation->rule, "VQ", 2) ? NULL : "soft";
}

static void add_violation(struct suite *suite, const struct violation *violation,
			  const struct target *target, bool strict)
{
	const char *name = suite_text("%s.%s", violation->rule, violation->number);
	bool told = strict || violation->kind == BREAKS;
	struct test test = {
		.name = row_name(target, name, strict),
		.only = only_engine(violation, target),
		.args = {target->option, strict ? "--strict" : "--debug-exit", "64",
			 "{assets}/guests/violate", suite_text("device=%s", target->name),
			 suite_text("violation=%s", name)},
		.make_files = target->make_files,
		.check_files = target->check_files,
		/* What the default mode makes of each is also seen in one go: see below. */
		.flags = (strict ? 0 : ON_REQUEST) | target->flags,
		.unseen = {"FAILED"},
		.error_lines = told,
		.status = strict ? CRASHED : ALL_WELL,
	};

	if (wants_input(violation, target))
		give_input(&test);
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
static void add_all_in_one(struct suite *suite, const struct target *target)
{
	struct step *steps = calloc(COUNT(violations) + 2, sizeof(*steps));
	struct step *step = steps;
	struct test test = {
		.name = row_name(target, "all", false),
		.patience = FOR_STOCK,
		.flags = target->flags,
		.args = {target->option, "--debug-exit", "64", "{assets}/guests/violate",
			 suite_text("device=%s", target->name), "violation=all"},
		.make_files = target->make_files,
		.check_files = target->check_files,
		.seen = {", 0 failed"},
		.unseen = {"FAILED"},
		.status = ALL_WELL,
	};

	if (!steps)
		err(EXIT_FAILURE, "out of memory");
	if (target->bit == CONSOLE)
		give_input(&test);
	test.steps = steps;
	if (target->bit == CONSOLE)
		*step++ = (struct step)TYPE(INPUT);
	for (size_t i = 0; i < COUNT(violations); i++) {
		if (violations[i].kind != BREAKS || !(violations[i].devices & target->bit))
			continue;
		*step++ = (struct step)EXPECT_ERROR(suite_text("%s: ", violations[i].rule));
		test.error_lines++;
	}
	suite_add(suite, &test);
}

/* All of it at once, from as many CPUs as there are: tests/guests/hostile.c. */
static void add_hostile(struct suite *suite, const char *seed)
{
	const struct test test = {
		.name = suite_text("hostile-%s", seed),
		.flags = AS_ROOT,
		.args = {"--cpus={cpus}", "--rng", "--block={files}/disk", "--tunnet=192.168.250.1",
			 "--debug-exit", "64", "{assets}/guests/hostile",
			 suite_text("seed=%s", seed)},
		.make_files = make_disk,
		.check_files = check_disk,
		.seen = {"victim: console", "victim: rng", "victim: block", "victim: net",
			 ", 0 failed"},
		.unseen = {"FAILED"},
		.error_lines = ANY_LINES,
		.status = ALL_WELL,
	};

	suite_add(suite, &test);
}

void suite_add_violations(struct suite *suite)
{
	static const char *const seeds[] = {"1", "2", "3"};

	for (size_t i = 0; i < COUNT(seeds); i++)
		add_hostile(suite, seeds[i]);
	for (const struct target *target = targets; target < targets + COUNT(targets); target++) {
		for (size_t i = 0; i < COUNT(violations); i++) {
			if (!(violations[i].devices & target->bit))
				continue;
			add_violation(suite, &violations[i], target, false);
			add_violation(suite, &violations[i], target, true);
		}
		add_all_in_one(suite, target);
	}
}
