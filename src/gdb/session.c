/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A debugger's commands: see session.h.
 *
 * Each is a function that reads what is left of the payload and writes a reply; -errno from it
 * becomes an error reply, and the letter that nobody knows an empty one, which is how GDB finds out
 * what a stub can do ("Packets", "General Query Packets" in the GDB manual). A number is a thread's
 * where GDB speaks of threads: our vCPU n is its thread n + 1, since 0 means any and -1 all.
 *
 * A vCPU that stops says so on its own thread (stopped()), and the main thread is woken to deal
 * with it. By then another may have stopped as well. GDB hears of one stop at a time: what it does
 * not hear of now is kept. A breakpoint will be met again anyway; only a watchpoint that was hit
 * would be lost, so that is told when GDB thinks the guest goes on.
 *
 * Tour 8.100
 */
#include "gdb/session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ANY_THREAD  0
#define ALL_THREADS (~0ull)

/* "No reply", among the -errno of a command. */
#define SILENT 1

/* Nobody knows the command. */
#define UNKNOWN (-ENOSYS)

typedef int command(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply);

static const struct debug_ops *ops_of(const struct gdb_session *session)
{
	return session->engine->ops->debug;
}

/* ------------------------------------------------------------------ vCPUs that stopped */

/* A vCPU's thread. */
static void stopped(struct debugger *debugger, const struct debug_stop *stop)
{
	struct gdb_session *session = container_of(debugger, struct gdb_session, debugger);

	pthread_mutex_lock(&session->lock);
	if (session->stop_count < session->vcpus)
		session->stops[session->stop_count++] = *stop;
	pthread_mutex_unlock(&session->lock);
	eventfd_write(session->wake_fd, 1);
}

/* Whoever ends the machine meanwhile wants no more of this. */
static bool waiting(struct debugger *debugger)
{
	const struct gdb_session *session = container_of(debugger, struct gdb_session, debugger);

	if (session->meanwhile)
		session->meanwhile(session->opaque);
	return !machine_stopped(session->machine);
}

static void put_stop(struct gdb_session *session, const struct debug_stop *stop,
		     struct gdb_reply *reply)
{
	session->general = session->stepped = stop->vcpu;
	gdb_put(reply, "T%02xthread:%x;", SIGTRAP, stop->vcpu + 1);
	if (stop->reason == DEBUG_WATCHED)
		gdb_put(reply, "%s:%llx;", stop->point.kind == DEBUG_WRITE ? "watch" : "awatch",
			(unsigned long long)stop->point.address);
	else if (stop->reason == DEBUG_AT_CODE && stop->point.kind == DEBUG_CODE &&
		 session->swbreak)
		gdb_put(reply, "swbreak:;");
	else if (stop->reason == DEBUG_AT_CODE && stop->point.kind == DEBUG_CODE_HARD &&
		 session->hwbreak)
		gdb_put(reply, "hwbreak:;");
}

/* Stopped, and by nobody but the user. */
static void put_signal(const struct gdb_session *session, int signal, struct gdb_reply *reply)
{
	gdb_put(reply, "T%02xthread:%x;", signal, session->general + 1);
}

static bool same_point(const struct debug_point *a, const struct debug_point *b)
{
	return a->kind == b->kind && a->address == b->address && a->length == b->length;
}

static struct gdb_point *find_point(struct gdb_session *session, const struct debug_point *point)
{
	for (unsigned i = 0; i < session->point_count; i++)
		if (same_point(&session->points[i].point, point))
			return &session->points[i];
	return NULL;
}

/* Is one of those watched still that contains the address? */
static bool still_watched(const struct gdb_session *session, const struct debug_point *hit)
{
	for (unsigned i = 0; i < session->point_count; i++) {
		const struct debug_point *point = &session->points[i].point;

		if (point->kind == hit->kind && hit->address - point->address < point->length)
			return true;
	}
	return false;
}

/*
 * The vCPUs are about to go on: is there something that GDB has to hear first? What it will see
 * again is forgotten, what is about one that stays where it is remains.
 */
