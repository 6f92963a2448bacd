/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System calls without a table: syscall, sysenter, and the ways back. The
 * segments are flat and everybody has agreed on what their descriptors would say,
 * so nobody looks. Where to is in MSRs; what to come back with, in registers. The
 * slow ways are in segment.c and interrupt.c.
 *
 * Tour 6.780: System calls
 */
#include "engine/soft/segment.h"

/* Intel SDM 3A, "Fast System Calls in 64-Bit Mode": where IA32_STAR has selectors. */
#define STAR_KERNEL 32
#define STAR_USER   48

/* Intel SDM 2, "SYSRET": the flags that r11 has a say in. */
#define SYSRET_FLAGS 0x3c7fd7u

/* Intel SDM 2, "SYSCALL": what CS and SS then are, whatever the tables say. */
static struct segment flat_code(u16 selector, unsigned cpl, bool is_64)
{
	return (struct segment){
		.selector = (selector & ~SELECTOR_RPL) | cpl,
		.limit = UINT32_MAX,
		.type = TYPE_CODE | TYPE_READABLE | TYPE_ACCESSED,
		.s = true,
		.present = true,
		.l = is_64,
		.db = !is_64,
		.g = true,
		.dpl = cpl,
	};
}

static struct segment flat_stack(u16 selector, unsigned cpl)
{
	return (struct segment){
		.selector = (selector & ~SELECTOR_RPL) | cpl,
		.limit = UINT32_MAX,
		.type = TYPE_WRITABLE | TYPE_ACCESSED,
		.s = true,
		.present = true,
		.db = true,
		.g = true,
		.dpl = cpl,
	};
}

static void set_flat(struct vcpu *vcpu, u16 code, u16 stack, unsigned cpl, bool is_64)
{
	const struct segment cs = flat_code(code, cpl, is_64), ss = flat_stack(stack, cpl);

	segment_set_code(vcpu, &cs, cpl);
	vcpu_set_segment(vcpu, SS, &ss);
}

/*
 * AMD's processors, and those that descend from them, know SYSCALL in compatibility mode, and
 * their 32-bit programs use it. Intel's do not. The guest believes what CPUID says.
 */
static bool has_syscall_in_compatibility_mode(const struct vcpu *vcpu)
{
	const u32 auth = 0x68747541;  /* "AuthenticAMD" */
	const u32 hygon = 0x6f677948; /* "HygonGenuine" */
	struct cpuid_result vendor;

	cpuid_read(vcpu, 0, 0, &vendor);
	return vendor.ebx == auth || vendor.ebx == hygon;
}

/*
 * With these two it is TF as it is behind them that makes a step: so the kernel's mask keeps it out
 * of the kernel, and on the way back it looks as if the system call had been one instruction.
 */
static void step_after(struct vcpu *vcpu)
{
	vcpu->stepping = vcpu->sysflags & X86_EFLAGS_TF;
}

/*
 * Translated code needs not ask why: where a kernel's mask lets these flags through, or there is no
 * SYSCALL, it is for the handlers.
 */
#define CROSSING_MASKED (FLAGS_ARITH | X86_EFLAGS_IF | X86_EFLAGS_AC)

void syscall_prepare(struct vcpu *vcpu)
{
	struct crossing *crossing = &vcpu->crossing;
	u16 kernel = vcpu->star >> STAR_KERNEL, user = vcpu->star >> STAR_USER;

	*crossing = (struct crossing){
		.kernel = {flat_code(kernel, 0, true), flat_stack((kernel & ~SELECTOR_RPL) + 8, 0)},
		.user = {flat_code(user + 16, 3, true), flat_stack(user + 8, 3)},
		.kept = ~vcpu->sfmask | X86_EFLAGS_FIXED,
		.odd = SYSRET_FLAGS & ~(FLAGS_ARITH | X86_EFLAGS_IF | X86_EFLAGS_FIXED),
		.high = ~0ull << 47,
		.slow = !(vcpu->efer & EFER_SCE) || CROSSING_MASKED & ~vcpu->sfmask,
	};
}

