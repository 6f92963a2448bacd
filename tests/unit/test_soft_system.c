/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions of the soft engine that are neither control registers nor
 * tables, ports or MSRs; and, for all of them, that a user may not.
 */
#include "soft_vcpu.h"

#include "board/layout.h"

#include <Zydis/Zydis.h>

/* Intel SDM 4, "Architectural MSRs". */
#define MSR_TSC		 0x10
#define MSR_TSC_ADJUST	 0x3b
#define MSR_TSC_DEADLINE 0x6e0

/* Registers of the local APIC: Intel SDM 3A, "Local APIC Register Address Map". */
#define LAPIC_SPURIOUS	     0xf0
#define LAPIC_TIMER	     0x320
#define LAPIC_ENABLE	     0x1ff
#define LAPIC_TIMER_DEADLINE (2u << 17)

/* ------------------------------------------------------------------ privilege */

static void test_privilege(void **state)
{
	static handler *const privileged[] = {
		system_clts, system_lmsw,   system_lgdt,   system_lidt,	  system_lldt,
		system_ltr,  system_rdmsr,  system_wrmsr,  system_invlpg, system_invd,
		system_hlt,  system_swapgs, system_mov_cr, system_mov_dr, system_rdpmc,
	};
	struct fixture *f = *state;

	for (unsigned cpl = 1; cpl <= 3; cpl++) {
		mode_64(f->vcpu, cpl);
		f->vcpu->cr0 |= X86_CR0_TS;
		for (unsigned i = 0; i < ARRAY_SIZE(privileged); i++) {
			struct insn insn = with_memory(DATA);

			insn.opcode = 0x22;
			assert_error(f, privileged[i], insn, VECTOR_GP, 0);
		}
		assert_fault(f, system_clac, plain, VECTOR_UD);
		assert_fault(f, system_stac, plain, VECTOR_UD);
		f->vcpu->cr4 |= X86_CR4_OSXSAVE;
		assert_error(f, system_xsetbv, plain, VECTOR_GP, 0);
		assert_false(f->vcpu->halted);
		assert_true(f->vcpu->cr0 & X86_CR0_TS);
	}
}

/* ------------------------------------------------------------------ flags */

static void test_cli_sti(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	for (unsigned cpl = 0; cpl <= 3; cpl++)
		for (unsigned iopl = 0; iopl <= 3; iopl++) {
			mode_64(vcpu, cpl);
			set_iopl(vcpu, iopl);
			vcpu->ctx.intflag = 0;
			vcpu->shadow = SHADOW_NONE;
			if (cpl > iopl) {
				assert_error(f, system_sti, plain, VECTOR_GP, 0);
				assert_error(f, system_cli, plain, VECTOR_GP, 0);
				assert_false(vcpu->ctx.intflag);
				continue;
			}
			assert_done(f, system_sti, plain);
			assert_true(vcpu->ctx.intflag);
			assert_true(vcpu->shadow);
			/* Once is enough. */
			vcpu->shadow = SHADOW_NONE;
			assert_done(f, system_sti, plain);
			assert_false(vcpu->shadow);
			assert_done(f, system_cli, plain);
			assert_false(vcpu->ctx.intflag);
		}
	mode_real(vcpu);
	assert_done(f, system_sti, plain);
	assert_true(vcpu->ctx.intflag);
}

/* What became pending while it could not be taken is not forgotten. */
static void test_pending_interrupt(void **state)
{
	const u32 vector = 0x51;
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn popf = plain;

	popf.opsize = 8;
	mode_64(vcpu, 0);
	lapic_write(vcpu, LAPIC_SPURIOUS, LAPIC_ENABLE);
	lapic_message(f->soft, LAYOUT_LAPIC, vector);
	assert_int_equal(lapic_pending(vcpu), vector);
	atomic_store(&vcpu->ctx.poll, 0);
	assert_done(f, system_sti, plain);
	assert_true(atomic_load(&vcpu->ctx.poll) & POLL_INTERRUPT);

	vcpu->ctx.intflag = 0;
	put64(f, STACK, X86_EFLAGS_FIXED | X86_EFLAGS_IF);
	atomic_store(&vcpu->ctx.poll, 0);
	assert_done(f, system_popf, popf);
	assert_true(atomic_load(&vcpu->ctx.poll) & POLL_INTERRUPT);
}

