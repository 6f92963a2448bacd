/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the soft engine has of the 386 and older that 64-bit kernels never see:
 * hardware tasks, virtual-8086 mode, ARPL and BOUND. Handlers are called as the
 * run loop would, with tables laid out by hand; paging is off.
 */
#include "soft_vcpu.h"

#include <asm/debugreg.h>

/* The GDT. */
enum {
	CODE = 0x08,
	FLAT_DATA = 0x10,
	USER_CODE = 0x18,
	USER_DATA = 0x20,
	TSS_A = 0x28, /* current, busy */
	TSS_B = 0x30,
	TSS_SMALL = 0x38, /* of 16 bits */
	TSS_ABSENT = 0x40,
	TSS_SHORT = 0x48,
	GATE = 0x50,
	GATE_USER = 0x58, /* anybody may */
	LOCAL = 0x60,
	CONFORMING_CODE = 0x68,
	SMALL_STACK = 0x70, /* data of 16 bits */
	ABSENT_DATA = 0x78,
	GATE_LOCAL = 0x80, /* to a selector of the LDT */
	TSS_USER = 0x88,   /* TSS B, for anybody */
	READ_ONLY = 0x90,
	GDT_END = 0x98,
};

#define PRESENT	  (1ull << 47)
#define DPL(n)	  ((u64)(n) << 45)
#define SEGMENT	  (1ull << 44)
#define TYPE(n)	  ((u64)(n) << 40)
#define BIG	  (1ull << 54)
#define ALL	  (0xfull << 48 | 1ull << 55 | 0xffff)
#define BASE(at)  ((u64)(at) << 16)
#define TO(what)  ((u64)(what) << 16)
#define BUSY_BIT  (2ull << 40)
#define LIMIT_32  0x67u
#define LIMIT_16  0x2bu
#define IS_LOCAL  4u
#define TASK_GATE 5

#define A	TSS
#define B	(TSS + 0x100)
#define SMALL	(TSS + 0x200)
#define IDT	0xb000u
#define B_STACK 0x30000u
#define B_RIP	0x6000u
#define RING0	0x28000u
#define HANDLER 0x5000u
#define TARGET	0x6100u

/* Offsets in a TSS of 32 bits: Intel SDM 3A, "32-Bit Task-State Segment". */
enum {
	LINK = 0,
	ESP0 = 4,
	SS0 = 8,
	CR3_AT = 0x1c,
	EIP = 0x20,
	EFLAGS = 0x24,
	EAX = 0x28,
	EBX = 0x34,
	ESP_AT = 0x38,
	ES_AT = 0x48,
	CS_AT = 0x4c,
	SS_AT = 0x50,
	DS_AT = 0x54,
	FS_AT = 0x58,
	GS_AT = 0x5c,
	LDT_AT = 0x60,
	TRAP = 0x64,
};

static void put32(struct fixture *f, u64 at, u32 value)
{
	memcpy(f->ram + at, &value, sizeof(value));
}

static u32 get32(const struct fixture *f, u64 at)
{
	u32 value;

	memcpy(&value, f->ram + at, sizeof(value));
	return value;
}

static u16 get16(const struct fixture *f, u64 at)
{
	return (u16)get32(f, at);
}

static bool busy(struct fixture *f, u16 selector)
{
	return get64(f, GDT + selector) & BUSY_BIT;
}

