/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Choosing an engine: see engine.h.
 *
 * Tour 5.20
 */
#include "engine/engine.h"

#include "engine/kvm/kvm.h"
#include "engine/soft/soft.h"
#include "host/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In the order of preference. */
static const struct engine_ops *const engines[] = {&kvm_engine, &soft_engine};

static const struct engine_ops *engine_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

bool engine_known(const char *name)
{
	return !strcmp(name, "auto") || engine_find(name);
}

/* Open it and ask whether it is good enough. *why says why, or why not. */
static struct engine *try_engine(const struct engine_ops *ops, struct board *board,
				 const struct engine_options *options, struct problem *why)
{
	struct engine *engine = ops->open(board, options, why);

	if (!engine || ops->probe(engine, why))
		return engine;
	ops->close(engine);
	return NULL;
}

/* "; NAME: WHY", as far as there is room. */
static void add_reason(struct problem *reasons, const char *name, const struct problem *why)
{
	size_t used = strlen(reasons->text);
	char *reason;

	if (asprintf(&reason, "; %s: %s", name, why->text) < 0)
		return;
	stpncpy(reasons->text + used, reason, sizeof(reasons->text) - 1 - used);
	free(reason);
}

/*
 * --engine=auto. The list is in order of speed; who cannot says why, and all these reasons
 * come out with the name of the one that can.
 *
 * Tour 5.21: The first one that can
 */
static struct engine *open_any(struct board *board, const struct engine_options *options,
			       struct problem *why)
{
	struct problem reasons = {""};

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		struct engine *engine = try_engine(engines[i], board, options, why);

		if (engine) {
			log_line("engine %s: %s%s", engines[i]->name, why->text, reasons.text);
			return engine;
		}
		add_reason(&reasons, engines[i]->name, why);
	}
	problem(why, ENODEV, "no engine can run a guest here%s", reasons.text);
	return NULL;
}

struct engine *engine_open(const char *name, struct board *board,
			   const struct engine_options *options, struct problem *why)
{
	if (!strcmp(name, "auto"))
		return open_any(board, options, why);
	return engine_find(name)->open(board, options, why);
}

void engine_help(void)
{
	const struct engine_options options = {.vcpus = 1};

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		struct problem why;
		struct engine *engine = try_engine(engines[i], NULL, &options, &why);

		printf("%-6s %s: %s\n", engines[i]->name, engine ? "usable" : "not usable",
		       why.text);
		if (engine)
			engine->ops->close(engine);
	}
	printf("auto   the first of these that is usable\n");
}
