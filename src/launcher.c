/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Launcher: see launcher.h.
 *
 * First everything is opened and built that outlives a reboot: files, memory,
 * the board with its devices, the engine. Then the machine is powered on, as
 * often as the guest reboots: RAM is cleared, the kernel loaded, every device put
 * into its power-on state, the vCPUs started. From then on this thread only looks
 * after the terminal and the signals, until somebody says machine_stop() or
 * machine_reset().
 *
 * Tour 2.20
 */
#include "launcher.h"

#include "board/board.h"
#include "board/button.h"
#include "boot/boot.h"
#include "devices.h"
#include "engine/engine.h"
#include "gdb/gdb.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/machine.h"
#include "host/memory.h"
#include "host/sandbox.h"
#include "host/terminal.h"
#include "virtio/console.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct vcpu_thread {
	struct engine *engine;
	unsigned index;
	pthread_t thread;
};

struct launcher {
	const struct options *options;
	char *command_line;
	bool console_added;	    /* to it, by us */
	struct file kernel, initrd; /* fd -1: not open */
	struct memory *memory;
	struct machine machine;
	struct terminal terminal;
	struct board board;
	struct console console;
	struct devices devices;
	struct sandbox *sandbox;
	bool locked_in; /* the sandbox is shut behind us */
	struct engine *engine;
	struct gdb *gdb;	/* NULL: nobody may come to debug */
	struct cpu_state first; /* how the kernel wants its first vCPU */
	struct vcpu_thread vcpus[OPTIONS_CPUS_MAX];
	unsigned running; /* how many of them */
	int signal_fd;
	sigset_t polled;      /* what it reports */
	bool signalled;	      /* it was a signal that ended the machine */
	bool stopping;	      /* the machine has ended, and we wait for all that is in it... */
	_Atomic bool at_rest; /* ...to come to rest */
	u64 patience_ends; /* ms, CLOCK_MONOTONIC: asked to shut down, it has until then. 0: was not
			    */
	struct sigaction old_actions[NSIG]; /* of the fatal signals */
};

/*
 * After these there is nothing to be done but to leave the terminal as it was. Most others
 * that end a process are taken by the main thread from a descriptor, at a time of its choosing.
 */
static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};

/*
 * A broken pipe and a file that may not grow are errors of write(); a terminal that others have
 * just now is none.
 */
static const int ignored_signals[] = {SIGPIPE, SIGXFSZ, SIGTTIN, SIGTTOU};

/* These do not end us: the terminal has another size, or the user's shell has it for a while. */
static const int job_signals[] = {SIGWINCH, SIGTSTP, SIGCONT};

/* A signal handler is told nothing but the signal: it finds the launcher here. */
static struct launcher *the_launcher;

