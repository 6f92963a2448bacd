/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The launcher's end of a cell: see cell.h.
 *
 * A stop is a system call of the cell's thread that the kernel holds until we answer (seccomp's
 * user notification). That it is held is the kernel's word and not the guest's: only then are
 * orders given to the mapper, and only then may the caller believe that nobody touches the pages.
 *
 * Tour 6.1030
 */
#include "engine/soft/cell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Linux 6.6: who waits and who answers take turns on one processor. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ul << 0)
#endif

static struct cell_control *control_of(const struct cell *cell)
{
	return (struct cell_control *)cell->shared;
}

static volatile struct cell_state *state_of(const struct cell *cell)
{
	return (volatile struct cell_state *)(cell->shared + (CELL_STATE - CELL_CONTROL));
}

/* ------------------------------------------------------------------ making one */

#define PROGRAM_FD (CELL_HAND_FD + 1)

static void become_cell(void *program)
{
	static char *const nothing[] = {NULL};
	/* The guest's memory is not for files, nor for who collects dumps (core(5): limit 1). */
	const struct rlimit no_core = {1, 1};

	setrlimit(RLIMIT_CORE, &no_core);
	child_become_nobody();

	/* Its last descriptor: nobody needs it once the program is there. */
	fcntl(PROGRAM_FD, F_SETFD, FD_CLOEXEC);
	syscall(SYS_execveat, PROGRAM_FD, "", nothing, nothing, AT_EMPTY_PATH);
	(void)program;
}

static int make_program(void)
{
	int fd = memfd_create("lguest-cell", MFD_CLOEXEC);
	size_t size = cell_image_end - cell_image;

	if (fd >= 0 && write(fd, cell_image, size) != (ssize_t)size) {
		close(fd);
		return -1;
	}
	return fd;
}

static int make_shared(struct cell *cell)
{
	int fd = memfd_create("lguest-cell-shared", MFD_CLOEXEC);
	void *shared;

	if (fd < 0)
		return -1;
	shared = ftruncate(fd, CELL_SIZE)
			 ? MAP_FAILED
			 : mmap(NULL, CELL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		close(fd);
		return -1;
	}
	cell->shared = shared;
	return fd;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

static int start(struct cell *cell, int ram, struct problem *why)
{
	int fds[] = {ram, make_shared(cell), -1, -1, make_program()}, err = -errno, hands[2];
	char words[128];

	if (cell->shared)
		control_of(cell)->parent = getpid();
	if (pipe2(cell->kick, O_CLOEXEC | O_NONBLOCK) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, hands)) {
		err = -errno;
	} else {
		cell->hand = hands[0];
		fds[2] = cell->kick[0];
		fds[3] = hands[1];
		if (fds[1] >= 0 && fds[4] >= 0)
			err = child_start(&cell->child, fds, ARRAY_SIZE(fds), become_cell, NULL);
	}
	close_if_open(fds[1]);
	close_if_open(fds[3]);
	close_if_open(fds[4]);
	if (err)
		return problem(why, -err, "no process for it: %s", strerror(-err));
	err = child_await(&cell->child, words, sizeof(words));
	if (err)
		return problem(why, -err, "its process %s", words);
	return 0;
}

/* ------------------------------------------------------------------ stops */

/* What the cell's address is to us: `length` bytes of its signal stack, or NULL. */
static void *at(const struct cell *cell, u64 address, u64 length, u64 align)
{
	if (address < CELL_STACK || address > CELL_END - length || address % align)
		return NULL;
	return cell->shared + (address - CELL_CONTROL);
}

/* The frame of this stop, wherever it is. False: it is nowhere that a frame could be. */
static bool find_frame(struct cell *cell, const struct seccomp_notif *stop)
{
	cell->info = at(cell, stop->data.args[1], sizeof(siginfo_t), 8);
	/* The C library's has room for a mask that the kernel's has not. */
	cell->context = at(cell, stop->data.args[2], offsetof(ucontext_t, __fpregs_mem), 8);
	if (!cell->info || !cell->context)
		return false;
	cell->vectors = at(cell, (u64)cell->context->uc_mcontext.fpregs, cell->vectors_size, 64);
	return cell->vectors;
}

/*
 * Is this a stop as the kernel makes them: with the frame in its one place, of code that is not the
 * stub's own? All else the guest has made up.
 *
 * Tour 6.1031: Believing the kernel, and nobody else
 */
