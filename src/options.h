/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: lguest [options] <memory> <kernel> [kernel arguments...]
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "engine/engine.h"

#define OPTIONS_CPUS_MAX 255

/*
 * --soft-cache. At least a few hundred pages of code, or it would be emptied more often than it is
 * used; at most what a jump with a displacement of 32 bits reaches across.
 */
#define SOFT_CACHE_DEFAULT MiB(64)
#define SOFT_CACHE_MIN	   MiB(4)
#define SOFT_CACHE_MAX	   GiB(2)

enum action { ACTION_RUN, ACTION_HELP, ACTION_VERSION, ACTION_ENGINE_HELP };

/* Where --console sends standard input; CONSOLE_ANY: not said. */
enum console_choice { CONSOLE_ANY, CONSOLE_SERIAL, CONSOLE_VIRTIO };

struct options {
	enum action action;
	const char *engine;
	struct engine_options vm; /* vm.vcpus: --cpus */
	enum console_choice console;
	bool strict, no_reboot, debug_exit, verbose;
	u64 memory; /* bytes, whole pages */
	const char *kernel;
	const char *initrd; /* NULL: none */
	char *command_line; /* the kernel's; to be freed */
};

/* -errno with *problem filled. Strings point into argv, but for the command line. */
int options_parse(struct options *options, int argc, char **argv, struct problem *problem);

/* What --help prints, on standard output. */
void options_help(void);

#endif
