/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A debugger of a few lines: it sends a packet of GDB's remote protocol to lguest and compares
 * the answer. Where there is no gdb, as in the machine that outer.sh makes, that is all there is;
 * and it sees exactly what is said, which gdb does not show. steps.c has it do one step of a row.
 */
#include "runner.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INTERRUPT '\x03'

bool debugger_call(struct run *run)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = suite_text("%s/gdb", run->files);

	if (run->debugger > 0)
		close(run->debugger);
	run->debugger = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	run->answer_length = 0;
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	return run->debugger >= 0 &&
	       connect(run->debugger, (const struct sockaddr *)&address, sizeof(address)) == 0;
}

/* As gdb does when it is killed. */
void debugger_leave(struct run *run)
{
	close(run->debugger);
	run->debugger = -1;
}

/* The packet of a step ends at the line break, if there is one. */
bool debugger_say(struct run *run, const char *text)
{
	const size_t length = strcspn(text, "\n");
	unsigned char sum = 0;
	const char *frame;

	for (size_t i = 0; i < length; i++)
		sum += (unsigned char)text[i];
	/* What is interrupted says nothing else. */
	frame = text[0] == INTERRUPT ? suite_text("%c", INTERRUPT)
				     : suite_text("+$%.*s#%02x", (int)length, text, sum);
	run->answer_length = 0;
	return send(run->debugger, frame, strlen(frame), MSG_NOSIGNAL) == (ssize_t)strlen(frame);
}

/* Is there a whole one? */
bool debugger_hears(struct run *run, const char **answer)
{
	const size_t room = sizeof(run->answer) - 1 - run->answer_length;
	const char *end;
	ssize_t got = recv(run->debugger, run->answer + run->answer_length, room, 0);

	if (got > 0)
		run->answer_length += got;
	run->answer[run->answer_length] = '\0';
	*answer = strchr(run->answer, '$');
	end = *answer ? strchr(*answer, '#') : NULL;
	if (!end || strlen(end) < sizeof("#xx") - 1)
		return false;
	*answer = suite_text("%.*s", (int)(end - *answer - 1), *answer + 1);
	return true;
}