static bool find_untold(struct gdb_session *session, struct debug_stop *untold)
{
	const enum debug_action *actions = session->actions;
	unsigned kept = 0;
	bool found = false;

	pthread_mutex_lock(&session->lock);
	for (unsigned i = 0; i < session->stop_count; i++) {
		const struct debug_stop *stop = &session->stops[i];
		bool watched =
			stop->reason == DEBUG_WATCHED && still_watched(session, &stop->point);

		if (watched && !found && actions[stop->vcpu] != DEBUG_STAY) {
			*untold = *stop;
			found = true;
		} else if (watched || actions[stop->vcpu] == DEBUG_STAY) {
			session->stops[kept++] = *stop;
		}
	}
	session->stop_count = kept;
	pthread_mutex_unlock(&session->lock);
	return found;
}

/* All of it. False: it has ended meanwhile, which is the news then. */
static bool stop_guest(struct gdb_session *session)
{
	ops_of(session)->pause(session->engine);
	session->running = machine_stopped(session->machine);
	return !session->running;
}

/*
 * The first that is about a vCPU which was let go. GDB would not believe what another says, least
 * of all while it has one step over a breakpoint; that is kept.
 */
static bool take_stop(struct gdb_session *session, struct debug_stop *stop)
{
	unsigned i = 0;
	bool found;

	pthread_mutex_lock(&session->lock);
	while (i < session->stop_count && session->actions[session->stops[i].vcpu] == DEBUG_STAY)
		i++;
	found = i < session->stop_count;
	if (found) {
		*stop = session->stops[i];
		session->stop_count--;
		memmove(session->stops + i, session->stops + i + 1,
			(session->stop_count - i) * sizeof(session->stops[0]));
	}
	pthread_mutex_unlock(&session->lock);
	return found;
}

/*
 * The main thread was woken because a vCPU met a breakpoint. GDB thinks of the guest as one
 * thing that runs or does not: so all others are stopped as well, and then it is told of the
 * first.
 *
 * Tour 8.101: A vCPU has stopped
 */
bool gdb_session_stopped(struct gdb_session *session, struct gdb_reply *reply)
{
	struct debug_stop stop;
	eventfd_t count;

	eventfd_read(session->wake_fd, &count);
	if (!session->present || !session->running || !take_stop(session, &stop) ||
	    !stop_guest(session))
		return false;
	put_stop(session, &stop, reply);
	return true;
}

bool gdb_session_interrupt(struct gdb_session *session, struct gdb_reply *reply)
{
	if (!session->running || !stop_guest(session))
		return false;
	put_signal(session, SIGINT, reply);
	return true;
}

bool gdb_session_ended(struct gdb_session *session, int status, struct gdb_reply *reply)
{
	if (!session->present || !session->running)
		return false;
	if (status > EXIT_SIGNAL)
		gdb_put(reply, "X%02x", status - EXIT_SIGNAL);
	else
		gdb_put(reply, "W%02x", status);
	return true;
}

/* ------------------------------------------------------------------ going on */

/* Whatever was asked of them before: all run, and none has stopped. */
static void begin_anew(struct gdb_session *session)
{
	for (unsigned i = 0; i < session->vcpus; i++)
		session->actions[i] = DEBUG_RUN;
	pthread_mutex_lock(&session->lock);
	session->stop_count = 0;
	pthread_mutex_unlock(&session->lock);
}

static void resume_all(struct gdb_session *session)
{
	begin_anew(session);
	session->running = true;
	ops_of(session)->resume(session->engine, session->actions);
}

/* No reply until something stops; unless something has. */
static int go_on(struct gdb_session *session, struct gdb_reply *reply)
{
	struct debug_stop untold;

	if (find_untold(session, &untold)) {
		put_stop(session, &untold, reply);
		return 0;
	}
	session->running = true;
	ops_of(session)->resume(session->engine, session->actions);
	return SILENT;
}

/* A thread's number, ANY_THREAD and ALL_THREADS included. */
static bool take_thread(const struct gdb_session *session, struct gdb_text *text, u64 *thread)
{
	if (gdb_skip(text, "-1")) {
		*thread = ALL_THREADS;
		return true;
	}
	return gdb_take_number(text, thread) && *thread <= session->vcpus;
}

/* Not DEBUG_STAY, and so no action of a vCPU that one was found for. */
static int take_action(struct gdb_text *text, enum debug_action *action)
{
	u64 signal;

	if (gdb_skip(text, "c") || (gdb_skip(text, "C") && gdb_take_number(text, &signal)))
		*action = DEBUG_RUN;
	else if (gdb_skip(text, "s") || (gdb_skip(text, "S") && gdb_take_number(text, &signal)))
		*action = DEBUG_STEP;
	else
		return -EINVAL;
	return 0;
}

