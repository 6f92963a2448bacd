/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lguest says to its user: lines on standard error.
 *
 * Each call is one line in one write(2), so lines of several threads never
 * mix. Any thread. The text carries no line break; bytes of the guest's (and
 * file names) that would confuse a terminal are shown as '?'.
 *
 * Tour 1.50: A line on standard error
 */
#ifndef HOST_LOG_H
#define HOST_LOG_H

#include "host/types.h"

/* How long, in ms, a line waits for whoever reads our standard error. */
#define LOG_PATIENCE 200

/* --verbose: set once, before any thread is started. */
void log_set_verbose(bool verbose);
bool log_is_verbose(void);

/* "lguest: ..." */
void log_line(const char *format, ...) PRINTF(1, 2);

/* The same, under --verbose only. */
void log_verbose(const char *format, ...) PRINTF(1, 2);

#endif
