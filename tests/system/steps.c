/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of a row: expect, type, pull a plug, compare. Each waits until the world
 * is as the step wants it, never for a length of time, so that a slow machine only
 * makes a row slow. runner.c calls run_steps() once.
 */
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Over how many seconds lguest's use of the processor is measured. */
#define IDLE_SECONDS 3

/*
 * Resident memory may differ by this much between two boots of one guest: heap, stacks. An
 * allocator that is given large pieces back takes a few lives to settle.
 */
#define RESIDENT_TOLERANCE 1024 /* KiB */

/* Turn until `done`; false with the row failed if that never happens. */
static bool turn_until(struct run *run, bool (*done)(struct run *, const struct step *),
		       const struct step *step, const char *what)
{
	while (!done(run, step)) {
		if (run_turn(run))
			continue;
		/* What came with the last turn counts as well. */
		if (done(run, step))
			return true;
		return run_fail(run, "%s while waiting for %s%s%s%s",
				run->ended ? "ended" : "out of time", what, step->text ? " \"" : "",
				step->text ? step->text : "", step->text ? "\"" : "");
	}
	return true;
}

static bool has_come(struct text *text, const char *wanted)
{
	const char *found = strstr(text->bytes + text->at, wanted);

	if (found)
		text->at = found - text->bytes + strlen(wanted);
	return found;
}

static bool output_has(struct run *run, const struct step *step)
{
	return has_come(&run->output, step->text);
}

static bool errors_have(struct run *run, const struct step *step)
{
	return has_come(&run->errors, step->text);
}

static bool expect_more(struct run *run, int number)
{
	size_t goal = run->output.total + number;

	while (run->output.total < goal)
		if (!run_turn(run))
			return run_fail(run, "%s after %zu of %d expected bytes",
					run->ended ? "ended" : "out of time",
					run->output.total + number - goal, number);
	return true;
}

static bool output_is_full(struct run *run, const struct step *step)
{
	struct pollfd fd = {.fd = run->wires.child[1], .events = POLLOUT};

	(void)step;
	return poll(&fd, 1, 0) == 0;
}

static bool input_is_read(struct run *run, const struct step *step)
{
	(void)step;
	return wires_input_read(&run->wires);
}

static bool terminal_is_raw(struct run *run, const struct step *step)
{
	(void)step;
	return wires_raw(&run->wires);
}

static bool thread_exists(struct run *run, const struct step *step)
{
	return thread_named(run->pid, step->text) != 0;
}

/* Rows type little: a pipe or a terminal that cannot take it at once is a failure. */
static bool type(struct run *run, const char *bytes, size_t count)
{
	if (write(run->wires.input, bytes, count) != (ssize_t)count)
		return run_fail(run, "cannot type: %s", strerror(errno));
	return true;
}

static bool type_keys(struct run *run, const struct step *step)
{
	const struct step read = {STEP_TYPE_KEYS, NULL, 0};

	for (const char *key = step->text; *key; key++) {
		if (!type(run, key, 1))
			return false;
		/* After the last one lguest may be gone, and need not read it. */
		if (key[1] && !turn_until(run, input_is_read, &read, "a key to be read"))
			return false;
	}
	return true;
}

static bool send_signal(struct run *run, int number)
{
	if (kill(run->pid, number) < 0)
		return run_fail(run, "kill: %s", strerror(errno));
	return true;
}

static bool cut(int *fd)
{
	close(*fd);
	*fd = -1;
	return true;
}

/*
 * The terminal is gone when no descriptor of our side of it is left. The kernel tells the
 * leader of the session, which is us in the place of a shell; and a shell tells its jobs.
 */
static bool hang_up(struct run *run)
{
	cut(&run->wires.input);
	run->reads_output = false;
	return cut(&run->wires.output) && send_signal(run, SIGHUP);
}

static bool signal_thread(struct run *run, const struct step *step)
{
	pid_t thread;

	if (!turn_until(run, thread_exists, step, "a thread named"))
		return false;
	thread = thread_named(run->pid, step->text);
	if (syscall(SYS_tgkill, run->pid, thread, step->number) < 0)
		return run_fail(run, "tgkill: %s", strerror(errno));
	return true;
}

/* As a debugger would: the others run on. It is the runner's to bury. */
static bool freeze_thread(struct run *run, const struct step *step)
{
	int status;

	if (!turn_until(run, thread_exists, step, "a thread named"))
		return false;
	run->frozen = thread_named(run->pid, step->text);
	if (ptrace(PTRACE_SEIZE, run->frozen, NULL, NULL) < 0 ||
	    ptrace(PTRACE_INTERRUPT, run->frozen, NULL, NULL) < 0 ||
	    waitpid(run->frozen, &status, __WALL) != run->frozen || !WIFSTOPPED(status))
		return run_fail(run, "cannot freeze %s: %s", step->text, strerror(errno));
	return true;
}

