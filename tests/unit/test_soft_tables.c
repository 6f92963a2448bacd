/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptor tables of the soft engine: the registers that point to them, and what
 * may be learnt from them.
 */
#include "soft_vcpu.h"

static void test_table_registers(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_memory(DATA);

	mode_64(vcpu, 0);
	put64(f, DATA, 0x800012345678abcd);
	put64(f, DATA + 8, 0xffff);
	assert_done(f, system_lgdt, insn);
	assert_int_equal(vcpu->gdt.limit, 0xabcd);
	assert_int_equal(vcpu->gdt.base, 0xffff800012345678);
	put64(f, DATA + 8, 0);
	assert_error(f, system_lidt, insn, VECTOR_GP, 0);

	/* As a user, without UMIP. 10 bytes, no more. */
	mode_64(vcpu, 3);
	put64(f, DATA + 8, ~0ull);
	assert_done(f, system_sgdt, insn);
	assert_int_equal(get64(f, DATA), 0x800012345678abcd);
	assert_int_equal(get64(f, DATA + 8), ~0ull);

	mode_32(vcpu, 0);
	assert_done(f, system_lidt, insn);
	assert_int_equal(vcpu->idt.base, 0x12345678);
	insn.opsize = 2;
	assert_done(f, system_lidt, insn);
	assert_int_equal(vcpu->idt.base, 0x345678);
	vcpu->idt.base = 0xfedcba98;
	put64(f, DATA, ~0ull);
	assert_done(f, system_sidt, insn);
	assert_int_equal(get64(f, DATA), 0xfffffedcba98abcd);
}

/* Base 0x12345678, limit 0x67 of bytes. */
static u64 system_descriptor(unsigned type, unsigned dpl, bool present)
{
	return 0x1200003456780067 | (u64)type << 40 | (u64)dpl << 45 | (u64)present << 47;
}

#define ENTRY(n) ((n)*8)

static void set_gdt(struct fixture *f, unsigned entry, u64 low, u64 high)
{
	put64(f, GDT + ENTRY(entry), low);
	put64(f, GDT + ENTRY(entry + 1), high);
	f->vcpu->gdt = (struct descriptor_table){GDT, ENTRY(16) - 1};
}

static void test_task_register(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_register(RBX, 2);
	u64 *rbx = &vcpu->ctx.gpr[RBX];

	mode_64(vcpu, 0);
	set_gdt(f, 4, system_descriptor(SYSTEM_TSS, 3, true), 0xffff8000);
	*rbx = ENTRY(4) | 3;
	assert_done(f, system_ltr, insn);
	assert_int_equal(vcpu->tr.base, 0xffff800012345678);
	assert_int_equal(vcpu->tr.limit, 0x67);
	assert_int_equal(vcpu->tr.type, SYSTEM_TSS_BUSY);
	assert_int_equal(vcpu->tr.selector, ENTRY(4) | 3);
	assert_int_equal(get64(f, GDT + ENTRY(4)), system_descriptor(SYSTEM_TSS_BUSY, 3, true));
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4)); /* busy by now */

	set_gdt(f, 4, system_descriptor(SYSTEM_TSS, 0, false), 0);
	assert_error(f, system_ltr, insn, VECTOR_NP, ENTRY(4));
	set_gdt(f, 4, system_descriptor(SYSTEM_LDT, 0, true), 0);
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4));
	set_gdt(f, 4, system_descriptor(SYSTEM_TSS_16, 0, true), 0);
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4));
	set_gdt(f, 4, system_descriptor(SYSTEM_TSS, 0, true), 0x8000); /* no such address */
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4));
	set_gdt(f, 4, system_descriptor(SYSTEM_TSS, 0, true), 1ull << 40); /* a type, there */
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4));
	*rbx = 3;
	assert_error(f, system_ltr, insn, VECTOR_GP, 0);
	/* A good one, in the wrong table. */
	vcpu->ldt = (struct segment){.base = LDT, .limit = ENTRY(6) - 1, .present = true};
	put64(f, LDT + ENTRY(4), system_descriptor(SYSTEM_TSS, 0, true));
	*rbx = ENTRY(4) | SELECTOR_LOCAL;
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(4) | SELECTOR_LOCAL);
	*rbx = ENTRY(15); /* only half of it is within the limit */
	set_gdt(f, 15, system_descriptor(SYSTEM_TSS, 0, true), 0);
	assert_error(f, system_ltr, insn, VECTOR_GP, ENTRY(15));
	assert_int_equal(vcpu->tr.base, 0xffff800012345678);

	/* Where it is whole. */
	mode_32(vcpu, 0);
	assert_done(f, system_ltr, insn);
	assert_int_equal(vcpu->tr.base, 0x12345678);
	*rbx = ~0ull;
	assert_done(f, system_str, with_register(RBX, 4));
	assert_int_equal(*rbx, ENTRY(15));
	mode_real(vcpu);
	assert_fault(f, system_ltr, insn, VECTOR_UD);
	assert_fault(f, system_str, insn, VECTOR_UD);
}

