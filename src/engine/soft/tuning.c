/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The names of what can be left out, and of what can be traced. See tuning.h.
 *
 * Tour 8.230
 */
#include "engine/soft/tuning.h"

#include "engine/engine.h"

#include <errno.h>
#include <string.h>

/* An option, and the words that its list may have; the last has no name. */
struct words {
	const char *option;
	struct {
		const char *name;
		unsigned bit;
	} word[16];
};

static const struct words left_out = {
	"soft-without",
	{
		{"links", WITHOUT_LINKS},
		{"returns", WITHOUT_RETURNS},
		{"units", WITHOUT_UNITS},
		{"large-tlb", WITHOUT_LARGE_TLB},
		{"system", WITHOUT_SYSTEM},
		{"syscalls", WITHOUT_SYSCALLS},
		{"reentry", WITHOUT_REENTRY},
		{"groups", WITHOUT_GROUPS},
		{"aside", WITHOUT_ASIDE},
		{"strings", WITHOUT_STRINGS},
		{"bare", WITHOUT_BARE},
		{"doubt", WITHOUT_DOUBT},
		{NULL, 0},
	},
};

static const struct words traced = {
	"trace",
	{
		{"exec", SOFT_TRACE_EXEC},
		{"int", SOFT_TRACE_INT},
		{"mmu", SOFT_TRACE_MMU},
		{"io", SOFT_TRACE_IO},
		{NULL, 0},
	},
};

/* The bit of the word that begins there and has that length; 0: it is none of these. */
static unsigned bit_of(const struct words *words, const char *at, size_t length)
{
	for (unsigned i = 0; words->word[i].name; i++)
		if (strlen(words->word[i].name) == length &&
		    !strncmp(words->word[i].name, at, length))
			return words->word[i].bit;
	return 0;
}

static int unknown(const struct words *words, const char *list, const char *at, size_t length,
		   struct problem *why)
{
	char known[256] = "";

	for (unsigned i = 0; words->word[i].name; i++) {
		strcat(known, i ? ", " : "");
		strcat(known, words->word[i].name);
	}
	return problem(why, EINVAL, "--%s=%s: \"%.*s\" is none of these: %s", words->option, list,
		       (int)length, at, known);
}

static int parse(const struct words *words, const char *list, unsigned *bits, struct problem *why)
{
	const char *at = list;
	unsigned all = 0;

	do {
		size_t length = strcspn(at, ",");
		unsigned bit = bit_of(words, at, length);

		if (!bit)
			return unknown(words, list, at, length, why);
		all |= bit;
		at += length + 1;
	} while (at[-1]);
	*bits |= all;
	return 0;
}

int tuning_parse(const char *list, unsigned *without, struct problem *why)
{
	return parse(&left_out, list, without, why);
}

int tuning_parse_trace(const char *list, unsigned *trace, struct problem *why)
{
	return parse(&traced, list, trace, why);
}
