/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What transfers of control have in common (segment.c, syscall.c, interrupt.c):
 * descriptors, gates, and the stack that words are left on. descriptor.c has it.
 *
 * Tour 6.500: Descriptors, gates and stacks
 */
#ifndef ENGINE_SOFT_SEGMENT_H
#define ENGINE_SOFT_SEGMENT_H

#include "engine/soft/system.h"

/* Selectors: Intel SDM 3A, "Segment Selectors". */
#define SELECTOR_RPL   3u
#define SELECTOR_LOCAL 4u
#define SELECTOR_INDEX 0xfff8u

/* An error code that names a selector: Intel SDM 3A, "Error Code". */
#define ERROR_EXTERNAL 1u
#define ERROR_IDT      2u

/* Types of code and data segments, bits. */
#define TYPE_ACCESSED	 1u
#define TYPE_WRITABLE	 2u /* data */
#define TYPE_READABLE	 2u /* code */
#define TYPE_EXPAND_DOWN 4u
#define TYPE_CONFORMING	 4u
#define TYPE_CODE	 8u

/* Types of gates, beside those of system.h: Intel SDM 3A, "System Descriptor Types". */
#define SYSTEM_INTERRUPT_GATE_16 6
#define SYSTEM_TRAP_GATE_16	 7
#define SYSTEM_INTERRUPT_GATE	 14
#define SYSTEM_TRAP_GATE	 15

static inline bool selector_is_null(u16 selector)
{
	return !(selector & ~SELECTOR_RPL);
}

static inline bool segment_is_code(const struct segment *segment)
{
	return segment->s && (segment->type & TYPE_CODE);
}

static inline bool segment_is_conforming(const struct segment *segment)
{
	return segment_is_code(segment) && (segment->type & TYPE_CONFORMING);
}

/* Data that may be written, of exactly that privilege, under both names. */
static inline bool segment_is_stack(const struct segment *segment, u16 selector, unsigned cpl)
{
	return (selector & SELECTOR_RPL) == cpl && segment->dpl == cpl && segment->s &&
	       !(segment->type & TYPE_CODE) && segment->type & TYPE_WRITABLE;
}

/* An entry of the GDT or the LDT. */
struct descriptor {
	u64 address; /* 0: there is none, the selector is null */
	u64 raw;
	struct segment segment;
};

/*
 * Look the selector up. Where the tables end before it, `fault` is raised, with the selector and
 * `external` for its error code.
 */
bool descriptor_find(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
		     struct descriptor *descriptor);
/* It is about to be loaded: last of the checks, because it leaves a trace in memory. */
bool descriptor_mark_accessed(struct vcpu *vcpu, const struct descriptor *descriptor);

/* A call, interrupt or trap gate: Intel SDM 3A, "Call Gates" and "IDT Descriptors". */
struct gate {
	u16 selector;
	u64 offset;
	u8 type, dpl;
	u8 count; /* parameters of a call gate; number in the interrupt stack table */
	bool s, present;
};

/* `high` is 0 outside IA-32e mode. */
struct gate gate_decode(u64 low, u64 high);

/* Where a transfer pushes and pops. */
struct stack {
	struct descriptor ss; /* what is, or will be, in SS */
	bool is_64;	      /* no base, no limit */
	unsigned width;	      /* of the stack pointer, bytes */
	u64 pointer;
	u64 start;	    /* the whole register, where SS is switched too */
	enum access access; /* besides the direction */
	u32 error;	    /* of the #SS if there is no room */
};

/* That of push, pop and all that stays in its mode. */
struct stack stack_here(const struct vcpu *vcpu);
/* The current one, as a transfer to or from 64-bit mode (or another) sees it. */
struct stack stack_current(const struct vcpu *vcpu, bool is_64, u32 external);
/*
 * The one that the task state segment has for this privilege level, or (`ist` 1 to 7, IA-32e mode)
 * for this kind of interrupt. SS is checked and not yet loaded.
 */
bool stack_inner(struct vcpu *vcpu, unsigned cpl, unsigned ist, u32 external, struct stack *stack);
/* words[0] first. All of them, or none. Only stack->pointer moves. */
bool stack_push(struct vcpu *vcpu, struct stack *stack, const u64 *words, unsigned count,
		unsigned size);
