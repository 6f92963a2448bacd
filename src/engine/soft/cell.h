/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A cell: a process with nothing in it but pages of a guest, in which the guest's user code runs
 * as it is, at the guest's own addresses, on the host's own MMU.
 *
 *   cell_stub.c  the program in it: a page of code that gives control back
 *   cell.c	  the launcher's end: starts cells, maps pages into them, lets them run
 *
 * What makes it a cell is the kernel: its thread may make three system calls and no others, one to
 * say that it stopped, which is answered by us, one to go on, and one to end. A second thread maps
 * pages, on our orders, which are on a page that neither of the two can write. So whatever the
 * guest's code does, even to the stub's own memory, it touches nothing but the pages that it was
 * given.
 *
 * Nothing here knows what a guest is: that is bare.c.
 *
 * Tour 6.1020: The cell
 */
#ifndef ENGINE_SOFT_CELL_H
#define ENGINE_SOFT_CELL_H

#ifndef __ASSEMBLER__
#include "host/types.h"
#endif

/* Where the stub is: an odd place, or a guest would want it. */
#define CELL_BASE    0x6f3b00000000
#define CELL_CONTROL (CELL_BASE + 0x1000) /* written by the launcher, read by the stub */
#define CELL_STATE   (CELL_BASE + 0x2000) /* the other way round; the guest may write it, too */
#define CELL_STACK   (CELL_BASE + 0x3000) /* of signals */
#define CELL_END     (CELL_BASE + 0xb000)
/* What the host gives nobody: the first pages (vm.mmap_min_addr), and the last. */
#define CELL_USER_BEGIN 0x10000
#define CELL_USER_END	0x7ffffffff000

#define CELL_SIZE (CELL_END - CELL_CONTROL) /* of the file behind the last three */

/* What a stub finds open. */
#define CELL_RAM_FD    3
#define CELL_SHARED_FD 4
#define CELL_KICK_FD   5 /* a pipe from us: when that is hung up, we are gone */
#define CELL_HAND_FD   6 /* a socket to us, through which the listener is handed over */

/*
 * The only places that system calls of the guest's thread may come from, and what each may be:
 * addresses behind the instruction.
 */
#define CELL_GATE      (CELL_BASE + 0xe00)
#define CELL_STOP_IP   (CELL_GATE + 0x10)
#define CELL_STOP_CALL 39		  /* getpid, for which it has no other use: it stops */
#define CELL_RETURN_IP (CELL_GATE + 0x60) /* rt_sigreturn: it goes on */
#define CELL_EXIT_IP   (CELL_GATE + 0x80) /* exit_group: nobody listens any more */

/* Where the gate finds what it needs, in struct cell_control. */
#define CELL_CONTROL_FS	   8
#define CELL_CONTROL_GS	   16
#define CELL_CONTROL_FRAME 24

#define CELL_ORDERS 64
#define CELL_PARCEL 16

#ifndef __ASSEMBLER__
/* A system call for the mapper. */
struct cell_order {
	u64 number, argument[6];
};

struct cell_control {
	u32 go; /* futex: counts batches of orders */
	u32 count;
	u64 fs, gs;		 /* bases, for when it goes on */
	u64 frame;		 /* where its registers are then: a signal's frame */
	u32 parent;		 /* the launcher's process: without it there is no cell */
	u64 parcel[CELL_PARCEL]; /* what is handed over: a message, for sendmsg() */
	struct cell_order order[CELL_ORDERS];
};

struct cell_state {
	u32 done; /* futex: the batch that was executed */
	u32 cpuid_faults;
	int listener; /* where its stops are heard: a descriptor of the stub's */
	s64 failed;   /* an order's -errno: those behind it were not executed */
	u64 fs, gs;   /* bases, when it stopped */
};

#ifndef CELL_STUB
#include "host/child.h"
#include "host/problem.h"

#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <ucontext.h>

/* The stub, as a file: cell_image.S. */
extern const u8 cell_image[], cell_image_end[];

struct cell {
	struct child child;
	int listener;
	int hand;    /* a socket, while its listener has not been handed over */
	int kick[2]; /* a pipe: what is written there is a signal to it */
	clockid_t clock;
	u64 used, spent; /* ns of processor time: in all, and since it went on */
	u32 vectors_size;
	bool cpuid_faults; /* CPUID does; else it tells of the host */
	u8 *shared;	   /* control, state and stack, as the stub has them */
	unsigned count;	   /* of orders that are not given yet */
	u64 stop;	   /* the kernel's number of the stop that it is in */
	pid_t pid;
	bool met;    /* it has stopped once */
	bool failed; /* an order, since it was prepared */
	bool lost;   /* it has ended, or is beyond control */
	/* Of the stop that it is in: */
	int signal;
	siginfo_t *info;
	ucontext_t *context;
	u8 *vectors; /* XSAVE's standard format */
	/* Where the kernel puts the frame of each signal, and what such a frame looks like. */
	u64 home, home_info;
	void *pattern;
};

/*
 * A cell that has that file of RAM to map pages from, and of whose XSAVE images so many bytes
 * count. It has stopped. NULL with *problem filled: there can be none. Before the sandbox is shut.
 */
struct cell *cell_new(int ram, u32 vectors, struct problem *why);
void cell_free(struct cell *cell); /* NULL: nothing to do */
static inline bool cell_works(const struct cell *cell)
{
	return cell && !cell->lost;
}

/* While it is stopped: pages come, and go, at cell_prepare(). `protection`: PROT_*. */
void cell_map(struct cell *cell, u64 address, u64 length, u64 offset, int protection);
void cell_unmap(struct cell *cell, u64 address, u64 length);
/* Every page but the stub's. */
void cell_empty(struct cell *cell);

/*
 * False: not all of that could be done: the host has no room for it. What is mapped is unknown.
 * True: and its frame is as new, to be filled with registers.
 */
bool cell_prepare(struct cell *cell);

/*
 * It goes on, with what is in the frame now, and these bases, until it stops. False, and nothing
 * is known of the guest's registers: it is lost, or was not in its senses.
 */
bool cell_run(struct cell *cell, u64 fs, u64 gs);
u64 cell_fs(const struct cell *cell);
u64 cell_gs(const struct cell *cell);
/* It shall stop. Any thread; async-signal-safe. */
void cell_kick(const struct cell *cell);
#endif
#endif

#endif
