/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions of kernels that need no file of their own: flags, the time stamp
 * counter, CPUID, the bases of FS and GS, and the odds and ends that a processor
 * collects in forty years. Control registers are in control.c, descriptor
 * tables in tables.c, ports in ports.c, MSRs in msr.c.
 *
 * Each function here is the handler of an instruction that the translator did
 * not pass through.
 *
 * Tour 6.710
 */
#include "engine/soft/paging.h"
#include "engine/soft/segment.h"
#include "engine/soft/system.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <Zydis/Zydis.h>

/* ------------------------------------------------------------------ flags */

/* Those who have I/O privilege may hold interrupts back. */
static bool may_change_if(struct vcpu *vcpu)
{
	return vcpu->cpl <= system_iopl(vcpu);
}

bool system_cli(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!may_change_if(vcpu))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->ctx.intflag = 0;
	return true;
}

/*
 * One more instruction before any interrupt: so that `sti; hlt` cannot sleep through the first.
 *
 * Tour 6.711
 */
bool system_sti(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!may_change_if(vcpu))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (vcpu->ctx.intflag)
		return true;
	vcpu->ctx.intflag = 1;
	vcpu->shadow = SHADOW_STI;
	interrupt_recheck(vcpu);
	return true;
}

static bool change_ac(struct vcpu *vcpu, u64 ac)
{
	if (vcpu->cpl)
		return raise_fault(vcpu, VECTOR_UD);
	vcpu_set_rflags(vcpu, (vcpu_rflags(vcpu) & ~X86_EFLAGS_AC) | ac);
	return true;
}

bool system_clac(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return change_ac(vcpu, 0);
}

bool system_stac(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return change_ac(vcpu, X86_EFLAGS_AC);
}

bool system_cld(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) & ~X86_EFLAGS_DF);
	return true;
}

bool system_std(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	vcpu_set_rflags(vcpu, vcpu_rflags(vcpu) | X86_EFLAGS_DF);
	return true;
}

/* Virtual-8086 mode without VME: flags are for those with I/O privilege. */
static bool flags_allowed(struct vcpu *vcpu)
{
	return !(vcpu->sysflags & X86_EFLAGS_VM) || system_iopl(vcpu) == 3 ||
	       raise_error(vcpu, VECTOR_GP, 0);
}

bool system_pushf(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_current(vcpu, vcpu_64bit(vcpu), 0);
	u64 flags = vcpu_rflags(vcpu) & ~(X86_EFLAGS_VM | X86_EFLAGS_RF);

	if (!flags_allowed(vcpu) || !stack_push(vcpu, &stack, &flags, 1, insn->opsize))
		return false;
	stack_commit(vcpu, &stack);
	return true;
}

/*
 * Which flags POPF changes: Intel SDM 2, "POPF/POPFD/POPFQ - Pop Stack Into EFLAGS Register",
 * table "Effect of POPF/POPFD on the EFLAGS Register". RF is always cleared.
 */
static u64 popf_changes(struct vcpu *vcpu, unsigned opsize)
{
	u64 flags = FLAGS_ARITH | X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_NT | X86_EFLAGS_AC |
		    X86_EFLAGS_ID;

	if (vcpu->cpl == 0)
		flags |= X86_EFLAGS_IOPL;
	if (may_change_if(vcpu))
		flags |= X86_EFLAGS_IF;
	return opsize == 2 ? flags & 0xffff : flags;
}

bool system_popf(struct vcpu *vcpu, const struct insn *insn)
{
	struct stack stack = stack_current(vcpu, vcpu_64bit(vcpu), 0);
	u64 value, changes = popf_changes(vcpu, insn->opsize);
	bool held_back = !vcpu->ctx.intflag;

	if (!flags_allowed(vcpu) || !stack_pop(vcpu, &stack, &value, 1, insn->opsize))
		return false;
	stack_commit(vcpu, &stack);
	vcpu_set_rflags(vcpu, (vcpu_rflags(vcpu) & ~(changes | X86_EFLAGS_RF)) | (value & changes));
	if (held_back)
		interrupt_recheck(vcpu);
	return true;
}

/* ------------------------------------------------------------------ asking the processor */

bool system_cpuid(struct vcpu *vcpu, const struct insn *insn)
{
	struct cpuid_result result;

	(void)insn;
	cpuid_read(vcpu, gpr_read(vcpu, RAX, 4), gpr_read(vcpu, RCX, 4), &result);
	gpr_write(vcpu, RAX, 4, result.eax);
	gpr_write(vcpu, RBX, 4, result.ebx);
	gpr_write(vcpu, RCX, 4, result.ecx);
	gpr_write(vcpu, RDX, 4, result.edx);
	return true;
}

bool system_rdtsc(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value;

	(void)insn;
	if (vcpu->cpl && vcpu->cr4 & X86_CR4_TSD)
		return raise_error(vcpu, VECTOR_GP, 0);
	value = clock_tsc() + vcpu->tsc_adjust;
	gpr_write(vcpu, RAX, 4, (u32)value);
	gpr_write(vcpu, RDX, 4, value >> 32);
	return true;
}

bool system_rdtscp(struct vcpu *vcpu, const struct insn *insn)
{
	if (!system_rdtsc(vcpu, insn))
		return false;
	gpr_write(vcpu, RCX, 4, (u32)vcpu->ctx.aux);
	return true;
}