static void test_ac_and_df(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	assert_done(f, system_stac, plain);
	assert_true(vcpu_rflags(f->vcpu) & X86_EFLAGS_AC);
	assert_done(f, system_clac, plain);
	assert_false(vcpu_rflags(f->vcpu) & X86_EFLAGS_AC);
	assert_done(f, system_std, plain);
	assert_true(vcpu_rflags(f->vcpu) & X86_EFLAGS_DF);
	assert_int_equal(f->vcpu->ctx.step[2], -4);
	assert_done(f, system_cld, plain);
	assert_false(vcpu_rflags(f->vcpu) & X86_EFLAGS_DF);
	assert_int_equal(f->vcpu->ctx.step[2], 4);
}

#define ALL_FLAGS                                                                                  \
	(FLAGS_ARITH | X86_EFLAGS_TF | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_IOPL |           \
	 X86_EFLAGS_NT | X86_EFLAGS_AC | X86_EFLAGS_ID)

/* All that could change is asked to, from all clear and from all set. */
static void test_popf(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn popf = plain;

	for (unsigned cpl = 0; cpl <= 3; cpl++)
		for (unsigned iopl = 0; iopl <= 3; iopl++)
			for (popf.opsize = 2; popf.opsize <= 8; popf.opsize += 6) {
				u64 changes = ALL_FLAGS, low = iopl << X86_EFLAGS_IOPL_BIT;

				if (cpl)
					changes &= ~X86_EFLAGS_IOPL;
				if (cpl > iopl)
					changes &= ~X86_EFLAGS_IF;
				if (popf.opsize == 2)
					changes &= 0xffff;
				mode_64(vcpu, cpl);
				vcpu_set_rflags(vcpu, X86_EFLAGS_FIXED | low);
				put64(f, STACK, ~0ull);
				assert_done(f, system_popf, popf);
				assert_int_equal(vcpu_rflags(vcpu),
						 X86_EFLAGS_FIXED | low | changes);
				assert_int_equal(vcpu->ctx.gpr[RSP], STACK + popf.opsize);

				low |= ALL_FLAGS & ~X86_EFLAGS_IOPL;
				vcpu_set_rflags(vcpu, X86_EFLAGS_FIXED | low);
				vcpu->ctx.gpr[RSP] = STACK;
				put64(f, STACK, 0);
				assert_done(f, system_popf, popf);
				assert_int_equal(vcpu_rflags(vcpu),
						 X86_EFLAGS_FIXED | (low & ~changes));
			}
}

static void test_pushf(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn pushf = plain;
	u64 flags;

	mode_64(vcpu, 3);
	vcpu_set_rflags(vcpu, X86_EFLAGS_FIXED | ALL_FLAGS | X86_EFLAGS_RF);
	flags = X86_EFLAGS_FIXED | ALL_FLAGS;
	for (pushf.opsize = 2; pushf.opsize <= 8; pushf.opsize += 6) {
		vcpu->ctx.gpr[RSP] = STACK;
		put64(f, STACK - 8, ~0ull);
		assert_done(f, system_pushf, pushf);
		assert_int_equal(vcpu->ctx.gpr[RSP], STACK - pushf.opsize);
		assert_int_equal(get64(f, STACK - 8),
				 pushf.opsize == 8 ? flags : ~(~0ull << 48) | flags << 48);
	}
	/* No stack: nothing happened. */
	vcpu->ctx.gpr[RSP] = ABSENT + 8;
	assert_fault(f, system_pushf, pushf, VECTOR_PF);
	assert_int_equal(vcpu->exception.cr2, ABSENT);
	assert_int_equal(vcpu->ctx.gpr[RSP], ABSENT + 8);
	vcpu->ctx.gpr[RSP] = NON_CANONICAL;
	assert_error(f, system_popf, pushf, VECTOR_SS, 0);

	/* sp goes around at 64 KiB. */
	mode_real(vcpu);
	pushf.opsize = 2;
	vcpu->ctx.gpr[RSP] = 0x10000;
	assert_done(f, system_pushf, pushf);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0x1fffe);
	assert_int_equal(get64(f, 0xfff8) >> 48, flags & 0xffff);
	assert_done(f, system_popf, pushf);
	assert_int_equal(vcpu->ctx.gpr[RSP], 0x10000);
}

