/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of what can be left out. See tuning.h.
 *
 * Tour 8.230
 */
#include "engine/soft/tuning.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned bit;
} names[] = {
	{"links", WITHOUT_LINKS},     {"returns", WITHOUT_RETURNS},
	{"units", WITHOUT_UNITS},     {"large-tlb", WITHOUT_LARGE_TLB},
	{"system", WITHOUT_SYSTEM},   {"syscalls", WITHOUT_SYSCALLS},
	{"reentry", WITHOUT_REENTRY}, {"groups", WITHOUT_GROUPS},
	{"aside", WITHOUT_ASIDE},     {"strings", WITHOUT_STRINGS},
	{"bare", WITHOUT_BARE},	      {"doubt", WITHOUT_DOUBT},
};

static unsigned bit_of(const char *word, size_t length)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i].name) == length && !strncmp(names[i].name, word, length))
			return names[i].bit;
	return 0;
}

static int unknown(const char *list, const char *word, size_t length, struct problem *why)
{
	char known[256] = "";

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		strcat(known, i ? " " : "");
		strcat(known, names[i].name);
	}
	return problem(why, EINVAL,
		       "--soft-without=%s: there is no \"%.*s\" to leave out; known: %s", list,
		       (int)length, word, known);
}

int tuning_parse(const char *list, unsigned *without, struct problem *why)
{
	const char *word = list;
	unsigned bits = 0;

	do {
		size_t length = strcspn(word, ",");
		unsigned bit = bit_of(word, length);

		if (!bit)
			return unknown(list, word, length, why);
		bits |= bit;
		word += length + 1;
	} while (word[-1]);
	*without |= bits;
	return 0;
}
