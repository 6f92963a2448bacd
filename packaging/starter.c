/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bin/lguest of the bundle (packaging/bundle), which is not lguest but finds it.
 *
 * A program that uses shared libraries names the one who loads them, by an absolute path; and
 * where there is no such file the kernel says "No such file" of the program itself. An empty root
 * has none, and other systems have another. The bundle brings its own loader, at a path that nobody
 * knows before it is unpacked: next to us. So this program is linked statically, finds out where
 * it lies, and becomes that loader.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* As seen from the folder that we are in. */
#define LIBRARIES "../lib/lguest/"

/* The loader, by this name: what it is called is what `ps` and `pgrep` call the process. */
#define LOADER LIBRARIES "lguest"

#define PROGRAM LIBRARIES "lguest.elf"

/* Without the host's /etc/ld.so.cache: its libraries are not meant for our loader. */
static char alone[] = "--inhibit-cache";

static int fail(const char *what)
{
	fprintf(stderr, "lguest: %s: %s\n", what, strerror(errno));
	return 1;
}

static char *join(const char *folder, const char *file)
{
	char *path;

	return asprintf(&path, "%s/%s", folder, file) < 0 ? NULL : path;
}

int main(int argc, char **argv)
{
	/* What the kernel was told to run: it needs no /proc. A link to us leads to us. */
	char *self = realpath((const char *)getauxval(AT_EXECFN), NULL);
	/* Three of ours, those of the user's, whose name for us may be missing, and the end. */
	char **args = calloc(3 + argc + 1, sizeof(*args));
	const char *folder;

	if (!self || !args)
		return fail("cannot find out where it is installed");
	folder = dirname(self);
	args[0] = join(folder, LOADER);
	args[1] = alone;
	args[2] = join(folder, PROGRAM);
	if (!args[0] || !args[2])
		return fail("cannot start");
	for (int i = 1; i < argc; i++)
		args[2 + i] = argv[i];
	execv(args[0], args);
	return fail(args[0]);
}
