/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rows for every rule that a virtio driver can break: the lines of
 * tests/guests/violations.h once more, each as two rows. By default the device
 * sulks until it is reset, one line on stderr names the rule, and the guest, which
 * looks whether all that is so, lives on. Under --strict that line is the end.
 */
#include "systest.h"

#include <string.h>

#define ALL_WELL 33
#define CRASHED	 2

#define INPUT "some input for the guest"

/* What becomes of it by default; the header explains. */
enum kind { BREAKS, LENIENT, REFUSED };

struct violation {
	const char *rule, *number;
	enum kind kind;
	const char *stage;
};

static const struct violation violations[] = {
#define VIOLATION(part, rule, number, kind, stage, features, what, action)                         \
	{#part "-" #rule, #number, kind, #stage},
#include "../guests/violations.h"
#undef VIOLATION
};

/* Broken in the receive queue, which is looked at when there is something to receive. */
static void give_input(struct test *test)
{
	static const struct step steps[] = {TYPE(INPUT), {STEP_END, NULL, 0}};

	test->args[3] = "--console=virtio";
	test->steps = steps;
}

static void add_violation(struct suite *suite, const struct violation *violation, bool strict)
{
	const char *name = suite_text("%s.%s", violation->rule, violation->number);
	bool told = strict || violation->kind == BREAKS;
	struct test test = {
		.name = suite_text("violation/%s%s", name, strict ? "-strict" : ""),
		.args = {"64", "{assets}/guests/violate", "--debug-exit", NULL,
			 suite_text("violation=%s", name)},
		/* What the default mode makes of each is also seen in one go: see below. */
		.flags = strict ? 0 : ON_REQUEST,
		.unseen = {"FAILED"},
		.error_lines = told,
		.status = strict ? CRASHED : ALL_WELL,
	};

	if (strcmp(violation->stage, "LIVE_INPUT") == 0)
		give_input(&test);
	else
		test.args[3] = "--console=serial";
	if (strict) {
		/* Before the kernel's arguments: what follows those is the kernel's. */
		test.args[5] = test.args[4];
		test.args[4] = "--strict";
	} else {
		test.seen[0] = suite_text("violated %s\n", name);
	}
	if (told)
		test.error_seen[0] = suite_text("%s: ", violation->rule);
	suite_add(suite, &test);
}

/*
 * One after the other in one guest: a device that was reset has forgotten what was. On
 * stderr, one line for each that breaks the device, in this order, and no others.
 */
static void add_all_in_one(struct suite *suite)
{
	static struct step steps[COUNT(violations) + 2];
	struct step *step = steps;
	struct test test = {
		.name = "violation/all",
		.patience = FOR_STOCK,
		.args = {"64", "{assets}/guests/violate", "--debug-exit", NULL, "violation=all"},
		.seen = {", 0 failed"},
		.unseen = {"FAILED"},
		.status = ALL_WELL,
	};

	give_input(&test);
	test.steps = steps;
	*step++ = (struct step)TYPE(INPUT);
	for (size_t i = 0; i < COUNT(violations); i++) {
		if (violations[i].kind != BREAKS)
			continue;
		*step++ = (struct step)EXPECT_ERROR(suite_text("%s: ", violations[i].rule));
		test.error_lines++;
	}
	suite_add(suite, &test);
}

void suite_add_violations(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(violations); i++) {
		add_violation(suite, &violations[i], false);
		add_violation(suite, &violations[i], true);
	}
	add_all_in_one(suite);
}
