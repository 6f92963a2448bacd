/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transfers of control in the soft engine: interrupts, exceptions, far jumps,
 * system calls, segment registers. A vCPU with a small RAM, in which the guest's
 * tables are laid out by hand; handlers are called as the run loop would, and what
 * they did is read from registers and from the stack. No code is translated.
 */
#include "board/board.h"
#include "engine/soft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#define RAM MiB(4)

/* Where things are in the guest, mapped one to one. Beyond RAM nothing is mapped. */
#define GDT	     0x1000
#define IDT	     0x2000
#define TSS	     0x3000
#define LDT	     0x3800
#define PML4	     0x4000
#define PDPT	     0x5000
#define DIRECTORY    0x6000
#define KERNEL_CODE  0x10000
#define USER_CODE    0x11000
#define HANDLER	     0x12000 /* of vector 0; those of the others follow */
#define KERNEL_STACK 0x20000
#define USER_STACK   0x21000
#define RSP0_STACK   0x22000
#define IST_STACK    0x23000
#define UNMAPPED     0x40000000
#define FAR_POINTER  0x30000
#define NOT_OURS     0x0000800000000000 /* not canonical */

/* The GDT. */
enum {
	SEL_NULL = 0x00,
	SEL_CODE32 = 0x08,
	SEL_CODE = 0x10,
	SEL_DATA = 0x18,
	SEL_USER32 = 0x20, /* these three in the order that SYSRET wants */
	SEL_USER_DATA = 0x28,
	SEL_USER = 0x30,
	SEL_TSS = 0x38, /* two entries */
	SEL_ABSENT_DATA = 0x48,
	SEL_ABSENT_CODE = 0x50,
	SEL_READ_ONLY = 0x58,
	SEL_BOTH_SIZES = 0x60,
	SEL_CONFORMING = 0x68,
	SEL_CODE16 = 0x70,
	SEL_GATE = 0x78, /* two entries */
	SEL_FRESH_DATA = 0x88,
	SEL_BASE = 0x90,
	SEL_EXECUTE_ONLY = 0x98,
	SEL_LDT = 0xa0, /* two entries */
	SEL_END = 0xb0,
};

#define IN_LDT 4
#define RPL3   3

/* A descriptor's upper half without base and limit; see Intel SDM 3A, "Segment Descriptors". */
#define PRESENT	    (1ull << 47)
#define DPL(n)	    ((u64)(n) << 45)
#define SEGMENT	    (1ull << 44)
#define TYPE(n)	    ((u64)(n) << 40)
#define LONG	    (1ull << 53)
#define BIG	    (1ull << 54)
#define FLAT	    (0xfull << 48 | 1ull << 55 | 0xffff)
#define READ_CODE   (SEGMENT | TYPE(11)) /* accessed */
#define WRITE_DATA  (SEGMENT | TYPE(3))
#define WRITE_FRESH (SEGMENT | TYPE(2)) /* not accessed */
#define ACCESSED    (1ull << 40)

#define INTERRUPT_GATE 14
#define TRAP_GATE      15
#define CALL_GATE      12

#define EFER_SCE (1u << 0)
#define EFER_LME (1u << 8)
#define EFER_LMA (1u << 10)

struct fixture {
	struct machine machine;
	struct board board;
	u8 *ram;
	struct soft *soft;
	struct vcpu *vcpu;
};

static void poke(struct fixture *f, u64 at, u64 value, unsigned size)
{
	assert_true(at + size <= RAM);
	memcpy(f->ram + at, &value, size);
}

static u64 peek(const struct fixture *f, u64 at, unsigned size)
{
	u64 value = 0;

	assert_true(at + size <= RAM);
	memcpy(&value, f->ram + at, size);
	return value;
}

static u64 handler_of(u8 vector)
{
	return HANDLER + vector * 16;
}

static void set_gate(struct fixture *f, u8 vector, u16 selector, unsigned type, unsigned dpl,
		     unsigned ist)
{
	u64 offset = handler_of(vector);

	poke(f, IDT + vector * 16,
	     (offset & 0xffff) | (u64)selector << 16 | (u64)ist << 32 | TYPE(type) | DPL(dpl) |
		     PRESENT | (offset >> 16) << 48,
	     8);
	poke(f, IDT + vector * 16 + 8, 0, 8);
}

/* The same of 8 bytes. */
static void set_gate32(struct fixture *f, u8 vector, u16 selector, unsigned type, unsigned dpl)
{
	u64 offset = handler_of(vector);

	poke(f, IDT + vector * 8,
	     (offset & 0xffff) | (u64)selector << 16 | TYPE(type) | DPL(dpl) | PRESENT |
		     (offset >> 16) << 48,
	     8);
}

static void clear_gate(struct fixture *f, u8 vector)
{
	poke(f, IDT + vector * 16, 0, 8);
}

static void lay_out_gdt(struct fixture *f)
{
	static const u64 entries[SEL_END / 8] = {
		/* Good for anything, if it were looked at. */
		[SEL_NULL / 8] = FLAT | READ_CODE | PRESENT | LONG,
		[SEL_CODE32 / 8] = FLAT | READ_CODE | PRESENT | BIG,
		[SEL_CODE / 8] = FLAT | READ_CODE | PRESENT | LONG,
		[SEL_DATA / 8] = FLAT | WRITE_DATA | PRESENT | BIG,
		[SEL_USER32 / 8] = FLAT | READ_CODE | PRESENT | BIG | DPL(3),
		[SEL_USER_DATA / 8] = FLAT | WRITE_DATA | PRESENT | BIG | DPL(3),
		[SEL_USER / 8] = FLAT | READ_CODE | PRESENT | LONG | DPL(3),
		[SEL_TSS / 8] = TYPE(11) | PRESENT | (u64)TSS << 16 | 0x67,
		[SEL_ABSENT_DATA / 8] = FLAT | WRITE_DATA | BIG,
		[SEL_ABSENT_CODE / 8] = FLAT | READ_CODE | LONG,
		[SEL_READ_ONLY / 8] = FLAT | SEGMENT | TYPE(1) | PRESENT | BIG,
		[SEL_BOTH_SIZES / 8] = FLAT | READ_CODE | PRESENT | BIG | LONG,
		[SEL_CONFORMING / 8] = FLAT | SEGMENT | TYPE(15) | PRESENT | LONG,
		[SEL_CODE16 / 8] = 0xffff | READ_CODE | PRESENT,
		[SEL_GATE / 8] = (KERNEL_CODE & 0xffff) | (u64)SEL_CODE << 16 | TYPE(CALL_GATE) |
				 DPL(3) | PRESENT | (u64)(KERNEL_CODE >> 16) << 48,
		[SEL_FRESH_DATA / 8] = FLAT | WRITE_FRESH | PRESENT | BIG,
		[SEL_BASE / 8] =
			FLAT | WRITE_DATA | PRESENT | BIG | DPL(3) | 0x34ull << 16 | 0x12ull << 56,
		[SEL_EXECUTE_ONLY / 8] = FLAT | SEGMENT | TYPE(9) | PRESENT | LONG,
		[SEL_LDT / 8] = TYPE(2) | PRESENT | (u64)LDT << 16 | 0xf,
	};

	memcpy(f->ram + GDT, entries, sizeof(entries));
	poke(f, LDT + 8, FLAT | WRITE_DATA | PRESENT | BIG, 8);
}

/* RAM, for everybody; one page directory of 2 MiB pages does. */
static void lay_out_pages(struct fixture *f)
{
	const u64 present_write_user = 7, large = 0x80;

	poke(f, PML4, PDPT | present_write_user, 8);
	poke(f, PDPT, DIRECTORY | present_write_user, 8);
	for (u64 at = 0; at < RAM; at += MiB(2))
		poke(f, DIRECTORY + at / MiB(2) * 8, at | large | present_write_user, 8);
}

static void lay_out_tables(struct fixture *f)
{
	lay_out_gdt(f);
	lay_out_pages(f);
	for (unsigned vector = 0; vector < 256; vector++)
		set_gate(f, vector, SEL_CODE, INTERRUPT_GATE, 0, 0);
	poke(f, TSS + 4, RSP0_STACK, 8);
	poke(f, TSS + 0x24, IST_STACK, 8);
}

static struct segment segment_of(const struct fixture *f, u16 selector)
{
	u64 raw = peek(f, GDT + (selector & ~7u), 8);

	return (struct segment){
		.base = (raw >> 16 & 0xffffff) | raw >> 56 << 24,
		.limit = raw >> 55 & 1 ? UINT32_MAX : raw & 0xffff,
		.selector = selector,
		.type = raw >> 40 & 15,
		.s = raw >> 44 & 1,
		.dpl = raw >> 45 & 3,
		.present = raw >> 47 & 1,
		.l = raw >> 53 & 1,
		.db = raw >> 54 & 1,
		.g = raw >> 55 & 1,
	};
}