/* For those that have none yet: of each vCPU counts the first that is about it. */
static void assign(struct gdb_session *session, u64 thread, enum debug_action action)
{
	for (unsigned i = 0; i < session->vcpus; i++) {
		if (session->actions[i] != DEBUG_STAY ||
		    (thread != ALL_THREADS && thread != ANY_THREAD && thread != i + 1))
			continue;
		session->actions[i] = action;
		if (thread == ANY_THREAD)
			return;
	}
}

/* ;ACTION[:THREAD]... Whoever is not mentioned stays. */
static int resume_some(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	bool any = false;

	memset(session->actions, 0, session->vcpus * sizeof(session->actions[0]));
	while (gdb_skip(text, ";")) {
		enum debug_action action;
		u64 thread = ALL_THREADS;

		if (take_action(text, &action))
			return -EINVAL;
		if (gdb_skip(text, ":") && !take_thread(session, text, &thread))
			return -EINVAL;
		assign(session, thread, action);
		any = true;
	}
	return any && text->at == text->end ? go_on(session, reply) : -EINVAL;
}

/* c and s, with an address to go on from, and as C and S with a signal that no CPU has. */
static int resume_simply(struct gdb_session *session, struct gdb_text *text, bool step,
			 struct gdb_reply *reply)
{
	char all[64];
	struct gdb_text actions = {all, all};
	u64 address;

	if (gdb_take_number(text, &address)) {
		struct cpu_state *state = &session->values.state;
		int err = ops_of(session)->get_state(session->engine, session->stepped, state);

		state->rip = address;
		if (!err)
			err = ops_of(session)->set_state(session->engine, session->stepped, state);
		if (err)
			return err;
	}
	actions.end += snprintf(all, sizeof(all), step ? ";s:%x" : ";c", session->stepped + 1);
	return resume_some(session, &actions, reply);
}

static int command_continue(struct gdb_session *session, struct gdb_text *text,
			    struct gdb_reply *reply)
{
	return resume_simply(session, text, false, reply);
}

static int command_step(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	return resume_simply(session, text, true, reply);
}

static int with_signal(struct gdb_session *session, struct gdb_text *text, bool step,
		       struct gdb_reply *reply)
{
	u64 signal;

	if (!gdb_take_number(text, &signal))
		return -EINVAL;
	gdb_skip(text, ";");
	return resume_simply(session, text, step, reply);
}

static int command_continue_signal(struct gdb_session *session, struct gdb_text *text,
				   struct gdb_reply *reply)
{
	return with_signal(session, text, false, reply);
}

static int command_step_signal(struct gdb_session *session, struct gdb_text *text,
			       struct gdb_reply *reply)
{
	return with_signal(session, text, true, reply);
}

static int command_detach(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	(void)text;
	session->detached = true;
	gdb_put(reply, "OK");
	return 0;
}

/* As three ^C would. */
static void end_machine(struct gdb_session *session)
{
	machine_stop(session->machine, EXIT_SIGNAL + SIGINT, "ended by the debugger");
}

static int command_kill(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	(void)text, (void)reply;
	end_machine(session);
	return SILENT;
}

static int command_v(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	if (gdb_skip(text, "Cont?")) {
		gdb_put(reply, "vCont;c;C;s;S");
		return 0;
	}
	if (gdb_skip(text, "Cont"))
		return resume_some(session, text, reply);
	if (gdb_skip(text, "Kill;")) {
		end_machine(session);
		gdb_put(reply, "OK");
		return 0;
	}
	return UNKNOWN;
}

static int command_why(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	(void)text;
	put_signal(session, SIGTRAP, reply);
	return 0;
}

/* ------------------------------------------------------------------ registers */

static int load(struct gdb_session *session, bool xsave)
{
	int err = ops_of(session)->get_state(session->engine, session->general,
					     &session->values.state);

	if (err || !xsave)
		return err;
	err = ops_of(session)->get_xsave(session->engine, session->general, &session->values.xsave);
	if (!err)
		gdb_xsave_complete(&session->values.xsave);
	return err;
}

