/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs one row of the table: starts lguest on its wires, types what the row types
 * when the row says so, waits for the end or for patience to run out, and then
 * looks at everything a user could find wrong: the words, the exit status, the
 * terminal, and what was left behind. It knows no guest. The steps themselves are
 * in steps.c.
 */
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* More than this of an output is not kept: a guest may write for as long as it lives. */
#define TEXT_MAX (1 << 20)

double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

bool run_fail(struct run *run, const char *format, ...)
{
	va_list args;

	/* The first thing that goes wrong is the one to look at. */
	if (run->failed)
		return false;
	run->failed = true;
	va_start(args, format);
	vsnprintf(run->why, sizeof(run->why), format, args);
	va_end(args);
	return false;
}

/* Patience in seconds. A guest under an emulator in an emulator needs some. */
static double patience(const struct test *test, const struct settings *settings)
{
	static const double seconds[] = {
		[FOR_USAGE] = 10,      [FOR_GUEST] = 20,	[FOR_STOCK] = 120,
		[FOR_TEN_BOOTS] = 400, [FOR_TEN_MINUTES] = 900, [FOR_AN_HOUR] = 7200,
	};

	return seconds[test->patience] * settings->timeout_scale;
}

/*
 * Carriage returns are dropped: a serial port and a terminal both add some, and
 * no row is about them. A byte of zero would hide what follows from strstr().
 */
static void text_add(struct text *text, const char *bytes, size_t count)
{
	text->total += count;
	for (size_t i = 0; i < count && text->length < TEXT_MAX; i++)
		if (bytes[i] != '\r')
			text->bytes[text->length++] = bytes[i] ? bytes[i] : '?';
	text->bytes[text->length] = 0;
}

/* All that can be read without waiting. False: there will never be more. */
static bool fetch(int fd, struct text *text)
{
	char buffer[65536];
	ssize_t got;

	/* At most so many, or a guest that writes without end would keep us here. */
	for (int i = 0; i < 16; i++) {
		got = read(fd, buffer, sizeof(buffer));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 && errno == EAGAIN;
		text_add(text, buffer, got);
	}
	return true;
}

/* Who has frozen a thread is told first that it has died, and only then of the process. */
static void bury_frozen(struct run *run, int flags)
{
	if (run->frozen && waitpid(run->frozen, NULL, flags | __WALL) == run->frozen)
		run->frozen = 0;
}

static void notice_end(struct run *run)
{
	int status;

	bury_frozen(run, WNOHANG);
	if (run->ended || waitpid(run->pid, &status, WNOHANG | WUNTRACED) != run->pid)
		return;
	if (WIFSTOPPED(status)) {
		run_fail(run, "stopped by SIG%s", sigabbrev_np(WSTOPSIG(status)));
		return;
	}
	run->ended = true;
	run->status = WIFSIGNALED(status) ? DIES_OF(WTERMSIG(status)) : WEXITSTATUS(status);
}

/* SIGCHLD ends a wait, and has nothing else to do. */
static void child_changed(int signal)
{
	(void)signal;
}

static void wait_for_something(struct run *run)
{
	/* Some things that a step waits for make no descriptor readable, so look again soon. */
	struct timespec tick = {.tv_nsec = 10 * 1000 * 1000};
	struct pollfd fds[] = {
		{.fd = run->wires.errors, .events = POLLIN},
		{.fd = run->reads_output ? run->wires.output : -1, .events = POLLIN},
	};
	sigset_t none;

	sigemptyset(&none);
	ppoll(fds, COUNT(fds), &tick, &none);
}

bool run_turn(struct run *run)
{
	if (run->ended || run->failed)
		return false;
	if (seconds_now() > run->deadline)
		return false;
	wait_for_something(run);
	/* First the end, then the words: what it said last is there when it has ended. */
	notice_end(run);
	fetch(run->wires.errors, &run->errors);
	if (run->reads_output && run->wires.output >= 0)
		fetch(run->wires.output, &run->output);
	return true;
}

/*
 * A terminal passes its bytes on a little later than a pipe. Once nobody has it open,
 * reading gives what is left and then an error; so our own end of it has to go.
 */