/* Code runs, at the privilege level in the selector. */
static void run_in(struct fixture *f, u16 code, u16 stack, u64 rip, u64 rsp)
{
	struct segment cs = segment_of(f, code);
	struct segment ss = segment_of(f, stack);

	vcpu_set_segment(f->vcpu, CS, &cs);
	vcpu_set_segment(f->vcpu, SS, &ss);
	f->vcpu->cpl = code & 3;
	f->vcpu->ctx.rip = f->vcpu->insn_rip = rip;
	f->vcpu->ctx.gpr[RSP] = rsp;
	vcpu_update_mode(f->vcpu);
}

static void run_kernel(struct fixture *f)
{
	run_in(f, SEL_CODE, SEL_DATA, KERNEL_CODE, KERNEL_STACK);
}

static void run_user(struct fixture *f)
{
	run_in(f, SEL_USER | RPL3, SEL_USER_DATA | RPL3, USER_CODE, USER_STACK);
}

static int setup(void **state)
{
	static const u64 pages = RAM / PAGE_SIZE;
	struct fixture *f = calloc(1, sizeof(*f));
	struct cpu_state initial = {0};
	struct problem why;

	assert_non_null(f);
	assert_int_equal(machine_init(&f->machine), 0);
	f->board.machine = &f->machine;
	f->ram = aligned_alloc(PAGE_SIZE, RAM);
	assert_non_null(f->ram);
	memset(f->ram, 0, RAM);
	f->soft = calloc(1, sizeof(*f->soft) + sizeof(struct vcpu *));
	assert_non_null(f->soft);
	f->soft->engine.board = &f->board;
	f->soft->options = (struct engine_options){.vcpus = 1, .soft_cache = MiB(4)};
	f->soft->vcpu_count = 1;
	clock_measure(f->soft);
	f->soft->ram_count = 1;
	f->soft->ram[0] = (struct ram){
		.size = RAM,
		.host = f->ram,
		.pages = calloc(pages, sizeof(f->soft->ram[0].pages[0])),
	};
	assert_non_null((void *)f->soft->ram[0].pages);

	lay_out_tables(f);
	initial.rflags = X86_EFLAGS_FIXED;
	initial.cs = segment_of(f, SEL_CODE);
	initial.ss = initial.ds = initial.es = initial.fs = initial.gs = segment_of(f, SEL_DATA);
	initial.tr = segment_of(f, SEL_TSS);
	initial.ldt = segment_of(f, SEL_LDT);
	initial.gdt = (struct descriptor_table){GDT, SEL_END - 1};
	initial.idt = (struct descriptor_table){IDT, 256 * 16 - 1};
	initial.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_ET | X86_CR0_NE;
	initial.cr3 = PML4;
	initial.cr4 = X86_CR4_PAE;
	initial.efer = EFER_SCE | EFER_LME | EFER_LMA;
	f->vcpu = vcpu_new(f->soft, 0, &initial, &why);
	assert_non_null(f->vcpu);
	f->vcpu->vectors_saved = true; /* there is no guest's state in our registers */
	f->soft->vcpus[0] = f->vcpu;
	f->soft->vcpus_added = 1;
	run_kernel(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vcpu_free(f->vcpu);
	free((void *)f->soft->ram[0].pages);
	free(f->soft);
	free(f->ram);
	machine_destroy(&f->machine);
	free(f);
	return 0;
}

/* 32-bit protected mode without paging, with a TSS and an IDT to match. */
static void enter_32bit(struct fixture *f)
{
	struct vcpu *vcpu = f->vcpu;

	vcpu->efer = 0;
	vcpu->cr0 = X86_CR0_PE | X86_CR0_ET;
	vcpu->cr4 = 0;
	memset(f->ram + IDT, 0, 256 * 16);
	for (unsigned vector = 0; vector < 256; vector++)
		set_gate32(f, vector, SEL_CODE32, INTERRUPT_GATE, 0);
	vcpu->idt.limit = 256 * 8 - 1;
	poke(f, TSS + 4, RSP0_STACK, 4);
	poke(f, TSS + 8, SEL_DATA, 4);
	tlb_flush(vcpu, true);
	run_in(f, SEL_CODE32, SEL_DATA, KERNEL_CODE, KERNEL_STACK);
}

/* At 0x1000:0, with a stack that ends at 0x20000. */
static void enter_real(struct fixture *f)
{
	struct vcpu *vcpu = f->vcpu;
	struct segment segment = {
		.selector = 0x1000,
		.base = 0x10000,
		.limit = 0xffff,
		.type = 3,
		.s = true,
		.present = true,
	};

	vcpu->efer = 0;
	vcpu->cr0 = X86_CR0_ET;
	vcpu->cr4 = 0;
	vcpu->idt = (struct descriptor_table){0, 0x3ff};
	tlb_flush(vcpu, true);
	vcpu_set_segment(vcpu, CS, &segment);
	vcpu_set_segment(vcpu, SS, &segment);
	vcpu_set_segment(vcpu, DS, &segment);
	vcpu->cpl = 0;
	vcpu->ctx.rip = 0x100;
	vcpu->ctx.gpr[RSP] = 0xfff0;
	vcpu_update_mode(vcpu);
}

/* ------------------------------------------------------------------ what to expect */

#define assert_raised(f, vector_, error_)                                                          \
	do {                                                                                       \
		assert_true((f)->vcpu->exception.pending);                                         \
		assert_int_equal((f)->vcpu->exception.vector, vector_);                            \
		assert_true((f)->vcpu->exception.has_error);                                       \
		assert_int_equal((f)->vcpu->exception.error, error_);                              \
		(f)->vcpu->exception.pending = false;                                              \
	} while (0)

#define assert_undefined(f)                                                                        \
	do {                                                                                       \
		assert_true((f)->vcpu->exception.pending);                                         \
		assert_int_equal((f)->vcpu->exception.vector, VECTOR_UD);                          \
		assert_false((f)->vcpu->exception.has_error);                                      \
		(f)->vcpu->exception.pending = false;                                              \
	} while (0)

/* The n-th word from the stack pointer up. */
static u64 word(const struct fixture *f, unsigned n)
{
	return peek(f, f->vcpu->ctx.gpr[RSP] + n * 8, 8);
}

#define assert_frame(f, at, rip_, cs_, rsp_, ss_)                                                  \
	do {                                                                                       \
		assert_int_equal(word(f, (at)), rip_);                                             \
		assert_int_equal(word(f, (at) + 1), cs_);                                          \
		assert_int_equal(word(f, (at) + 3), rsp_);                                         \
		assert_int_equal(word(f, (at) + 4), ss_);                                          \
	} while (0)

/* In the kernel's handler of that vector. */
#define assert_handler(f, vector_)                                                                 \
	do {                                                                                       \
		assert_int_equal((f)->vcpu->ctx.rip, handler_of(vector_));                         \
		assert_int_equal((f)->vcpu->seg[CS].selector, SEL_CODE);                           \
		assert_int_equal((f)->vcpu->cpl, 0);                                               \
		assert_false((f)->vcpu->exception.pending);                                        \
	} while (0)

static void fault(struct fixture *f, enum vector vector, u32 error)
{
	raise_error(f->vcpu, vector, error);
	interrupt_deliver_exception(f->vcpu);
}

/* An instruction of `length` bytes at rip, executed as the run loop would. */
static bool execute(struct fixture *f, handler *run, struct insn insn, unsigned length)
{
	struct vcpu *vcpu = f->vcpu;

	insn.handler = run;
	insn.length = length;
	vcpu->insn_rip = vcpu->ctx.rip;
	vcpu->ctx.rip += length;
	if (run(vcpu, &insn))
		return true;
	assert_true(vcpu->exception.pending);
	vcpu->ctx.rip = vcpu->insn_rip;
	return false;
}

/* ------------------------------------------------------------------ delivery in 64-bit mode */

static void test_exception_same_level(void **state)
{
	struct fixture *f = *state;
	u64 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_TF | X86_EFLAGS_CF |
		    X86_EFLAGS_AC | X86_EFLAGS_DF;

	vcpu_set_rflags(f->vcpu, flags);
	f->vcpu->ctx.gpr[RSP] = KERNEL_STACK - 8; /* not aligned */
	fault(f, VECTOR_GP, 0x1230);

	assert_handler(f, VECTOR_GP);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 16 - 48);
	assert_int_equal(word(f, 0), 0x1230);
	assert_frame(f, 1, KERNEL_CODE, SEL_CODE, KERNEL_STACK - 8, SEL_DATA);
	assert_int_equal(word(f, 3), flags | X86_EFLAGS_RF);
	assert_int_equal(vcpu_rflags(f->vcpu), flags & ~(X86_EFLAGS_IF | X86_EFLAGS_TF));
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_DATA);
	assert_int_equal(f->vcpu->stats.exceptions[VECTOR_GP], 1);
}