static void test_local_table(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_memory(DATA);

	mode_64(vcpu, 0);
	set_gdt(f, 2, system_descriptor(SYSTEM_LDT, 0, true), 1);
	put64(f, DATA, ENTRY(2));
	assert_done(f, system_lldt, insn);
	assert_int_equal(vcpu->ldt.base, 0x112345678);
	assert_true(vcpu->ldt.present);
	assert_done(f, system_sldt, with_register(RSI, 8));
	assert_int_equal(vcpu->ctx.gpr[RSI], ENTRY(2));
	put64(f, DATA, ~0ull);
	assert_done(f, system_sldt, insn);
	assert_int_equal(get64(f, DATA), (~0ull << 16) | ENTRY(2));

	put64(f, DATA, 2);
	assert_done(f, system_lldt, insn);
	assert_false(vcpu->ldt.present);
	put64(f, DATA, ENTRY(2));
	set_gdt(f, 2, system_descriptor(SYSTEM_TSS, 0, true), 0);
	assert_error(f, system_lldt, insn, VECTOR_GP, ENTRY(2));
	set_gdt(f, 2, system_descriptor(SYSTEM_LDT, 0, false), 0);
	assert_error(f, system_lldt, insn, VECTOR_NP, ENTRY(2));
	assert_fault(f, system_lldt, with_memory(ABSENT), VECTOR_PF);
	assert_false(vcpu->ldt.present);
}

/* One answer of each: rights, limit, readable, writable. -1: ZF clear, register untouched. */
struct verdict {
	u64 descriptor;
	unsigned cpl, rpl;
	int64_t rights, limit;
	bool readable, writable;
};

#define FLAT	     0x00cf00000000ffffull
#define DESC(x)	     (FLAT | (u64)(x) << 40)
#define SYS(x)	     (0x67ull | (u64)(x) << 40)
#define NOTHING	     (-1)
#define WHOLE	     0xffffffff
#define LOOK(rights) (0xcf0000 | (rights) << 8)

static void check_verdict(struct fixture *f, const struct verdict *v)
{
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_register(RBX, 8);
	const u64 before = 0x5555555555555555;

	insn.reg = RSI;
	vcpu->cpl = v->cpl;
	vcpu_update_mode(vcpu);
	set_gdt(f, 5, v->descriptor, 0);
	vcpu->ctx.gpr[RBX] = ENTRY(5) | v->rpl;
	vcpu->ctx.arith = FLAGS_ARITH;
	vcpu->ctx.gpr[RSI] = before;
	assert_done(f, system_lar, insn);
	assert_int_equal(vcpu->ctx.gpr[RSI], v->rights == NOTHING ? before : (u64)v->rights);
	assert_int_equal(vcpu->ctx.arith,
			 v->rights == NOTHING ? FLAGS_ARITH & ~X86_EFLAGS_ZF : FLAGS_ARITH);
	vcpu->ctx.gpr[RSI] = before;
	vcpu->ctx.arith = 0;
	assert_done(f, system_lsl, insn);
	assert_int_equal(vcpu->ctx.gpr[RSI], v->limit == NOTHING ? before : (u64)v->limit);
	assert_int_equal(vcpu->ctx.arith, v->limit == NOTHING ? 0 : X86_EFLAGS_ZF);
	assert_done(f, system_verr, insn);
	assert_int_equal(!!(vcpu->ctx.arith & X86_EFLAGS_ZF), v->readable);
	assert_done(f, system_verw, insn);
	assert_int_equal(!!(vcpu->ctx.arith & X86_EFLAGS_ZF), v->writable);
}

