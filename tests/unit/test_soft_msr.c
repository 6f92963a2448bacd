/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSRs of the soft engine: which there are, what they take, and what a kernel
 * finds in them after reset. They are called by their numbers in Intel SDM 4, so that
 * a wrong one in msr.c does not pass unseen.
 */
#include "soft_vcpu.h"

#include <asm/kvm_para.h>

/* A value that sticks, and one that is refused (0: none is). */
struct msr_case {
	u32 index;
	u64 good, bad;
};

static void test_msrs(void **state)
{
	static const u64 bad_canonical = NON_CANONICAL;
	const u64 wide = 1ull << cpuid_address_bits();
	const struct msr_case cases[] = {
		{0x48, 1, 0},
		{0x174, 0x10, 0},
		{0x175, 0xffff800000000000, bad_canonical},
		{0x176, 0xffff800000000000, bad_canonical},
		{0x277, 0x0007040600070406, 0x0007040600070402},
		{0x277, 0x0505010600070406, 0x0307040600070406},
		{0xc0000081, 0x23001000000000, 0},
		{0xc0000082, 0xffffffff81000000, bad_canonical},
		{0xc0000083, 0xffffffff81000000, bad_canonical},
		{0xc0000084, 0x47700, 0},
		{0xc0000100, 0x7fffffffffff, bad_canonical},
		{0xc0000101, 0xffff888000000000, bad_canonical},
		{0xc0000102, 0xffff888000000000, bad_canonical},
		{0xc0000103, 0x1001, 1ull << 32},
		{0x200, wide / 2 | 6, wide | 6},
		{0x20e, 0x80000000, 0x80000002},
		{0x20e, 0x80000006, 0x80000106},
		{0x20f, (wide - 1) & ~0x7ffull, 0x80000400},
		{0x201, 0x80000800, wide | 0x800},
		{0x250, 0x0606060606060606, 0x0606060606060607},
		{0x258, 0x0001040506000000, 0x0200000000000000},
		{0x259, 0x0606060606060606, 3},
		{0x268, 0x0505050505050505, 0xff},
		{0x26f, 0x0505050505050505, 2},
		{0x2ff, 0xc06, 0xc02},
		{0x2ff, 0x806, 0x1806},
		{0x2ff, 0, 0x200},
		{0xc0000080, EFER_LME | EFER_LMA | EFER_SCE | EFER_NX, EFER_LME | 1u << 12},
		{0x1a0, 0x1801, 0},
		{0x3b, 0, 0},
	};
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 value;

	mode_64(vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct msr_case *c = &cases[i];

		assert_true(msr_write(vcpu, c->index, c->good));
		assert_true(msr_read(vcpu, c->index, &value));
		assert_int_equal(value, c->good);
		if (!c->bad)
			continue;
		assert_false(msr_write(vcpu, c->index, c->bad));
		assert_int_equal(vcpu->exception.vector, VECTOR_GP);
		assert_int_equal(vcpu->exception.error, 0);
		assert_true(msr_read(vcpu, c->index, &value));
		assert_int_equal(value, c->good);
	}
	assert_int_equal(vcpu->ctx.base[FS], 0x7fffffffffff);
	assert_int_equal(vcpu->ctx.base[GS], 0xffff888000000000);
	assert_int_equal(vcpu->ctx.aux, 0x1001);
}

static void test_msrs_that_there_are_not(void **state)
{
	static const u32 neither[] = {0,	  0x3a,	      0x140, 0x210,	 0x24f,
				      0x251,	  0x257,      0x25a, 0x267,	 0x270,
				      0x400,	  0x40000000, 0xd93, 0xc0000085, 0xc0000104,
				      0xc0010015, 0x4b564d02, ~0u};
	static const u32 read_only[] = {0x17, 0x34, 0xce, 0xfe, 0x10a, 0x179};
	struct fixture *f = *state;
	u64 value;

	mode_64(f->vcpu, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(neither); i++) {
		assert_false(msr_read(f->vcpu, neither[i], &value));
		assert_int_equal(f->vcpu->exception.vector, VECTOR_GP);
		assert_false(msr_write(f->vcpu, neither[i], 0));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++) {
		assert_true(msr_read(f->vcpu, read_only[i], &value));
		assert_false(msr_write(f->vcpu, read_only[i], value));
	}
	/* No supervisor state. */
	assert_true(msr_read(f->vcpu, 0xda0, &value));
	assert_int_equal(value, 0);
	assert_true(msr_write(f->vcpu, 0xda0, 0));
	assert_false(msr_write(f->vcpu, 0xda0, 1 << 8));
	/* And one that only writes. */
	assert_false(msr_read(f->vcpu, 0x49, &value));
	assert_true(msr_write(f->vcpu, 0x49, 1));
	/* Debugging by branches does nothing, and does not pretend. */
	assert_true(msr_write(f->vcpu, 0x1d9, 3));
	assert_false(msr_write(f->vcpu, 0x1d9, 4));
	assert_true(msr_read(f->vcpu, 0x1d9, &value));
	assert_int_equal(value, 0);
	assert_true(msr_write(f->vcpu, 0x17a, 0));
	assert_false(msr_write(f->vcpu, 0x17a, 4));
}

