/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lguest: boot a Linux kernel as an ordinary process.
 *
 * This is where it begins. Options become a machine, the machine runs
 * (launcher.c), and how it ended becomes our exit status.
 *
 * Tour 1.10: Where it begins
 */
#include "engine/engine.h"
#include "host/log.h"
#include "launcher.h"
#include "options.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/*
 * Whoever started us may have closed 0, 1 or 2. The next files that we open
 * would take their numbers, and the guest would type into its own kernel. What
 * is put there fails as a closed descriptor does: it cannot be read, or not written. In a root
 * without /dev, a folder can be neither.
 */
static void hold_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			open("/", O_RDONLY | O_DIRECTORY);
}

/*
 * A run of lguest, from above. Everything that can go wrong has been said by the time that it
 * comes back to this function: what is left is a number.
 *
 * Tour 1.11
 */
int main(int argc, char **argv)
{
	struct options options;
	struct problem why;
	int status = EXIT_POWERED_OFF;

	hold_standard_descriptors();
	if (options_parse(&options, argc, argv, &why)) {
		log_line("%s", why.text);
		options_free(&options);
		return EXIT_LAUNCHER;
	}
	switch (options.action) {
	case ACTION_HELP:
		options_help();
		break;
	case ACTION_VERSION:
		printf("lguest %s\n", LGUEST_VERSION);
		break;
	case ACTION_ENGINE_HELP:
		engine_help();
		break;
	case ACTION_RUN:
		log_set_verbose(options.verbose);
		status = launcher_run(&options);
		break;
	}
	if (options.action != ACTION_RUN && fflush(stdout)) {
		log_line("cannot write to standard output");
		status = EXIT_LAUNCHER;
	}
	options_free(&options);
	return status;
}