static void lay_out(struct fixture *f)
{
	static const u64 entries[GDT_END / 8] = {
		[CODE / 8] = ALL | SEGMENT | TYPE(10) | PRESENT | BIG,
		[FLAT_DATA / 8] = ALL | SEGMENT | TYPE(2) | PRESENT | BIG,
		[USER_CODE / 8] = ALL | SEGMENT | TYPE(11) | PRESENT | BIG | DPL(3),
		[USER_DATA / 8] = ALL | SEGMENT | TYPE(3) | PRESENT | BIG | DPL(3),
		[TSS_A / 8] = BASE(A) | LIMIT_32 | TYPE(11) | PRESENT,
		[TSS_B / 8] = BASE(B) | LIMIT_32 | TYPE(9) | PRESENT,
		[TSS_SMALL / 8] = BASE(SMALL) | LIMIT_16 | TYPE(1) | PRESENT,
		[TSS_ABSENT / 8] = BASE(B) | LIMIT_32 | TYPE(9),
		[TSS_SHORT / 8] = BASE(B) | (LIMIT_32 - 1) | TYPE(9) | PRESENT,
		[GATE / 8] = TO(TSS_B) | TYPE(TASK_GATE) | PRESENT,
		[GATE_USER / 8] = TO(TSS_B) | TYPE(TASK_GATE) | PRESENT | DPL(3),
		[LOCAL / 8] = BASE(LDT) | 0xf | TYPE(2) | PRESENT,
		[CONFORMING_CODE / 8] = ALL | SEGMENT | TYPE(15) | PRESENT | BIG,
		[SMALL_STACK / 8] = 0xffff | SEGMENT | TYPE(3) | PRESENT,
		[ABSENT_DATA / 8] = ALL | SEGMENT | TYPE(3) | BIG,
		[GATE_LOCAL / 8] = TO(TSS_B | IS_LOCAL) | TYPE(TASK_GATE) | PRESENT,
		[TSS_USER / 8] = BASE(B) | LIMIT_32 | TYPE(9) | PRESENT | DPL(3),
		[READ_ONLY / 8] = ALL | SEGMENT | TYPE(1) | PRESENT | BIG,
	};

	memcpy(f->ram + GDT, entries, sizeof(entries));
	put64(f, LDT + 8, ALL | SEGMENT | TYPE(3) | PRESENT | BIG);
	f->vcpu->gdt = (struct descriptor_table){.base = GDT, .limit = GDT_END - 1};
	f->vcpu->idt = (struct descriptor_table){.base = IDT, .limit = 0x7ff};
}

/* A task that would run. */
static void lay_out_task(struct fixture *f, u64 at)
{
	put32(f, at + EIP, B_RIP);
	put32(f, at + EFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_CF);
	for (unsigned i = 0; i < 8; i++)
		put32(f, at + EAX + 4 * i, 0x1000 + i);
	put32(f, at + ESP_AT, B_STACK);
	put32(f, at + ES_AT, FLAT_DATA);
	put32(f, at + CS_AT, CODE);
	put32(f, at + SS_AT, FLAT_DATA);
	put32(f, at + DS_AT, FLAT_DATA);
	put32(f, at + FS_AT, 8 | IS_LOCAL);
	put32(f, at + GS_AT, 0);
	put32(f, at + LDT_AT, LOCAL);
}

static void set_segment(struct vcpu *vcpu, unsigned which, u16 selector, unsigned type)
{
	struct segment segment = flat(selector & SELECTOR_RPL);

	segment.selector = selector;
	segment.type = type;
	vcpu_set_segment(vcpu, which, &segment);
}

static void enter_protected(struct fixture *f, unsigned cpl)
{
	struct vcpu *vcpu = f->vcpu;
	u16 data = cpl ? USER_DATA | 3 : FLAT_DATA;

	lay_out(f);
	lay_out_task(f, B);
	mode_32(vcpu, cpl);
	set_segment(vcpu, CS, cpl ? USER_CODE | 3 : CODE, 11);
	set_segment(vcpu, SS, data, 3);
	set_segment(vcpu, DS, data, 3);
	set_segment(vcpu, ES, data, 3);
	put32(f, A + ESP0, RING0);
	put32(f, A + SS0, FLAT_DATA);
	vcpu->tr = (struct segment){.selector = TSS_A,
				    .base = A,
				    .limit = LIMIT_32,
				    .type = SYSTEM_TSS_BUSY,
				    .present = true};
	vcpu->ldt = (struct segment){0};
	vcpu_set_rflags(vcpu, X86_EFLAGS_FIXED | X86_EFLAGS_ZF);
	vcpu_update_mode(vcpu);
}

static struct insn far(u16 selector)
{
	struct insn insn = plain;

	insn.immediate = TARGET;
	insn.immediate2 = selector;
	return insn;
}

static void set_gate(struct fixture *f, u8 vector, u16 selector, unsigned type, unsigned dpl)
{
	put64(f, IDT + vector * 8, HANDLER | TO(selector) | TYPE(type) | PRESENT | DPL(dpl));
}

static struct insn int_n(u8 vector)
{
	struct insn insn = plain;

	insn.immediate = vector;
	return insn;
}

/* ------------------------------------------------------------------ tasks */

