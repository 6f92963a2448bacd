/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line on standard error: see log.h.
 */
#include "host/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool log_verbosely;

void log_set_verbose(bool verbose)
{
	log_verbosely = verbose;
}

bool log_is_verbose(void)
{
	return log_verbosely;
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
	/* There is nobody left to tell if this fails. */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
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
