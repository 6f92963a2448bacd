/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU of the soft engine before it runs: what RESET leaves, what INIT changes,
 * and what it must not touch.
 */
#include "soft_vcpu.h"

#include <asm/debugreg.h>

#define CACHE_OFF (X86_CR0_CD | X86_CR0_NW)
#define PATTERN	  0x1122334455667788ull

static void assert_real_mode(struct vcpu *vcpu)
{
	assert_int_equal(vcpu_rflags(vcpu), X86_EFLAGS_FIXED);
	assert_int_equal(vcpu->ctx.rip, 0xfff0);
	assert_int_equal(vcpu->cpl, 0);
	assert_int_equal(vcpu->seg[CS].selector, 0xf000);
	assert_int_equal(vcpu->ctx.base[CS], 0xffff0000);
	assert_int_equal(vcpu->seg[CS].limit, 0xffff);
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->seg); i++) {
		if (i == CS)
			continue;
		assert_int_equal(vcpu->seg[i].selector, 0);
		assert_int_equal(vcpu->ctx.base[i], 0);
		assert_int_equal(vcpu->seg[i].limit, 0xffff);
		assert_true(vcpu->seg[i].present);
	}
	assert_int_equal(vcpu->gdt.base, 0);
	assert_int_equal(vcpu->idt.base, 0);
	assert_int_equal(vcpu->idt.limit, 0xffff);
	assert_int_equal(vcpu->tr.selector, 0);
	assert_int_equal(vcpu->tr.limit, 0xffff);
	assert_int_equal(vcpu->ldt.limit, 0xffff);
	assert_int_equal(vcpu->cr2, 0);
	assert_int_equal(vcpu->cr3, 0);
	assert_int_equal(vcpu->cr4, 0);
	assert_int_equal(vcpu->efer, 0);
	assert_int_equal(vcpu->dr[0], 0);
	assert_int_equal(vcpu->dr[DR_STATUS], 0xffff0ff0);
	assert_int_equal(vcpu->dr[DR_CONTROL], 0x400);
	assert_int_equal(vcpu->mode & MODE_CODE, MODE_CODE_16);
	assert_int_equal(vcpu->mode & MODE_VIEW, VIEW_KERNEL);
}

static void test_further_cpu(void **state)
{
	struct fixture *f = *state;
	struct problem why;
	struct vcpu *vcpu = vcpu_new(f->soft, 1, NULL, &why);

	assert_non_null(vcpu);
	assert_real_mode(vcpu);
	assert_true(vcpu->waiting);
	assert_int_equal(vcpu->cr0, CACHE_OFF | X86_CR0_ET);
	assert_int_equal(vcpu->apic_base & APIC_BASE_BSP, 0);
	vcpu_free(vcpu);
}

/* A vCPU in the middle of everything. */
static void busy(struct fixture *f)
{
	struct vcpu *vcpu = f->vcpu;

	mode_64(vcpu, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->ctx.gpr); i++)
		vcpu->ctx.gpr[i] = PATTERN + i;
	vcpu_set_rflags(vcpu, X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_TF | X86_EFLAGS_CF |
				      X86_EFLAGS_IOPL | X86_EFLAGS_NT | X86_EFLAGS_AC);
	vcpu->cr2 = PATTERN;
	vcpu->dr[0] = vcpu->dr[3] = DATA;
	vcpu->dr[DR_CONTROL] = 0x4ff;
	vcpu->gdt = vcpu->idt = (struct descriptor_table){GDT, 0x1f};
	vcpu->kvm_system_time = DATA | 1;
	vcpu->shadow = SHADOW_SS;
	vcpu->stepping = vcpu->halted = vcpu->interrupt_waiting = true;
	vcpu->nmi_pending = vcpu->nmi_blocked = true;
}

static void test_init(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u32 signature;

	vcpu_init(vcpu);
	signature = vcpu->ctx.gpr[RDX];
	busy(f);
	vcpu_init(vcpu);
	assert_real_mode(vcpu);
	for (unsigned i = 0; i < ARRAY_SIZE(vcpu->ctx.gpr); i++)
		assert_int_equal(vcpu->ctx.gpr[i], i == RDX ? signature : 0);
	assert_true(vcpu->waiting);
	assert_false(vcpu->halted || vcpu->stepping || vcpu->interrupt_waiting);
	assert_false(vcpu->nmi_pending || vcpu->nmi_blocked);
	assert_int_equal(vcpu->shadow, SHADOW_NONE);
	assert_int_equal(vcpu->kvm_system_time, 0);
}

static void test_init_forgets_addresses(void **state)
{
	struct fixture *f = *state;
	u64 value;

	mode_64(f->vcpu, 0);
	put64(f, PT + DATA / PAGE_SIZE * 8, STACK | PTE_USER);
	assert_true(mem_read_u64(f->vcpu, DATA, &value, ACCESS_READ));
	put64(f, DATA, PATTERN);
	vcpu_init(f->vcpu);
	assert_true(mem_read_u64(f->vcpu, DATA, &value, ACCESS_READ));
	assert_int_equal(value, PATTERN);
}

static void test_init_keeps(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 caching[] = {0, X86_CR0_CD, X86_CR0_NW, CACHE_OFF};

	for (unsigned i = 0; i < ARRAY_SIZE(caching); i++) {
		vcpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_TS | caching[i];
		vcpu_init(vcpu);
		assert_int_equal(vcpu->cr0, X86_CR0_ET | caching[i]);
	}
	vcpu->xcr0 = 7;
	vcpu->pat = vcpu->mtrr_fixed[3] = vcpu->mtrr_variable[1] = PATTERN;
	vcpu->mtrr_def_type = 0xc00;
	vcpu->tsc_adjust = vcpu->star = vcpu->lstar = vcpu->kernel_gs_base = PATTERN;
	vcpu->sysenter_eip = vcpu->ctx.aux = PATTERN;
	vcpu->vectors_saved = true;
	memset(vcpu->xsave, 0x5a, 64);
	vcpu_init(vcpu);
	assert_int_equal(vcpu->xcr0, 7);
	assert_int_equal(vcpu->pat, PATTERN);
	assert_int_equal(vcpu->mtrr_fixed[3], PATTERN);
	assert_int_equal(vcpu->mtrr_variable[1], PATTERN);
	assert_int_equal(vcpu->mtrr_def_type, 0xc00);
	assert_int_equal(vcpu->tsc_adjust, PATTERN);
	assert_int_equal(vcpu->star, PATTERN);
	assert_int_equal(vcpu->lstar, PATTERN);
	assert_int_equal(vcpu->kernel_gs_base, PATTERN);
	assert_int_equal(vcpu->sysenter_eip, PATTERN);
	assert_int_equal(vcpu->ctx.aux, PATTERN);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(vcpu->xsave[i], 0x5a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_further_cpu),
		TEST(test_init),
		TEST(test_init_forgets_addresses),
		TEST(test_init_keeps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