static void check_in_b(struct fixture *f, u16 tss, u64 flags)
{
	struct vcpu *vcpu = f->vcpu;

	assert_int_equal(vcpu->ctx.rip, B_RIP);
	assert_int_equal(vcpu_rflags(vcpu), flags | X86_EFLAGS_FIXED | X86_EFLAGS_CF);
	assert_int_equal(vcpu->ctx.gpr[RAX], 0x1000);
	assert_int_equal(vcpu->ctx.gpr[RDI], 0x1007);
	assert_int_equal(vcpu->tr.selector, tss);
	assert_int_equal(vcpu->tr.base, B);
	assert_int_equal(vcpu->tr.type, SYSTEM_TSS_BUSY);
	assert_int_equal(vcpu->seg[CS].selector, CODE);
	assert_int_equal(vcpu->seg[SS].selector, FLAT_DATA);
	assert_int_equal(vcpu->seg[FS].selector, 8 | IS_LOCAL);
	assert_true(vcpu->seg[FS].present);
	assert_false(vcpu->seg[GS].present);
	assert_int_equal(vcpu->ldt.base, LDT);
	assert_int_equal(vcpu->cpl, 0);
	assert_true(vcpu->cr0 & X86_CR0_TS);
	assert_true(busy(f, tss));
}

/* What of us is in TSS A, to go on behind the instruction. */
static void check_saved(struct fixture *f, u32 rip, u32 flags)
{
	assert_int_equal(get32(f, A + EIP), rip);
	assert_int_equal(get32(f, A + EFLAGS), flags | X86_EFLAGS_FIXED | X86_EFLAGS_ZF);
	assert_int_equal(get32(f, A + EBX), 0xb0b);
	assert_int_equal(get32(f, A + ESP_AT), STACK);
	assert_int_equal(get16(f, A + DS_AT), f->vcpu->cpl ? USER_DATA | 3 : FLAT_DATA);
}

static void test_jump(void **state)
{
	struct fixture *f = *state;

	enter_protected(f, 0);
	f->vcpu->ctx.gpr[RBX] = 0xb0b;
	f->vcpu->dr[DR_CONTROL] = 0x7ff;
	put32(f, A + CS_AT, 0xdead0000);
	assert_true(run(f, segment_jmp_far, far(TSS_B)));
	check_in_b(f, TSS_B, 0);
	check_saved(f, RIP + LENGTH, 0);
	assert_int_equal(get32(f, A + CS_AT), 0xdead0000 | CODE);
	assert_false(busy(f, TSS_A));
	assert_int_equal(f->vcpu->dr[DR_CONTROL], 0x6aa);
	assert_int_equal(f->vcpu->mode & MODE_CODE, MODE_CODE_32);
	assert_true(get64(f, GDT + CODE) >> 40 & TYPE_ACCESSED);
}

static void test_call_and_return(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	vcpu->ctx.gpr[RBX] = 0xb0b;
	assert_true(run(f, segment_call_far, far(GATE)));
	check_in_b(f, TSS_B, X86_EFLAGS_NT);
	check_saved(f, RIP + LENGTH, 0);
	assert_true(busy(f, TSS_A));
	assert_int_equal(get16(f, B + LINK), TSS_A);

	assert_true(run(f, segment_iret, plain));
	assert_int_equal(vcpu->ctx.rip, RIP + LENGTH);
	assert_int_equal(vcpu->ctx.gpr[RBX], 0xb0b);
	assert_int_equal(vcpu->ctx.gpr[RSP], STACK);
	assert_int_equal(vcpu_rflags(vcpu), X86_EFLAGS_FIXED | X86_EFLAGS_ZF);
	assert_int_equal(vcpu->tr.selector, TSS_A);
	assert_true(busy(f, TSS_A));
	assert_false(busy(f, TSS_B));
	/* And that one would find itself behind its IRET, without NT. */
	assert_int_equal(get32(f, B + EIP), RIP + LENGTH);
	assert_int_equal(get32(f, B + EFLAGS), X86_EFLAGS_FIXED | X86_EFLAGS_CF);
}

