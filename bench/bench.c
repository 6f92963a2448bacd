/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The benchmark's command line: see bench.h for what it is.
 *
 *   bench --WHAT=DIR [--lguest=PATH] [--qemu=PATH] [--rounds=N]
 *
 * WHAT is one of:
 *   guests	starts, on KVM; DIR has the freestanding guests
 *   devices	disks and networks, with [--engine=kvm|soft] [--scale=SHARE]; DIR has
 *		freestanding guests and room for a disk image
 *   boot	boots of a stock kernel that is in DIR with its initramfs
 *   prompt	the same guest, idle and busy
 *   kernels	small kernels: what is in DIR, speed.c says; with
 *		[--filter=NAME,NAME...] [--ms=N] [--also=PATH] [--no-native] [--no-tcg]:
 *		--also is a second lguest
 *   programs	whole programs: the same, without --ms
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static const struct subject {
	const char *option;
	void (*bench)(const struct choices *choices);
} subjects[] = {
	{"--guests=", bench_guests},   {"--devices=", bench_devices},
	{"--boot=", bench_boots},      {"--prompt=", bench_prompts},
	{"--kernels=", bench_kernels}, {"--programs=", bench_programs},
};

#define SUBJECTS (sizeof(subjects) / sizeof(subjects[0]))

static const char *option(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

static const struct subject *find_subject(const char *argument)
{
	for (unsigned i = 0; i < SUBJECTS; i++)
		if (option(argument, subjects[i].option))
			return &subjects[i];
	return NULL;
}

/* What is to be done, or NULL. */
static const struct subject *parse(struct choices *choices, int argc, char **argv)
{
	const struct subject *subject = NULL, *found;
	const char *value;

	for (int i = 1; i < argc; i++) {
		if (!subject && (found = find_subject(argv[i]))) {
			subject = found;
			choices->folder = option(argv[i], found->option);
			continue;
		}
		if ((value = option(argv[i], "--engine=")))
			choices->engine = value;
		else if ((value = option(argv[i], "--lguest=")))
			choices->lguest = value;
		else if ((value = option(argv[i], "--qemu=")))
			choices->qemu = value;
		else if ((value = option(argv[i], "--rounds=")))
			choices->rounds = strtoul(value, NULL, 10);
		else if ((value = option(argv[i], "--scale=")))
			choices->scale = strtod(value, NULL);
		else if ((value = option(argv[i], "--also=")))
			choices->also = value;
		else if ((value = option(argv[i], "--filter=")))
			choices->filter = value;
		else if ((value = option(argv[i], "--ms=")))
			choices->ms = strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--no-native") == 0)
			choices->with_native = false;
		else if (strcmp(argv[i], "--no-tcg") == 0)
			choices->with_tcg = false;
		else
			fail("unknown argument '%s'", argv[i]);
	}
	return choices->rounds && choices->rounds <= MAX_ROUNDS && choices->scale > 0 && choices->ms
		       ? subject
		       : NULL;
}

int main(int argc, char **argv)
{
	const struct subject *subject;
	struct choices choices = {
		.engine = "kvm",
		.lguest = "build/lguest",
		.qemu = "qemu-system-x86_64",
		.rounds = 21,
		.scale = 1,
		.filter = "",
		.ms = 300,
		.with_native = true,
		.with_tcg = true,
	};

	subject = parse(&choices, argc, argv);
	if (!subject)
		fail("usage: bench --guests=DIR | --devices=DIR | --boot=DIR | --prompt=DIR | "
		     "--kernels=DIR | --programs=DIR [--engine=kvm|soft] [--lguest=PATH] "
		     "[--qemu=PATH] [--rounds=1..%d] [--scale=SHARE] [--filter=NAME,...] "
		     "[--ms=N] [--also=PATH] [--no-native] [--no-tcg]",
		     MAX_ROUNDS);
	subject->bench(&choices);
	return 0;
}