static bool is_sound(const struct cell *cell, const struct seccomp_notif *stop)
{
	const ucontext_t *pattern = cell->pattern;
	u64 rip;

	if (stop->data.args[1] != cell->home_info || stop->data.args[2] != cell->home ||
	    cell->context->uc_mcontext.fpregs != pattern->uc_mcontext.fpregs)
		return false;
	rip = cell->context->uc_mcontext.gregs[REG_RIP];
	return rip < CELL_BASE || rip >= CELL_END;
}

static bool look_at(struct cell *cell, const struct seccomp_notif *stop)
{
	cell->stop = stop->id;
	cell->pid = stop->pid;
	cell->signal = stop->data.args[0];
	return cell->pattern ? is_sound(cell, stop) : find_frame(cell, stop);
}

static bool has_ended(const struct cell *cell)
{
	struct pollfd end = {.fd = cell->child.fd, .events = POLLIN};

	return poll(&end, 1, 0) > 0;
}

/* ns of processor time that it has used, the mapper's included. */
static u64 used(const struct cell *cell)
{
	struct timespec time = {0};

	clock_gettime(cell->clock, &time);
	return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/*
 * Of its processor's time, in which it does not come although it was called. A signal is delivered
 * at once, so somebody has blocked it.
 */
#define DEAF_NS	  100000000ull
#define PERIOD_MS 200

/* `since`: when it was first seen not to have heard, or 0. */
static bool is_deaf(const struct cell *cell, u64 *since)
{
	struct pollfd called = {.fd = cell->kick[0], .events = POLLIN};
	u64 now = used(cell);

	if (poll(&called, 1, 0) <= 0)
		*since = 0;
	else if (!*since)
		*since = now;
	return *since && now - *since > DEAF_NS;
}

/*
 * Wait for it to stop. False: it has ended, or is not in its senses.
 *
 * Tour 6.1032
 */
static bool await(struct cell *cell)
{
	struct pollfd fds[] = {{.fd = cell->listener, .events = POLLIN},
			       {.fd = cell->child.fd, .events = POLLIN}};
	struct seccomp_notif stop;
	u64 since = 0;

	for (;;) {
		int found = poll(fds, ARRAY_SIZE(fds), PERIOD_MS);

		if (found > 0 && fds[0].revents & POLLIN) {
			memset(&stop, 0, sizeof(stop));
			if (!ioctl(cell->listener, SECCOMP_IOCTL_NOTIF_RECV, &stop))
				return look_at(cell, &stop);
		} else if (found > 0 && (fds[1].revents || fds[0].revents & ~POLLERR)) {
			return false;
		} else if (!found && is_deaf(cell, &since)) {
			return false;
		}
		/*
		 * POLLERR says nothing of the cell: a signal came to us just when the cell held the
		 * kernel's lock on its stops.
		 */
	}
}

/* If there is no such stop any more, the next one tells. */
static void answer(const struct cell *cell)
{
	struct seccomp_notif_resp answer = {.id = cell->stop};

	/* As with POLLERR: the signal was for us. */
	while (ioctl(cell->listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) && errno == EINTR)
		;
}

/* More in a row the guest has made up. */
#define BROKEN_OFF_MAX 16

/*
 * It goes on, until its next stop. False: as of await().
 *
 * What halts all processes, to stop them for a while (SIGSTOP), to freeze them, or because the host
 * goes to sleep, breaks off a stop that is held. The same instruction makes it once more, as a new
 * one: with the frame that we have prepared, whether our answer came too late or got lost. No
 * signal has the number 0, so who finds that in the frame where we put it has not run since.
 *
 * Tour 6.1033
 */
static bool go_on(struct cell *cell)
{
	for (unsigned i = 0; i < BROKEN_OFF_MAX; i++) {
		cell->info->si_signo = 0;
		answer(cell);
		if (!await(cell))
			return false;
		if (cell->info->si_signo)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ orders */

/* The mapper begins with them. */
static u32 post_orders(struct cell *cell)
{
	struct cell_control *control = control_of(cell);
	u32 batch = control->go + 1;

	control->count = cell->count;
	cell->count = 0;
	state_of(cell)->failed = 0;
	__atomic_store_n(&control->go, batch, __ATOMIC_RELEASE);
	syscall(SYS_futex, &control->go, FUTEX_WAKE, 1, NULL, NULL, 0);
	return batch;
}

/*
 * It takes microseconds; but if the host kills it, it never answers. False: one of them was not
 * carried out, nor those behind it.
 */
static bool give_orders(struct cell *cell)
{
	const struct timespec patience = {.tv_nsec = 100000000};
	volatile struct cell_state *state = state_of(cell);
	u32 batch, done;

	if (!cell->count)
		return true;
	batch = post_orders(cell);
	while ((done = __atomic_load_n(&state->done, __ATOMIC_ACQUIRE)) != batch)
		if (syscall(SYS_futex, &state->done, FUTEX_WAIT, done, &patience, NULL, 0) &&
		    errno == ETIMEDOUT && has_ended(cell))
			break;
	cell->lost |= done != batch;
	return !state->failed && !cell->lost;
}

static void order(struct cell *cell, const struct cell_order *what)
{
	if (cell->count == CELL_ORDERS)
		cell->failed |= !give_orders(cell);
	control_of(cell)->order[cell->count++] = *what;
}

void cell_map(struct cell *cell, u64 address, u64 length, u64 offset, int protection)
{
	order(cell,
	      &(struct cell_order){SYS_mmap,
				   {address, length, protection,
				    MAP_SHARED | MAP_FIXED | MAP_POPULATE, CELL_RAM_FD, offset}});
}

void cell_unmap(struct cell *cell, u64 address, u64 length)
{
	order(cell, &(struct cell_order){SYS_munmap, {address, length}});
}

void cell_empty(struct cell *cell)
{
	cell_unmap(cell, 0, CELL_BASE);
	cell_unmap(cell, CELL_END, CELL_USER_END - CELL_END);
}

/* ------------------------------------------------------------------ running */

bool cell_prepare(struct cell *cell)
{
	bool any = cell->count, done = give_orders(cell) && !cell->failed;

	cell->failed = false;
	if (any)
		cell->used = used(cell);
	if (!done || cell->lost)
		return false;
	/* The guest may have written there: nothing in it is to be inherited by who is next. */
	memcpy(cell->context, cell->pattern, CELL_END - cell->home);
	return true;
}

static void end(struct cell *cell)
{
	cell->lost = true;
	cell->count = 0;
	order(cell, &(struct cell_order){SYS_exit_group, {0}});
	post_orders(cell);
}

static void drain(const struct cell *cell)
{
	u8 kicks[64];

	while (read(cell->kick[0], kicks, sizeof(kicks)) == sizeof(kicks))
		;
}

bool cell_run(struct cell *cell, u64 fs, u64 gs)
{
	u64 began = cell->used;

	control_of(cell)->fs = fs;
	control_of(cell)->gs = gs;
	if (cell->lost)
		return false;
	if (!go_on(cell)) {
		end(cell);
		return false;
	}
	cell->used = used(cell);
	cell->spent = cell->used - began;
	if (cell->signal == SIGURG)
		drain(cell);
	return true;
}

u64 cell_fs(const struct cell *cell)
{
	return state_of(cell)->fs;
}

u64 cell_gs(const struct cell *cell)
{
	return state_of(cell)->gs;
}

void cell_kick(const struct cell *cell)
{
	/* If it is full, there is a signal on its way. */
	syscall(SYS_write, cell->kick[1], "", 1);
}

/* ------------------------------------------------------------------ from the beginning to the end
 */

/*
 * What we write to the pipe is a signal to the cell: a way that was open before the sandbox was
 * shut.
 */
static int make_kick(struct cell *cell, struct problem *why)
{
	if (fcntl(cell->kick[0], F_SETOWN, cell->pid) || fcntl(cell->kick[0], F_SETSIG, SIGURG) ||
	    fcntl(cell->kick[0], F_SETFL, O_NONBLOCK | O_ASYNC) ||
	    (errno = clock_getcpuclockid(cell->pid, &cell->clock)))
		return problem(why, errno, "no way to call it: %s", strerror(errno));
	return 0;
}

/*
 * The first stop was made by the stub. Let it go on as a guest would, at an address where nothing
 * is: the frame of the signal that comes of it is where all of them will be.
 */
static bool find_home(struct cell *cell)
{
	u64 first = (u8 *)cell->context - cell->shared + CELL_CONTROL;

	control_of(cell)->frame = first;
	cell->context->uc_mcontext.gregs[REG_RIP] = 0;
	cell->context->uc_mcontext.gregs[REG_RSP] = 0;
	if (!go_on(cell))
		return false;
	cell->home = (u8 *)cell->context - cell->shared + CELL_CONTROL;
	cell->home_info = (u8 *)cell->info - cell->shared + CELL_CONTROL;
	control_of(cell)->frame = cell->home;
	cell->pattern = malloc(CELL_END - cell->home);
	if (cell->pattern)
		memcpy(cell->pattern, cell->context, CELL_END - cell->home);
	return cell->pattern;
}

/* A message with a descriptor in it. One byte goes along, or it would be none. */
struct parcel {
	struct msghdr message;
	struct iovec iov;
	u8 rights[CMSG_SPACE(sizeof(int))];
};

_Static_assert(sizeof(struct parcel) <= sizeof(((struct cell_control *)0)->parcel), "its page");

/* On the page that only we can write, with the addresses that it has for the cell. */
static u64 pack(struct cell *cell, int number)
{
	const struct cmsghdr header = {.cmsg_len = CMSG_LEN(sizeof(number)),
				       .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS};
	const u64 there = CELL_CONTROL + offsetof(struct cell_control, parcel);
	struct parcel *parcel = (struct parcel *)control_of(cell)->parcel;

	memcpy(parcel->rights, &header, sizeof(header));
	memcpy(CMSG_DATA((struct cmsghdr *)parcel->rights), &number, sizeof(number));
	parcel->iov = (struct iovec){(void *)there, 1};
	parcel->message = (struct msghdr){
		.msg_iov = (void *)(there + offsetof(struct parcel, iov)),
		.msg_iovlen = 1,
		.msg_control = (void *)(there + offsetof(struct parcel, rights)),
		.msg_controllen = sizeof(parcel->rights),
	};
	return there;
}

/* -1: nothing was in it. */
static int unpack(int hand)
{
	u8 rights[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = rights,
				 .msg_controllen = sizeof(rights)};
	int number;

	if (recvmsg(hand, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1 ||
	    !CMSG_FIRSTHDR(&message))
		return -1;
	memcpy(&number, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(number));
	return number;
}

/*
 * The cell's descriptor becomes ours, too. Its mapper hands it over: to take it (pidfd_getfd) would
 * be debugging, which containers forbid.
 */
static int fetch(struct cell *cell, int number)
{
	order(cell, &(struct cell_order){SYS_sendmsg, {CELL_HAND_FD, pack(cell, number)}});
	order(cell, &(struct cell_order){SYS_close, {CELL_HAND_FD}});
	number = give_orders(cell) ? unpack(cell->hand) : -1;
	close(cell->hand);
	cell->hand = -1;
	return number;
}

/* The first stop: its listener is one of its own descriptors by then. */
static int meet(struct cell *cell, struct problem *why)
{
	const u64 flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	struct timespec pause = {.tv_nsec = 100000};
	unsigned patience = 20000;

	while (!state_of(cell)->listener && --patience)
		nanosleep(&pause, NULL);
	cell->listener = state_of(cell)->listener;
	if (cell->listener <= 0)
		return problem(why, EPERM, "its process cannot be locked in: %s",
			       strerror(-cell->listener));
	cell->listener = fetch(cell, cell->listener);
	if (cell->listener < 0)
		return problem(why, EPROTO, "its process does not say where to listen to it");
	ioctl(cell->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags);
	if (!await(cell) || make_kick(cell, why) || !find_home(cell))
		return problem(why, EPROTO, "its process does not stop as it should");
	cell->met = true;
	cell->cpuid_faults = state_of(cell)->cpuid_faults;
	/* Ours alone, so that its stops fail when we are gone. */
	order(cell, &(struct cell_order){SYS_close, {state_of(cell)->listener}});
	give_orders(cell);
	return 0;
}

struct cell *cell_new(int ram, u32 vectors, struct problem *why)
{
	struct cell *cell = calloc(1, sizeof(*cell));

	if (!cell) {
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	cell->vectors_size = vectors;
	cell->listener = cell->hand = cell->kick[0] = cell->kick[1] = -1;
	cell->child = (struct child){-1, -1, -1};
	if (start(cell, ram, why) || meet(cell, why)) {
		cell_free(cell);
		return NULL;
	}
	return cell;
}

void cell_free(struct cell *cell)
{
	if (!cell)
		return;
	/* Who is locked in signals nobody. It can be told, though, by another way. */
	if (cell->met) {
		end(cell);
		child_end(&cell->child);
	} else {
		child_kill(&cell->child);
	}
	close_if_open(cell->listener);
	close_if_open(cell->hand);
	close_if_open(cell->kick[0]);
	close_if_open(cell->kick[1]);
	if (cell->shared)
		munmap(cell->shared, CELL_SIZE);
	free(cell->pattern);
	free(cell);
}