static void test_exception_from_user(void **state)
{
	struct fixture *f = *state;

	run_user(f);
	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED | X86_EFLAGS_NT);
	f->vcpu->shadow = SHADOW_STI;
	raise_fault(f->vcpu, VECTOR_DE);
	interrupt_deliver_exception(f->vcpu);

	assert_handler(f, VECTOR_DE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], RSP0_STACK - 40);
	assert_frame(f, 0, USER_CODE, SEL_USER | RPL3, USER_STACK, SEL_USER_DATA | RPL3);
	assert_int_equal(vcpu_rflags(f->vcpu), X86_EFLAGS_FIXED);
	assert_int_equal(f->vcpu->seg[SS].selector, 0);
	assert_false(f->vcpu->shadow);
	assert_int_equal(f->vcpu->mode & MODE_VIEW, VIEW_KERNEL);
}

static void test_interrupt(void **state)
{
	struct fixture *f = *state;
	u64 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_ZF;

	set_gate(f, 0x31, SEL_CODE, TRAP_GATE, 0, 0);
	vcpu_set_rflags(f->vcpu, flags);
	f->vcpu->halted = true;
	interrupt_deliver(f->vcpu, 0x30);
	assert_handler(f, 0x30);
	assert_int_equal(word(f, 2), flags);
	assert_int_equal(vcpu_rflags(f->vcpu), flags & ~X86_EFLAGS_IF);
	assert_false(f->vcpu->halted);

	vcpu_set_rflags(f->vcpu, flags);
	interrupt_deliver(f->vcpu, 0x31);
	assert_handler(f, 0x31);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
	assert_int_equal(f->vcpu->stats.interrupts, 2);
}

static void test_ist(void **state)
{
	struct fixture *f = *state;

	set_gate(f, VECTOR_NMI, SEL_CODE, INTERRUPT_GATE, 0, 1);
	interrupt_deliver(f->vcpu, VECTOR_NMI);
	assert_handler(f, VECTOR_NMI);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], IST_STACK - 40);
	assert_frame(f, 0, KERNEL_CODE, SEL_CODE, KERNEL_STACK, SEL_DATA);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_DATA);
	assert_true(f->vcpu->nmi_blocked);

	/* The last one lies past the end of a TSS that is too short. */
	run_kernel(f);
	set_gate(f, 0x30, SEL_CODE, INTERRUPT_GATE, 0, 7);
	f->vcpu->tr.limit = 0x5a;
	interrupt_deliver(f->vcpu, 0x30);
	assert_handler(f, VECTOR_TS);
	assert_int_equal(word(f, 0), SEL_TSS | 1);
}

static void test_page_fault_sets_cr2(void **state)
{
	struct fixture *f = *state;

	f->vcpu->cr2 = 1;
	raise_page_fault(f->vcpu, UNMAPPED + 0x123, 2);
	assert_int_equal(f->vcpu->cr2, 1);
	interrupt_deliver_exception(f->vcpu);
	assert_handler(f, VECTOR_PF);
	assert_int_equal(word(f, 0), 2);
	assert_int_equal(f->vcpu->cr2, UNMAPPED + 0x123);
}

/* A gate that cannot be used is reported by number; the external bit says whose fault it was. */
static void test_bad_gates(void **state)
{
	struct fixture *f = *state;
	u64 absent = peek(f, IDT + 0x41 * 16, 8) & ~PRESENT;

	clear_gate(f, 0x40);
	interrupt_deliver(f->vcpu, 0x40);
	assert_handler(f, VECTOR_GP);
	assert_int_equal(word(f, 0), 0x40 * 8 + 3);

	run_kernel(f);
	poke(f, IDT + 0x41 * 16, absent, 8);
	interrupt_deliver(f->vcpu, 0x41);
	assert_handler(f, VECTOR_NP);
	assert_int_equal(word(f, 0), 0x41 * 8 + 3);

	run_kernel(f);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x41}, 2));
	assert_raised(f, VECTOR_NP, 0x41 * 8 + 2);

	f->vcpu->idt.limit = 0x42 * 16 + 14;
	interrupt_deliver(f->vcpu, 0x42);
	assert_handler(f, VECTOR_GP);
	assert_int_equal(word(f, 0), 0x42 * 8 + 3);
}

static void assert_handler_segment_refused(struct fixture *f, u16 selector, enum vector vector,
					   u32 error)
{
	run_kernel(f);
	set_gate(f, 0x40, selector, INTERRUPT_GATE, 0, 0);
	interrupt_deliver(f->vcpu, 0x40);
	assert_handler(f, vector);
	assert_int_equal(word(f, 0), error);
}

static void test_bad_handler_segments(void **state)
{
	struct fixture *f = *state;

	assert_handler_segment_refused(f, SEL_NULL, VECTOR_GP, 1);
	assert_handler_segment_refused(f, SEL_DATA, VECTOR_GP, SEL_DATA | 1);
	assert_handler_segment_refused(f, SEL_CODE32, VECTOR_GP, SEL_CODE32 | 1);
	assert_handler_segment_refused(f, SEL_USER, VECTOR_GP, SEL_USER | 1);
	assert_handler_segment_refused(f, SEL_ABSENT_CODE, VECTOR_NP, SEL_ABSENT_CODE | 1);
	assert_handler_segment_refused(f, SEL_END, VECTOR_GP, SEL_END | 1);
}

static void test_handler_out_of_reach(void **state)
{
	struct fixture *f = *state;

	/* Bits 63 to 32 of the offset. */
	poke(f, IDT + 0x40 * 16 + 8, NOT_OURS >> 32, 4);
	interrupt_deliver(f->vcpu, 0x40);
	assert_handler(f, VECTOR_GP);
	assert_int_equal(word(f, 0), 1);
}

static void test_stack_not_canonical(void **state)
{
	struct fixture *f = *state;

	set_gate(f, VECTOR_SS, SEL_CODE, INTERRUPT_GATE, 0, 1);
	f->vcpu->ctx.gpr[RSP] = NOT_OURS + 0x1000;
	interrupt_deliver(f->vcpu, 0x40);
	assert_handler(f, VECTOR_SS);
	assert_int_equal(word(f, 0), 1);
	assert_frame(f, 1, KERNEL_CODE, SEL_CODE, NOT_OURS + 0x1000, SEL_DATA);
}

/* ------------------------------------------------------------------ software interrupts */

static void test_int_n(void **state)
{
	struct fixture *f = *state;

	run_user(f);
	set_gate(f, 0x80, SEL_CODE, INTERRUPT_GATE, 3, 0);
	assert_true(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_handler(f, 0x80);
	assert_frame(f, 0, USER_CODE + 2, SEL_USER | RPL3, USER_STACK, SEL_USER_DATA | RPL3);
	assert_false(word(f, 2) & X86_EFLAGS_RF);
}

static void test_int_n_not_allowed(void **state)
{
	struct fixture *f = *state;

	run_user(f);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x20}, 2));
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
	interrupt_deliver_exception(f->vcpu);
	assert_handler(f, VECTOR_GP);
	assert_int_equal(word(f, 0), 0x20 * 8 + 2);
	assert_frame(f, 1, USER_CODE, SEL_USER | RPL3, USER_STACK, SEL_USER_DATA | RPL3);
}

static void test_int3_and_int1(void **state)
{
	struct fixture *f = *state;

	run_user(f);
	set_gate(f, VECTOR_BP, SEL_CODE, INTERRUPT_GATE, 3, 0);
	assert_true(execute(f, interrupt_int3, (struct insn){0}, 1));
	assert_handler(f, VECTOR_BP);
	assert_int_equal(word(f, 0), USER_CODE + 1);

	/* It needs no permission of the gate. */
	run_user(f);
	assert_true(execute(f, interrupt_int1, (struct insn){0}, 1));
	assert_handler(f, VECTOR_DB);
	assert_int_equal(word(f, 0), USER_CODE + 1);
	assert_false(word(f, 2) & X86_EFLAGS_RF);
}

/* ------------------------------------------------------------------ one fault on the other */

static void test_double_fault_contributory(void **state)
{
	struct fixture *f = *state;

	clear_gate(f, VECTOR_GP);
	fault(f, VECTOR_GP, 0x10);
	assert_handler(f, VECTOR_DF);
	assert_int_equal(word(f, 0), 0);
	assert_frame(f, 1, KERNEL_CODE, SEL_CODE, KERNEL_STACK, SEL_DATA);
	assert_int_equal(f->vcpu->stats.exceptions[VECTOR_DF], 1);
}

