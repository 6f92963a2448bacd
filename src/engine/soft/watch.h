/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a vCPU keeps about breakpoints, and the questions that the run loop, the memory
 * management unit and the ports ask about them. The answers are debug.c's. While nothing is
 * watched nobody gets further than the one byte that says so.
 */
#ifndef ENGINE_SOFT_WATCH_H
#define ENGINE_SOFT_WATCH_H

#include "host/types.h"

struct vcpu;

/* What a breakpoint is for: bits. */
#define WATCH_CODE  1u
#define WATCH_WRITE 2u
#define WATCH_READ  4u
#define WATCH_PORT  8u

struct watch {
	u8 armed;   /* WATCH_*: there is a breakpoint of that kind */
	bool code;  /* there is one for code on the page of the instruction that comes next */
	bool alone; /* the block that runs has one instruction, and then comes back to C */
	bool again; /* the next one touches what is watched: it wants to be alone */
	u32 hits;   /* traps that come behind this instruction: bits of DR6 */
};

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

#endif