static int store_state(struct gdb_session *session)
{
	return ops_of(session)->set_state(session->engine, session->general,
					  &session->values.state);
}

static int store_xsave(struct gdb_session *session)
{
	return ops_of(session)->set_xsave(session->engine, session->general,
					  &session->values.xsave);
}

static void put_register(struct gdb_session *session, unsigned n, struct gdb_reply *reply)
{
	u8 value[GDB_REGISTER_MAX];

	gdb_register_get(&session->registers, n, &session->values, value);
	gdb_put_hex(reply, value, gdb_register_size(&session->registers, n));
}

static bool take_register(struct gdb_session *session, unsigned n, struct gdb_text *text)
{
	u8 value[GDB_REGISTER_MAX];

	if (!gdb_take_hex(text, value, gdb_register_size(&session->registers, n)))
		return false;
	gdb_register_set(&session->registers, n, &session->values, value);
	return true;
}

static int command_get_all(struct gdb_session *session, struct gdb_text *text,
			   struct gdb_reply *reply)
{
	int err = load(session, true);

	(void)text;
	for (unsigned i = 0; !err && i < session->registers.count; i++)
		put_register(session, i, reply);
	return err;
}

static int command_set_all(struct gdb_session *session, struct gdb_text *text,
			   struct gdb_reply *reply)
{
	int err = load(session, true);

	for (unsigned i = 0; !err && i < session->registers.count; i++)
		if (!take_register(session, i, text))
			err = -EINVAL;
	if (!err)
		err = store_xsave(session);
	if (!err)
		err = store_state(session);
	if (!err)
		gdb_put(reply, "OK");
	return err;
}

static int command_get_one(struct gdb_session *session, struct gdb_text *text,
			   struct gdb_reply *reply)
{
	u64 n;
	int err;

	if (!gdb_take_number(text, &n) || n >= session->registers.count)
		return -EINVAL;
	err = load(session, gdb_register_in_xsave(&session->registers, n));
	if (!err)
		put_register(session, n, reply);
	return err;
}

static int command_set_one(struct gdb_session *session, struct gdb_text *text,
			   struct gdb_reply *reply)
{
	bool xsave;
	u64 n;
	int err;

	if (!gdb_take_number(text, &n) || n >= session->registers.count || !gdb_skip(text, "="))
		return -EINVAL;
	xsave = gdb_register_in_xsave(&session->registers, n);
	err = load(session, xsave);
	if (!err && !take_register(session, n, text))
		err = -EINVAL;
	if (!err)
		err = xsave ? store_xsave(session) : store_state(session);
	if (!err)
		gdb_put(reply, "OK");
	return err;
}

/* ------------------------------------------------------------------ memory */

/* Up to the end of a page: how much. -errno: nothing there. */
static int access_page(struct gdb_session *session, u64 address, u8 *data, u64 length, bool write)
{
	const u64 room = MIN(length, PAGE_SIZE - address % PAGE_SIZE);
	u64 gpa = address;
	int err = 0;

	if (!session->physical)
		err = ops_of(session)->translate(session->engine, session->general, address, &gpa);
	if (!err)
		err = write ? ops_of(session)->write(session->engine, gpa, data, room)
			    : ops_of(session)->read(session->engine, gpa, data, room);
	return err ? err : (int)room;
}

/* As much as there is: how many bytes. -errno: none at all. */
static int access_memory(struct gdb_session *session, u64 address, u8 *data, u64 length, bool write)
{
	u64 done = 0;

	while (done < length) {
		int n = access_page(session, address + done, data + done, length - done, write);

		if (n < 0)
			return done ? (int)done : n;
		done += n;
	}
	return (int)done;
}

static bool take_range(struct gdb_text *text, u64 *address, u64 *length)
{
	return gdb_take_number(text, address) && gdb_skip(text, ",") &&
	       gdb_take_number(text, length);
}

static int read_memory(struct gdb_session *session, struct gdb_text *text, u8 *data, u64 room)
{
	u64 address, length;

	if (!take_range(text, &address, &length) || text->at != text->end)
		return -EINVAL;
	return access_memory(session, address, data, MIN(length, room), false);
}

static int command_read(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX / 2];
	int n = read_memory(session, text, data, sizeof(data));

	if (n < 0)
		return n;
	gdb_put_hex(reply, data, n);
	return 0;
}