static void test_verdicts(void **state)
{
	static const struct verdict verdicts[] = {
		/* Data, read-only and not; code, execute-only and not. */
		{DESC(0x91), 0, 0, LOOK(0x91), WHOLE, true, false},
		{DESC(0x93), 0, 0, LOOK(0x93), WHOLE, true, true},
		{DESC(0x99), 0, 0, LOOK(0x99), WHOLE, false, false},
		{DESC(0x9b), 0, 0, LOOK(0x9b), WHOLE, true, false},
		/* Not present makes no difference. */
		{DESC(0x13), 0, 0, LOOK(0x13), WHOLE, true, true},
		/* The kernel's, for a user, under either name; but conforming code. */
		{DESC(0x93), 3, 0, NOTHING, NOTHING, false, false},
		{DESC(0x93), 0, 3, NOTHING, NOTHING, false, false},
		{DESC(0x9b), 3, 3, NOTHING, NOTHING, false, false},
		{DESC(0x9f), 3, 3, LOOK(0x9f), WHOLE, true, false},
		{DESC(0x9d), 3, 3, LOOK(0x9d), WHOLE, false, false},
		{DESC(0xf3), 3, 3, LOOK(0xf3), WHOLE, true, true},
		/* System descriptors; gates have no limit. */
		{SYS(0x80 | SYSTEM_LDT), 0, 0, 0x8200, 0x67, false, false},
		{SYS(0x80 | SYSTEM_TSS), 0, 0, 0x8900, 0x67, false, false},
		{SYS(0x80 | SYSTEM_TSS_BUSY), 0, 0, 0x8b00, 0x67, false, false},
		{SYS(0x80 | SYSTEM_TSS_BUSY), 3, 3, NOTHING, NOTHING, false, false},
		{SYS(0x80 | SYSTEM_CALL_GATE), 0, 0, 0x8c00, NOTHING, false, false},
		{SYS(0x80 | SYSTEM_TSS_16), 0, 0, NOTHING, NOTHING, false, false},
		{SYS(0x80 | SYSTEM_TASK_GATE), 0, 0, NOTHING, NOTHING, false, false},
		{SYS(0x80 | 14), 0, 0, NOTHING, NOTHING, false, false}, /* an interrupt gate */
		{SYS(0), 0, 0, NOTHING, NOTHING, false, false},
	};
	static const struct verdict legacy[] = {
		{SYS(0x80 | SYSTEM_TSS_16), 0, 0, 0x8100, 0x67, false, false},
		{SYS(0x80 | SYSTEM_TSS_16_BUSY), 0, 0, 0x8300, 0x67, false, false},
		{SYS(0x80 | SYSTEM_CALL_GATE_16), 0, 0, 0x8400, NOTHING, false, false},
		{SYS(0x80 | SYSTEM_TASK_GATE), 0, 0, 0x8500, NOTHING, false, false},
	};
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(verdicts); i++)
		check_verdict(f, &verdicts[i]);
	mode_32(f->vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(legacy); i++)
		check_verdict(f, &legacy[i]);
}

/* Selectors of nothing are an answer, not a fault; and the LDT is looked into as well. */
static void test_verdict_tables(void **state)
{
	static const u16 nothing[] = {0, 3, ENTRY(16), 0xfff8, ENTRY(5) | SELECTOR_LOCAL};
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_register(RBX, 2);

	mode_64(vcpu, 0);
	set_gdt(f, 0, DESC(0x93), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(nothing); i++) {
		vcpu->ctx.gpr[RBX] = nothing[i];
		vcpu->ctx.arith = X86_EFLAGS_ZF;
		assert_done(f, system_verr, insn);
		assert_int_equal(vcpu->ctx.arith, 0);
	}
	vcpu->ldt = (struct segment){.base = LDT, .limit = ENTRY(6) - 1, .present = true};
	put64(f, LDT + ENTRY(5), DESC(0x93));
	assert_done(f, system_verr, insn);
	assert_int_equal(vcpu->ctx.arith, X86_EFLAGS_ZF);
	/* 16 bits of the answer. */
	insn.reg = RDI;
	vcpu->ctx.gpr[RDI] = ~0ull;
	assert_done(f, system_lar, insn);
	assert_int_equal(vcpu->ctx.gpr[RDI], 0xffffffffffff9300);
	/* The table may not be there. */
	vcpu->ldt.base = ABSENT;
	assert_fault(f, system_lsl, insn, VECTOR_PF);
	mode_real(vcpu);
	assert_fault(f, system_verw, insn, VECTOR_UD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_table_registers), TEST(test_task_register),  TEST(test_local_table),
		TEST(test_verdicts),	    TEST(test_verdict_tables),
	};

	return cmocka_run_group_tests_name("soft_tables", tests, NULL, NULL);
}
