/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Launcher proper: builds the machine that the options describe, runs it,
 * and takes it down again.
 *
 * Tour 2.10: The Launcher
 */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include "options.h"

/* Run the guest to its end. The exit status of the process; what is to be said has been said. */
int launcher_run(const struct options *options);

#endif