static void fetch_rest(struct run *run)
{
	struct wires *wires = &run->wires;
	struct pollfd fd = {.fd = wires->output, .events = POLLIN};
	double until = seconds_now() + 5;

	for (int i = 0; i < 3; i++)
		if (wires->child[i] >= 0)
			close(wires->child[i]);
	fetch(wires->errors, &run->errors);
	while (wires->output >= 0 && fetch(wires->output, &run->output) && seconds_now() < until)
		poll(&fd, 1, 100);
}

/* {assets} and its like, wherever they are. */
char *run_expand(const struct run *run, const char *argument)
{
	const struct {
		const char *name, *value;
	} words[] = {
		{"{assets}", run->settings->assets},
		{"{files}", run->files},
		{"{engine}", run->engine ? run->engine : "auto"},
		{"{clock}", run->engine ? engine_clock(run->engine) : ""},
		{"{pid}", suite_text("%d", (int)run->pid)},
	};

	char *text = suite_text("%s", argument);
	const char *at;

	for (size_t i = 0; i < COUNT(words); i++)
		while ((at = strstr(text, words[i].name)))
			text = suite_text("%.*s%s%s", (int)(at - text), text, words[i].value,
					  at + strlen(words[i].name));
	return text;
}

static void set_arguments(struct run *run)
{
	const char *program = run->test->program;
	unsigned count = 0;

	run->arguments[count++] = run_expand(run, program ? program : run->settings->lguest);
	if (run->test->engines == EACH_ENGINE && run->engine)
		run->arguments[count++] = suite_text("--engine=%s", run->engine);
	if (run->settings->without && run->test->engines == EACH_ENGINE && run->engine &&
	    !strcmp(run->engine, "soft"))
		run->arguments[count++] = suite_text("--soft-without=%s", run->settings->without);
	for (unsigned i = 0; i < MAX_ARGS && run->test->args[i]; i++)
		run->arguments[count++] = run_expand(run, run->test->args[i]);
	run->arguments[count] = NULL;
}

static char *asset_to_copy(const struct run *run)
{
	return suite_text("%s/%s", run->settings->assets, run->test->copy);
}

/* Only what is not a hole. */
static bool copy_content(int from, int to, off_t size)
{
	off_t at = 0, end;

	while ((at = lseek(from, at, SEEK_DATA)) >= 0 && at < size) {
		end = lseek(from, at, SEEK_HOLE);
		if (lseek(to, at, SEEK_SET) < 0)
			return false;
		while (at < end)
			if (sendfile(to, from, &at, end - at) <= 0)
				return false;
	}
	return (at == size || errno == ENXIO) && ftruncate(to, size) == 0;
}

static bool copy_asset(const struct run *run)
{
	char *asset = asset_to_copy(run);
	char *path = suite_text("%s/%s", run->files, strrchr(asset, '/') + 1);
	int from = open(asset, O_RDONLY | O_CLOEXEC), to;
	struct stat info;
	bool copied;

	if (from < 0 || fstat(from, &info) < 0)
		return false;
	if (S_ISBLK(info.st_mode)) {
		close(from);
		return symlink(asset, path) == 0;
	}
	to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	copied = to >= 0 && copy_content(from, to, info.st_size);
	close(from);
	close(to);
	return copied;
}

/* The first guest or kernel that the row wants and that nobody has built, or NULL. */
static const char *missing_asset(const struct run *run)
{
	if (run->test->copy && access(asset_to_copy(run), F_OK) < 0)
		return asset_to_copy(run);
	for (unsigned i = 0; run->arguments[i]; i++) {
		const char *path = strstr(run->arguments[i], run->settings->assets);

		if (path && access(path, F_OK) < 0)
			return path;
	}
	return NULL;
}

/* The folder on the way to a guest or kernel that others may not look into, or NULL. */
static const char *closed_folder(const struct run *run)
{
	for (unsigned i = 0; run->arguments[i]; i++) {
		const char *path = strstr(run->arguments[i], run->settings->assets);
		char *folder;
		struct stat info;

		if (!i || !path)
			continue;
		folder = suite_text("%s", path);
		for (char *end; (end = strrchr(folder, '/')) && end != folder;) {
			*end = '\0';
			if (!stat(folder, &info) && !(info.st_mode & S_IXOTH))
				return folder;
		}
	}
	return NULL;
}

/* By descriptor: this user need not be able to reach the program by name. */
static void become_nobody(struct run *run, int program)
{
	if (setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0)
		fexecve(program, run->arguments, environ);
	_exit(127);
}

