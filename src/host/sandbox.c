/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sandbox: see sandbox.h.
 *
 * The door shuts in two steps. sandbox_enter() gives every thread that there is
 * the main thread's filter. Each thread that then works for a guest adds its own, and
 * what the kernel does not spread over threads: Landlock, and the loss of capabilities.
 * Until it does, it has not seen a byte of the guest's.
 *
 * Tour 7.20
 */
#include "host/sandbox.h"

#include "host/filter.h"
#include "host/landlock.h"
#include "host/log.h"
#include "host/machine.h"
#include "host/privileges.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* <asm-generic/siginfo.h>, which does not go with the C library's <signal.h>. */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

/* What libslirp reads from time to time. */
#define NAMESERVERS "/etc/resolv.conf"

struct sandbox {
	const struct sandbox_options *options;
	struct privileges privileges;
	_Atomic bool shut; /* the filter is in force */
	int rules;	   /* Landlock's, or -1: this kernel has none */
	struct sock_fprog programs[SANDBOX_THREADS];
	char names[FILTER_NAMES][FILTER_NAME_MAX];
};

/* A thread, a signal handler and a helper process are told nothing: they find it here. */
static struct sandbox *the_sandbox;

static const enum filter_kind thread_filters[SANDBOX_THREADS] = {
	[SANDBOX_MAIN] = FILTER_MAIN,
	[SANDBOX_VCPU] = FILTER_VCPU,
	[SANDBOX_QUEUE] = FILTER_QUEUE,
};

/*
 * The C library would open files behind our backs. Heaps of threads' own are trimmed by a policy
 * that it reads from /proc, so that all share one, which nobody misses: requests of guests are
 * served without malloc(). And what it knows of time zones it reads before it says even what
 * UTC it is.
 */
static void ask_now(void)
{
	mallopt(M_ARENA_MAX, 1);
	tzset();
}

struct sandbox *sandbox_new(const struct sandbox_options *options, struct problem *why)
{
	struct sandbox *sandbox = calloc(1, sizeof(*sandbox));

	if (!sandbox) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	sandbox->options = options;
	sandbox->rules = -1;
	the_sandbox = sandbox;
	/*
	 * Where there are no filters we do not go on and say so: nobody reads that. Who wants a
	 * guest all the same has an option.
	 */
	if (privileges_find(&sandbox->privileges, options->username, options->chroot, why) ||
	    (!options->off && filter_check(why))) {
		sandbox_free(sandbox);
		return NULL;
	}
	ask_now();
	return sandbox;
}

void sandbox_free(struct sandbox *sandbox)
{
	if (!sandbox)
		return;
	if (the_sandbox == sandbox)
		the_sandbox = NULL;
	for (unsigned i = 0; i < SANDBOX_THREADS; i++)
		filter_free(&sandbox->programs[i]);
	if (sandbox->rules >= 0)
		close(sandbox->rules);
	privileges_release(&sandbox->privileges);
	free(sandbox);
}

/* The rules for a later landlock_enter(), or -1 in *rules where the kernel has no Landlock. */
static int find_rules(int *rules, enum landlock_network network, const char *readable, int folder,
		      struct problem *why)
{
	*rules = -1;
	if (FILTER_SANITIZED) /* they open files for their reports */
		return 0;
	*rules = landlock_rules(network, readable, folder);
	/* EPERM: a container's list of calls is older than Landlock, as far as we are concerned. */
	if (*rules == -EOPNOTSUPP || *rules == -EPERM) {
		log_verbose("%s: files are kept shut by the filter alone",
			    *rules == -EPERM ? "Landlock is forbidden here"
					     : "this kernel has no Landlock");
		*rules = -1;
	} else if (*rules < 0) {
		return problem(why, -*rules, "cannot make rules for Landlock: %s",
			       strerror(-*rules));
	}
	return 0;
}

static int prepare(struct sandbox *sandbox, struct problem *why)
{
	int err = find_rules(&sandbox->rules, LANDLOCK_NO_NETWORK, NULL, -1, why);

	for (unsigned i = 0; !err && i < SANDBOX_THREADS; i++)
		err = filter_make(&sandbox->programs[i], thread_filters[i], why);
	filter_names(sandbox->names);
	return err;
}

/* Without capabilities, and without files. Of the calling thread. */
static int empty_hands(int rules)
{
	int err = privileges_drop_capabilities();

	return err || rules < 0 ? err : landlock_enter(rules);
}

/*
 * The first filter. From here on what is denied is named.
 *
 * Tour 7.21: The door
 */
static int lock_in(struct sandbox *sandbox, const struct sock_fprog *program, bool every_thread,
		   struct problem *why)
{
	int err = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : empty_hands(sandbox->rules);

	sandbox->shut = true;
	if (!err)
		err = filter_install(program, every_thread);
	return err ? problem(why, -err, "cannot lock lguest in: %s", strerror(-err)) : 0;
}

/*
 * The main thread goes first, and takes all others with it. The order matters: filters are
 * made while memory files may still be, users are changed while there is a right to, and the
 * filter comes last, because it would deny all of that.
 *
 * Tour 7.22: For the whole process
 */