static int command_read_binary(struct gdb_session *session, struct gdb_text *text,
			       struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX - 1];
	int n = read_memory(session, text, data, sizeof(data));

	if (n < 0)
		return n;
	gdb_put(reply, "b");
	gdb_put_binary(reply, data, n);
	return 0;
}

static int write_memory(struct gdb_session *session, u64 address, u8 *data, u64 length,
			struct gdb_reply *reply)
{
	int n = access_memory(session, address, data, length, true);

	if (n < 0)
		return n;
	if ((u64)n < length)
		return -EFAULT;
	gdb_put(reply, "OK");
	return 0;
}

static int command_write(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX / 2];
	u64 address, length;

	if (!take_range(text, &address, &length) || !gdb_skip(text, ":") || length > sizeof(data) ||
	    !gdb_take_hex(text, data, length))
		return -EINVAL;
	return write_memory(session, address, data, length, reply);
}

static int command_write_binary(struct gdb_session *session, struct gdb_text *text,
				struct gdb_reply *reply)
{
	u8 data[GDB_PAYLOAD_MAX];
	u64 address, length;

	if (!take_range(text, &address, &length) || !gdb_skip(text, ":") ||
	    length != (u64)(text->end - text->at))
		return -EINVAL;
	memcpy(data, text->at, length);
	return write_memory(session, address, data, length, reply);
}

/* ------------------------------------------------------------------ points */

/* Z0 to Z4. A processor that watches for reads alone there is not: GDB can do with Z4. */
static bool take_point(struct gdb_text *text, struct debug_point *point)
{
	if (gdb_skip(text, "0,"))
		point->kind = DEBUG_CODE;
	else if (gdb_skip(text, "1,"))
		point->kind = DEBUG_CODE_HARD;
	else if (gdb_skip(text, "2,"))
		point->kind = DEBUG_WRITE;
	else if (gdb_skip(text, "4,"))
		point->kind = DEBUG_ACCESS;
	else
		return false;
	return take_range(text, &point->address, &point->length);
}

static int command_insert(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	struct debug_point point;
	int err;

	if (*text->at == '3')
		return UNKNOWN;
	if (!take_point(text, &point) || !point.length)
		return -EINVAL;
	if (!find_point(session, &point)) {
		if (session->point_count == GDB_POINTS)
			return -ENOSPC;
		err = ops_of(session)->add_point(session->engine, session->general, &point);
		if (err)
			return err;
		session->points[session->point_count++] = (struct gdb_point){point, true};
	}
	gdb_put(reply, "OK");
	return 0;
}

static void remove_point(struct gdb_session *session, struct gdb_point *point)
{
	if (point->set)
		ops_of(session)->remove_point(session->engine, &point->point);
	*point = session->points[--session->point_count];
}

static int command_remove(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	struct debug_point point;
	struct gdb_point *found;

	if (*text->at == '3')
		return UNKNOWN;
	if (!take_point(text, &point))
		return -EINVAL;
	found = find_point(session, &point);
	if (found)
		remove_point(session, found);
	gdb_put(reply, "OK");
	return 0;
}

/* ------------------------------------------------------------------ threads and questions */

static int command_thread(struct gdb_session *session, struct gdb_text *text,
			  struct gdb_reply *reply)
{
	unsigned *which = &session->general;
	u64 thread;

	if (gdb_skip(text, "c"))
		which = &session->stepped;
	else if (!gdb_skip(text, "g"))
		return UNKNOWN;
	if (!take_thread(session, text, &thread))
		return -EINVAL;
	/* "Any" is the one that we speak of anyway. */
	if (thread != ANY_THREAD && thread != ALL_THREADS)
		*which = thread - 1;
	gdb_put(reply, "OK");
	return 0;
}