static bool same_resources(struct run *run, const struct step *step)
{
	const struct resources *before = &run->remembered;
	struct resources now;
	long grown;

	if (!resources_of(run->pid, &now))
		return false;
	grown = (long)now.resident - (long)before->resident;
	return now.descriptors == before->descriptors && now.threads == before->threads &&
	       grown <= RESIDENT_TOLERANCE + step->number;
}

/*
 * A thread that was joined is still in /proc for a moment, so there is some time to
 * become the same; but not all the time of the row.
 */
static bool compare(struct run *run, const struct step *step)
{
	double until = seconds_now() + 5 * run->settings->timeout_scale;
	struct resources now = {0};

	while (!same_resources(run, step)) {
		if (run_turn(run) && seconds_now() < until)
			continue;
		if (!resources_of(run->pid, &now))
			return run_fail(run, "/proc: %s", strerror(errno));
		return run_fail(
			run, "descriptors, threads, resident KiB: %u %u %lu, were %u %u %lu",
			now.descriptors, now.threads, now.resident, run->remembered.descriptors,
			run->remembered.threads, run->remembered.resident);
	}
	return true;
}

static bool remember(struct run *run)
{
	if (!resources_of(run->pid, &run->remembered))
		return run_fail(run, "/proc: %s", strerror(errno));
	return true;
}

/* Seconds of all its threads together. False with errno: lguest is no more. */
static bool processor_time(pid_t pid, double *seconds)
{
	struct timespec time;
	clockid_t clock;

	errno = clock_getcpuclockid(pid, &clock);
	if (errno || clock_gettime(clock, &time) < 0)
		return false;
	*seconds = time.tv_sec + time.tv_nsec / 1e9;
	return true;
}

/* What share of a processor, in percent, lguest takes for a while. */
static bool measure_load(struct run *run, double *load)
{
	double window = IDLE_SECONDS *
			(run->settings->timeout_scale < 1 ? run->settings->timeout_scale : 1);
	double since = seconds_now(), used, before;

	if (!processor_time(run->pid, &before))
		return run_fail(run, "its clock: %s", strerror(errno));
	while (seconds_now() < since + window)
		if (!run_turn(run))
			return false;
	if (!processor_time(run->pid, &used))
		return run_fail(run, "its clock: %s", strerror(errno));
	*load = (used - before) / (seconds_now() - since) * 100;
	return true;
}

/* A guest that has just come up has things to do: only one that never rests fails. */
static bool idle(struct run *run, const struct step *step)
{
	double load = 100;

	while (load >= step->number)
		if (!measure_load(run, &load))
			return run_fail(
				run, "%s while taking %.1f%% of a processor, expected below %d%%",
				run->ended ? "ended" : "out of time", load, step->number);
	return true;
}

/*
 * The guest's clock is read somewhere between the two moments that are noted, so no delay on
 * the way can pass for a wrong clock. The command is not its own answer: its echo has a $.
 */
static bool read_clock(struct run *run, struct clock_reading *reading)
{
	const struct step begin = {STEP_EXPECT, "\n<", 0}, end = {STEP_EXPECT, ">", 0};
	static const char command[] = "echo \"<$(cut -d' ' -f1 /proc/uptime)>\"\r";
	size_t at;

	reading->before = seconds_now();
	if (!type(run, command, strlen(command)) ||
	    !turn_until(run, output_has, &begin, "the guest's clock"))
		return false;
	at = run->output.at;
	if (!turn_until(run, output_has, &end, "the guest's clock"))
		return false;
	reading->guest = strtod(run->output.bytes + at, NULL);
	reading->after = seconds_now();
	return true;
}

static bool compare_clock(struct run *run, const struct step *step)
{
	struct clock_reading now;
	double passed, least, most, allowed = step->number / 1e3;

	if (!read_clock(run, &now))
		return false;
	passed = now.guest - run->clock.guest;
	least = now.before - run->clock.after;
	most = now.after - run->clock.before;
	if (passed < least - allowed || passed > most + allowed)
		return run_fail(run, "%.2f s passed for the guest, %.2f to %.2f s for us", passed,
				least, most);
	return true;
}

static bool is_locked(struct run *run, const struct step *step)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(suite_text("%s/%s", run->files, step->text), O_RDWR | O_CLOEXEC);
	bool known = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0;

	if (fd >= 0)
		close(fd);
	if (!known)
		return run_fail(run, "cannot see who locks %s: %s", step->text, strerror(errno));
	return lock.l_type != F_UNLCK || run_fail(run, "nobody locks %s", step->text);
}

static bool debugger_comes(struct run *run, const struct step *step)
{
	(void)step;
	return debugger_call(run);
}