static void test_who_may(void **state)
{
	struct fixture *f = *state;

	enter_protected(f, 3);
	assert_error(f, segment_jmp_far, far(TSS_B), VECTOR_GP, TSS_B);
	assert_error(f, segment_call_far, far(GATE), VECTOR_GP, GATE);
	f->vcpu->ctx.gpr[RBX] = 0xb0b;
	assert_true(run(f, segment_call_far, far(GATE_USER | 3)));
	check_in_b(f, TSS_B, X86_EFLAGS_NT);
	/* Back to where the level is 3. */
	assert_true(run(f, segment_iret, plain));
	assert_int_equal(f->vcpu->cpl, 3);
	lay_out_task(f, B);
	assert_true(run(f, segment_jmp_far, far(TSS_USER)));
	check_in_b(f, TSS_USER, 0);
}

static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	assert_error(f, segment_jmp_far, far(TSS_A), VECTOR_GP, TSS_A);
	assert_error(f, segment_jmp_far, far(TSS_B | 1), VECTOR_GP, TSS_B);
	assert_error(f, segment_jmp_far, far(TSS_ABSENT), VECTOR_NP, TSS_ABSENT);
	assert_error(f, segment_jmp_far, far(TSS_SHORT), VECTOR_TS, TSS_SHORT);
	assert_error(f, segment_call_far, far(GATE_LOCAL), VECTOR_GP, TSS_B | IS_LOCAL);
	put64(f, GDT + GATE, TO(GDT_END) | TYPE(TASK_GATE) | PRESENT);
	assert_error(f, segment_call_far, far(GATE), VECTOR_GP, GDT_END);
	put64(f, GDT + GATE, TO(TSS_B) | TYPE(TASK_GATE));
	assert_error(f, segment_call_far, far(GATE), VECTOR_NP, GATE);

	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) | X86_EFLAGS_NT);
	put32(f, A + LINK, TSS_B);
	assert_error(f, segment_iret, plain, VECTOR_TS, TSS_B); /* not busy */
	put32(f, A + LINK, TSS_B | IS_LOCAL);
	assert_error(f, segment_iret, plain, VECTOR_TS, TSS_B | IS_LOCAL);
	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) & ~X86_EFLAGS_NT);

	vcpu->tr.limit = 0x5e;
	assert_error(f, segment_jmp_far, far(TSS_B), VECTOR_TS, TSS_A);
	assert_int_equal(vcpu->tr.selector, TSS_A);
	assert_int_equal(get32(f, A + EIP), 0);
	assert_false(vcpu->cr0 & X86_CR0_TS);
}

/* What is wrong with the new task is the new task's fault. */
static void check_late(struct fixture *f, unsigned at, u16 selector, u8 vector, u32 error)
{
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	put32(f, B + at, selector);
	assert_error(f, segment_jmp_far, far(TSS_B), vector, error);
	assert_int_equal(vcpu->tr.selector, TSS_B);
	assert_int_equal(vcpu->insn_rip, B_RIP);
	assert_int_equal(get32(f, A + EIP), RIP + LENGTH);
}

static void test_late_faults(void **state)
{
	struct fixture *f = *state;

	check_late(f, CS_AT, 0, VECTOR_TS, 0);
	check_late(f, CS_AT, FLAT_DATA, VECTOR_TS, FLAT_DATA);
	check_late(f, CS_AT, CODE | 3, VECTOR_TS, CODE);
	check_late(f, SS_AT, 0, VECTOR_TS, 0);
	check_late(f, SS_AT, READ_ONLY, VECTOR_TS, READ_ONLY);
	check_late(f, SS_AT, ABSENT_DATA, VECTOR_SS, ABSENT_DATA);
	check_late(f, DS_AT, ABSENT_DATA, VECTOR_NP, ABSENT_DATA);
	check_late(f, ES_AT, TSS_A, VECTOR_TS, TSS_A);
	check_late(f, GS_AT, GDT_END, VECTOR_TS, GDT_END);
	check_late(f, LDT_AT, TSS_A, VECTOR_TS, TSS_A);
	check_late(f, LDT_AT, LOCAL | IS_LOCAL, VECTOR_TS, LOCAL | IS_LOCAL);
}

