/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Running a few instructions until something happens to them. What happened (an
 * exception, an interrupt, INT n) is put on record as the CPU told it, and the
 * guest goes on where it had begun: nothing of what the instructions did to
 * registers, flags or the stack pointer remains.
 *
 * They run as the supervisor or as a user. For users there is an alias of the low
 * 64 MiB at USER_BASE that they may access; the supervisor's own mapping of the
 * same memory is none of their business.
 */
#ifndef LIB_TRAP_H
#define LIB_TRAP_H

#include "lib/interrupt.h"
#include "lib/paging.h"

/* Segments of the table that trap_init() loads, on from those of lib/entry.h. */
#define SEGMENT_USER_CODE32  (0x20 | 3) /* in the order that SYSRET wants */
#define SEGMENT_USER_DATA    (0x28 | 3)
#define SEGMENT_USER_CODE64  (0x30 | 3)
#define SEGMENT_TASK	     0x38 /* and 0x40: it is 16 bytes long */
#define SEGMENT_ABSENT_DATA  0x48
#define SEGMENT_ABSENT_CODE  0x50
#define SEGMENT_READ_ONLY    0x58
#define SEGMENT_EXECUTE_ONLY 0x60
#define SEGMENT_SPARE	     0x68 /* 0, and 0x70: for a guest to fill */
#define SEGMENT_LAST	     0x70

/* INT n with this vector ends what nothing else has ended. */
#define VECTOR_END 0x80

#define USER_BASE (1ull << 39)
#define USER_SIZE MiB(64)

#define user_address(pointer) ((u64)(pointer) + USER_BASE)

struct trap {
	struct frame frame; /* vector, error code and all that was on the stack */
	u64 stack;	    /* where that stack began: the address above the pushed SS */
	u64 cr2;
	u64 flags; /* RFLAGS in the handler */
	u16 ss;	   /* SS in the handler */
};

/*
 * Run it with this in RDI, and these bits in RFLAGS beside the one that is always set. It ends by
 * a trap, one way or another. A user's is at an address that a user can execute.
 */
void trap_run(u64 code, u64 argument, u64 flags, struct trap *trap);
void trap_run_user(u64 code, u64 argument, u64 flags, struct trap *trap);

/* Of some trap: what came, with which error code, at which instruction. */
struct trap_wanted {
	const char *name;
	u8 vector;
	u64 error, rip;
	bool after; /* no fault, but a trap: rip is the next instruction */
	bool user;
};

/* A check that it is that, and that everything else in the frame is as it must be. */
bool trap_check(const struct trap *trap, const struct trap_wanted *wanted);

/* Descriptor table, task state segment, alias for users, interrupt_init(). Interrupts are off. */
void trap_init(void);

u64 *trap_descriptor(unsigned selector);
void trap_load_task(unsigned selector); /* an available one */

/* Where handlers of what comes from users begin to push, and those of gates with IST 1 to 7. */
u64 trap_kernel_stack(void);
u64 trap_ist_stack(unsigned ist);
u64 trap_user_stack(void); /* and where RSP is when a user starts */

/* The task state segment's word about that stack, to be bent. */
u64 *trap_ist_slot(unsigned ist);
u64 *trap_kernel_slot(void);

/*
 * A piece of code: `name` is where it begins, `name`_at the instruction that matters, `name`_next
 * the one after it, which ends it.
 */
#define SNIPPET(name, before, instruction)                                                         \
	extern const u8 name[], name##_at[], name##_next[];                                        \
	asm(".pushsection .text\n" #name ":\n" before "\n" #name "_at:\n" instruction "\n" #name   \
	    "_next:\n"                                                                             \
	    "int $0x80\n"                                                                          \
	    ".popsection")

#endif