/* ------------------------------------------------------------------ asking the processor */

static void test_time_stamps(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 before, now, after, deadline;

	mode_64(vcpu, 3);
	vcpu->ctx.aux = 0x1234;
	before = clock_tsc();
	assert_done(f, system_rdtscp, plain);
	after = clock_tsc();
	now = vcpu->ctx.gpr[RDX] << 32 | vcpu->ctx.gpr[RAX];
	assert_true(before <= now && now <= after);
	assert_int_equal(vcpu->ctx.gpr[RCX], 0x1234);
	assert_done(f, system_rdpid, with_register(RSI, 8));
	assert_int_equal(vcpu->ctx.gpr[RSI], 0x1234);
	vcpu->cr4 |= X86_CR4_TSD;
	assert_error(f, system_rdtsc, plain, VECTOR_GP, 0);
	assert_error(f, system_rdtscp, plain, VECTOR_GP, 0);
	vcpu->cpl = 0;
	assert_done(f, system_rdtsc, plain);

	/* A guest may set its clock. The deadline of a timer is a time on that. */
	lapic_write(vcpu, LAPIC_SPURIOUS, LAPIC_ENABLE);
	lapic_write(vcpu, LAPIC_TIMER, LAPIC_TIMER_DEADLINE | 0x41);
	deadline = clock_tsc() + 1000000000000;
	assert_true(msr_write(vcpu, MSR_TSC_DEADLINE, deadline));
	assert_true(msr_write(vcpu, MSR_TSC, 5));
	assert_done(f, system_rdtsc, plain);
	assert_int_equal(vcpu->ctx.gpr[RDX], 0);
	assert_true(vcpu->ctx.gpr[RAX] >= 5);
	assert_true(msr_read(vcpu, MSR_TSC_ADJUST, &now));
	assert_int_equal(now, vcpu->tsc_adjust);
	assert_true(msr_read(vcpu, MSR_TSC_DEADLINE, &now));
	assert_int_equal(now, deadline);
	assert_true(msr_write(vcpu, MSR_TSC, deadline)); /* passed */
	assert_true(msr_read(vcpu, MSR_TSC_DEADLINE, &now));
	assert_int_equal(now, 0);
	assert_int_equal(lapic_pending(vcpu), 0x41);
	assert_true(msr_write(vcpu, MSR_TSC_ADJUST, 0));
	assert_int_equal(vcpu->tsc_adjust, 0);
}

static void test_cpuid(void **state)
{
	struct fixture *f = *state;
	struct cpuid_result expected;

	mode_64(f->vcpu, 3);
	f->soft->cpuid.count = 1;
	f->soft->cpuid.entries[0].leaf = 0x80000002;
	f->soft->cpuid.entries[0].result = (struct cpuid_result){1, 2, 3, 4};
	f->vcpu->ctx.gpr[RAX] = 0xdead00000000 | 0x80000002;
	f->vcpu->ctx.gpr[RCX] = f->vcpu->ctx.gpr[RBX] = f->vcpu->ctx.gpr[RDX] = ~0ull << 32;
	cpuid_read(f->vcpu, 0x80000002, 0, &expected);
	assert_int_equal(expected.edx, 4);
	assert_done(f, system_cpuid, plain);
	assert_int_equal(f->vcpu->ctx.gpr[RAX], expected.eax);
	assert_int_equal(f->vcpu->ctx.gpr[RBX], expected.ebx);
	assert_int_equal(f->vcpu->ctx.gpr[RCX], expected.ecx);
	assert_int_equal(f->vcpu->ctx.gpr[RDX], expected.edx);
}