/*
 * SYSCALL, as the manual has it. No table is read: the selectors come from an MSR, and all
 * else about the segments is agreed upon.
 *
 * Tour 6.781: Into the kernel
 */
bool segment_syscall(struct vcpu *vcpu, const struct insn *insn)
{
	u64 flags = vcpu_rflags(vcpu) & ~X86_EFLAGS_RF;
	u16 selector = vcpu->star >> STAR_KERNEL;
	bool from_64 = vcpu_64bit(vcpu);

	(void)insn;
	if (!(vcpu->efer & EFER_SCE) || !vcpu_long_mode(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	if (!from_64 && !has_syscall_in_compatibility_mode(vcpu))
		return raise_fault(vcpu, VECTOR_UD);

	vcpu->ctx.gpr[RCX] = vcpu->ctx.rip;
	vcpu->ctx.gpr[8 + 3] = flags;
	vcpu->ctx.rip = from_64 ? vcpu->lstar : vcpu->cstar;
	set_flat(vcpu, selector & ~SELECTOR_RPL, (selector & ~SELECTOR_RPL) + 8, 0, true);
	vcpu_set_rflags(vcpu, flags & ~vcpu->sfmask);
	step_after(vcpu);
	return true;
}

bool segment_sysret(struct vcpu *vcpu, const struct insn *insn)
{
	u16 selector = vcpu->star >> STAR_USER;
	bool to_64 = insn->opsize == 8;
	u64 rip = vcpu->ctx.gpr[RCX];
	u64 flags = vcpu->ctx.gpr[8 + 3];

	if (!(vcpu->efer & EFER_SCE) || !vcpu_64bit(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	/* Still at the kernel's level: the reason for a famous hole, and what kernels now expect.
	 */
	if (vcpu->cpl || (to_64 && !system_canonical(rip)))
		return raise_error(vcpu, VECTOR_GP, 0);

	vcpu->ctx.rip = to_64 ? rip : (u32)rip;
	set_flat(vcpu, to_64 ? selector + 16 : selector, selector + 8, 3, to_64);
	vcpu_set_rflags(vcpu, (flags & SYSRET_FLAGS) | X86_EFLAGS_FIXED);
	step_after(vcpu);
	interrupt_recheck(vcpu);
	return true;
}

bool segment_sysenter(struct vcpu *vcpu, const struct insn *insn)
{
	u16 selector = vcpu->sysenter_cs & ~SELECTOR_RPL;
	bool to_64 = vcpu_long_mode(vcpu);

	(void)insn;
	/* Virtual-8086 mode may, too. */
	if (!(vcpu->cr0 & X86_CR0_PE) || !selector)
		return raise_error(vcpu, VECTOR_GP, 0);

	vcpu->ctx.gpr[RSP] = to_64 ? vcpu->sysenter_esp : (u32)vcpu->sysenter_esp;
	vcpu->ctx.rip = to_64 ? vcpu->sysenter_eip : (u32)vcpu->sysenter_eip;
	set_flat(vcpu, selector, selector + 8, 0, to_64);
	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) & ~(X86_EFLAGS_VM | X86_EFLAGS_IF));
	return true;
}

bool segment_sysexit(struct vcpu *vcpu, const struct insn *insn)
{
	u16 selector = vcpu->sysenter_cs & ~SELECTOR_RPL;
	bool to_64 = insn->opsize == 8;
	u64 rip = vcpu->ctx.gpr[RDX];
	u64 rsp = vcpu->ctx.gpr[RCX];

	if (!system_protected(vcpu) || !selector || vcpu->cpl)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (to_64 && (!system_canonical(rip) || !system_canonical(rsp)))
		return raise_error(vcpu, VECTOR_GP, 0);

	vcpu->ctx.rip = to_64 ? rip : (u32)rip;
	vcpu->ctx.gpr[RSP] = to_64 ? rsp : (u32)rsp;
	/* 16 and 24 beyond the kernel's; in 64-bit mode as much again. */
	selector += to_64 ? 32 : 16;
	set_flat(vcpu, selector, selector + 8, 3, to_64);
	vcpu_update_mode(vcpu);
	return true;
}
