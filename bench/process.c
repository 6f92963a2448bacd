/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a launcher and listening to its guest: see bench.h.
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void fail_launcher(const struct launcher *launcher, const struct process *process, const char *what)
{
	char words[4096];
	ssize_t length = pread(process->errors, words, sizeof(words), 0);

	if (length > 0)
		fwrite(words, 1, length, stderr);
	fail("%s: %s", launcher->label, what);
}

double now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

struct process start(const struct launcher *launcher, const void *guest)
{
	struct process process = {.errors = memfd_create("errors", MFD_CLOEXEC)};
	int to[2], from[2];

	if (process.errors < 0 || pipe(to) < 0 || pipe(from) < 0)
		fail("pipe: %s", strerror(errno));
	process.started = now_ms();
	process.pid = fork();
	if (process.pid < 0)
		fail("fork: %s", strerror(errno));
	if (process.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		dup2(process.errors, STDERR_FILENO);
		close(to[0]);
		close(to[1]);
		close(from[0]);
		close(from[1]);
		launcher->become(launcher, guest);
		_exit(127);
	}
	close(to[0]);
	close(from[1]);
	process.input = to[1];
	process.output = from[0];
	return process;
}

/* The first byte of `mark` comes but once in it. What came instead is shown if nothing else does.
 */
void wait_for(const struct launcher *launcher, const struct process *process, const char *mark)
{
	const char *at = mark;
	char heard[1024];
	size_t length = 0;

	while (*at) {
		char *byte = &heard[length];

		if (read(process->output, byte, 1) != 1) {
			fwrite(heard, 1, length, stderr);
			fail_launcher(launcher, process, "the guest ended too early");
		}
		at = *byte == *at ? at + 1 : mark + (*byte == *mark);
		length = (length + 1) % sizeof(heard);
	}
}

bool next_line(const struct process *process, char *line, size_t size)
{
	size_t length = 0;
	bool any = false;
	char byte;

	while (read(process->output, &byte, 1) == 1) {
		any = true;
		if (byte == '\n')
			break;
		if (length < size - 1 && byte != '\r')
			line[length++] = byte;
	}
	line[length] = '\0';
	return any;
}

void read_line(const struct launcher *launcher, const struct process *process, char *line,
	       size_t size)
{
	if (!next_line(process, line, size))
		fail_launcher(launcher, process, "the guest fell silent");
}

int wait_for_end(const struct process *process)
{
	char rest[4096];
	int status;

	while (read(process->output, rest, sizeof(rest)) > 0)
		;
	waitpid(process->pid, &status, 0);
	close(process->input);
	close(process->output);
	return status;
}

void check_status(const struct launcher *launcher, const struct process *process, int status)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != launcher->status)
		fail_launcher(launcher, process, "did not end well");
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

double median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}
