/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a vCPU keeps about breakpoints, and the questions that the run loop, the memory
 * management unit and the ports ask about them. The answers are debug.c's. While nothing is
 * watched nobody gets further than the one byte that says so.
 *
 * Tour 6.530: Breakpoints that cost nobody else
 */
#ifndef ENGINE_SOFT_WATCH_H
#define ENGINE_SOFT_WATCH_H

#include "engine/debug.h"

#include <pthread.h>

struct soft;
struct vcpu;

/* What a breakpoint is for: bits. */
#define WATCH_CODE  1u
#define WATCH_WRITE 2u
#define WATCH_READ  4u
#define WATCH_PORT  8u

/* A step that the debugger outside wants: it has not begun, or it is over. */
enum debug_step { STEP_NONE, STEP_WANTED, STEP_DONE };

struct watch {
	u8 armed;   /* WATCH_*: there is a breakpoint of that kind */
	bool code;  /* there is one for code on the page of the instruction that comes next */
	bool alone; /* the block that runs has one instruction, and then comes back to C */
	bool again; /* the next one touches what is watched: it wants to be alone */
	u32 hits;   /* the guest's traps that come behind this instruction: bits of DR6 */
	/* What the debugger outside is told when the instruction is over. */
	enum debug_step step;
	bool touched;
	struct debug_point point;
};

/* ------------------------------------------------------------------ debug.c */

/* After a change of debug registers or CR4.DE. */
void debug_update(struct vcpu *vcpu);

/* The vCPU is about to execute what is there. True: not yet, an exception is recorded. */
bool debug_before(struct vcpu *vcpu, u64 linear);
/* The instruction is over. True: there is a trap, recorded. */
bool debug_behind(struct vcpu *vcpu);

/* Of this page, which accesses must come to C: WATCH_READ, WATCH_WRITE. */
u8 debug_page(const struct vcpu *vcpu, u64 address);
/*
 * This instruction touches these bytes, and nothing is in its way any more. From translated code
 * the answer may be true: then it must be run again, alone, so that we hear of its end.
 */
void debug_touched(struct vcpu *vcpu, u64 address, unsigned length, u8 how);
bool debug_postpone(struct vcpu *vcpu, u64 address, unsigned length, u8 how);

/* A #DB handler begins: nobody watches it touch the registers. */
void debug_entered(struct vcpu *vcpu);

/* ------------------------------------------------------------------ debugger.c */

#define DEBUGGER_POINTS 256

/* The debugger outside, and what it wants of the machine. */
struct attached {
	struct debugger *debugger; /* NULL: there is none */
	pthread_mutex_t lock;	   /* guards what vCPUs have in struct held */
	pthread_cond_t changed;	   /* any of it */
	unsigned count;
	struct debug_point points[DEBUGGER_POINTS]; /* changed while all vCPUs are stopped */
};

/* ... and of one vCPU. */
struct held {
	bool inside;  /* in run() */
	bool wanted;  /* it shall stop */
	bool stopped; /* it has */
	enum debug_action action;
};

/* The vCPU's thread comes and goes, stops if it shall. */
void debugger_enter(struct vcpu *vcpu);
void debugger_leave(struct vcpu *vcpu);
void debugger_stop_if_wanted(struct vcpu *vcpu);
/* It stops for this reason, and tells. */
void debugger_stop(struct vcpu *vcpu, enum debug_reason reason, const struct debug_point *point);
/* The machine ends: nobody waits any more. */
void debugger_end(struct soft *soft);

extern const struct debug_ops soft_debug;

#endif