bool system_rdpid(struct vcpu *vcpu, const struct insn *insn)
{
	gpr_write(vcpu, insn->rm, system_register_size(vcpu), vcpu->ctx.aux);
	return true;
}

/* CPUID says that there are no counters, so no number of one is right; nor is one for the others.
 */
bool system_rdpmc(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return raise_error(vcpu, VECTOR_GP, 0);
}

bool system_rdmsr(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value;

	(void)insn;
	if (!system_privileged(vcpu) || !msr_read(vcpu, gpr_read(vcpu, RCX, 4), &value))
		return false;
	gpr_write(vcpu, RAX, 4, (u32)value);
	gpr_write(vcpu, RDX, 4, value >> 32);
	return true;
}

bool system_wrmsr(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value = gpr_read(vcpu, RDX, 4) << 32 | gpr_read(vcpu, RAX, 4);

	(void)insn;
	return system_privileged(vcpu) && msr_write(vcpu, gpr_read(vcpu, RCX, 4), value);
}

/* ------------------------------------------------------------------ segment bases */

bool system_swapgs(struct vcpu *vcpu, const struct insn *insn)
{
	u64 base = vcpu->ctx.base[GS];

	(void)insn;
	if (!vcpu_64bit(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	if (!system_privileged(vcpu))
		return false;
	vcpu->ctx.base[GS] = vcpu->kernel_gs_base;
	vcpu->kernel_gs_base = base;
	return true;
}

bool system_fsgsbase(struct vcpu *vcpu, const struct insn *insn)
{
	bool gs = insn->mnemonic == ZYDIS_MNEMONIC_RDGSBASE ||
		  insn->mnemonic == ZYDIS_MNEMONIC_WRGSBASE;
	bool read = insn->mnemonic == ZYDIS_MNEMONIC_RDFSBASE ||
		    insn->mnemonic == ZYDIS_MNEMONIC_RDGSBASE;
	u64 *base = &vcpu->ctx.base[gs ? GS : FS], value;
	unsigned size = insn->opsize == 8 ? 8 : 4; /* a 66 prefix means nothing */

	if (!vcpu_64bit(vcpu) || !(vcpu->cr4 & X86_CR4_FSGSBASE))
		return raise_fault(vcpu, VECTOR_UD);
	if (read) {
		gpr_write(vcpu, insn->rm, size, *base);
		return true;
	}
	value = gpr_read(vcpu, insn->rm, size);
	if (!system_canonical(value))
		return raise_error(vcpu, VECTOR_GP, 0);
	*base = value;
	return true;
}

/* ------------------------------------------------------------------ caches, and sleep */

/* Addresses that cannot be translated need not be forgotten, and are no fault. */
bool system_invlpg(struct vcpu *vcpu, const struct insn *insn)
{
	u64 address = insn_address(vcpu, insn);

	if (!system_privileged(vcpu))
		return false;
	TRACE(vcpu, MMU, "invlpg %#lx", (unsigned long)address);
	if (system_canonical(address))
		tlb_flush_page(vcpu, address);
	return true;
}

/* Intel SDM 2, "INVPCID - Invalidate Process-Context Identifier". */
bool system_invpcid(struct vcpu *vcpu, const struct insn *insn)
{
	enum { ADDRESS, CONTEXT, ALL, ALL_BUT_GLOBAL };
	u64 type = gpr_read(vcpu, insn->reg, system_register_size(vcpu));
	struct {
		u64 pcid, address;
	} descriptor;
	u64 address;

	if (!system_privileged(vcpu))
		return false;
	if (type > ALL_BUT_GLOBAL)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!insn_access(vcpu, insn, 0, sizeof(descriptor), ACCESS_READ, &address) ||
	    !mem_read(vcpu, address, &descriptor, sizeof(descriptor), ACCESS_READ))
		return false;
	if (descriptor.pcid & ~(u64)CR3_PCID ||
	    (type <= CONTEXT && descriptor.pcid && !(vcpu->cr4 & X86_CR4_PCIDE)) ||
	    (type == ADDRESS && !system_canonical(descriptor.address)))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (type == ADDRESS)
		tlb_flush_page_of(vcpu, descriptor.pcid, descriptor.address);
	else if (type == CONTEXT)
		tlb_flush_space(vcpu, descriptor.pcid);
	else if (type == ALL)
		tlb_flush(vcpu, true);
	else
		tlb_flush_spaces(vcpu);
	return true;
}

/* INVD and WBINVD: the host's caches are coherent with all that the guest can reach. */
bool system_invd(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return system_privileged(vcpu);
}

/*
 * A spinning CPU says PAUSE, about 20 million times a second. After so many that is no longer a
 * matter of a moment.
 */
#define PAUSES 32u

/*
 * Who spins waits for somebody, and whoever that is may be waiting for a processor of the host's:
 * so that is offered to others. With more vCPUs than processors, each wait would otherwise last
 * for what is left of a time slice.
 *
 * Tour 6.712: Politeness: PAUSE
 */
bool system_pause(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (++vcpu->pauses < PAUSES) {
		__builtin_ia32_pause();
		return true;
	}
	vcpu->pauses = 0;
	syscall(SYS_sched_yield);
	return true;
}

bool system_hlt(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!system_privileged(vcpu))
		return false;
	vcpu->halted = true;
	return true;
}