/* A stack overflow: the page fault for the push meets the same stack. */
static void test_double_fault_stack(void **state)
{
	struct fixture *f = *state;

	set_gate(f, VECTOR_DF, SEL_CODE, INTERRUPT_GATE, 0, 1);
	f->vcpu->ctx.gpr[RSP] = UNMAPPED;
	raise_page_fault(f->vcpu, UNMAPPED - 8, 2);
	interrupt_deliver_exception(f->vcpu);
	assert_handler(f, VECTOR_DF);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], IST_STACK - 48);
	assert_frame(f, 1, KERNEL_CODE, SEL_CODE, UNMAPPED, SEL_DATA);
	/* In the page below, at whichever byte was checked first. */
	assert_int_equal(f->vcpu->cr2 & ~0xfffull, UNMAPPED - 0x1000);
}

/* One after the other where the first is benign, or the second a page fault after a #GP. */
static void test_serial_faults(void **state)
{
	struct fixture *f = *state;

	clear_gate(f, VECTOR_UD);
	raise_fault(f->vcpu, VECTOR_UD);
	interrupt_deliver_exception(f->vcpu);
	assert_handler(f, VECTOR_GP);
	assert_int_equal(word(f, 0), VECTOR_UD * 8 + 3);

	run_kernel(f);
	set_gate(f, VECTOR_PF, SEL_CODE, INTERRUPT_GATE, 0, 1);
	f->vcpu->ctx.gpr[RSP] = UNMAPPED;
	fault(f, VECTOR_GP, 0);
	assert_handler(f, VECTOR_PF);
	assert_int_equal(word(f, 0), 2); /* a write, by the kernel */
	assert_int_equal(f->vcpu->stats.exceptions[VECTOR_DF], 0);
}

static void test_triple_fault(void **state)
{
	struct fixture *f = *state;

	f->vcpu->idt.limit = 0;
	f->vcpu->cr2 = 0x5678;
	fault(f, VECTOR_GP, 0);
	assert_true(f->vcpu->leave);
	assert_false(machine_running(&f->machine));
	assert_int_equal(f->machine.status, EXIT_CRASHED);
	assert_string_equal(f->machine.why,
			    "the guest crashed: triple fault on vCPU 0 at rip 0x10000 (cs 0x10, "
			    "rsp 0x20000, cr2 0x5678, cr3 0x4000)");
}

/* ------------------------------------------------------------------ iret */

static void push_frame(struct fixture *f, u64 rip, u16 cs, u64 flags, u64 rsp, u16 ss)
{
	const u64 words[] = {rip, cs, flags, rsp, ss};

	f->vcpu->ctx.gpr[RSP] = KERNEL_STACK - sizeof(words);
	memcpy(f->ram + f->vcpu->ctx.gpr[RSP], words, sizeof(words));
}

static bool iretq(struct fixture *f)
{
	return execute(f, segment_iret, (struct insn){.opsize = 8, .opcode = 0xcf}, 2);
}

static void test_iret_round_trip(void **state)
{
	struct fixture *f = *state;
	u64 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_SF | X86_EFLAGS_DF;

	run_user(f);
	vcpu_set_rflags(f->vcpu, flags);
	interrupt_deliver(f->vcpu, VECTOR_NMI);
	assert_handler(f, VECTOR_NMI);
	assert_true(iretq(f));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_USER | RPL3);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_USER_DATA | RPL3);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
	assert_false(f->vcpu->nmi_blocked);
	assert_int_equal(f->vcpu->mode & MODE_VIEW, VIEW_USER);
}

static void test_iret_same_level(void **state)
{
	struct fixture *f = *state;
	u64 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_IOPL | X86_EFLAGS_ID;

	push_frame(f, KERNEL_CODE + 64, SEL_CODE, flags, KERNEL_STACK - 24, 0);
	assert_true(iretq(f));
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE + 64);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 24);
	assert_int_equal(f->vcpu->seg[SS].selector, 0);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
}

/* What a program may not change stays, whatever it puts into the frame. */
static void test_iret_user_flags(void **state)
{
	struct fixture *f = *state;
	u64 wanted = X86_EFLAGS_FIXED | X86_EFLAGS_IOPL | X86_EFLAGS_VIP | X86_EFLAGS_AC |
		     X86_EFLAGS_VM | X86_EFLAGS_ZF;

	run_user(f);
	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
	push_frame(f, USER_CODE, SEL_USER | RPL3, wanted, USER_STACK, SEL_USER_DATA | RPL3);
	assert_true(iretq(f));
	assert_int_equal(vcpu_rflags(f->vcpu),
			 X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_AC | X86_EFLAGS_ZF);
}

static void assert_iret_refused(struct fixture *f, enum vector vector, u32 error)
{
	u64 rsp = f->vcpu->ctx.gpr[RSP];
	u64 flags = vcpu_rflags(f->vcpu);

	f->vcpu->nmi_blocked = true;
	assert_false(iretq(f));
	assert_raised(f, vector, error);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], rsp);
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_CODE);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_DATA);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
	assert_false(f->vcpu->nmi_blocked);
}

static void test_iret_refused(void **state)
{
	struct fixture *f = *state;
	const u64 flags = X86_EFLAGS_FIXED;

	push_frame(f, NOT_OURS, SEL_USER | RPL3, flags, USER_STACK, SEL_USER_DATA | RPL3);
	assert_iret_refused(f, VECTOR_GP, 0);
	push_frame(f, USER_CODE, SEL_NULL, flags, USER_STACK, SEL_USER_DATA | RPL3);
	assert_iret_refused(f, VECTOR_GP, 0);
	push_frame(f, USER_CODE, SEL_DATA, flags, USER_STACK, SEL_USER_DATA | RPL3);
	assert_iret_refused(f, VECTOR_GP, SEL_DATA);
	push_frame(f, USER_CODE, SEL_ABSENT_CODE, flags, USER_STACK, SEL_DATA);
	assert_iret_refused(f, VECTOR_NP, SEL_ABSENT_CODE);
	push_frame(f, USER_CODE, SEL_CODE | RPL3, flags, USER_STACK, SEL_USER_DATA | RPL3);
	assert_iret_refused(f, VECTOR_GP, SEL_CODE);
	push_frame(f, USER_CODE, SEL_USER | RPL3, flags, USER_STACK, SEL_NULL);
	assert_iret_refused(f, VECTOR_GP, 0);
	push_frame(f, USER_CODE, SEL_USER | RPL3, flags, USER_STACK, SEL_DATA);
	assert_iret_refused(f, VECTOR_GP, SEL_DATA);
	push_frame(f, USER_CODE, SEL_CODE, flags, USER_STACK, SEL_ABSENT_DATA);
	assert_iret_refused(f, VECTOR_SS, SEL_ABSENT_DATA);
	push_frame(f, USER_CODE, SEL_BOTH_SIZES, flags, USER_STACK, SEL_DATA);
	assert_iret_refused(f, VECTOR_GP, SEL_BOTH_SIZES);
	push_frame(f, KERNEL_CODE, SEL_CODE, flags, KERNEL_STACK, SEL_DATA);
	vcpu_set_rflags(f->vcpu, flags | X86_EFLAGS_NT);
	assert_iret_refused(f, VECTOR_GP, 0);
	vcpu_set_rflags(f->vcpu, flags);
	f->vcpu->ctx.gpr[RSP] = NOT_OURS;
	assert_iret_refused(f, VECTOR_SS, 0);
}

/* To a 32-bit program, which takes the lower half of the stack pointer; and its way back in. */
static void test_iret_to_compatibility_mode(void **state)
{
	struct fixture *f = *state;

	push_frame(f, USER_CODE, SEL_USER32 | RPL3, X86_EFLAGS_FIXED, 0xdead00000000 | USER_STACK,
		   SEL_USER_DATA | RPL3);
	assert_true(iretq(f));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_32);

	set_gate(f, 0x80, SEL_CODE, INTERRUPT_GATE, 3, 0);
	assert_true(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_handler(f, 0x80);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_64);
	assert_frame(f, 0, USER_CODE + 2, SEL_USER32 | RPL3, USER_STACK, SEL_USER_DATA | RPL3);
}

/* ------------------------------------------------------------------ what had to wait */

static bool is_kicked(struct fixture *f)
{
	return atomic_exchange(&f->vcpu->ctx.poll, 0) & POLL_INTERRUPT;
}

/* Their kick came and went while they could not be taken. */
static void test_interrupt_had_to_wait(void **state)
{
	struct fixture *f = *state;
	const u32 spurious_vector = 0xf0, enabled = 0x1ff;

	lapic_write(f->vcpu, spurious_vector, enabled);
	push_frame(f, KERNEL_CODE, SEL_CODE, X86_EFLAGS_FIXED | X86_EFLAGS_IF, KERNEL_STACK,
		   SEL_DATA);
	is_kicked(f);
	assert_true(iretq(f));
	assert_false(is_kicked(f));

	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED);
	lapic_message(f->soft, 0xfee00000, 0x40);
	is_kicked(f);
	push_frame(f, KERNEL_CODE, SEL_CODE, X86_EFLAGS_FIXED, KERNEL_STACK, SEL_DATA);
	assert_true(iretq(f));
	assert_false(is_kicked(f));
	push_frame(f, KERNEL_CODE, SEL_CODE, X86_EFLAGS_FIXED | X86_EFLAGS_IF, KERNEL_STACK,
		   SEL_DATA);
	assert_true(iretq(f));
	assert_true(is_kicked(f));

	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED);
	f->vcpu->ctx.gpr[RCX] = USER_CODE;
	f->vcpu->ctx.gpr[11] = X86_EFLAGS_IF;
	assert_true(execute(f, segment_sysret, (struct insn){.opsize = 8}, 3));
	assert_true(is_kicked(f));
}