/* Linux on i386: the one user. */
static void test_double_fault(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	vcpu->ctx.gpr[RBX] = 0xb0b;
	put64(f, IDT + VECTOR_DF * 8, TO(TSS_B) | TYPE(TASK_GATE) | PRESENT);
	vcpu->ctx.rip = RIP;
	vcpu->cr2 = 0;
	vcpu->ctx.gpr[RSP] = STACK;
	raise_error(vcpu, VECTOR_GP, 0x18); /* there is no gate for #GP, nor for what follows */
	interrupt_deliver_exception(vcpu);
	check_in_b(f, TSS_B, X86_EFLAGS_NT);
	check_saved(f, RIP, 0);
	assert_int_equal(vcpu->ctx.gpr[RSP], B_STACK - 4);
	assert_int_equal(get32(f, B_STACK - 4), 0);
	assert_int_equal(get16(f, B + LINK), TSS_A);
	assert_true(machine_running(&f->machine));
}

/* With an error code, RF for the old task, and EXT where the way fails. */
static void test_fault_through_gate(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	vcpu->ctx.gpr[RBX] = 0xb0b;
	put64(f, IDT + VECTOR_GP * 8, TO(TSS_B) | TYPE(TASK_GATE) | PRESENT);
	vcpu->ctx.rip = RIP;
	raise_error(vcpu, VECTOR_GP, 0x1230);
	interrupt_deliver_exception(vcpu);
	check_in_b(f, TSS_B, X86_EFLAGS_NT);
	check_saved(f, RIP, X86_EFLAGS_RF);
	assert_int_equal(get32(f, B_STACK - 4), 0x1230);

	enter_protected(f, 0);
	put64(f, IDT + 0x20 * 8, TO(TSS_ABSENT) | TYPE(TASK_GATE) | PRESENT);
	set_gate(f, VECTOR_NP, CODE, SYSTEM_INTERRUPT_GATE, 0);
	interrupt_deliver(vcpu, 0x20);
	assert_int_equal(vcpu->ctx.rip, HANDLER);
	assert_int_equal(get32(f, vcpu->ctx.gpr[RSP]), TSS_ABSENT | ERROR_EXTERNAL);
	assert_error(f, interrupt_int, int_n(0x20), VECTOR_NP, TSS_ABSENT);
}

static void test_small_task(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	const u16 words[] = {0, 0, 0, 0, 0, 0, 0, B_RIP, X86_EFLAGS_FIXED, 1, 2, 3, 4, 0x4000, 6, 7,
			     8,
			     /* es, cs, ss, ds, ldt */
			     FLAT_DATA, CODE, SMALL_STACK, FLAT_DATA, 0};

	enter_protected(f, 0);
	memcpy(f->ram + SMALL, words, sizeof(words));
	vcpu->ctx.gpr[RBX] = 0xb0b;
	assert_true(run(f, segment_call_far, far(TSS_SMALL)));
	assert_int_equal(vcpu->tr.type, SYSTEM_TSS_16_BUSY);
	assert_int_equal(vcpu->ctx.rip, B_RIP);
	assert_int_equal(vcpu->ctx.gpr[RAX], 1);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0x4000);
	assert_int_equal(vcpu->seg[SS].selector, SMALL_STACK);
	assert_int_equal(vcpu->seg[FS].selector, 0);
	assert_int_equal(get16(f, SMALL + LINK), TSS_A);
	check_saved(f, RIP + LENGTH, 0);

	vcpu->ctx.gpr[RAX] = 0x12345678;
	assert_true(run(f, segment_iret, plain));
	assert_int_equal(vcpu->ctx.gpr[RBX], 0xb0b);
	assert_int_equal(vcpu->tr.type, SYSTEM_TSS_BUSY);
	assert_int_equal(get16(f, SMALL + 0x12), 0x5678);
	assert_int_equal(get16(f, SMALL + 0xe), RIP + LENGTH);
}

static void test_trap_bit(void **state)
{
	struct fixture *f = *state;
	struct insn insn = far(TSS_B);
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	put32(f, B + TRAP, 1);
	vcpu->ctx.rip = RIP + LENGTH;
	assert_true(segment_jmp_far(vcpu, &insn));
	assert_true(vcpu->exception.pending);
	assert_int_equal(vcpu->exception.vector, VECTOR_DB);
	assert_true(vcpu->dr[DR_STATUS] & DR_SWITCH);
	check_in_b(f, TSS_B, 0);
}

