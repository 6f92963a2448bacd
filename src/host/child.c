/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helper processes: see child.h.
 *
 * Tour 4.470
 */
#include "host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Setting up takes milliseconds: these are for hosts that are busy indeed. */
#define SETUP_MS 20000
/* After its socket was hung up a child has nothing to do but to leave. */
#define LEAVE_MS 2000

#define NOBODY 65534 /* the kernel's overflowuid: an owner of nothing */

#define CHILD_FDS_MAX 5

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Handlers are the launcher's, and what it blocks or ignores would stay so over an exec. */
static void reset_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Descriptor i becomes fds[i], for all of them, and there are no others. */
static bool place_descriptors(const int *fds, unsigned count)
{
	int moved[CHILD_FD + CHILD_FDS_MAX];

	/* Out of each other's way first. */
	for (unsigned i = 0; i < count; i++) {
		moved[i] = fcntl(fds[i], F_DUPFD, count);
		if (moved[i] < 0)
			return false;
	}
	for (unsigned i = 0; i < count; i++)
		if (dup2(moved[i], i) < 0)
			return false;
	return close_range(count, ~0u, 0) == 0;
}

static void become_child(pid_t parent, const int *fds, unsigned count)
{
	reset_signals();
	/* The terminal's ^C is not for us. */
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || chdir("/") < 0 || !place_descriptors(fds, count))
		_exit(1);
}

/* Where a read finds the end, as in /dev/null: which there need not be. */
static int open_end(void)
{
	int pipe[2];

	if (pipe2(pipe, O_CLOEXEC) < 0)
		return -1;
	close(pipe[1]);
	return pipe[0];
}

/* False with errno: nothing is open. */
static bool open_pipes(int ready[2], int words[2])
{
	if (pipe2(ready, O_CLOEXEC) < 0)
		return false;
	/* A child that talks when nobody listens must not get stuck with a full pipe. */
	if (pipe2(words, O_CLOEXEC | O_NONBLOCK) == 0)
		return true;
	close(ready[0]);
	close(ready[1]);
	return false;
}

int child_start(struct child *child, const int *fds, unsigned count, void (*run)(void *opaque),
		void *opaque)
{
	int all[CHILD_FD + CHILD_FDS_MAX], ready[2], words[2], end;
	const pid_t self = getpid();
	pid_t pid;
	int err = 0;

	*child = (struct child){-1, -1, -1};
	end = open_end();
	if (end < 0)
		return -errno;
	if (!open_pipes(ready, words)) {
		err = -errno;
		close(end);
		return err;
	}
	/* A child of root's may go on as somebody else, and open it by name all the same. */
	fchmod(ready[1], 0666);
	memcpy(all, (int[]){end, ready[1], words[1]}, CHILD_FD * sizeof(*all));
	for (unsigned i = 0; i < count; i++)
		all[CHILD_FD + i] = fds[i];
	pid = fork();
	if (pid == 0) {
		become_child(self, all, CHILD_FD + count);
		run(opaque);
		_exit(1);
	}
	err = pid < 0 ? -errno : 0;
	close(end);
	close(ready[1]);
	close(words[1]);
	child->ready = ready[0];
	child->words = words[0];
	if (!err) {
		child->fd = pidfd_open(pid, 0);
		if (child->fd < 0) {
			err = -errno;
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	}
	if (err)
		child_end(child);
	return err;
}

/* The last line that it has written and not only begun, or as much as fits. "": none. */
static void last_words(const struct child *child, char *line, size_t size)
{
	char text[4096];
	size_t length = 0;
	ssize_t got;
	char *end, *begin;

	/* What does not fit is older: the pipe is read to its end, and the tail kept. */
	while ((got = read(child->words, text + length, sizeof(text) - 1 - length)) > 0) {
		length += got;
		if (length > sizeof(text) / 2) {
			memmove(text, text + length - sizeof(text) / 2, sizeof(text) / 2);
			length = sizeof(text) / 2;
		}
	}
	text[length] = '\0';
	while (length && text[length - 1] == '\n')
		text[--length] = '\0';
	end = text + length;
	begin = memrchr(text, '\n', end - text);
	snprintf(line, size, "%.*s", (int)size - 1, begin ? begin + 1 : text);
}

void child_obituary(const struct child *child, char *text, size_t size)
{
	siginfo_t info = {0};
	char words[256], how[64];

	/* Where the user's shell has us ignore SIGCHLD, the kernel has forgotten it already. */
	if (waitid(P_PIDFD, child->fd, &info, WEXITED | WNOWAIT | WNOHANG) < 0 || !info.si_pid)
		snprintf(how, sizeof(how), "ended");
	else if (info.si_code == CLD_EXITED)
		snprintf(how, sizeof(how), "ended with status %d", info.si_status);
	else
		snprintf(how, sizeof(how), "ended by signal %d (%s)", info.si_status,
			 strsignal(info.si_status));
	last_words(child, words, sizeof(words));
	snprintf(text, size, "%s%s%s", how, *words ? ": " : "", words);
}

int child_await(struct child *child, char *why, size_t size)
{
	/*
	 * Not the pidfd: a child may leave a child of its own to serve. The pipe is hung up when
	 * nobody is left who could write to it.
	 */
	struct pollfd ready = {.fd = child->ready, .events = POLLIN};
	struct pollfd end = {.fd = child->fd, .events = POLLIN};
	int found;

	do
		found = poll(&ready, 1, SETUP_MS);
	while (found < 0 && errno == EINTR);
	if (found <= 0) {
		snprintf(why, size, "has not begun to serve after %d s", SETUP_MS / 1000);
		return -ETIMEDOUT;
	}
	if (ready.revents & POLLIN) {
		close_if_open(&child->ready);
		return 0;
	}
	/* Its output is closed, so it is about to end, if it has not. */
	poll(&end, 1, LEAVE_MS);
	child_obituary(child, why, size);
	return -ECHILD;
}

void child_end(struct child *child)
{
	struct pollfd fd = {.fd = child->fd, .events = POLLIN};

	if (child->fd >= 0 && poll(&fd, 1, LEAVE_MS) > 0)
		waitid(P_PIDFD, child->fd, &(siginfo_t){0}, WEXITED | WNOHANG);
	close_if_open(&child->fd);
	close_if_open(&child->ready);
	close_if_open(&child->words);
}

void child_kill(struct child *child)
{
	if (child->fd >= 0)
		pidfd_send_signal(child->fd, SIGKILL, NULL, 0);
	child_end(child);
}

void child_serves(int ready)
{
	if (write(ready, "\n", 1) < 0)
		_exit(1);
}

void child_become_nobody(void)
{
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			       setresuid(NOBODY, NOBODY, NOBODY) < 0)) {
		fprintf(stderr, "cannot become nobody: %s\n", strerror(errno));
		_exit(1);
	}
	/* With the user, the kernel forgets this. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}