static void test_hlt_and_caches(void **state)
{
	struct fixture *f = *state;
	u64 pages;

	mode_64(f->vcpu, 0);
	assert_done(f, system_invd, plain);
	assert_done(f, system_hlt, plain);
	assert_true(f->vcpu->halted);
	pages = f->vcpu->stats.invlpgs;
	assert_done(f, system_invlpg, with_memory(ABSENT));
	assert_int_equal(f->vcpu->stats.invlpgs, pages + 1);
	assert_done(f, system_invlpg, with_memory(NON_CANONICAL));
}

/* ------------------------------------------------------------------ segment bases */

static struct insn base_insn(ZydisMnemonic mnemonic, unsigned opsize)
{
	struct insn insn = with_register(RSI, opsize);

	insn.mnemonic = mnemonic;
	return insn;
}

static void test_segment_bases(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 *rsi = &vcpu->ctx.gpr[RSI];

	mode_64(vcpu, 0);
	vcpu->ctx.base[GS] = 0x1111;
	vcpu->kernel_gs_base = 0x2222;
	assert_done(f, system_swapgs, plain);
	assert_int_equal(vcpu->ctx.base[GS], 0x2222);
	assert_int_equal(vcpu->kernel_gs_base, 0x1111);

	mode_64(vcpu, 3);
	assert_fault(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_RDFSBASE, 8), VECTOR_UD);
	vcpu->cr4 |= X86_CR4_FSGSBASE;
	*rsi = 0xffff800012345678;
	assert_done(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_WRFSBASE, 8));
	assert_int_equal(vcpu->ctx.base[FS], *rsi);
	assert_done(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_WRGSBASE, 4));
	assert_int_equal(vcpu->ctx.base[GS], 0x12345678);
	assert_done(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_RDFSBASE, 4));
	assert_int_equal(*rsi, 0x12345678);
	assert_done(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_RDFSBASE, 8));
	assert_int_equal(*rsi, 0xffff800012345678);
	assert_done(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_RDGSBASE, 8));
	assert_int_equal(*rsi, 0x12345678);
	*rsi = NON_CANONICAL;
	assert_error(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_WRGSBASE, 8), VECTOR_GP, 0);
	assert_int_equal(vcpu->ctx.base[GS], 0x12345678);

	mode_32(vcpu, 0);
	vcpu->cr4 |= X86_CR4_FSGSBASE;
	assert_fault(f, system_fsgsbase, base_insn(ZYDIS_MNEMONIC_RDFSBASE, 4), VECTOR_UD);
	assert_fault(f, system_swapgs, plain, VECTOR_UD);
}

/* ------------------------------------------------------------------ MOVDIR64B */

/* Where it faults: few machines can do the rest. */
static void test_direct_store(void **state)
{
	static const struct cpuid_entry offered = {.leaf = 7, .result = {.ecx = 1u << 28}};
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	struct insn insn = with_memory(DATA);
	struct segment segment = flat(0);

	insn.addrsize = 4;
	insn.reg = RBX;
	vcpu->ctx.gpr[RBX] = DATA;
	mode_32(vcpu, 0);
	assert_fault(f, move_64_bytes, insn, VECTOR_UD);
	f->soft->cpuid.entries[f->soft->cpuid.count++] = offered;
	vcpu->ctx.gpr[RBX] = DATA + 1;
	assert_error(f, move_64_bytes, insn, VECTOR_GP, 0);
	vcpu->ctx.gpr[RBX] = DATA;

	/* Where each of both segments ends. */
	segment.type = TYPE_WRITABLE | TYPE_ACCESSED;
	segment.limit = DATA + 62;
	for (unsigned i = 0; i < 2; i++) {
		mode_32(vcpu, 0);
		vcpu_set_segment(vcpu, i ? ES : DS, &segment);
		vcpu_update_mode(vcpu);
		assert_error(f, move_64_bytes, insn, VECTOR_GP, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_privilege),	  TEST(test_cli_sti),	   TEST(test_pending_interrupt),
		TEST(test_ac_and_df),	  TEST(test_popf),	   TEST(test_pushf),
		TEST(test_time_stamps),	  TEST(test_cpuid),	   TEST(test_hlt_and_caches),
		TEST(test_segment_bases), TEST(test_direct_store),
	};

	return cmocka_run_group_tests_name("soft_system", tests, NULL, NULL);
}