static void test_task_of_v86(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 0);
	put32(f, B + EFLAGS, X86_EFLAGS_FIXED | X86_EFLAGS_VM);
	put32(f, B + CS_AT, 0x1234);
	put32(f, B + SS_AT, 0x2000);
	put32(f, B + GS_AT, 0xffff);
	put32(f, B + EIP, 0x10);
	assert_true(run(f, segment_jmp_far, far(TSS_B)));
	assert_int_equal(vcpu->cpl, 3);
	assert_int_equal(vcpu->ctx.base[CS], 0x12340);
	assert_int_equal(vcpu->ctx.base[GS], 0xffff0);
	assert_int_equal(vcpu->mode & MODE_CODE, MODE_CODE_16);
}

/* ------------------------------------------------------------------ virtual-8086 mode */

/* By IRET, as one gets there. */
static void enter_v86(struct fixture *f, u64 iopl)
{
	struct vcpu *vcpu = f->vcpu;
	const u32 frame[] = {
		0x100,
		0x1000,
		X86_EFLAGS_FIXED | X86_EFLAGS_VM | X86_EFLAGS_IF | iopl << X86_EFLAGS_IOPL_BIT,
		0xfff0,
		0x2000,
		0x3000,
		0x4000,
		0x5000,
		0x6000};

	enter_protected(f, 0);
	vcpu->ctx.gpr[RSP] = STACK - sizeof(frame);
	memcpy(f->ram + STACK - sizeof(frame), frame, sizeof(frame));
	assert_true(run(f, segment_iret, plain));
}

static void test_v86_entry(void **state)
{
	static const u16 selectors[] = {0x3000, 0x1000, 0x2000, 0x4000, 0x5000, 0x6000};
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_v86(f, 0);
	assert_int_equal(vcpu->cpl, 3);
	assert_int_equal(vcpu->ctx.rip, 0x100);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0xfff0);
	assert_int_equal(vcpu_rflags(vcpu), X86_EFLAGS_FIXED | X86_EFLAGS_VM | X86_EFLAGS_IF);
	for (unsigned i = ES; i <= GS; i++) {
		assert_int_equal(vcpu->seg[i].selector, selectors[i]);
		assert_int_equal(vcpu->ctx.base[i], selectors[i] << 4);
		assert_int_equal(vcpu->seg[i].limit, 0xffff);
		assert_int_equal(vcpu->seg[i].dpl, 3);
	}
	assert_int_equal(vcpu->mode & (MODE_VIEW | MODE_CODE | MODE_STACK_16),
			 VIEW_USER | MODE_CODE_16 | MODE_STACK_16);
}

/* Only the kernel, only with VM in 32 bits of flags, only to where the segment reaches. */
static void test_v86_not_entered(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	const u32 frame[] = {0x10000, 0x1000, X86_EFLAGS_FIXED | X86_EFLAGS_VM, 0, 0, 0, 0, 0, 0};
	const u32 same[] = {TARGET, USER_CODE | 3, X86_EFLAGS_FIXED | X86_EFLAGS_VM};

	enter_protected(f, 0);
	vcpu->ctx.gpr[RSP] = STACK;
	memcpy(f->ram + STACK, frame, sizeof(frame));
	assert_error(f, segment_iret, plain, VECTOR_GP, 0);
	assert_int_equal(vcpu->cpl, 0);

	enter_protected(f, 3);
	memcpy(f->ram + STACK, same, sizeof(same));
	assert_true(run(f, segment_iret, plain));
	assert_int_equal(vcpu->ctx.rip, TARGET);
	assert_false(vcpu_rflags(vcpu) & X86_EFLAGS_VM);
}

static void test_v86_interrupt(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	const u32 expected[] = {0x100,	0x1000, X86_EFLAGS_FIXED | X86_EFLAGS_VM | X86_EFLAGS_IF,
				0xfff0, 0x2000, 0x3000,
				0x4000, 0x5000, 0x6000};

	enter_v86(f, 0);
	set_gate(f, 0x20, CODE, SYSTEM_INTERRUPT_GATE, 0);
	interrupt_deliver(vcpu, 0x20);
	assert_int_equal(vcpu->ctx.rip, HANDLER);
	assert_int_equal(vcpu->cpl, 0);
	assert_int_equal(vcpu->ctx.gpr[RSP], RING0 - sizeof(expected));
	assert_memory_equal(f->ram + RING0 - sizeof(expected), expected, sizeof(expected));
	assert_int_equal(vcpu_rflags(vcpu), X86_EFLAGS_FIXED);
	assert_int_equal(vcpu->seg[SS].selector, FLAT_DATA);
	for (unsigned i = 0; i < 6; i++)
		if (i != CS && i != SS) {
			assert_int_equal(vcpu->seg[i].selector, 0);
			assert_false(vcpu->seg[i].present);
		}
	/* And back. */
	assert_true(run(f, segment_iret, plain));
	assert_int_equal(vcpu->ctx.base[GS], 0x60000);
	assert_int_equal(vcpu->cpl, 3);
}