static void test_nmi_had_to_wait(void **state)
{
	struct fixture *f = *state;

	interrupt_deliver(f->vcpu, VECTOR_NMI);
	f->vcpu->nmi_pending = true;
	is_kicked(f);
	assert_true(iretq(f));
	assert_true(is_kicked(f));

	/* Nor does it wait for an IRET that succeeds. */
	f->vcpu->nmi_blocked = true;
	push_frame(f, NOT_OURS, SEL_CODE, X86_EFLAGS_FIXED, KERNEL_STACK, SEL_DATA);
	assert_iret_refused(f, VECTOR_GP, 0);
	assert_true(is_kicked(f));
}

/* ------------------------------------------------------------------ system calls */

static void set_up_syscall(struct fixture *f)
{
	f->vcpu->star = (u64)(SEL_USER32 | RPL3) << 48 | (u64)SEL_CODE << 32;
	f->vcpu->lstar = KERNEL_CODE + 0x80;
	f->vcpu->sfmask = X86_EFLAGS_IF | X86_EFLAGS_DF;
}

static bool sysret(struct fixture *f, unsigned opsize)
{
	return execute(f, segment_sysret, (struct insn){.opsize = opsize}, 3);
}

static void test_syscall_and_back(void **state)
{
	struct fixture *f = *state;
	u64 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_CF;

	set_up_syscall(f);
	run_user(f);
	vcpu_set_rflags(f->vcpu, flags);
	assert_true(execute(f, segment_syscall, (struct insn){.opsize = 8}, 2));
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE + 0x80);
	assert_int_equal(f->vcpu->ctx.gpr[RCX], USER_CODE + 2);
	assert_int_equal(f->vcpu->ctx.gpr[11], flags);
	assert_int_equal(vcpu_rflags(f->vcpu), X86_EFLAGS_FIXED | X86_EFLAGS_CF);
	assert_int_equal(f->vcpu->cpl, 0);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_CODE);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_DATA);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);

	assert_true(sysret(f, 8));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE + 2);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_USER | RPL3);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_USER_DATA | RPL3);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_64);
}

static void test_sysret_checks(void **state)
{
	struct fixture *f = *state;

	set_up_syscall(f);
	f->vcpu->ctx.gpr[RCX] = NOT_OURS;
	f->vcpu->ctx.gpr[11] = ~0ull;
	assert_false(sysret(f, 8));
	assert_raised(f, VECTOR_GP, 0);
	assert_int_equal(f->vcpu->cpl, 0);

	/* To a 32-bit program only half of it counts. */
	f->vcpu->ctx.gpr[RCX] |= USER_CODE;
	assert_true(sysret(f, 4));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_32);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_USER32 | RPL3);
	assert_false(vcpu_rflags(f->vcpu) & (X86_EFLAGS_RF | X86_EFLAGS_VM));

	run_user(f);
	assert_false(sysret(f, 8));
	assert_raised(f, VECTOR_GP, 0);
	run_kernel(f);
	f->vcpu->efer &= ~EFER_SCE;
	assert_false(sysret(f, 8));
	assert_undefined(f);
	assert_false(execute(f, segment_syscall, (struct insn){.opsize = 8}, 2));
	assert_undefined(f);
}

static void test_sysenter_and_back(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	run_user(f);
	assert_false(execute(f, segment_sysenter, (struct insn){0}, 2));
	assert_raised(f, VECTOR_GP, 0);

	vcpu->sysenter_cs = SEL_CODE;
	vcpu->sysenter_eip = KERNEL_CODE + 0x90;
	vcpu->sysenter_esp = KERNEL_STACK - 0x10;
	vcpu_set_rflags(vcpu, X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_PF);
	assert_true(execute(f, segment_sysenter, (struct insn){0}, 2));
	assert_int_equal(vcpu->ctx.rip, KERNEL_CODE + 0x90);
	assert_int_equal(vcpu->ctx.gpr[RSP], KERNEL_STACK - 0x10);
	assert_int_equal(vcpu->cpl, 0);
	assert_int_equal(vcpu->seg[SS].selector, SEL_DATA);
	assert_int_equal(vcpu_rflags(vcpu), X86_EFLAGS_FIXED | X86_EFLAGS_PF);

	vcpu->ctx.gpr[RDX] = USER_CODE;
	vcpu->ctx.gpr[RCX] = NOT_OURS;
	assert_false(execute(f, segment_sysexit, (struct insn){.opsize = 8}, 3));
	assert_raised(f, VECTOR_GP, 0);
	vcpu->ctx.gpr[RCX] = USER_STACK;
	assert_true(execute(f, segment_sysexit, (struct insn){.opsize = 8}, 3));
	assert_int_equal(vcpu->cpl, 3);
	assert_int_equal(vcpu->ctx.rip, USER_CODE);
	assert_int_equal(vcpu->ctx.gpr[RSP], USER_STACK);
	assert_int_equal(vcpu->seg[CS].selector, (SEL_CODE + 32) | RPL3);
	assert_int_equal(vcpu->seg[SS].selector, (SEL_CODE + 40) | RPL3);
	assert_int_equal(vcpu->mode & MODE_VIEW, VIEW_USER);

	assert_false(execute(f, segment_sysexit, (struct insn){.opsize = 8}, 3));
	assert_raised(f, VECTOR_GP, 0);
	run_kernel(f);
	vcpu->sysenter_cs = RPL3;
	assert_false(execute(f, segment_sysexit, (struct insn){.opsize = 4}, 2));
	assert_raised(f, VECTOR_GP, 0);
}

/* Where it depends on whose processor it is. */
static void test_syscall_from_compatibility_mode(void **state)
{
	struct fixture *f = *state;
	const u32 auth = 0x68747541; /* "AuthenticAMD" */
	const u32 hygo = 0x6f677948; /* "HygonGenuine" */
	struct cpuid_result vendor;
	bool done;

	set_up_syscall(f);
	f->vcpu->cstar = KERNEL_CODE + 0xa0;
	run_in(f, SEL_USER32 | RPL3, SEL_USER_DATA | RPL3, USER_CODE, USER_STACK);
	cpuid_read(f->vcpu, 0, 0, &vendor);
	done = execute(f, segment_syscall, (struct insn){.opsize = 4}, 2);
	assert_int_equal(done, vendor.ebx == auth || vendor.ebx == hygo);
	if (!done) {
		assert_undefined(f);
		return;
	}
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE + 0xa0);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_64);
}

/* ------------------------------------------------------------------ segment registers */

/* An operand at FAR_POINTER. */
static const struct insn far_memory = {
	.opsize = 8,
	.addrsize = 8,
	.opcode = 0xff,
	.rm = OPERAND_NONE,
	.base = OPERAND_NONE,
	.index = OPERAND_NONE,
	.scale = 1,
	.segment = DS,
	.has_memory = true,
	.displacement = FAR_POINTER,
};

static bool load(struct fixture *f, unsigned which, u16 selector)
{
	struct insn insn = {
		.opsize = 4,
		.reg = which,
		.rm = RAX,
		.base = OPERAND_NONE,
		.index = OPERAND_NONE,
	};

	f->vcpu->ctx.gpr[RAX] = selector;
	return execute(f, segment_mov_to, insn, 2);
}

static void assert_load_refused(struct fixture *f, unsigned which, u16 selector, enum vector vector,
				u32 error)
{
	u16 before = f->vcpu->seg[which].selector;

	assert_false(load(f, which, selector));
	assert_raised(f, vector, error);
	assert_int_equal(f->vcpu->seg[which].selector, before);
	assert_false(f->vcpu->shadow);
}

