/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A debugger's questions, about threads (our vCPUs) and about us: what the stub can do, which
 * registers there are, and what "monitor" is for. session.c calls these, each by its letter.
 *
 * Tour 8.106: Questions
 */
#include "gdb/commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int gdb_command_thread(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	unsigned *which = &session->general;
	u64 thread;

	if (gdb_skip(text, "c"))
		which = &session->stepped;
	else if (!gdb_skip(text, "g"))
		return UNKNOWN;
	if (!gdb_take_thread(session, text, &thread))
		return -EINVAL;
	/* "Any" is the one that we speak of anyway. */
	if (thread != ANY_THREAD && thread != ALL_THREADS)
		*which = thread - 1;
	gdb_put(reply, "OK");
	return 0;
}

int gdb_command_alive(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	u64 thread;

	if (!gdb_take_number(text, &thread) || !thread || thread > session->vcpus)
		return -EINVAL;
	gdb_put(reply, "OK");
	return 0;
}

static int query_supported(struct gdb_session *session, struct gdb_text *text,
			   struct gdb_reply *reply)
{
	session->swbreak = memmem(text->at, text->end - text->at, ";swbreak+", 9) ||
			   memmem(text->at, text->end - text->at, ":swbreak+", 9);
	session->hwbreak = memmem(text->at, text->end - text->at, ";hwbreak+", 9) ||
			   memmem(text->at, text->end - text->at, ":hwbreak+", 9);
	gdb_put(reply,
		"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;vContSupported+;swbreak+;"
		"hwbreak+;binary-upload+",
		GDB_PAYLOAD_MAX);
	return 0;
}

/* "m" and a piece, or "l" and the last one. */
static int query_features(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	const size_t total = strlen(session->description);
	u64 offset, length;

	if (!gdb_skip(text, "target.xml:") || !gdb_take_range(text, &offset, &length))
		return -EINVAL;
	offset = MIN(offset, total);
	length = MIN(MIN(length, total - offset), GDB_PAYLOAD_MAX - 1);
	gdb_put(reply, offset + length < total ? "m" : "l");
	gdb_put_binary(reply, session->description + offset, length);
	return 0;
}

static int query_threads(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
{
	(void)text;
	for (unsigned i = 0; i < session->vcpus; i++)
		gdb_put(reply, "%c%x", i ? ',' : 'm', i + 1);
	return 0;
}

static int query_no_more_threads(struct gdb_session *session, struct gdb_text *text,
				 struct gdb_reply *reply)
{
	(void)session, (void)text;
	gdb_put(reply, "l");
	return 0;
}

static int query_thread_info(struct gdb_session *session, struct gdb_text *text,
			     struct gdb_reply *reply)
{
	char name[32];
	u64 thread;

	if (!gdb_take_number(text, &thread) || !thread || thread > session->vcpus)
		return -EINVAL;
	snprintf(name, sizeof(name), "vCPU %u", (unsigned)thread - 1);
	gdb_put_hex(reply, name, strlen(name));
	return 0;
}

static int query_current(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
{
	/* qCRC is another's. */
	if (text->at != text->end)
		return UNKNOWN;
	gdb_put(reply, "QC%x", session->general + 1);
	return 0;
}

/* We were here before the debugger came, and shall be when it has gone. */
static int query_attached(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	(void)session, (void)text;
	gdb_put(reply, "1");
	return 0;
}

static int query_no_ack(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	(void)text;
	session->no_ack = true;
	gdb_put(reply, "OK");
	return 0;
}

/* "monitor ..." */
static int query_monitor(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
{
	static const char help[] =
		"monitor help              this\n"
		"monitor memory physical   addresses are guest-physical from now on\n"
		"monitor memory virtual    or what the vCPU's page tables make of them\n"
		"monitor reset             reset the guest, and stop it at its first instruction\n"
		"monitor quit              end it\n";
	const char *answer = NULL;
	char line[64] = "";
	size_t length = (text->end - text->at) / 2;

	if (length < sizeof(line) && !gdb_take_hex(text, line, length))
		return -EINVAL;
	if (!strcmp(line, "memory physical"))
		session->physical = true;
	else if (!strcmp(line, "memory virtual"))
		session->physical = false;
	else if (!strcmp(line, "reset"))
		machine_reset(session->machine);
	else if (!strcmp(line, "quit"))
		gdb_end_machine(session);
	else if (!strcmp(line, "help"))
		answer = help;
	else
		answer = "there are: help, memory physical, memory virtual, reset, quit\n";
	if (answer)
		gdb_put_hex(reply, answer, strlen(answer));
	else
		gdb_put(reply, "OK");
	return 0;
}

static const struct {
	const char *name;
	command *run;
} queries[] = {
	{"qSupported", query_supported},
	{"qXfer:features:read:", query_features},
	{"qfThreadInfo", query_threads},
	{"qsThreadInfo", query_no_more_threads},
	{"qThreadExtraInfo,", query_thread_info},
	{"qC", query_current},
	{"qAttached", query_attached},
	{"QStartNoAckMode", query_no_ack},
	{"qRcmd,", query_monitor},
};

int gdb_command_query(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	text->at--;
	for (size_t i = 0; i < ARRAY_SIZE(queries); i++)
		if (gdb_skip(text, queries[i].name))
			return queries[i].run(session, text, reply);
	return UNKNOWN;
}