int sandbox_enter(struct sandbox *sandbox, struct problem *why)
{
	int err;

	if (sandbox->options->off) {
		log_line("--no-sandbox: lguest is not locked in, and a guest that breaks out can "
			 "do what you can");
		return privileges_drop(&sandbox->privileges, why);
	}
	err = prepare(sandbox, why);
	if (!err)
		err = privileges_drop(&sandbox->privileges, why);
	if (!err)
		err = lock_in(sandbox, &sandbox->programs[SANDBOX_MAIN], true, why);
	if (!err)
		log_verbose("locked in: no new privileges, a filter of system calls for each kind "
			    "of thread%s",
			    sandbox->rules < 0 ? "" : ", no files (Landlock)");
	return err;
}

/*
 * A thread that is about to work for a guest calls this, and has less from then on than the
 * main thread has left. There is no way on without it: what cannot be locked in, ends.
 *
 * Tour 7.23: And for each thread
 */
void sandbox_thread(enum sandbox_thread kind)
{
	struct sandbox *sandbox = the_sandbox;
	int err;

	if (!sandbox || !sandbox->shut)
		return;
	err = empty_hands(sandbox->rules);
	if (!err)
		err = filter_install(&sandbox->programs[kind], false);
	if (!err)
		return;
	log_line("cannot lock a thread in: %s", strerror(-err));
	_exit(EXIT_CRASHED);
}

/* What was denied */

struct line {
	char text[256];
	size_t length;
};

static void add_text(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text))
		line->text[line->length++] = *text++;
}

static void add_number(struct line *line, u64 number, unsigned base)
{
	char digits[sizeof(number) * 8 + 1], *at = digits + sizeof(digits);

	*--at = '\0';
	do {
		*--at = "0123456789abcdef"[number % base];
		number /= base;
	} while (number);
	add_text(line, at);
}

static void add_arguments(struct line *line, const ucontext_t *context)
{
	static const int registers[] = {REG_RDI, REG_RSI, REG_RDX};

	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
		add_text(line, i ? ", 0x" : "(0x");
		add_number(line, context->uc_mcontext.gregs[registers[i]], 16);
	}
	add_text(line, ", ...)");
}

/*
 * In a signal handler, in a process that may not be itself any more: no allocation, no lock,
 * no printf(). The line is put together in a buffer and written, once.
 *
 * Tour 7.24: What was denied has a name
 */
bool sandbox_denied(const siginfo_t *info, const void *context)
{
	const struct sandbox *sandbox = the_sandbox;
	const unsigned number = info->si_syscall;
	struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
	struct line line = {.length = 0};
	char thread[16] = "?";

	if (info->si_code != SYS_SECCOMP || !sandbox || !sandbox->shut)
		return false;
	prctl(PR_GET_NAME, thread);
	add_text(&line, "lguest: ");
	add_text(&line, thread);
	add_text(&line, ": the sandbox denied ");
	if (number < FILTER_NAMES && sandbox->names[number][0]) {
		add_text(&line, sandbox->names[number]);
	} else {
		add_text(&line, "system call ");
		add_number(&line, number, 10);
	}
	add_arguments(&line, context);
	add_text(&line, "\n");
	/* Who has stopped reading does not keep a process that has come to its end. */
	if (poll(&out, 1, LOG_PATIENCE) > 0 && write(STDERR_FILENO, line.text, line.length) < 0)
		_exit(EXIT_CRASHED);
	return true;
}

/* Helpers */

static void on_denied(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	sandbox_denied(info, context);
	_exit(EXIT_CRASHED);
}

static void catch_denied(void)
{
	struct sigaction action = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigaction(SIGSYS, &action, NULL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static int prepare_helper(struct sandbox *sandbox, enum sandbox_helper kind, int folder,
			  struct problem *why)
{
	const bool slirp = kind == SANDBOX_SLIRP;
	enum filter_kind filter = FILTER_SWITCH;
	int err = find_rules(&sandbox->rules, slirp ? LANDLOCK_NETWORK : LANDLOCK_NO_NETWORK,
			     slirp ? NAMESERVERS : NULL, folder, why);

	if (slirp)
		filter = sandbox->rules < 0 ? FILTER_SLIRP : FILTER_SLIRP_READS;
	if (!err)
		err = filter_make(&sandbox->programs[SANDBOX_MAIN], filter, why);
	filter_names(sandbox->names);
	return err;
}

int sandbox_helper(enum sandbox_helper kind, int folder, struct problem *why)
{
	struct sandbox *sandbox;
	int err;

	if (the_sandbox && the_sandbox->options->off)
		return 0;
	sandbox = calloc(1, sizeof(*sandbox));
	if (!sandbox)
		return problem(why, ENOMEM, "out of memory");
	the_sandbox = sandbox;
	sandbox->privileges.root_fd = -1;
	ask_now();
	err = prepare_helper(sandbox, kind, folder, why);
	catch_denied();
	if (!err)
		err = lock_in(sandbox, &sandbox->programs[SANDBOX_MAIN], true, why);
	if (err) {
		sandbox_free(sandbox);
	} else if (sandbox->rules >= 0) {
		/* There will be no other thread for them to hold for. */
		close(sandbox->rules);
		sandbox->rules = -1;
	}
	return err;
}