/* In the child. */
static void become_lguest(struct run *run, sigset_t *signals)
{
	const struct rlimit no_core = {0, 0};
	int program = open(run->arguments[0], O_PATH | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &no_core);
	sigprocmask(SIG_SETMASK, signals, NULL);
	signal(SIGTTOU, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	if (chdir(run->directory) < 0 || setenv("TMPDIR", run->directory, 1) < 0)
		_exit(127);
	/* Where guests of one user meet. */
	setenv("XDG_RUNTIME_DIR", run->files, 1);
	wires_use(&run->wires);
	if ((run->test->flags & DENY_NAMESPACES) && !network_deny_namespaces())
		_exit(127);
	if ((run->test->flags & AS_NOBODY) && getuid() == 0)
		become_nobody(run, program);
	execv(run->arguments[0], run->arguments);
	_exit(127);
}

static bool start(struct run *run)
{
	sigset_t block, before;

	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigprocmask(SIG_BLOCK, &block, &before);
	/* Not what we did ourselves, for the guest before this one. */
	sigdelset(&before, SIGCHLD);
	sigaction(SIGCHLD, &(struct sigaction){.sa_handler = child_changed}, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTTOU, SIG_IGN);
	prctl(PR_SET_CHILD_SUBREAPER, 1);

	run->pid = fork();
	if (run->pid < 0)
		return run_fail(run, "fork: %s", strerror(errno));
	if (run->pid == 0) {
		setpgid(0, 0);
		/* Ignored SIGTTOU lets us do this from the background. */
		if (run->wires.terminal >= 0 && !(run->test->flags & IN_BACKGROUND))
			tcsetpgrp(run->wires.terminal, getpid());
		become_lguest(run, &before);
	}
	setpgid(run->pid, run->pid);
	return true;
}

static const char *status_words(int status, char *words, size_t size)
{
	if (status < 0)
		snprintf(words, size, "died of SIG%s", sigabbrev_np(-status));
	else
		snprintf(words, size, "exit status %d", status);
	return words;
}

static void check_status(struct run *run)
{
	char is[32], wanted[32];

	if (run->status != run->test->status)
		run_fail(run, "%s, expected %s", status_words(run->status, is, sizeof(is)),
			 status_words(run->test->status, wanted, sizeof(wanted)));
}

static void check_words(struct run *run, const struct text *text, const char *where,
			const char *const *seen, const char *const *unseen)
{
	for (unsigned i = 0; i < MAX_SEEN && seen[i]; i++) {
		const char *wanted = run_expand(run, seen[i]);

		if (!strstr(text->bytes, wanted))
			run_fail(run, "not seen on %s: \"%s\"", where, wanted);
	}
	for (unsigned i = 0; i < MAX_SEEN && unseen[i]; i++)
		if (strstr(text->bytes, unseen[i]))
			run_fail(run, "seen on %s: \"%s\"", where, unseen[i]);
}

/* Standard error is lguest's own: whole lines, each with its name in front. */
static void check_error_lines(struct run *run)
{
	static const char prefix[] = "lguest: ";
	int count = 0, wanted = run->test->error_lines;
	const char *line = run->errors.bytes, *end;

	for (; *line; line = end + 1, count++) {
		end = strchr(line, '\n');
		if (!end) {
			run_fail(run, "the last line on stderr has no end");
			return;
		}
		if (strncmp(line, prefix, strlen(prefix)) != 0)
			run_fail(run, "a line on stderr does not begin with \"%s\"", prefix);
	}
	if (wanted == SOME_LINES ? count == 0 : wanted != ANY_LINES && count != wanted)
		run_fail(run, "%d lines on stderr, expected %s%d", count,
			 wanted == SOME_LINES ? "at least " : "",
			 wanted == SOME_LINES ? 1 : wanted);
}

/*
 * What was told to end, or dies with lguest, may take a moment: a switch, a cell. False: there
 * still is one, after some time.
 */
static bool await_orphans(const struct run *run)
{
	const double until = seconds_now() + 5 * run->settings->timeout_scale;

	while (waitpid(-1, NULL, WNOHANG) >= 0) {
		if (seconds_now() > until)
			return false;
		usleep(1000);
	}
	return true;
}

/* We adopt the orphans (PR_SET_CHILD_SUBREAPER), so whoever is left is our child now. */
static void check_children(struct run *run)
{
	pid_t child;

	if (await_orphans(run))
		return;
	run_fail(run, "a child process was left behind");
	while ((child = waitpid(-1, NULL, WNOHANG)) >= 0) {
		char path[64];
		FILE *children;
		int pid;

		if (child > 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
		children = fopen(path, "re");
		if (!children)
			return;
		while (fscanf(children, "%d", &pid) == 1)
			kill(pid, SIGKILL);
		fclose(children);
		wait(NULL);
	}
}

static void check_nothing_left(struct run *run)
{
	struct dirent *entry;
	DIR *dir = opendir(run->directory);

	while (dir && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			run_fail(run, "a file was left behind: %s", entry->d_name);
	if (dir)
		closedir(dir);
}

static void wait_for_end(struct run *run)
{
	while (run_turn(run))
		;
	if (run->ended)
		return;
	run_fail(run, "still running after %.0f s", patience(run->test, run->settings));
	kill(run->pid, SIGKILL);
	bury_frozen(run, 0);
	waitpid(run->pid, NULL, 0);
}

static void check(struct run *run)
{
	const struct test *test = run->test;
	char why[sizeof(run->why)];

	if (run->ended)
		check_status(run);
	if (!run->failed && !wires_untouched(&run->wires, why, sizeof(why)))
		run_fail(run, "%s", why);
	check_children(run);
	check_nothing_left(run);
	if (test->flags & OWN_NETWORK && !world_is_clean(why, sizeof(why)))
		run_fail(run, "%s", why);
	fetch_rest(run);
	check_words(run, &run->output, "stdout", test->seen, test->unseen);
	check_words(run, &run->errors, "stderr", test->error_seen, test->error_unseen);
	if (test->silent && run->output.total)
		run_fail(run, "something was written to stdout");
	check_error_lines(run);
	if (!run->failed && test->check_files && !test->check_files(run->files, why, sizeof(why)))
		run_fail(run, "%s", why);
}

static void report_text(FILE *file, const char *name, const struct text *text, bool all)
{
	enum { TAIL = 2000 };
	const char *from = text->bytes;

	if (!all && text->length > TAIL)
		from += text->length - TAIL;
	fprintf(file, "    %s (%zu bytes)%s\n", name, text->total,
		from > text->bytes ? ", the end of it:" : ":");
	while (*from) {
		int length = strcspn(from, "\n");

		fprintf(file, "      | ");
		for (int i = 0; i < length; i++)
			fputc((unsigned char)from[i] < ' ' ? '?' : from[i], file);
		fputc('\n', file);
		from += length + (from[length] == '\n');
	}
}

static char *report(const struct run *run)
{
	char *words = NULL;
	size_t size;
	FILE *file = open_memstream(&words, &size);

	if (!file)
		return NULL;
	fprintf(file, "    command:");
	for (unsigned i = 0; run->arguments[i]; i++)
		fprintf(file, " %.200s", run->arguments[i]);
	fputc('\n', file);
	report_text(file, "stdout", &run->output, run->settings->verbose);
	report_text(file, "stderr", &run->errors, run->settings->verbose);
	for (unsigned i = 0; i < MAX_OTHERS; i++) {
		const struct run *other = run->others[i];

		if (!other)
			continue;
		fprintf(file, "    guest %u:\n", i + 1);
		report_text(file, "stdout", &other->output, run->settings->verbose);
		report_text(file, "stderr", &other->errors, run->settings->verbose);
	}
	fclose(file);
	return words;
}

static bool skip(struct run *run, struct verdict *verdict, const char *why)
{
	verdict->outcome = SKIPPED;
	return run_fail(run, "%s", why);
}

static bool make_directories(struct run *run)
{
	if (mkdir(run->files, 0755) < 0 || mkdir(run->directory, 0777) < 0 ||
	    chmod(run->directory, 0777) < 0)
		return run_fail(run, "%s: %s", run->directory, strerror(errno));
	if (run->test->flags & AS_NOBODY && getuid() == 0 && chown(run->files, NOBODY, NOBODY) < 0)
		return run_fail(run, "%s: %s", run->files, strerror(errno));
	return true;
}

/* What it runs and writes to. */
static bool connect_run(struct run *run, struct verdict *verdict)
{
	const char *missing, *what = "";

	run->output.bytes = calloc(1, TEXT_MAX + 1);
	run->errors.bytes = calloc(1, TEXT_MAX + 1);
	if (!run->output.bytes || !run->errors.bytes)
		return run_fail(run, "no memory");
	set_arguments(run);
	missing = missing_asset(run);
	if (missing) {
		if (run->settings->skip_missing)
			verdict->outcome = SKIPPED;
		return run_fail(run, "there is no %s", missing);
	}
	if (run->test->flags & AS_NOBODY && getuid() == 0 && closed_folder(run))
		return skip(run, verdict,
			    suite_text("nobody may not look into %s", closed_folder(run)));
	if (!wires_connect(&run->wires, run->test, &what))
		return run_fail(run, "%s: %s", what, strerror(errno));
	return true;
}

static bool prepare(struct run *run, struct verdict *verdict)
{
	const unsigned flags = run->test->flags;
	const char *needs = run->test->needs;
	char why[256];

	if (needs && !world_run(suite_text("command -v %s >/dev/null", needs)))
		return skip(run, verdict, suite_text("there is no %s here", needs));
	if (flags & NEEDS_BREAKPOINTS && run->engine && !strcmp(run->engine, "kvm") &&
	    world_run("grep -q 'QEMU TCG' /proc/cpuinfo"))
		return skip(run, verdict, "qemu emulates no breakpoints in a guest's guest");
	if (flags & (AS_ROOT | OWN_NETWORK) && getuid() != 0)
		return skip(run, verdict, "only root can do this");
	if (flags & NEEDS_NAMESPACES && !network_has_user_namespaces())
		return skip(run, verdict, "user namespaces are forbidden here");
	if (flags & OWN_NETWORK && unshare(CLONE_NEWNET) < 0)
		return skip(run, verdict, "network namespaces are forbidden here");
	if (flags & OWN_NETWORK && !network_make())
		return run_fail(run, "ip cannot set a network up");
	if (run->test->extend_network && !run->test->extend_network(why, sizeof(why)))
		return run_fail(run, "%s", why);
	if (!make_directories(run) || !connect_run(run, verdict))
		return false;
	if ((run->test->make_files && !run->test->make_files(run->files)) ||
	    (run->test->copy && !copy_asset(run)))
		return run_fail(run, "cannot make its files: %s", strerror(errno));
	return true;
}

struct run *run_start_other(struct run *run, unsigned index)
{
	struct run *other = run->others[index];
	struct verdict verdict;

	if (other)
		return other;
	other = calloc(1, sizeof(*other));
	if (!other) {
		run_fail(run, "no memory");
		return NULL;
	}
	run->others[index] = other;
	other->test = run->test->others[index];
	other->settings = run->settings;
	other->engine = run->engine;
	other->files = run->files;
	other->directory = run->directory;
	other->deadline = run->deadline;
	other->reads_output = true;
	if (connect_run(other, &verdict) && start(other))
		return other;
	run_fail(run, "guest %u: %s", index + 1, other->why);
	return NULL;
}

/* The others end as the row's own does, and what is said of them counts as well. */
static void check_others(struct run *run)
{
	for (unsigned i = 0; i < MAX_OTHERS; i++) {
		struct run *other = run->others[i];

		if (!other)
			continue;
		wait_for_end(other);
		if (other->ended)
			check_status(other);
		fetch_rest(other);
		check_words(other, &other->output, "stdout", other->test->seen,
			    other->test->unseen);
		check_error_lines(other);
		if (other->failed)
			run_fail(run, "guest %u: %s", i + 1, other->why);
	}
}

void run_test(const struct test *test, const char *engine, const struct settings *settings,
	      const char *directory, struct verdict *verdict)
{
	struct run run = {.test = test, .settings = settings, .engine = engine};

	verdict->outcome = FAILED;
	verdict->report = NULL;
	run.files = suite_text("%s/files", directory);
	run.directory = suite_text("%s/here", directory);
	run.reads_output = !(test->flags & UNREAD);
	if (prepare(&run, verdict) && start(&run)) {
		run.deadline = seconds_now() + patience(test, settings);
		run_steps(&run);
		wait_for_end(&run);
		check_others(&run);
		check(&run);
		if (run.failed || settings->verbose)
			verdict->report = report(&run);
	}
	if (!run.failed)
		verdict->outcome = PASSED;
	memcpy(verdict->why, run.why, sizeof(verdict->why));
}
