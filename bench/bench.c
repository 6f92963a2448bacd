/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The benchmark's command line: see bench.h for what it is.
 *
 *   bench --guests=DIR | --boot=DIR | --devices=DIR [--engine=kvm|soft] | --kernels=DIR
 *         | --programs=DIR
 *         [--lguest=PATH] [--qemu=PATH] [--rounds=N] [--scale=SHARE]
 *         and for these two: [--filter=NAME,NAME...] [--ms=N] [--also=PATH] [--no-native]
 *         [--no-tcg]
 *
 * DIR has the freestanding guests, a stock kernel and its initramfs, again guests, and then
 * room for a disk image, or twice what speed.c says. --also is a second lguest.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

static const char *option(const char *argument, const char *name)
{
	size_t length = strlen(name);

	return strncmp(argument, name, length) == 0 ? argument + length : NULL;
}

static bool parse(struct choices *choices, int argc, char **argv)
{
	const char *value;

	for (int i = 1; i < argc; i++) {
		if ((value = option(argv[i], "--guests=")))
			choices->guests = value;
		else if ((value = option(argv[i], "--boot=")))
			choices->boot = value;
		else if ((value = option(argv[i], "--devices=")))
			choices->devices = value;
		else if ((value = option(argv[i], "--kernels=")))
			choices->kernels = value;
		else if ((value = option(argv[i], "--programs=")))
			choices->programs = value;
		else if ((value = option(argv[i], "--engine=")))
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
	return !!choices->guests + !!choices->boot + !!choices->devices + !!choices->kernels +
			       !!choices->programs ==
		       1 &&
	       choices->rounds && choices->rounds <= MAX_ROUNDS && choices->scale > 0;
}

int main(int argc, char **argv)
{
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

	if (!parse(&choices, argc, argv))
		fail("usage: bench --guests=DIR | --boot=DIR | --devices=DIR [--engine=kvm|soft] "
		     "| --kernels=DIR | --programs=DIR [--lguest=PATH] [--qemu=PATH] "
		     "[--rounds=1..%d] "
		     "[--scale=SHARE] "
		     "[--filter=NAME,...] [--ms=N] [--also=PATH] [--no-native] [--no-tcg]",
		     MAX_ROUNDS);
	if (choices.guests)
		bench_guests(&choices);
	else if (choices.boot)
		bench_boots(&choices);
	else if (choices.kernels)
		bench_kernels(&choices);
	else if (choices.programs)
		bench_programs(&choices);
	else
		bench_devices(&choices);
	return 0;
}
