/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line on standard error: see log.h.
 *
 * Tour 1.60
 */
#include "host/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool log_verbosely;

/* Lines that nobody was there to read. */
static _Atomic unsigned log_lost;

void log_set_verbose(bool verbose)
{
	log_verbosely = verbose;
}

bool log_is_verbose(void)
{
	return log_verbosely;
}

/*
 * A reader that has stopped reading (a pager) must not stop the thread that logs: somebody may be
 * waiting for that one to come to rest. So its line is dropped, and those after it at once.
 */
static bool reader_is_there(void)
{
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&out, 1, log_lost ? 0 : LOG_PATIENCE) > 0;
}

static void write_line(const char *line, size_t length)
{
	char note[64];
	unsigned lost;

	if (!reader_is_there()) {
		log_lost++;
		return;
	}
	lost = atomic_exchange(&log_lost, 0);
	if (lost) {
		int n = snprintf(note, sizeof(note), "lguest: %u lines were lost here\n", lost);

		if (write(STDERR_FILENO, note, n) < 0)
			return;
	}
	/* There is nobody left to tell if this fails. */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}

static void log_write(const char *format, va_list args)
{
	static const char prefix[] = "lguest: ";
	char line[1024];
	size_t length = sizeof(prefix) - 1;
	int n;

	memcpy(line, prefix, length);
	n = vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	if (n < 0)
		return;
	n = strlen(line + length);
	for (size_t i = length; i < length + n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	length += n;
	line[length++] = '\n';
	write_line(line, length);
}

void log_line(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write(format, args);
	va_end(args);
}

void log_verbose(const char *format, ...)
{
	va_list args;

	if (!log_verbosely)
		return;
	va_start(args, format);
	log_write(format, args);
	va_end(args);
}