static void test_load_data(void **state)
{
	struct fixture *f = *state;

	assert_true(load(f, FS, SEL_BASE | RPL3));
	assert_int_equal(f->vcpu->ctx.base[FS], 0x12000034);
	assert_true(load(f, FS, SEL_NULL | RPL3));
	assert_int_equal(f->vcpu->ctx.base[FS], 0);
	assert_int_equal(f->vcpu->seg[FS].selector, RPL3);
	assert_true(load(f, ES, SEL_FRESH_DATA));
	assert_true(peek(f, GDT + SEL_FRESH_DATA, 8) & ACCESSED);
	assert_true(load(f, DS, 8 | IN_LDT));
	assert_false(f->vcpu->shadow);

	assert_load_refused(f, DS, SEL_ABSENT_DATA, VECTOR_NP, SEL_ABSENT_DATA);
	assert_load_refused(f, DS, SEL_EXECUTE_ONLY, VECTOR_GP, SEL_EXECUTE_ONLY);
	assert_load_refused(f, DS, SEL_DATA | RPL3, VECTOR_GP, SEL_DATA);
	assert_load_refused(f, DS, SEL_TSS, VECTOR_GP, SEL_TSS);
	assert_load_refused(f, DS, SEL_END, VECTOR_GP, SEL_END);
	assert_load_refused(f, DS, 0x10 | IN_LDT, VECTOR_GP, 0x10 | IN_LDT);
	f->vcpu->ldt.present = false;
	assert_load_refused(f, DS, 8 | IN_LDT, VECTOR_GP, 8 | IN_LDT);
	run_user(f);
	assert_load_refused(f, DS, SEL_DATA, VECTOR_GP, SEL_DATA);
	assert_true(load(f, DS, SEL_CONFORMING));
	assert_false(load(f, CS, SEL_USER));
	assert_undefined(f);
}

static void test_load_ss(void **state)
{
	struct fixture *f = *state;

	assert_load_refused(f, SS, SEL_READ_ONLY, VECTOR_GP, SEL_READ_ONLY);
	assert_load_refused(f, SS, SEL_ABSENT_DATA, VECTOR_SS, SEL_ABSENT_DATA);
	assert_load_refused(f, SS, SEL_USER_DATA | RPL3, VECTOR_GP, SEL_USER_DATA);
	assert_load_refused(f, SS, SEL_NULL | 1, VECTOR_GP, 0);
	assert_true(load(f, SS, SEL_NULL));
	assert_true(f->vcpu->shadow);
	f->vcpu->shadow = SHADOW_NONE;
	run_user(f);
	assert_load_refused(f, SS, SEL_NULL | RPL3, VECTOR_GP, 0);
}

static void test_store(void **state)
{
	struct fixture *f = *state;
	struct insn insn = far_memory;

	assert_true(load(f, FS, SEL_BASE));
	insn.reg = FS;
	poke(f, FAR_POINTER, ~0ull, 8);
	assert_true(execute(f, segment_mov_from, insn, 4));
	assert_int_equal(peek(f, FAR_POINTER, 4), 0xffff0000 | SEL_BASE);

	insn.has_memory = false;
	insn.rm = RBX;
	insn.opsize = 4;
	f->vcpu->ctx.gpr[RBX] = ~0ull;
	assert_true(execute(f, segment_mov_from, insn, 2));
	assert_int_equal(f->vcpu->ctx.gpr[RBX], SEL_BASE);
	insn.opsize = 2;
	f->vcpu->ctx.gpr[RBX] = ~0ull;
	assert_true(execute(f, segment_mov_from, insn, 3));
	assert_int_equal(f->vcpu->ctx.gpr[RBX], ~0xffffull | SEL_BASE);
	insn.reg = GS + 1;
	assert_false(execute(f, segment_mov_from, insn, 2));
	assert_undefined(f);
}

static void test_push_and_pop(void **state)
{
	struct fixture *f = *state;
	const struct insn push = {.opsize = 8, .opcode = 0xa0}, pop = {.opsize = 8, .opcode = 0xa9};

	assert_true(load(f, FS, SEL_BASE));
	assert_true(execute(f, segment_push, push, 2));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 8);
	assert_int_equal(word(f, 0), SEL_BASE);
	assert_true(execute(f, segment_pop, pop, 2));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK);
	assert_int_equal(f->vcpu->seg[GS].selector, SEL_BASE);
	assert_int_equal(f->vcpu->ctx.base[GS], 0x12000034);

	poke(f, KERNEL_STACK, SEL_ABSENT_DATA, 8);
	assert_false(execute(f, segment_pop, pop, 2));
	assert_raised(f, VECTOR_NP, SEL_ABSENT_DATA);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK);
}

/* ------------------------------------------------------------------ far transfers */

static bool far(struct fixture *f, handler *run, u16 selector, u64 offset)
{
	poke(f, FAR_POINTER, offset, 8);
	poke(f, FAR_POINTER + 8, selector, 2);
	return execute(f, run, far_memory, 3);
}

static void test_jump_and_back(void **state)
{
	struct fixture *f = *state;
	const struct insn back = {
		.opsize = 4,
		.opcode = 0xea,
		.immediate = KERNEL_CODE,
		.immediate2 = SEL_CODE,
	};

	assert_true(far(f, segment_jmp_far, SEL_CODE32, USER_CODE));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_32);
	assert_true(execute(f, segment_jmp_far, back, 7));
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_64);
	assert_true(far(f, segment_jmp_far, SEL_CODE16, 0x1234));
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_16);
	assert_int_equal(f->vcpu->seg[CS].limit, 0xffff);
}

static void assert_jump_refused(struct fixture *f, u16 selector, u64 offset, enum vector vector,
				u32 error)
{
	assert_false(far(f, segment_jmp_far, selector, offset));
	assert_raised(f, vector, error);
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->seg[CS].selector, SEL_CODE);
}

static void test_jump_refused(void **state)
{
	struct fixture *f = *state;

	assert_jump_refused(f, SEL_NULL, 0, VECTOR_GP, 0);
	assert_jump_refused(f, SEL_DATA, 0, VECTOR_GP, SEL_DATA);
	assert_jump_refused(f, SEL_USER, 0, VECTOR_GP, SEL_USER);
	assert_jump_refused(f, SEL_CODE | RPL3, 0, VECTOR_GP, SEL_CODE);
	assert_jump_refused(f, SEL_BOTH_SIZES, 0, VECTOR_GP, SEL_BOTH_SIZES);
	assert_jump_refused(f, SEL_ABSENT_CODE, 0, VECTOR_NP, SEL_ABSENT_CODE);
	assert_jump_refused(f, SEL_TSS, 0, VECTOR_GP, SEL_TSS);
	assert_jump_refused(f, SEL_CODE, NOT_OURS, VECTOR_GP, 0);
	assert_jump_refused(f, SEL_CODE16, 0x10000, VECTOR_GP, 0);
	assert_jump_refused(f, SEL_END | IN_LDT, 0, VECTOR_GP, SEL_END | IN_LDT);
}

static void test_call_and_return(void **state)
{
	struct fixture *f = *state;
	const struct insn ret = {.opsize = 8, .opcode = 0xca, .immediate = 16};

	assert_true(far(f, segment_call_far, SEL_CODE, USER_CODE));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 16);
	assert_int_equal(word(f, 0), KERNEL_CODE + 3);
	assert_int_equal(word(f, 1), SEL_CODE);
	assert_true(execute(f, segment_ret_far, ret, 3));
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE + 3);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK + 16);

	assert_true(far(f, segment_call_far, SEL_CODE32, USER_CODE));
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_32);
	run_kernel(f);
	assert_false(far(f, segment_call_far, SEL_CODE, NOT_OURS));
	assert_raised(f, VECTOR_GP, 0);
	f->vcpu->ctx.gpr[RSP] = UNMAPPED;
	assert_false(far(f, segment_call_far, SEL_CODE, USER_CODE));
	assert_raised(f, VECTOR_PF, 2);
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], UNMAPPED);
}

/* A return to user mode takes along rsp and ss, and leaves the kernel's data segments behind. */
static void test_return_outwards(void **state)
{
	struct fixture *f = *state;
	const u64 words[] = {USER_CODE, SEL_USER | RPL3, USER_STACK, SEL_USER_DATA | RPL3};

	assert_true(load(f, DS, SEL_DATA));
	assert_true(load(f, ES, SEL_USER_DATA));
	assert_true(load(f, GS, SEL_NULL));
	f->vcpu->ctx.base[GS] = 0x123456;
	f->vcpu->ctx.gpr[RSP] = KERNEL_STACK - sizeof(words);
	memcpy(f->ram + KERNEL_STACK - sizeof(words), words, sizeof(words));
	assert_true(execute(f, segment_ret_far, (struct insn){.opsize = 8, .opcode = 0xcb}, 2));
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_USER_DATA | RPL3);
	assert_int_equal(f->vcpu->seg[DS].selector, SEL_NULL);
	assert_int_equal(f->vcpu->seg[ES].selector, SEL_USER_DATA);
	assert_int_equal(f->vcpu->ctx.base[GS], 0x123456);
	assert_int_equal(f->vcpu->mode & MODE_VIEW, VIEW_USER);
}