static bool tell(struct run *run, const struct step *step)
{
	return debugger_say(run, step->text) || run_fail(run, "cannot tell lguest: %s", step->text);
}

static bool has_answered(struct run *run, const struct step *step)
{
	const char *answer;

	(void)step;
	return debugger_hears(run, &answer);
}

static bool hear(struct run *run, const struct step *step, const char *wanted)
{
	const char *answer;

	if (!turn_until(run, has_answered, step, "the answer to"))
		return false;
	debugger_hears(run, &answer);
	return !strcmp(answer, wanted) ||
	       run_fail(run, "asked %.*s, it answered \"%s\" and not \"%s\"",
			(int)strcspn(step->text, "\n"), step->text, answer, wanted);
}

static bool child_exists(struct run *run, const struct step *step)
{
	return child_named(run->pid, step->text) != 0;
}

static bool kill_child(struct run *run, const struct step *step)
{
	if (!turn_until(run, child_exists, step, "a child named"))
		return false;
	if (kill(child_named(run->pid, step->text), SIGKILL) < 0)
		return run_fail(run, "kill: %s", strerror(errno));
	return true;
}

static bool serve(struct run *run, const struct step *step)
{
	if (!network_serve(step->number, step->text))
		return run_fail(run, "cannot serve at port %d: %s", step->number, strerror(errno));
	return true;
}

static bool is_fetched(struct run *run, const struct step *step)
{
	(void)run;
	return network_fetch(step->number, step->text);
}

static bool has_ended(struct run *run, const struct step *step)
{
	(void)step;
	return run->ended;
}

static bool run_step(struct run *run, const struct step *step)
{
	switch (step->kind) {
	case STEP_END:
		break;
	case STEP_EXPECT:
		return turn_until(run, output_has, step, "stdout");
	case STEP_EXPECT_ERROR:
		return turn_until(run, errors_have, step, "stderr");
	case STEP_SERVE:
		return serve(run, step);
	case STEP_FETCH:
		return turn_until(run, is_fetched, step, "a port to say");
	case STEP_KILL_CHILD:
		return kill_child(run, step);
	case STEP_AT: /* run_steps()'s */
		return true;
	case STEP_ENDED:
		return turn_until(run, has_ended, step, "the end");
	case STEP_EXPECT_MORE:
		return expect_more(run, step->number);
	case STEP_TYPE:
		return type(run, step->text, strlen(step->text));
	case STEP_TYPE_KEYS:
		return type_keys(run, step);
	case STEP_CLOSE_INPUT:
		return cut(&run->wires.input);
	case STEP_CLOSE_OUTPUT:
		run->reads_output = false;
		return cut(&run->wires.output);
	case STEP_HANG_UP:
		return hang_up(run);
	case STEP_OUTPUT_FULL:
		return turn_until(run, output_is_full, step, "standard output to be full");
	case STEP_SIGNAL:
		return send_signal(run, step->number);
	case STEP_SIGNAL_THREAD:
		return signal_thread(run, step);
	case STEP_FREEZE_THREAD:
		return freeze_thread(run, step);
	case STEP_TERMINAL_RAW:
		return turn_until(run, terminal_is_raw, step, "a raw terminal");
	case STEP_REMEMBER:
		return remember(run);
	case STEP_COMPARE:
		return compare(run, step);
	case STEP_IDLE:
		return idle(run, step);
	case STEP_RUN:
		return world_run(run_expand(run, step->text)) ||
		       run_fail(run, "this failed: %s", step->text);
	case STEP_CLOCK_NOTE:
		return read_clock(run, &run->clock);
	case STEP_CLOCK_COMPARE:
		return compare_clock(run, step);
	case STEP_LOCKED:
		return is_locked(run, step);
	case STEP_DEBUGGER:
		return turn_until(run, debugger_comes, step, "a place for the debugger");
	case STEP_TELL:
		return tell(run, step);
	case STEP_ASK:
		return tell(run, step) && hear(run, step, strchr(step->text, '\n') + 1);
	case STEP_HEAR:
		return hear(run, step, step->text);
	case STEP_DEBUGGER_DIES:
		debugger_leave(run);
		break;
	}
	return true;
}

static int guest_number(const struct run *run, const struct run *other)
{
	int number = 0;

	while (run->others[number++] != other)
		;
	return number;
}

void run_steps(struct run *run)
{
	struct run *at = run;

	for (const struct step *step = run->test->steps; step && step->kind != STEP_END; step++) {
		if (step->kind == STEP_AT)
			at = step->number ? run_start_other(run, step->number - 1) : run;
		if (!at)
			return;
		if (run_step(at, step))
			continue;
		if (at != run)
			run_fail(run, "guest %d: %s", guest_number(run, at), at->why);
		return;
	}
}