static int command_alive(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
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

	if (!gdb_skip(text, "target.xml:") || !take_range(text, &offset, &length))
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
		end_machine(session);
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

static int command_query(struct gdb_session *session, struct gdb_text *text,
			 struct gdb_reply *reply)
{
	text->at--;
	for (size_t i = 0; i < ARRAY_SIZE(queries); i++)
		if (gdb_skip(text, queries[i].name))
			return queries[i].run(session, text, reply);
	return UNKNOWN;
}

/* ------------------------------------------------------------------ the session */

/*
 * Each command begins with a letter. What has no function here gets an empty reply, by which
 * GDB knows that it has to do without.
 *
 * Tour 8.102, 2 items: A letter, a function
 */
static command *find_command(char letter)
{
	static const struct {
		char letter;
		command *run;
	} commands[] = {
		{'?', command_why},
		{'c', command_continue},
		{'C', command_continue_signal},
		{'s', command_step},
		{'S', command_step_signal},
		{'D', command_detach},
		{'k', command_kill},
		{'v', command_v},
		{'g', command_get_all},
		{'G', command_set_all},
		{'p', command_get_one},
		{'P', command_set_one},
		{'m', command_read},
		{'M', command_write},
		{'x', command_read_binary},
		{'X', command_write_binary},
		{'Z', command_insert},
		{'z', command_remove},
		{'H', command_thread},
		{'T', command_alive},
		{'q', command_query},
		{'Q', command_query},
	};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].letter == letter)
			return commands[i].run;
	return NULL;
}

bool gdb_session_packet(struct gdb_session *session, const char *payload, size_t length,
			struct gdb_reply *reply)
{
	struct gdb_text text = {payload + 1, payload + length};
	command *run = length ? find_command(payload[0]) : NULL;
	int err = run ? UNKNOWN : 0;

	/* GDB does not ask then; and who else does has no answer to expect. */
	if (session->running)
		return false;
	if (run)
		err = run(session, &text, reply);
	if (err == SILENT)
		return false;
	if (reply->full)
		err = -E2BIG;
	if (!err)
		return true;
	gdb_reply_begin(reply);
	if (err != UNKNOWN)
		gdb_put(reply, "E%02x", (unsigned)-err & 0xff);
	return true;
}

int gdb_session_init(struct gdb_session *session, struct engine *engine, struct machine *machine,
		     unsigned vcpus, bool wait)
{
	*session = (struct gdb_session){
		.debugger = {.stopped = stopped, .waiting = waiting},
		.engine = engine,
		.machine = machine,
		.vcpus = vcpus,
		.running = !wait,
		.stops = calloc(vcpus, sizeof(session->stops[0])),
		.actions = calloc(vcpus, sizeof(session->actions[0])),
	};
	session->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!session->stops || !session->actions || session->wake_fd < 0) {
		int err = session->wake_fd < 0 ? -errno : -ENOMEM;

		if (session->wake_fd >= 0)
			close(session->wake_fd);
		free(session->stops);
		free(session->actions);
		return err;
	}
	pthread_mutex_init(&session->lock, NULL);
	ops_of(session)->attach(engine, &session->debugger);
	return 0;
}

void gdb_session_destroy(struct gdb_session *session)
{
	pthread_mutex_destroy(&session->lock);
	close(session->wake_fd);
	free(session->stops);
	free(session->actions);
	free(session->description);
}

void gdb_session_power_on(struct gdb_session *session)
{
	begin_anew(session);
	for (unsigned i = 0; i < session->point_count; i++) {
		struct gdb_point *point = &session->points[i];

		point->set = !ops_of(session)->add_point(session->engine, 0, &point->point);
	}
	if (!session->running)
		ops_of(session)->pause(session->engine);
}

int gdb_session_begin(struct gdb_session *session)
{
	const struct debug_ops *ops = ops_of(session);
	int err;

	ops->pause(session->engine);
	if (machine_stopped(session->machine))
		return -ESHUTDOWN;
	session->present = true;
	session->running = session->detached = session->no_ack = session->physical = false;
	session->swbreak = session->hwbreak = false;
	session->general = session->stepped = 0;
	err = ops->get_xsave(session->engine, 0, &session->values.xsave);
	if (err)
		return err;
	gdb_registers_init(&session->registers, session->values.xsave.features);
	free(session->description);
	session->description = gdb_registers_describe(&session->registers);
	return session->description ? 0 : -ENOMEM;
}

void gdb_session_end(struct gdb_session *session)
{
	ops_of(session)->pause(session->engine);
	/* Perhaps not all of it has stopped, and it does not matter any more. */
	if (machine_stopped(session->machine))
		return;
	while (session->point_count)
		remove_point(session, &session->points[session->point_count - 1]);
	session->present = false;
	resume_all(session);
}