static void test_call_gate(void **state)
{
	struct fixture *f = *state;

	run_user(f);
	assert_true(far(f, segment_call_far, SEL_GATE | RPL3, 0xffff));
	assert_int_equal(f->vcpu->cpl, 0);
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], RSP0_STACK - 32);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_NULL);
	assert_int_equal(word(f, 0), USER_CODE + 3);
	assert_int_equal(word(f, 1), SEL_USER | RPL3);
	assert_int_equal(word(f, 2), USER_STACK);
	assert_int_equal(word(f, 3), SEL_USER_DATA | RPL3);

	assert_int_equal(f->vcpu->mode & MODE_VIEW, VIEW_KERNEL);
}

static void assert_gate_refused(struct fixture *f, handler *run, u64 low, u64 high,
				enum vector vector, u32 error)
{
	poke(f, GDT + SEL_GATE, low, 8);
	poke(f, GDT + SEL_GATE + 8, high, 8);
	run_user(f);
	assert_false(far(f, run, SEL_GATE | RPL3, 0));
	assert_raised(f, vector, error);
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
}

static void test_call_gate_refused(void **state)
{
	struct fixture *f = *state;
	const u64 to = (u64)SEL_CODE << 16, gate = TYPE(CALL_GATE) | DPL(3) | PRESENT;
	const u64 good = gate | to;

	/* A jump cannot raise anybody. */
	assert_gate_refused(f, segment_jmp_far, good, 0, VECTOR_GP, SEL_CODE);
	/* The second half is a descriptor. */
	assert_gate_refused(f, segment_call_far, good, FLAT | WRITE_DATA, VECTOR_GP, SEL_GATE);
	/* Not for user mode; absent; of 16 bits. */
	assert_gate_refused(f, segment_call_far, good & ~DPL(3), 0, VECTOR_GP, SEL_GATE);
	assert_gate_refused(f, segment_call_far, good & ~PRESENT, 0, VECTOR_NP, SEL_GATE);
	assert_gate_refused(f, segment_call_far, to | TYPE(4) | DPL(3) | PRESENT, 0, VECTOR_GP,
			    SEL_GATE);
	/* It leads nowhere, to what is absent, to 32 bits, and to no address. */
	assert_gate_refused(f, segment_call_far, gate, 0, VECTOR_GP, 0);
	assert_gate_refused(f, segment_call_far, gate | (u64)SEL_ABSENT_CODE << 16, 0, VECTOR_NP,
			    SEL_ABSENT_CODE);
	assert_gate_refused(f, segment_call_far, gate | (u64)SEL_CODE32 << 16, 0, VECTOR_GP,
			    SEL_CODE32);
	assert_gate_refused(f, segment_call_far, good, NOT_OURS >> 32, VECTOR_GP, 0);
	/* The table ends in the middle of it. */
	f->vcpu->gdt.limit = SEL_GATE + 7;
	assert_gate_refused(f, segment_call_far, good, 0, VECTOR_GP, SEL_GATE);
	/* All tables do. */
	f->vcpu->gdt.limit = 0xffff;
	poke(f, GDT, 0, 8);
	poke(f, GDT + 0xfff8, good, 8);
	assert_false(far(f, segment_call_far, 0xfff8 | RPL3, 0));
	assert_raised(f, VECTOR_GP, 0xfff8);
}

static void test_load_far(void **state)
{
	struct fixture *f = *state;
	struct insn lss = far_memory;

	lss.opcode = 0xb2;
	lss.reg = RSP;
	poke(f, FAR_POINTER, KERNEL_STACK - 0x100, 8);
	poke(f, FAR_POINTER + 8, SEL_FRESH_DATA, 2);
	assert_true(execute(f, segment_load_far, lss, 4));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 0x100);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_FRESH_DATA);

	poke(f, FAR_POINTER, 0, 8);
	poke(f, FAR_POINTER + 8, SEL_READ_ONLY, 2);
	assert_false(execute(f, segment_load_far, lss, 4));
	assert_raised(f, VECTOR_GP, SEL_READ_ONLY);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 0x100);

	lss.has_memory = false;
	lss.rm = RAX;
	assert_false(execute(f, segment_load_far, lss, 4));
	assert_undefined(f);
}

/* ------------------------------------------------------------------ the older modes */

static void test_protected_mode(void **state)
{
	struct fixture *f = *state;
	u32 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_OF;

	enter_32bit(f);
	vcpu_set_rflags(f->vcpu, flags);
	fault(f, VECTOR_GP, 0x18);
	assert_int_equal(f->vcpu->ctx.rip, handler_of(VECTOR_GP));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 16);
	assert_int_equal(peek(f, KERNEL_STACK - 16, 4), 0x18);
	assert_int_equal(peek(f, KERNEL_STACK - 12, 4), KERNEL_CODE);
	assert_int_equal(peek(f, KERNEL_STACK - 8, 4), SEL_CODE32);
	assert_int_equal(peek(f, KERNEL_STACK - 4, 4), flags | X86_EFLAGS_RF);

	f->vcpu->ctx.gpr[RSP] += 4;
	assert_true(execute(f, segment_iret, (struct insn){.opsize = 4, .opcode = 0xcf}, 1));
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK);
	assert_int_equal(vcpu_rflags(f->vcpu), flags | X86_EFLAGS_RF);
}

static void test_protected_mode_levels(void **state)
{
	struct fixture *f = *state;

	enter_32bit(f);
	set_gate32(f, VECTOR_OF, SEL_CODE32, TRAP_GATE, 3);
	run_in(f, SEL_USER32 | RPL3, SEL_USER_DATA | RPL3, USER_CODE, USER_STACK);
	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED);
	assert_true(execute(f, interrupt_into, (struct insn){0}, 1));
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE + 1);
	vcpu_set_rflags(f->vcpu, X86_EFLAGS_FIXED | X86_EFLAGS_OF);
	assert_true(execute(f, interrupt_into, (struct insn){0}, 1));
	assert_int_equal(f->vcpu->ctx.rip, handler_of(VECTOR_OF));
	assert_int_equal(f->vcpu->cpl, 0);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_DATA);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], RSP0_STACK - 20);
	assert_int_equal(peek(f, RSP0_STACK - 20, 4), USER_CODE + 2);
	assert_int_equal(peek(f, RSP0_STACK - 16, 4), SEL_USER32 | RPL3);
	assert_int_equal(peek(f, RSP0_STACK - 8, 4), USER_STACK);
	assert_int_equal(peek(f, RSP0_STACK - 4, 4), SEL_USER_DATA | RPL3);

	assert_true(execute(f, segment_iret, (struct insn){.opsize = 4, .opcode = 0xcf}, 1));
	assert_int_equal(f->vcpu->cpl, 3);
	assert_int_equal(f->vcpu->ctx.rip, USER_CODE + 2);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], USER_STACK);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_USER_DATA | RPL3);
}

/* The stack that the TSS names is bad: the TSS is to blame. */
static void test_protected_mode_bad_tss(void **state)
{
	struct fixture *f = *state;

	enter_32bit(f);
	run_in(f, SEL_USER32 | RPL3, SEL_USER_DATA | RPL3, USER_CODE, USER_STACK);
	set_gate32(f, 0x80, SEL_CODE32, INTERRUPT_GATE, 3);
	poke(f, TSS + 8, SEL_USER_DATA | RPL3, 4);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_TS, SEL_USER_DATA);
	poke(f, TSS + 8, SEL_ABSENT_DATA, 4);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_SS, SEL_ABSENT_DATA);
	poke(f, GDT, FLAT | WRITE_DATA | PRESENT, 8);
	poke(f, TSS + 8, SEL_NULL, 4);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_TS, 0);
	f->vcpu->tr.limit = 8;
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_TS, SEL_TSS);
}

/* A stack with an end, a frame from a mode that is not there, and a stack switch by hand. */
static void test_protected_mode_stack(void **state)
{
	struct fixture *f = *state;
	const struct insn pop_ss = {.opsize = 4, .opcode = 0x17};
	const struct insn iret = {.opsize = 4, .opcode = 0xcf};
	struct segment small;

	enter_32bit(f);
	poke(f, KERNEL_STACK - 4, SEL_FRESH_DATA, 4);
	f->vcpu->ctx.gpr[RSP] = KERNEL_STACK - 4;
	assert_true(execute(f, segment_pop, pop_ss, 1));
	assert_true(f->vcpu->shadow);
	assert_int_equal(f->vcpu->seg[SS].selector, SEL_FRESH_DATA);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK);

	poke(f, KERNEL_STACK, KERNEL_CODE, 4);
	poke(f, KERNEL_STACK + 4, SEL_CODE32, 4);
	poke(f, KERNEL_STACK + 8, X86_EFLAGS_FIXED | X86_EFLAGS_VM, 4);
	assert_false(execute(f, segment_iret, iret, 1));
	assert_raised(f, VECTOR_GP, 0);

	small = segment_of(f, SEL_DATA);
	small.limit = KERNEL_STACK + 10;
	vcpu_set_segment(f->vcpu, SS, &small);
	assert_false(execute(f, segment_iret, iret, 1));
	assert_raised(f, VECTOR_SS, 0);
	small.limit = KERNEL_STACK - 2;
	vcpu_set_segment(f->vcpu, SS, &small);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_SS, 0);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK);
	/* It grows the other way: all that is above the limit. */
	small.type = 7;
	vcpu_set_segment(f->vcpu, SS, &small);
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_raised(f, VECTOR_SS, 0);
	small.limit = KERNEL_STACK - 13;
	vcpu_set_segment(f->vcpu, SS, &small);
	assert_true(execute(f, interrupt_int, (struct insn){.immediate = 0x80}, 2));
	assert_int_equal(f->vcpu->ctx.gpr[RSP], KERNEL_STACK - 12);
}