bool stack_pop(struct vcpu *vcpu, struct stack *stack, u64 *words, unsigned count, unsigned size);
/* Make stack->pointer the stack pointer. */
void stack_commit(struct vcpu *vcpu, const struct stack *stack);
/* The same for one from stack_inner(), with its SS. */
void stack_switch(struct vcpu *vcpu, const struct stack *stack);

static inline u32 selector_error(u16 selector)
{
	return selector & ~SELECTOR_RPL;
}

/* What is behind a null selector: nothing, but SS knows its level. */
struct segment segment_null(u16 selector, unsigned dpl);
/* 8 in 64-bit mode, else what SS says: bytes of the stack pointer. */
unsigned stack_width(bool is_64, const struct segment *ss);
/* That many bytes, all ones. */
static inline u64 width_mask(unsigned width)
{
	return width == 8 ? ~0ull : (1ull << 8 * width) - 1;
}

/*
 * IF was set, or NMIs unblocked: what had to wait may come. Whoever made it pending kicked us, but
 * that kick was spent on finding out that it may not.
 */
void interrupt_recheck(struct vcpu *vcpu);

/* limit.c: is all of it inside the limit? May data be read there, or written? */
bool segment_reaches(const struct segment *segment, u64 base, u64 offset, unsigned length);
bool segment_permits(const struct segment *segment, bool write);
/* May code in this segment run at rip? */
bool segment_holds(const struct vcpu *vcpu, const struct segment *code, u64 rip);
/* CS, and the privilege level that comes with it; vcpu_update_mode() is left to the caller. */
void segment_set_code(struct vcpu *vcpu, const struct segment *code, unsigned cpl);
/* Real mode: a selector is an address. */
void segment_set_real(struct vcpu *vcpu, unsigned which, u16 selector);
/* Virtual-8086 mode, on the way in: the rest of the segment, too. Then segment_set_real() does. */
#define V86_LIMIT 0xffffu
#define V86_CPL	  3u
void segment_set_v86(struct vcpu *vcpu, unsigned which, u16 selector);
/* What was found and checked: into the register. */
void segment_set_found(struct vcpu *vcpu, unsigned which, const struct descriptor *descriptor);

/*
 * May it be loaded? What is wrong is `fault`, or #NP or #SS for what is not present, with the
 * selector and `external` in the error code.
 */
/* SS, for code at that level. */
bool segment_check_ss(struct vcpu *vcpu, u16 selector, unsigned cpl, bool to_64,
		      struct descriptor *ss);
/* SS of a task, at the current level: #TS. */
bool segment_check_task_ss(struct vcpu *vcpu, u16 selector, u32 external, struct descriptor *ss);
/* DS, ES, FS, GS. */
bool segment_check_data(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			struct descriptor *data);
/* Where a far transfer goes: code, or something that is not a segment and perhaps a gate. */
bool segment_check_code(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			struct descriptor *code);
/* Where a return goes: code, at the level of the selector, and no further in than we are. */
bool segment_check_return(struct vcpu *vcpu, u16 selector, enum vector fault, u32 external,
			  struct descriptor *code);
/* Of 32 and of 64 bits: there is no such code. */
bool segment_is_both_sizes(const struct vcpu *vcpu, const struct segment *code);
/* A far jump of real or virtual-8086 mode. */
bool segment_jump_real(struct vcpu *vcpu, u16 selector, u64 offset);

/* ------------------------------------------------------------------ task.c */

/* How one task comes to follow another. */
enum task_reason {
	TASK_JUMP,
	TASK_CALL, /* and interrupts: the new one remembers the old */
	TASK_RETURN,
};

struct task_switch {
	enum task_reason why;
	u64 flags;    /* as the old task is to find them when it goes on */
	u32 external; /* in the error codes of what goes wrong */
	bool has_error;
	u32 error; /* for the new task's stack */
};

/*
 * To the task whose state is in the segment of that selector; who may is the caller's to say.
 * False: a fault, and where it comes late, it is already the new task's (and insn_rip its first
 * instruction).
 */
bool task_switch(struct vcpu *vcpu, u16 selector, const struct task_switch *how);

#endif
