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
#include "gdb/commands.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
	gdb_ops(session)->pause(session->engine);
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
	gdb_ops(session)->resume(session->engine, session->actions);
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
	gdb_ops(session)->resume(session->engine, session->actions);
	return SILENT;
}

bool gdb_take_thread(const struct gdb_session *session, struct gdb_text *text, u64 *thread)
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
		if (gdb_skip(text, ":") && !gdb_take_thread(session, text, &thread))
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
		int err = gdb_ops(session)->get_state(session->engine, session->stepped, state);

		state->rip = address;
		if (!err)
			err = gdb_ops(session)->set_state(session->engine, session->stepped, state);
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

void gdb_end_machine(struct gdb_session *session)
{
	machine_stop(session->machine, EXIT_SIGNAL + SIGINT, "ended by the debugger");
}

static int command_kill(struct gdb_session *session, struct gdb_text *text, struct gdb_reply *reply)
{
	(void)text, (void)reply;
	gdb_end_machine(session);
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
		gdb_end_machine(session);
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
		{'g', gdb_command_get_all},
		{'G', gdb_command_set_all},
		{'p', gdb_command_get_one},
		{'P', gdb_command_set_one},
		{'m', gdb_command_read},
		{'M', gdb_command_write},
		{'x', gdb_command_read_binary},
		{'X', gdb_command_write_binary},
		{'Z', gdb_command_insert},
		{'z', gdb_command_remove},
		{'H', gdb_command_thread},
		{'T', gdb_command_alive},
		{'q', gdb_command_query},
		{'Q', gdb_command_query},
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
	gdb_ops(session)->attach(engine, &session->debugger);
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

		point->set = !gdb_ops(session)->add_point(session->engine, 0, &point->point);
	}
	if (!session->running)
		gdb_ops(session)->pause(session->engine);
}

int gdb_session_begin(struct gdb_session *session)
{
	const struct debug_ops *ops = gdb_ops(session);
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
	gdb_ops(session)->pause(session->engine);
	/* Perhaps not all of it has stopped, and it does not matter any more. */
	if (machine_stopped(session->machine))
		return;
	while (session->point_count)
		gdb_remove_point(session, &session->points[session->point_count - 1]);
	session->present = false;
	resume_all(session);
}