static void test_rdmsr_wrmsr(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *gpr = vcpu->ctx.gpr, flushes;

	mode_64(vcpu, 0);
	gpr[RCX] = 0x1234567800000000 | 0xc0000082;
	gpr[RAX] = 0xaaaaaaaa81000000;
	gpr[RDX] = 0xbbbbbbbbffffffff;
	assert_done(f, system_wrmsr, plain);
	assert_int_equal(vcpu->lstar, 0xffffffff81000000);
	gpr[RAX] = gpr[RDX] = ~0ull;
	assert_done(f, system_rdmsr, plain);
	assert_int_equal(gpr[RAX], 0x81000000);
	assert_int_equal(gpr[RDX], 0xffffffff);
	gpr[RCX] = 0x140;
	assert_error(f, system_rdmsr, plain, VECTOR_GP, 0);
	assert_error(f, system_wrmsr, plain, VECTOR_GP, 0);
	assert_int_equal(gpr[RAX], 0x81000000);

	flushes = vcpu->stats.tlb_flushes_all;
	assert_true(msr_write(vcpu, 0xc0000080, EFER_LME | EFER_NX));
	assert_true(vcpu->stats.tlb_flushes_all > flushes);
	assert_true(vcpu_long_mode(vcpu)); /* LMA is not for writing */
	flushes = vcpu->stats.tlb_flushes_all;
	assert_true(msr_write(vcpu, 0xc0000080, EFER_LME | EFER_NX | EFER_SCE));
	assert_int_equal(vcpu->stats.tlb_flushes_all, flushes);
}

/* Intel SDM 4, "IA32_ARCH_CAPABILITIES", and what Linux asks for before it reports a flaw. */
static void test_no_flaws(void **state)
{
	static const unsigned set[] = {0, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62};
	static const unsigned clear[] = {1 /* IBRS_ALL */, 2 /* RSBA */, 7 /* TSX_CTRL */,
					 18 /* FB_CLEAR_CTRL */, 19 /* RRSBA */};
	struct fixture *f = *state;
	u64 value;

	assert_true(msr_read(f->vcpu, 0x10a, &value));
	for (unsigned i = 0; i < ARRAY_SIZE(set); i++)
		assert_true(value >> set[i] & 1);
	for (unsigned i = 0; i < ARRAY_SIZE(clear); i++)
		assert_false(value >> clear[i] & 1);
}

static void test_reset_values(void **state)
{
	struct fixture *f = *state;
	u64 value;

	assert_true(msr_read(f->vcpu, 0xfe, &value)); /* 8 variable, fixed, write-combining */
	assert_int_equal(value, 0x508);
	assert_true(msr_read(f->vcpu, 0x2ff, &value)); /* write-back, and on */
	assert_int_equal(value & ~0x400ull, 0x806);
	assert_true(msr_read(f->vcpu, 0x277, &value));
	assert_int_equal(value, 0x0007040600070406);
	assert_true(msr_read(f->vcpu, 0x1a0, &value));
	assert_true(value & 1); /* fast strings */
	assert_true(msr_read(f->vcpu, 0x179, &value));
	assert_int_equal(value & 0xff, 0); /* banks */
	assert_true(msr_read(f->vcpu, 0xce, &value));
	assert_int_equal(value >> 8 & 0xff, 25); /* times 100 MHz */
	assert_true(msr_read(f->vcpu, 0x1b, &value));
	assert_int_equal(value, 0xfee00900);
	assert_false(msr_write(f->vcpu, 0x1b, 1ull << cpuid_address_bits()));
	assert_true(msr_write(f->vcpu, 0x8b, 0));
	assert_true(msr_read(f->vcpu, 0x8b, &value));
	assert_true(value >> 32 > 0x1000);
}

/* Both pairs of names are the same two registers, and the clock is in memory at once. */
static void test_kvmclock(void **state)
{
	const u32 version = DATA, multiplier = DATA + 24;
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 value;

	mode_64(vcpu, 0);
	assert_true(msr_write(vcpu, MSR_KVM_SYSTEM_TIME_NEW, DATA));
	assert_int_equal(get64(f, multiplier), 0); /* not enabled */
	assert_true(msr_write(vcpu, MSR_KVM_SYSTEM_TIME_NEW, DATA | 1));
	assert_true((u32)get64(f, multiplier));
	assert_int_equal(get64(f, version) & 1, 0);
	assert_true(msr_read(vcpu, MSR_KVM_SYSTEM_TIME, &value));
	assert_int_equal(value, DATA | 1);
	assert_true(msr_write(vcpu, MSR_KVM_WALL_CLOCK, DATA + 0x100));
	assert_true(get64(f, DATA + 0x104));
	assert_true(msr_read(vcpu, MSR_KVM_WALL_CLOCK_NEW, &value));
	assert_int_equal(value, DATA + 0x100);
	/* Nowhere is nobody's fault. */
	assert_true(msr_write(vcpu, MSR_KVM_SYSTEM_TIME, ~0ull));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_msrs),	 TEST(test_msrs_that_there_are_not),
		TEST(test_rdmsr_wrmsr),	 TEST(test_no_flaws),
		TEST(test_reset_values), TEST(test_kvmclock),
	};

	return cmocka_run_group_tests_name("soft_msr", tests, NULL, NULL);
}