static void test_v86_handlers(void **state)
{
	struct fixture *f = *state;

	enter_v86(f, 3);
	set_gate(f, 0x20, CONFORMING_CODE, SYSTEM_INTERRUPT_GATE, 3);
	assert_error(f, interrupt_int, int_n(0x20), VECTOR_GP, CONFORMING_CODE);
	set_gate(f, 0x20, USER_CODE, SYSTEM_INTERRUPT_GATE, 3);
	assert_error(f, interrupt_int, int_n(0x20), VECTOR_GP, USER_CODE);
	set_gate(f, 0x20, CODE, SYSTEM_INTERRUPT_GATE, 0);
	assert_error(f, interrupt_int, int_n(0x20), VECTOR_GP, 0x20 * 8 | ERROR_IDT);
	set_gate(f, 0x20, CODE, SYSTEM_INTERRUPT_GATE, 3);
	assert_true(run(f, interrupt_int, int_n(0x20)));
}

/* Sensitive to IOPL, and those that are not. */
static void test_v86_sensitive(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn small = plain;

	small.opsize = 2;
	enter_v86(f, 2);
	set_gate(f, 0x20, CODE, SYSTEM_INTERRUPT_GATE, 3);
	set_gate(f, VECTOR_BP, CODE, SYSTEM_INTERRUPT_GATE, 3);
	assert_error(f, interrupt_int, int_n(0x20), VECTOR_GP, 0);
	assert_error(f, segment_iret, small, VECTOR_GP, 0);
	assert_error(f, system_pushf, small, VECTOR_GP, 0);
	assert_error(f, system_popf, small, VECTOR_GP, 0);
	assert_error(f, system_cli, plain, VECTOR_GP, 0);
	assert_error(f, system_hlt, plain, VECTOR_GP, 0);
	assert_fault(f, system_lar, with_register(RAX, 2), VECTOR_UD);
	assert_fault(f, system_str, with_register(RAX, 2), VECTOR_UD);
	assert_true(run(f, interrupt_int3, plain));

	enter_v86(f, 3);
	assert_done(f, system_pushf, small);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0xffee);
	assert_int_equal(get16(f, 0x2ffee), X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_IOPL);
	assert_done(f, system_cli, plain);
	/* Its own IRET: like that of real mode, but IOPL and VM stay. */
	vcpu->ctx.gpr[RSP] = 0x8000;
	put64(f, 0x28000, 0x0202ull << 32 | 0x4321u << 16 | 0x8888);
	assert_true(run(f, segment_iret, small));
	assert_int_equal(vcpu->ctx.rip, 0x8888);
	assert_int_equal(vcpu->ctx.base[CS], 0x43210);
	assert_int_equal(vcpu_rflags(vcpu),
			 X86_EFLAGS_FIXED | X86_EFLAGS_IF | X86_EFLAGS_VM | X86_EFLAGS_IOPL);
	assert_int_equal(vcpu->cpl, 3);
}

static void test_v86_segments(void **state)
{
	struct fixture *f = *state;
	struct insn insn = with_register(RAX, 2);

	enter_v86(f, 0);
	insn.reg = DS;
	f->vcpu->ctx.gpr[RAX] = 0x7777;
	assert_done(f, segment_mov_to, insn);
	assert_int_equal(f->vcpu->ctx.base[DS], 0x77770);
	insn = far(0x2222);
	insn.immediate = 0x3333;
	assert_true(run(f, segment_jmp_far, insn));
	assert_int_equal(f->vcpu->ctx.base[CS], 0x22220);
	assert_int_equal(f->vcpu->ctx.rip, 0x3333);
	assert_int_equal(f->vcpu->cpl, 3);
	f->vcpu->sysenter_cs = CODE;
	f->vcpu->sysenter_esp = RING0;
	f->vcpu->sysenter_eip = HANDLER;
	assert_true(run(f, segment_sysenter, plain));
	assert_int_equal(f->vcpu->cpl, 0);
	assert_false(vcpu_rflags(f->vcpu) & (X86_EFLAGS_VM | X86_EFLAGS_IF));
	assert_int_equal(f->vcpu->ctx.rip, HANDLER);
}

