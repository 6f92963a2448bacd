/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The wires between a row and its lguest: pipes, terminals, devices that refuse
 * everything, and nothing at all; and whether lguest left them as it found them.
 *
 * We keep the child's ends open as well. That way a terminal outlives lguest, and
 * can be looked at; and what is written into a pipe can be asked for how far it got.
 */
#include "systest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static bool connect_pipe(int *reader, int *writer, const char **what)
{
	int ends[2];

	*what = "pipe2";
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	*reader = ends[0];
	*writer = ends[1];
	return true;
}

/*
 * Settings that no program chooses by itself: whoever "restores" to what is usual
 * instead of to what was there is found out.
 */
static bool make_unusual(struct wires *wires)
{
	struct termios settings;

	if (tcgetattr(wires->terminal, &settings) < 0)
		return false;
	settings.c_cc[VQUIT] = 0x18;
	settings.c_cc[VERASE] = '#';
	settings.c_lflag &= ~(ECHOCTL | ECHOKE);
	settings.c_iflag |= IXANY;
	if (tcsetattr(wires->terminal, TCSANOW, &settings) < 0)
		return false;
	wires->before = malloc(sizeof(*wires->before));
	return wires->before && tcgetattr(wires->terminal, wires->before) == 0;
}

/* A new terminal, which becomes the controlling one of this process. */
static bool connect_terminal(struct wires *wires, int *master, const char **what)
{
	struct winsize size = {.ws_row = 25, .ws_col = 80};
	char name[64];

	*what = "posix_openpt";
	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (*master < 0)
		return false;
	*what = "grantpt, unlockpt, ptsname";
	if (grantpt(*master) < 0 || unlockpt(*master) < 0 ||
	    ptsname_r(*master, name, sizeof(name)) != 0)
		return false;
	*what = "opening the terminal";
	wires->terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (wires->terminal < 0)
		return false;
	*what = "setsid, TIOCSCTTY";
	if (setsid() < 0 || ioctl(wires->terminal, TIOCSCTTY, 0) < 0)
		return false;
	*what = "the terminal's settings";
	return ioctl(wires->terminal, TIOCSWINSZ, &size) == 0 && make_unusual(wires);
}

static bool connect_device(int *fd, const char *name, int flags, const char **what)
{
	*what = name;
	*fd = open(name, flags | O_CLOEXEC);
	return *fd >= 0;
}

static bool connect_input(struct wires *wires, enum wiring wiring, int *master, const char **what)
{
	switch (wiring) {
	case A_PIPE:
		return connect_pipe(&wires->child[0], &wires->input, what);
	case A_TERMINAL:
		wires->child[0] = wires->terminal;
		*what = "dup";
		wires->input = fcntl(*master, F_DUPFD_CLOEXEC, 0);
		return wires->input >= 0;
	case DEV_NULL:
		return connect_device(&wires->child[0], "/dev/null", O_RDONLY, what);
	case DEV_FULL:
		return connect_device(&wires->child[0], "/dev/full", O_RDONLY, what);
	case CLOSED:
		break;
	}
	return true;
}

/* As small as a pipe can be, so that a slow guest fills it: nobody is going to read. */
static void make_small(int pipe)
{
	fcntl(pipe, F_SETPIPE_SZ, 1);
}

static bool connect_output(struct wires *wires, enum wiring wiring, int *master, const char **what)
{
	switch (wiring) {
	case A_PIPE:
		return connect_pipe(&wires->output, &wires->child[1], what);
	case A_TERMINAL:
		wires->child[1] = wires->terminal;
		wires->output = *master;
		*master = -1;
		break;
	case DEV_NULL:
		return connect_device(&wires->child[1], "/dev/null", O_WRONLY, what);
	case DEV_FULL:
		return connect_device(&wires->child[1], "/dev/full", O_WRONLY, what);
	case CLOSED:
		break;
	}
	return true;
}

static void set_nonblocking(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

bool wires_connect(struct wires *wires, const struct test *test, const char **what)
{
	int master = -1;

	*wires = (struct wires){-1, -1, -1, {-1, -1, -1}, -1, NULL, {0}};
	if ((test->input == A_TERMINAL || test->output == A_TERMINAL) &&
	    !connect_terminal(wires, &master, what))
		return false;
	if (!connect_input(wires, test->input, &master, what) ||
	    !connect_output(wires, test->output, &master, what) ||
	    !connect_pipe(&wires->errors, &wires->child[2], what))
		return false;
	if (test->flags & UNREAD)
		make_small(wires->child[1]);
	/* A terminal lives as long as one of the descriptors of its other side. */
	if (master >= 0)
		close(master);
	set_nonblocking(wires->input);
	set_nonblocking(wires->output);
	set_nonblocking(wires->errors);
	for (int i = 0; i < 3; i++)
		wires->descriptor_flags[i] =
			wires->child[i] < 0 ? 0 : fcntl(wires->child[i], F_GETFL);
	return true;
}

void wires_use(const struct wires *wires)
{
	int copies[3];

	/* Through copies above 2: the ends may be numbered 0, 1 and 2 themselves. */
	for (int i = 0; i < 3; i++)
		copies[i] = wires->child[i] < 0 ? -1 : fcntl(wires->child[i], F_DUPFD_CLOEXEC, 3);
	for (int i = 0; i < 3; i++) {
		if (copies[i] < 0)
			close(i);
		else
			dup2(copies[i], i);
	}
}

/* Field by field: struct termios has bytes between them that nobody sets. */
static bool same_settings(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && a->c_line == b->c_line &&
	       memcmp(a->c_cc, b->c_cc, sizeof(a->c_cc)) == 0;
}

bool wires_untouched(const struct wires *wires, char *why, size_t size)
{
	static const char *const names[] = {"input", "output", "error"};
	struct termios now;

	for (int i = 0; i < 3; i++) {
		if (wires->child[i] >= 0 &&
		    fcntl(wires->child[i], F_GETFL) != wires->descriptor_flags[i]) {
			snprintf(why, size, "the mode of standard %s was changed (O_NONBLOCK?)",
				 names[i]);
			return false;
		}
	}
	if (wires->terminal < 0 || tcgetattr(wires->terminal, &now) < 0) {
		/* No terminal, or one that was hung up: nothing to restore. */
		return true;
	}
	if (!same_settings(wires->before, &now)) {
		snprintf(why, size,
			 "the terminal was not restored: iflag %#x oflag %#x lflag %#x,"
			 " were %#x %#x %#x",
			 now.c_iflag, now.c_oflag, now.c_lflag, wires->before->c_iflag,
			 wires->before->c_oflag, wires->before->c_lflag);
		return false;
	}
	return true;
}

bool wires_raw(const struct wires *wires)
{
	struct termios now;

	return tcgetattr(wires->terminal, &now) == 0 && !(now.c_lflag & (ECHO | ICANON | ISIG)) &&
	       now.c_oflag == wires->before->c_oflag;
}

/*
 * Not FIONREAD: what was written into a terminal reaches the other side a little later,
 * and only poll() waits for what is on its way.
 */
bool wires_input_read(const struct wires *wires)
{
	struct pollfd fd = {.fd = wires->child[0], .events = POLLIN};

	return poll(&fd, 1, 0) == 0;
}