static void test_call_gate_with_parameters(void **state)
{
	struct fixture *f = *state;
	const struct insn call = {.opsize = 4, .opcode = 0x9a, .immediate2 = SEL_GATE | RPL3};

	enter_32bit(f);
	poke(f, GDT + SEL_GATE,
	     (KERNEL_CODE & 0xffff) | (u64)SEL_CODE32 << 16 | 2ull << 32 | TYPE(CALL_GATE) |
		     DPL(3) | PRESENT | (u64)(KERNEL_CODE >> 16) << 48,
	     8);
	run_in(f, SEL_USER32 | RPL3, SEL_USER_DATA | RPL3, USER_CODE, USER_STACK);
	poke(f, USER_STACK, 0x11111111, 4);
	poke(f, USER_STACK + 4, 0x22222222, 4);
	assert_true(execute(f, segment_call_far, call, 7));
	assert_int_equal(f->vcpu->cpl, 0);
	assert_int_equal(f->vcpu->ctx.rip, KERNEL_CODE);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], RSP0_STACK - 24);
	assert_int_equal(peek(f, RSP0_STACK - 24, 4), USER_CODE + 7);
	assert_int_equal(peek(f, RSP0_STACK - 20, 4), SEL_USER32 | RPL3);
	assert_int_equal(peek(f, RSP0_STACK - 16, 4), 0x11111111);
	assert_int_equal(peek(f, RSP0_STACK - 12, 4), 0x22222222);
	assert_int_equal(peek(f, RSP0_STACK - 8, 4), USER_STACK);
	assert_int_equal(peek(f, RSP0_STACK - 4, 4), SEL_USER_DATA | RPL3);
}

static void test_real_mode(void **state)
{
	struct fixture *f = *state;
	u16 flags = X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_CF;

	enter_real(f);
	poke(f, 0x21 * 4, 0x56781234, 4);
	f->vcpu->ctx.gpr[RSP] = 2; /* the frame goes round the end of the segment */
	vcpu_set_rflags(f->vcpu, flags);
	assert_true(execute(f, interrupt_int, (struct insn){.immediate = 0x21}, 2));
	assert_int_equal(f->vcpu->ctx.rip, 0x1234);
	assert_int_equal(f->vcpu->seg[CS].selector, 0x5678);
	assert_int_equal(f->vcpu->ctx.base[CS], 0x56780);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], 0xfffc);
	assert_int_equal(peek(f, 0x10000, 2), flags);
	assert_int_equal(peek(f, 0x1fffe, 2), 0x1000);
	assert_int_equal(peek(f, 0x1fffc, 2), 0x102);
	assert_false(vcpu_rflags(f->vcpu) & X86_EFLAGS_IF);

	f->vcpu->nmi_blocked = true;
	assert_true(execute(f, segment_iret, (struct insn){.opsize = 2, .opcode = 0xcf}, 1));
	assert_int_equal(f->vcpu->ctx.rip, 0x102);
	assert_int_equal(f->vcpu->ctx.base[CS], 0x10000);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], 2);
	assert_int_equal(vcpu_rflags(f->vcpu), flags);
	assert_false(f->vcpu->nmi_blocked);

	f->vcpu->idt.limit = 0x21 * 4 + 2;
	assert_false(execute(f, interrupt_int, (struct insn){.immediate = 0x21}, 2));
	assert_raised(f, VECTOR_GP, 0x21 * 8 + 2);
}

static void test_real_mode_transfers(void **state)
{
	struct fixture *f = *state;
	const struct insn jump = {
		.opsize = 2, .opcode = 0xea, .immediate = 0xfff0, .immediate2 = 0xf000};
	const struct insn call = {
		.opsize = 2, .opcode = 0x9a, .immediate = 0x10, .immediate2 = 0x2000};
	const struct insn ret = {.opsize = 2, .opcode = 0xcb};
	struct insn too_far = jump;

	enter_real(f);
	assert_true(execute(f, segment_call_far, call, 5));
	assert_int_equal(f->vcpu->ctx.base[CS], 0x20000);
	assert_int_equal(f->vcpu->ctx.rip, 0x10);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], 0xffec);
	assert_true(execute(f, segment_ret_far, ret, 1));
	assert_int_equal(f->vcpu->ctx.base[CS], 0x10000);
	assert_int_equal(f->vcpu->ctx.rip, 0x105);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], 0xfff0);

	assert_true(load(f, ES, 0xb800));
	assert_int_equal(f->vcpu->ctx.base[ES], 0xb8000);

	too_far.opsize = 4;
	too_far.immediate = 0x10000;
	assert_false(execute(f, segment_jmp_far, too_far, 8));
	assert_raised(f, VECTOR_GP, 0);
	assert_false(execute(f, segment_call_far, too_far, 8));
	assert_raised(f, VECTOR_GP, 0);
	assert_int_equal(f->vcpu->ctx.gpr[RSP], 0xfff0);
	assert_true(execute(f, segment_jmp_far, jump, 5));
	assert_int_equal(f->vcpu->ctx.base[CS], 0xf0000);
	assert_int_equal(f->vcpu->ctx.rip, 0xfff0);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_16);
}

/* The translator wants to know whether the bases are all 0, and nothing has a limit. */
static void test_real_mode_bases(void **state)
{
	struct fixture *f = *state;
	const struct insn jump = {.opsize = 2, .opcode = 0xea, .immediate2 = 0x1000};

	enter_real(f);
	for (unsigned which = ES; which <= DS; which++)
		f->vcpu->seg[which].limit = UINT32_MAX;
	for (unsigned which = ES; which <= DS; which++)
		if (which != CS)
			assert_true(load(f, which, 0));
	assert_false(f->vcpu->mode & MODE_FLAT);
	f->vcpu->ctx.rip = 0x100;
	assert_true(execute(f, segment_jmp_far, (struct insn){.opsize = 2, .opcode = 0xea}, 5));
	assert_true(f->vcpu->mode & MODE_FLAT);
	assert_true(load(f, ES, 0xb800));
	assert_false(f->vcpu->mode & MODE_FLAT);
	assert_true(load(f, ES, 0));
	assert_true(f->vcpu->mode & MODE_FLAT);
	f->vcpu->seg[SS].limit = UINT32_MAX - 1;
	assert_true(load(f, SS, 0));
	assert_false(f->vcpu->mode & MODE_FLAT);
	f->vcpu->seg[SS].limit = UINT32_MAX;
	assert_true(load(f, SS, 0));
	assert_true(execute(f, segment_jmp_far, jump, 5));
	assert_false(f->vcpu->mode & MODE_FLAT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_exception_same_level),
		T(test_exception_from_user),
		T(test_interrupt),
		T(test_ist),
		T(test_page_fault_sets_cr2),
		T(test_bad_gates),
		T(test_bad_handler_segments),
		T(test_handler_out_of_reach),
		T(test_stack_not_canonical),
		T(test_int_n),
		T(test_int_n_not_allowed),
		T(test_int3_and_int1),
		T(test_double_fault_contributory),
		T(test_double_fault_stack),
		T(test_serial_faults),
		T(test_triple_fault),
		T(test_iret_round_trip),
		T(test_iret_same_level),
		T(test_iret_user_flags),
		T(test_iret_refused),
		T(test_iret_to_compatibility_mode),
		T(test_interrupt_had_to_wait),
		T(test_nmi_had_to_wait),
		T(test_syscall_and_back),
		T(test_sysret_checks),
		T(test_sysenter_and_back),
		T(test_syscall_from_compatibility_mode),
		T(test_load_data),
		T(test_load_ss),
		T(test_store),
		T(test_push_and_pop),
		T(test_jump_and_back),
		T(test_jump_refused),
		T(test_call_and_return),
		T(test_return_outwards),
		T(test_call_gate),
		T(test_call_gate_refused),
		T(test_load_far),
		T(test_protected_mode),
		T(test_protected_mode_levels),
		T(test_protected_mode_bad_tss),
		T(test_protected_mode_stack),
		T(test_call_gate_with_parameters),
		T(test_real_mode),
		T(test_real_mode_transfers),
		T(test_real_mode_bases),
	};

	return cmocka_run_group_tests_name("soft_interrupt", tests, NULL, NULL);
}
