/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lib/trap.h for guests of 32 bits: running a few instructions until something
 * happens to them, as the supervisor, as a user, or in virtual-8086 mode. What
 * happened is put on record as the CPU told it, and the guest goes on where it had
 * begun.
 *
 * Paging is off: what separates these users from anybody are segments.
 */
#ifndef LIB32_TRAP_H
#define LIB32_TRAP_H

#include "lib/cpu.h"
#include "lib/guest.h"

/* What trap_init() puts into the GDT. All are flat. */
enum {
	SEG_CODE = 0x08,
	SEG_DATA = 0x10,
	SEG_USER_CODE = 0x18 | 3, /* these four in the order that SYSENTER and SYSEXIT want */
	SEG_USER_DATA = 0x20 | 3,
	SEG_TASK = 0x28,
	SEG_ABSENT_DATA = 0x30,
	SEG_ABSENT_CODE = 0x38,
	SEG_READ_ONLY = 0x40,
	SEG_EXECUTE_ONLY = 0x48,
	SEG_CONFORMING = 0x50,
	SEG_SPARE = 0x58, /* 0, and what follows: for a guest to fill */
	SEG_LAST = 0x98,
};

/* Descriptors but for base and limit: Intel SDM 3A, "Segment Descriptors". */
#define DESCRIPTOR_FLAT	   0x00cf00000000ffffull
#define DESCRIPTOR_TYPE(n) ((u64)(n) << 40)
#define DESCRIPTOR_DPL(n)  ((u64)(n) << 45)
#define PRESENT		   0x80u
#define TYPE_DATA	   0x93u /* these present, level 0, accessed */
#define TYPE_CODE	   0x9bu
#define TYPE_LDT	   0x82u
#define TYPE_TSS	   0x89u /* available */
#define TYPE_CALL_GATE	   0x8cu
#define TYPE_TASK_GATE	   0x85u
#define TYPE_INTERRUPT	   0x8eu
#define TYPE_TRAP	   0x8fu

/* INT n with this vector ends what nothing else has ended; anybody may. */
#define VECTOR_END 0x80

enum { DE = 0, DB = 1, BP = 3, OF = 4, BR = 5, UD = 6, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13 };

#define ERROR_EXT	  1u
#define ERROR_IDT(vector) ((vector)*8u + 2)

/* Intel SDM 3A, "32-Bit Task-State Segment"; selectors with the unused half. */
struct task {
	u32 link;
	struct {
		u32 esp, ss;
	} stack[3];
	u32 cr3, eip, eflags;
	u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, ports;
	u8 port_map[0x101]; /* of ports to 0x7ff, and the byte of ones behind */
};

#define TASK_SIZE offsetof(struct task, port_map)

/* What trap-entry.S pushes, the CPU's part last. */
struct frame {
	u32 gs, fs, es, ds;
	u32 edi, esi, ebp, unused, ebx, edx, ecx, eax;
	u32 vector, error;
	u32 eip, cs, eflags;
	u32 esp, ss;			    /* from another level only */
	u32 v86_es, v86_ds, v86_fs, v86_gs; /* from virtual-8086 mode only */
};

struct trap {
	struct frame frame;
	u32 stack;  /* where that stack began, if its level changed: above SS, or above GS */
	u32 eflags; /* in the handler */
	u16 ss, ds, es, fs, gs; /* in the handler: the last four as the CPU left them */
};

/* Run it with this in EDI, and these bits in EFLAGS. It ends by a trap. */
void trap_run(const void *code, u32 argument, u32 eflags, struct trap *trap);
void trap_run_user(const void *code, u32 argument, u32 eflags, struct trap *trap);

/* What IRET pops on the way to virtual-8086 mode. */
struct v86 {
	u32 eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

/* VM is added; and a value for EAX. */
void trap_run_v86(const struct v86 *start, u32 eax, struct trap *trap);

/* A check: that came, with that error code, of the instruction at that address. */
bool trap_check(const struct trap *trap, u8 vector, u32 error, const void *at, const char *name);

void trap_init(void);
u64 *trap_descriptor(unsigned selector);
void trap_set_segment(unsigned selector, u32 base, u32 limit, unsigned type); /* of bytes */
void trap_set_gate(u8 vector, unsigned type, unsigned dpl);
u64 *trap_gate(u8 vector);
u32 trap_kernel_stack(void);
u32 trap_user_stack(void);
struct task *trap_task(void); /* the one that is current */

/* Where all traps end: a task of its own goes on there, too. */
extern const u8 trap_leave[];
extern u32 trap_return_stack;

static inline u64 gate_to(unsigned selector, const void *offset, unsigned type, unsigned dpl)
{
	u32 at = (u32)offset;

	return (at & 0xffff) | selector << 16 | DESCRIPTOR_TYPE(type) | DESCRIPTOR_DPL(dpl) |
	       (u64)(at >> 16) << 48;
}

/* See lib/trap.h. */
#define SNIPPET(name, before, instruction)                                                         \
	extern const u8 name[], name##_at[], name##_next[];                                        \
	asm(".pushsection .text\n" #name ":\n" before "\n" #name "_at:\n" instruction "\n" #name   \
	    "_next:\n"                                                                             \
	    "int $0x80\n"                                                                          \
	    ".popsection")

#endif
