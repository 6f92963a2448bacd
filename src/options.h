/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: lguest [options] <memory> <kernel> [kernel arguments...]
 *
 * Tour 1.80: What the user said
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "engine/engine.h"
#include "gdb/gdb.h"
#include "host/disk.h"
#include "host/netif.h"
#include "host/sandbox.h"

#define OPTIONS_CPUS_MAX    255
#define OPTIONS_DEVICES_MAX 29 /* what the board has slots for: SLOT_FIRST to SLOT_PVPANIC - 1 */

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

enum device_kind { DEVICE_BLOCK, DEVICE_NET, DEVICE_RNG };

/* A device that was asked for. */
struct device_options {
	enum device_kind kind;
	union {
		struct disk_options disk;
		struct netif_options netif;
	};
	char *text; /* what the strings above point into; or NULL */
};

struct options {
	enum action action;
	const char *engine;
	struct engine_options vm; /* vm.vcpus: --cpus */
	enum console_choice console;
	bool strict, no_reboot, debug_exit, verbose;
	u64 memory; /* bytes, whole pages */
	const char *kernel;
	const char *initrd; /* NULL: none */
	struct sandbox_options sandbox;
	struct gdb_options gdb;
	unsigned device_count; /* in the order of the command line */
	struct device_options devices[OPTIONS_DEVICES_MAX];
	char *command_line; /* the kernel's */
	/* A word of it that looks as if it were for us, and the first of all; NULL: none does. */
	const char *astray, *kernels_first;
};

/*
 * -errno with *problem filled. Strings point into argv, or belong to the options; options_free() is
 * due either way.
 */
int options_parse(struct options *options, int argc, char **argv, struct problem *problem);
void options_free(struct options *options);

/*
 * The value of --block=, and of --tunnet=, --net= and --sharenet= (which is `name`). `text` is a
 * copy of it that is the parser's to cut up, and lives as long as the options. -errno with *problem
 * filled.
 */
int options_parse_disk(struct disk_options *disk, char *text, struct problem *problem);
int options_parse_net(struct netif_options *netif, const char *name, char *text,
		      struct problem *problem);

/* What --help prints, on standard output. */
void options_help(void);

#endif