/* Ports are for whom the map allows them, whatever IOPL says. */
static void test_v86_ports(void **state)
{
	struct fixture *f = *state;
	struct insn in = plain;

	in.opcode = 0xec;
	in.opsize = 1;
	enter_v86(f, 3);
	f->vcpu->ctx.gpr[RDX] = PORT_BASE;
	assert_error(f, system_in, in, VECTOR_GP, 0);
	f->vcpu->tr.limit = 0x2000;
	put32(f, A + 0x64, 0x68u << 16);
	assert_done(f, system_in, in);
	f->ram[A + 0x68 + PORT_BASE / 8] = 1;
	assert_error(f, system_in, in, VECTOR_GP, 0);
}

/* ------------------------------------------------------------------ odds and ends */

/* A new stack of 16 bits: all of ESP is from the TSS, and only SP moves. */
static void test_small_inner_stack(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	enter_protected(f, 3);
	vcpu->ctx.gpr[RSP] = 0x00555000;
	vcpu->ctx.rip = RIP;
	put32(f, A + ESP0, 0xabcd0008);
	put32(f, A + SS0, SMALL_STACK);
	set_gate(f, 0x20, CODE, SYSTEM_INTERRUPT_GATE, 0);
	interrupt_deliver(vcpu, 0x20);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0xabcdfff4);
	assert_int_equal(get32(f, 4), USER_DATA | 3);
	assert_int_equal(get32(f, 0), 0x00555000);
	assert_int_equal(get32(f, 0xfff4), RIP);
}

static void test_arpl(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_register(RAX, 2);

	enter_protected(f, 3);
	insn.reg = RBX;
	vcpu->ctx.gpr[RAX] = 0xaaaa0021;
	vcpu->ctx.gpr[RBX] = 3;
	vcpu->ctx.arith = 0;
	assert_done(f, legacy_arpl, insn);
	assert_int_equal(vcpu->ctx.gpr[RAX], 0xaaaa0023);
	assert_true(vcpu->ctx.arith & X86_EFLAGS_ZF);
	assert_done(f, legacy_arpl, insn);
	assert_int_equal(vcpu->ctx.gpr[RAX], 0xaaaa0023);
	assert_false(vcpu->ctx.arith & X86_EFLAGS_ZF);
	mode_real(vcpu);
	assert_fault(f, legacy_arpl, insn, VECTOR_UD);
}

static void test_bound(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_memory(DATA);

	enter_protected(f, 3);
	put32(f, DATA, (u32)-5);
	put32(f, DATA + 4, 5);
	insn.reg = RCX;
	vcpu->ctx.gpr[RCX] = (u32)-5;
	assert_done(f, legacy_bound, insn);
	vcpu->ctx.gpr[RCX] = 5;
	assert_done(f, legacy_bound, insn);
	vcpu->ctx.gpr[RCX] = 6;
	assert_fault(f, legacy_bound, insn, VECTOR_BR);
	vcpu->ctx.gpr[RCX] = (u32)-6;
	assert_fault(f, legacy_bound, insn, VECTOR_BR);
	assert_false(vcpu->exception.has_error);

	insn.opsize = 2;
	put32(f, DATA, 0x0001ffff);
	vcpu->ctx.gpr[RCX] = 0x5555ffff;
	assert_done(f, legacy_bound, insn);
	vcpu->ctx.gpr[RCX] = 2;
	assert_fault(f, legacy_bound, insn, VECTOR_BR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_jump),
		TEST(test_call_and_return),
		TEST(test_who_may),
		TEST(test_refused),
		TEST(test_late_faults),
		TEST(test_double_fault),
		TEST(test_fault_through_gate),
		TEST(test_small_task),
		TEST(test_trap_bit),
		TEST(test_task_of_v86),
		TEST(test_v86_entry),
		TEST(test_v86_not_entered),
		TEST(test_v86_interrupt),
		TEST(test_v86_handlers),
		TEST(test_v86_sensitive),
		TEST(test_v86_segments),
		TEST(test_v86_ports),
		TEST(test_small_inner_stack),
		TEST(test_arpl),
		TEST(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