static void write_text(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

/*
 * Any thread, at any instruction: nothing here but what is async-signal-safe. The
 * signal is then raised again with the action that it had before, which ends the
 * process (and writes a core, or a sanitiser's report).
 */
static void on_fatal_signal(int signal, siginfo_t *info, void *context)
{
	struct launcher *launcher = the_launcher;
	const struct file *file = NULL;

	terminal_restore(&launcher->terminal);
	if (signal == SIGSYS && sandbox_denied(info, context))
		_exit(EXIT_CRASHED);
	if (signal == SIGBUS && info->si_code > 0)
		file = memory_file_at(launcher->memory, info->si_addr);
	if (file) {
		write_text("lguest: the ");
		write_text(file->what);
		write_text(" ");
		write_text(file->name);
		write_text(" was truncated while the guest used it\n");
		_exit(EXIT_LAUNCHER);
	}
	sigaction(signal, &launcher->old_actions[signal], NULL);
	raise(signal);
}

static bool is_ignored(int number)
{
	struct sigaction action;

	return sigaction(number, NULL, &action) || action.sa_handler == SIG_IGN;
}

static void remove_signals(sigset_t *set, const int *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sigdelset(set, numbers[i]);
}

/*
 * What the main thread polls for. What our parent had us ignore (nohup) stays ignored: once
 * blocked, it would be queued all the same.
 */
static void find_polled_signals(sigset_t *polled)
{
	sigfillset(polled);
	remove_signals(polled, fatal_signals, ARRAY_SIZE(fatal_signals));
	remove_signals(polled, ignored_signals, ARRAY_SIZE(ignored_signals));
	sigdelset(polled, SIGCHLD);
	sigdelset(polled, SIGURG);
	sigdelset(polled, ENGINE_SIGNAL);
	for (int i = 1; i < NSIG; i++)
		if (sigismember(polled, i) && is_ignored(i))
			sigdelset(polled, i);
}

static int catch_signals(struct launcher *launcher, struct problem *why)
{
	struct sigaction fatal = {
		.sa_sigaction = on_fatal_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	find_polled_signals(&launcher->polled);
	launcher->signal_fd = signalfd(-1, &launcher->polled, SFD_CLOEXEC | SFD_NONBLOCK);
	if (launcher->signal_fd < 0)
		return problem(why, errno, "cannot watch for signals: %s", strerror(errno));
	/* Before any thread is made: they inherit it. */
	pthread_sigmask(SIG_BLOCK, &launcher->polled, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(ignored_signals); i++)
		signal(ignored_signals[i], SIG_IGN);
	the_launcher = launcher;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		sigaction(fatal_signals[i], &fatal, &launcher->old_actions[fatal_signals[i]]);
	return 0;
}

/*
 * From now on a signal that is polled means: do not wait any longer. The others are the shell's
 * again.
 */
static void poll_deadly_signals_only(struct launcher *launcher)
{
	sigset_t jobs;

	sigemptyset(&jobs);
	for (size_t i = 0; i < ARRAY_SIZE(job_signals); i++)
		sigaddset(&jobs, job_signals[i]);
	remove_signals(&launcher->polled, job_signals, ARRAY_SIZE(job_signals));
	signalfd(launcher->signal_fd, &launcher->polled, 0);
	pthread_sigmask(SIG_UNBLOCK, &jobs, NULL);
}

static void release_signals(struct launcher *launcher)
{
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		sigaction(fatal_signals[i], &launcher->old_actions[fatal_signals[i]], NULL);
	close(launcher->signal_fd);
}

/*
 * The value of the last console= on a kernel command line, and its length; NULL if there is none.
 */
static const char *last_console(const char *command_line, size_t *length)
{
	const char *found = NULL;

	for (const char *at = command_line; (at = strstr(at, "console=")); at++)
		if (at == command_line || at[-1] == ' ')
			found = at + strlen("console=");
	if (found)
		*length = strcspn(found, ", ");
	return found;
}

static bool virtio_is_last_console(const char *command_line)
{
	size_t length;
	const char *last = last_console(command_line, &length);

	return last && length == strlen("hvc0") && !strncmp(last, "hvc0", length);
}

#define DEFAULT_CONSOLE "console=ttyS0"

/* A distribution's kernel without a console= talks to a screen that we do not have. */
static int choose_command_line(struct launcher *launcher, enum kernel_format format,
			       struct problem *why)
{
	const char *given = launcher->options->command_line;
	size_t length;
	bool add = format == KERNEL_BZIMAGE && !last_console(given, &length);

	if (asprintf(&launcher->command_line, "%s%s%s", given, add && *given ? " " : "",
		     add ? DEFAULT_CONSOLE : "") < 0) {
		launcher->command_line = NULL;
		return problem(why, ENOMEM, "out of memory");
	}
	launcher->console_added = add;
	return 0;
}

static int open_files(struct launcher *launcher, struct problem *why)
{
	const struct options *options = launcher->options;
	enum kernel_format format;
	int err;

	err = file_open(&launcher->kernel, options->kernel, "kernel", why);
	if (!err)
		err = boot_recognise(&launcher->kernel, &format, why);
	if (!err && options->initrd)
		err = file_open(&launcher->initrd, options->initrd, "initrd", why);
	return err ? err : choose_command_line(launcher, format, why);
}

static int plug_devices(struct launcher *launcher, struct problem *why)
{
	const struct options *options = launcher->options;
	bool takes_input =
		options->console == CONSOLE_ANY && virtio_is_last_console(launcher->command_line);

	int err = console_init(&launcher->console, &launcher->board.pci, SLOT_CONSOLE,
			       &launcher->machine, launcher->memory, &launcher->terminal,
			       takes_input, why);

	if (err)
		return err;
	return devices_plug(&launcher->devices, &launcher->board.pci, &launcher->machine,
			    launcher->memory, options->vm.vcpus, why);
}

/* Every virtio device at rest, as at power-on. No vCPU runs. */
static void rest_devices(struct launcher *launcher)
{
	virtio_power_on(&launcher->console.virtio);
	devices_rest(&launcher->devices);
}

/* What was plugged in: if plug_devices() failed, that is not all. */
static void unplug_devices(struct launcher *launcher)
{
	devices_unplug(&launcher->devices);
	if (launcher->console.virtio.pci)
		virtio_unplug(&launcher->console.virtio);
}

static int map_memory(struct launcher *launcher, struct problem *why)
{
	const struct memory *memory = launcher->memory;
	struct engine *engine = launcher->engine;
	int err = engine->ops->map(engine, 0, memory->low, memory->base, why);

	if (!err && memory->high)
		err = engine->ops->map(engine, MEMORY_HIGH_BASE, memory->high,
				       memory->base + MEMORY_HIGH_BASE, why);
	return err;
}

/* Put the kernel into memory, which is all zero. */
static int load(struct launcher *launcher, struct problem *why)
{
	const struct boot boot = {
		.memory = launcher->memory,
		.kernel = &launcher->kernel,
		.initrd = launcher->options->initrd ? &launcher->initrd : NULL,
		.command_line = launcher->command_line,
	};

	return boot_load(&boot, &launcher->first, why);
}

/*
 * The kernel is loaded, the engine is as new; afterwards the vCPUs could run.
 *
 * Tour 2.21, 2 items: Switched on, again and again
 */
static int power_on(struct launcher *launcher, struct problem *why)
{
	const struct options *options = launcher->options;
	struct engine *engine = launcher->engine;
	int err;

	board_power_on(&launcher->board, engine, options->vm.vcpus);
	terminal_give_input(&launcher->terminal,
			    options->console == CONSOLE_VIRTIO ? INPUT_VIRTIO : INPUT_SERIAL);
	err = map_memory(launcher, why);
	for (unsigned i = 0; !err && i < options->vm.vcpus; i++)
		err = engine->ops->add_vcpu(engine, i ? NULL : &launcher->first, why);
	if (!err)
		gdb_power_on(launcher->gdb);
	return err;
}

/* The guest rebooted: what it left behind goes, what is on the host's side stays. */
static int power_cycle(struct launcher *launcher, struct problem *why)
{
	int err;

	log_verbose("the guest reboots");
	err = launcher->engine->ops->reset(launcher->engine, why);
	if (!err)
		err = memory_clear(launcher->memory, why);
	if (!err)
		err = file_refresh(&launcher->kernel, why);
	if (!err && launcher->options->initrd)
		err = file_refresh(&launcher->initrd, why);
	if (!err)
		err = load(launcher, why);
	return err ? err : power_on(launcher, why);
}

/*
 * The whole of a vCPU, as the launcher sees it: a name, a filter of system calls, and the
 * engine, which comes back when the machine has ended.
 *
 * Tour 2.22, 2 items: A vCPU is a thread
 */
static void *vcpu_main(void *opaque)
{
	struct vcpu_thread *vcpu = opaque;
	char name[16];

	/* By itself: the name of another thread is a file. */
	snprintf(name, sizeof(name), "vcpu%u", vcpu->index);
	pthread_setname_np(pthread_self(), name);
	sandbox_thread(SANDBOX_VCPU);
	vcpu->engine->ops->run(vcpu->engine, vcpu->index);
	return NULL;
}

static int start_vcpus(struct launcher *launcher, struct problem *why)
{
	for (unsigned i = 0; i < launcher->options->vm.vcpus; i++) {
		struct vcpu_thread *vcpu = &launcher->vcpus[i];
		int err;

		*vcpu = (struct vcpu_thread){.engine = launcher->engine, .index = i};
		err = pthread_create(&vcpu->thread, NULL, vcpu_main, vcpu);
		if (err)
			return problem(why, err, "cannot start the thread of vCPU %u: %s", i,
				       strerror(err));
		launcher->running++;
	}
	return 0;
}

/* How long a guest that was asked to shut down may take, in s: RUN-2 has the rest. */
#define SHUTDOWN_PATIENCE 30

static u64 now_ms(void)
{
	return clock_ns() / 1000000;
}

/* For poll(): ms, rounded up; -1: there is nothing to wait for. */
static int patience_left(const struct launcher *launcher)
{
	const u64 now = now_ms();

	if (!launcher->patience_ends)
		return -1;
	return launcher->patience_ends > now ? (int)(launcher->patience_ends - now) : 0;
}

/*
 * The machine has ended, but something of it does not come to rest: a request to a disk that the
 * host never answers. There is no waiting for it and no way around it, so we leave as we stand. How
 * the machine ended is known, unless that was in peace.
 */
static _Noreturn void abandon(struct launcher *launcher, unsigned number)
{
	const struct machine *machine = &launcher->machine;

	terminal_restore(&launcher->terminal);
	terminal_flush(&launcher->terminal, -1, 0);
	log_line("%s", machine->why[0] ? machine->why : "ended by a signal, with work left undone");
	_exit(machine->status ? machine->status : EXIT_SIGNAL + (int)number);
}

static void end_by_signal(struct launcher *launcher, unsigned number, const char *why)
{
	launcher->signalled = true;
	machine_stop(&launcher->machine, EXIT_SIGNAL + (int)number, "ended by signal %u (%s)%s",
		     number, strsignal((int)number), why);
	if (launcher->stopping)
		abandon(launcher, number);
}

/*
 * The polite way. The guest may not be listening (it has not booted yet, or has no driver for the
 * button), may take its time, or may reboot instead: it has these seconds, whatever it does with
 * them.
 */
static void ask_to_shut_down(struct launcher *launcher)
{
	launcher->patience_ends = now_ms() + SHUTDOWN_PATIENCE * 1000;
	button_press(&launcher->board.ioapic);
	log_line("asked the guest to shut down; a second SIGTERM, or %u s, will end it",
		 SHUTDOWN_PATIENCE);
}

static void take_signal(struct launcher *launcher)
{
	struct signalfd_siginfo info;

	while (read(launcher->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		switch (info.ssi_signo) {
		case SIGWINCH:
			console_resized(&launcher->console);
			break;
		case SIGTSTP:
			terminal_restore(&launcher->terminal);
			kill(getpid(), SIGSTOP);
			break;
		case SIGCONT:
			terminal_set_raw(&launcher->terminal);
			break;
		case SIGTERM:
			/* What has ended cannot be asked. */
			if (launcher->patience_ends || machine_stopped(&launcher->machine))
				end_by_signal(launcher, SIGTERM, "");
			else
				ask_to_shut_down(launcher);
			break;
		default:
			end_by_signal(launcher, info.ssi_signo, "");
		}
	}
}

/* How often, in ms, we see whether the shell has given us the terminal: it need not tell. */
#define FOREGROUND_CHECK 500

/* A descriptor to poll, or nothing: one without events would still report that it was hung up. */
static struct pollfd poll_for(int fd, short events)
{
	return (struct pollfd){.fd = events ? fd : -1, .events = events};
}

/* In ms: how long nothing need happen before we look up. -1: for ever. */
static int look_after_timeout(const struct launcher *launcher)
{
	const int left = patience_left(launcher);

	if (!terminal_is_waiting(&launcher->terminal))
		return left;
	return left < 0 ? FOREGROUND_CHECK : MIN(left, FOREGROUND_CHECK);
}

#define OWN_DESCRIPTORS 5

/*
 * Terminal, signals, children, and the debugger, if it is named: what there is to do now, or comes
 * within so many ms.
 *
 * Tour 2.23, 3 items: What the main thread does all day
 */
static void look_once(struct launcher *launcher, struct gdb *gdb, int timeout)
{
	struct machine *machine = &launcher->machine;
	struct terminal *terminal = &launcher->terminal;
	struct pollfd fds[OWN_DESCRIPTORS + GDB_DESCRIPTORS + OPTIONS_DEVICES_MAX] = {
		poll_for(machine->stop_fd, POLLIN),
		poll_for(machine->wake_fd, POLLIN),
		poll_for(launcher->signal_fd, POLLIN),
		poll_for(terminal->in_fd, terminal_input_events(terminal)),
		poll_for(terminal->out_fd, terminal_output_events(terminal)),
	};
	struct pollfd *debug = fds + OWN_DESCRIPTORS;
	unsigned debug_count = gdb_poll(gdb, debug);
	struct pollfd *others = debug + debug_count;
	unsigned other_count = devices_poll(&launcher->devices, others);
	bool waiting = terminal_is_waiting(terminal);
	eventfd_t count;

	if (poll(fds, OWN_DESCRIPTORS + debug_count + other_count, timeout) < 0)
		return;
	if (!patience_left(launcher))
		end_by_signal(launcher, SIGTERM, ": it did not shut down in time");
	if (waiting)
		terminal_set_raw(terminal);
	if (fds[1].revents)
		eventfd_read(machine->wake_fd, &count);
	if (fds[2].revents)
		take_signal(launcher);
	if (fds[3].revents)
		terminal_read_ready(terminal);
	if (fds[4].revents)
		terminal_write_ready(terminal);
	serial_pump(&launcher->board.serial);
	devices_polled(&launcher->devices, others, other_count);
	gdb_polled(gdb, debug, debug_count);
}

/* While the debugger waits for a vCPU: all but the debugger. */
static void look_beside_debugger(void *launcher)
{
	look_once(launcher, NULL, 0);
}

/* Until the machine no longer runs. */
static void look_after(struct launcher *launcher)
{
	while (machine_running(&launcher->machine))
		look_once(launcher, launcher->gdb, look_after_timeout(launcher));
}

/* In ms: what takes longer to come to rest than this is worth a word to the user. */
#define REST_PATIENCE 3000

static void come_to_rest(struct launcher *launcher)
{
	while (launcher->running)
		pthread_join(launcher->vcpus[--launcher->running].thread, NULL);
	rest_devices(launcher);
}

/* The thread that waits for all others, so that the main thread need not. */
static void *rest_main(void *opaque)
{
	struct launcher *launcher = opaque;

	come_to_rest(launcher);
	atomic_store(&launcher->at_rest, true);
	machine_wake(&launcher->machine);
	return NULL;
}

/*
 * The signals, until all is at rest. That may be never: then it is by signals that the user gets
 * rid of us, and ^C shall be one.
 */
static void await_rest(struct launcher *launcher)
{
	bool told = false;
	eventfd_t count;

	while (!atomic_load(&launcher->at_rest)) {
		struct pollfd fds[] = {
			poll_for(launcher->machine.wake_fd, POLLIN),
			poll_for(launcher->signal_fd, POLLIN),
		};
		const int n = poll(fds, ARRAY_SIZE(fds), REST_PATIENCE);

		if (n > 0 && fds[0].revents)
			eventfd_read(launcher->machine.wake_fd, &count);
		if (n > 0 && fds[1].revents)
			take_signal(launcher);
		if (n)
			continue;
		terminal_restore(&launcher->terminal);
		if (!told)
			log_line("a device does not come to rest, as the host has not answered it "
				 "yet; a signal (^C) ends lguest without it");
		told = true;
	}
}

/*
 * The machine is no longer running: nor are its vCPUs, when this returns, nor its queues. If it has
 * ended for good, the user has the terminal back first.
 */
static void stop_vcpus(struct launcher *launcher)
{
	pthread_t thread;

	if (machine_stopped(&launcher->machine)) {
		terminal_restore(&launcher->terminal);
		poll_deadly_signals_only(launcher);
	}
	launcher->engine->ops->stop(launcher->engine);
	atomic_store(&launcher->at_rest, false);
	if (pthread_create(&thread, NULL, rest_main, launcher)) {
		come_to_rest(launcher);
		return;
	}
	launcher->stopping = true;
	await_rest(launcher);
	launcher->stopping = false;
	pthread_join(thread, NULL);
}

/*
 * Before the guest's first instruction, once: a reboot finds the door shut.
 *
 * Tour 2.24, 2 items: From one power-on to the next
 */
static int lock_in(struct launcher *launcher, struct problem *why)
{
	int err;

	if (launcher->locked_in)
		return 0;
	err = sandbox_enter(launcher->sandbox, why);
	launcher->locked_in = !err;
	return err;
}

/* What we made of the command line that its author may not have meant. */
static void tell_of_command_line(const struct launcher *launcher)
{
	const struct options *options = launcher->options;

	if (launcher->console_added)
		log_line("no console= for the kernel: %s added", DEFAULT_CONSOLE);
	if (options->astray && options->astray == options->kernels_first)
		log_line("%s is no option of lguest's: the kernel gets it, and all behind it",
			 options->astray);
	else if (options->astray)
		log_line("%s is behind %s, where all is the kernel's: options of lguest's stand "
			 "before it",
			 options->astray, options->kernels_first);
}

/* Run it, through all its reboots. -errno if one of them could not be done. */
static int run(struct launcher *launcher, struct problem *why)
{
	int err = power_on(launcher, why);

	if (!err)
		tell_of_command_line(launcher);
	while (!err) {
		terminal_set_raw(&launcher->terminal);
		err = lock_in(launcher, why);
		if (!err)
			err = start_vcpus(launcher, why);
		if (!err)
			look_after(launcher);
		else
			machine_stop(&launcher->machine, EXIT_LAUNCHER, NULL);
		stop_vcpus(launcher);
		if (err || !machine_restart(&launcher->machine))
			break;
		err = power_cycle(launcher, why);
	}
	return err;
}

/*
 * What the guest had to say last is worth waiting for, unless the user wants out. The terminal
 * is the user's again first, so that ^C is a signal to us.
 */
static void leave_terminal(struct launcher *launcher)
{
	bool hurry = launcher->signalled || launcher->terminal.user_left;

	terminal_restore(&launcher->terminal);
	poll_deadly_signals_only(launcher);
	if (hurry)
		terminal_flush(&launcher->terminal, -1, 0);
	else
		terminal_flush(&launcher->terminal, launcher->signal_fd, patience_left(launcher));
}

/*
 * Build what outlives a reboot, run, and take down what was built, in reverse.
 *
 * The functions below are all alike: each makes one thing, hands on to the one above, and
 * unmakes it. The last of them is where main() comes in.
 *
 * Tour 2.25: Built up, and taken down
 */
static int with_engine(struct launcher *launcher, struct problem *why)
{
	int err = load(launcher, why);

	/* Before the engine: what is wrong with the files is wrong on every machine. */
	if (err)
		return err;
	launcher->engine = engine_open(launcher->options->engine, &launcher->board,
				       &launcher->options->vm, why);
	if (!launcher->engine)
		return -ENODEV;
	/* The engine has made another memory of it. */
	if (launcher->memory->fd >= 0) {
		err = load(launcher, why);
		if (err)
			return err;
	}
	log_verbose("engine %s: %u CPUs, %" PRIu64 " MiB of memory", launcher->engine->ops->name,
		    launcher->options->vm.vcpus, launcher->options->memory >> 20);
	err = gdb_attach(launcher->gdb, launcher->engine, &launcher->machine,
			 launcher->options->vm.vcpus, why);
	if (!err) {
		gdb_meanwhile(launcher->gdb, look_beside_debugger, launcher);
		err = run(launcher, why);
	}
	gdb_ended(launcher->gdb, err ? EXIT_LAUNCHER : launcher->machine.status);
	leave_terminal(launcher);
	launcher->engine->ops->close(launcher->engine);
	return err;
}

static int with_board(struct launcher *launcher, struct problem *why)
{
	const struct options *options = launcher->options;
	int err = board_init(&launcher->board, &launcher->machine, launcher->memory,
			     &launcher->terminal, options->debug_exit, why);

	if (err)
		return err;
	err = plug_devices(launcher, why);
	if (!err)
		err = with_engine(launcher, why);
	/* What was plugged in outlives its socket: pci_add(). */
	board_destroy(&launcher->board);
	unplug_devices(launcher);
	return err;
}

static int with_terminal(struct launcher *launcher, struct problem *why)
{
	int err = terminal_init(&launcher->terminal, &launcher->machine);

	if (err)
		return problem(why, -err, "cannot set the terminal up: %s", strerror(-err));
	err = catch_signals(launcher, why);
	if (!err) {
		err = with_board(launcher, why);
		release_signals(launcher);
	}
	terminal_destroy(&launcher->terminal);
	return err;
}

static int with_machine(struct launcher *launcher, struct problem *why)
{
	int err = machine_init(&launcher->machine);

	if (err)
		return problem(why, -err, "cannot set the machine up: %s", strerror(-err));
	launcher->machine.strict = launcher->options->strict;
	launcher->machine.no_reboot = launcher->options->no_reboot;
	err = with_terminal(launcher, why);
	machine_destroy(&launcher->machine);
	return err;
}

static int with_debugger(struct launcher *launcher, struct problem *why)
{
	int err = gdb_open(&launcher->gdb, &launcher->options->gdb, why);

	if (err)
		return err;
	err = with_machine(launcher, why);
	gdb_close(launcher->gdb);
	return err;
}

static int with_devices(struct launcher *launcher, struct problem *why)
{
	int err = devices_open(&launcher->devices, launcher->options, why);

	if (err)
		return err;
	err = with_debugger(launcher, why);
	devices_close(&launcher->devices);
	return err;
}

static int with_memory(struct launcher *launcher, struct problem *why)
{
	int err;

	launcher->memory = memory_new(launcher->options->memory, why);
	if (!launcher->memory)
		return -ENOMEM;
	err = with_devices(launcher, why);
	memory_free(launcher->memory);
	return err;
}

static int with_sandbox(struct launcher *launcher, struct problem *why)
{
	int err;

	launcher->sandbox = sandbox_new(&launcher->options->sandbox, why);
	if (!launcher->sandbox)
		return -EPERM;
	err = with_memory(launcher, why);
	sandbox_free(launcher->sandbox);
	return err;
}

/*
 * Here it begins, and goes up from here: launcher_run() has the files, with_sandbox() the
 * rules, with_memory() the RAM, then come devices, debugger, machine, terminal, board, engine;
 * and at the top, run().
 *
 * Tour 2.26: In at the bottom
 */
int launcher_run(const struct options *options)
{
	struct launcher *launcher = calloc(1, sizeof(*launcher));
	struct problem why;
	int status = EXIT_LAUNCHER;

	if (!launcher) {
		log_line("out of memory");
		return status;
	}
	launcher->options = options;
	launcher->kernel.fd = launcher->initrd.fd = -1;
	if (open_files(launcher, &why) || with_sandbox(launcher, &why)) {
		log_line("%s", why.text);
	} else {
		status = launcher->machine.status;
		if (launcher->machine.why[0])
			log_line("%s", launcher->machine.why);
	}
	file_close(&launcher->initrd);
	file_close(&launcher->kernel);
	free(launcher->command_line);
	free(launcher);
	return status;
}
