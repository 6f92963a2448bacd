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
#include <limits.h>
#include <stdbool.h>
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

static char loader[PATH_MAX], program[PATH_MAX];

/* False with errno: the name is too long. */
static bool join(char *path, const char *folder, const char *file)
{
	errno = ENAMETOOLONG;
	return snprintf(path, PATH_MAX, "%s/%s", folder, file) < PATH_MAX;
}

static bool find(void)
{
	char self[PATH_MAX];

	/* Where there is no /proc: what the kernel was told to run. A link to us leads to us. */
	if (!realpath("/proc/self/exe", self) &&
	    !realpath((const char *)getauxval(AT_EXECFN), self))
		return false;
	*strrchr(self, '/') = '\0';
	return join(loader, self, LOADER) && join(program, self, PROGRAM);
}

int main(int argc, char **argv)
{
	/* Three of ours, those of the user's, whose name for us may be missing, and the end. */
	char **args = calloc(3 + argc + 1, sizeof(*args));

	if (!args || !find()) {
		fprintf(stderr, "lguest: cannot find the place it was unpacked in: %s\n",
			strerror(errno));
		free(args);
		return 1;
	}
	args[0] = loader;
	args[1] = alone;
	args[2] = program;
	for (int i = 1; i < argc; i++)
		args[2 + i] = argv[i];
	execv(loader, args);
	fprintf(stderr, "lguest: cannot start %s: %s\n", loader, strerror(errno));
	free(args);
	return 1;
}
