/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and extended control registers: the handlers of the instructions that
 * write and read them. Debug registers are in debug.c.
 *
 * This is the part of the CPU that says no. Most of what follows is the lists of
 * #GP conditions at the end of each instruction's page in the Intel SDM, volume
 * 2; what remains is a handful of assignments, and telling those who derived
 * something from the old value: the TLB, and the mode that code is translated
 * for. EFER, a control register by any other name, is an MSR and in msr.c.
 *
 * Tour 6.730: The part of the CPU that says no
 */
#include "engine/soft/paging.h"
#include "engine/soft/system.h"

/* Last opcode bytes of MOV to and from control registers: bit 1 is the direction. */
#define OPCODE_MOV_TO 0x02

/* CR4 as cpuid.c describes the processor. What is not offered is reserved. */
#define CR4_OFFERED                                                                                \
	(X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |        \
	 X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_FSGSBASE | X86_CR4_OSXSAVE |  \
	 X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_UMIP | X86_CR4_PCIDE)
#define CR0_DEFINED                                                                                \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | X86_CR0_WP |             \
	 X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)

/* Intel SDM 3A, "Control Registers" and "Paging": a change of these empties the TLB wholly. */
#define CR0_FLUSHES (X86_CR0_PE | X86_CR0_PG | X86_CR0_WP)
#define CR4_FLUSHES                                                                                \
	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE |     \
	 X86_CR4_PCIDE)

/* Intel SDM 3A, "PDPTE Registers": a change of these loads them, where there is PAE paging. */
#define CR0_POINTERS (X86_CR0_CD | X86_CR0_NW | X86_CR0_PG)
#define CR4_POINTERS (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)

#define CR3_NO_FLUSH (1ull << 63) /* with CR4.PCIDE; it does not stay */

/* What LMSW reaches: the four bits of the 80286's machine status word. */
#define MSW_WRITABLE (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS)

/* Intel SDM 3A, "Extended Control Registers": XCR0. */
#define XCR0_X87    1u
#define XCR0_SSE    2u
#define XCR0_AVX    4u
#define XCR0_AVX512 0xe0u /* masks, upper halves, upper registers */

/* ------------------------------------------------------------------ control registers */

/*
 * Intel SDM 3A, "Initializing IA-32e Mode": paging is what makes LME effective. The way out is
 * through compatibility mode.
 */
static bool paging_switch(struct vcpu *vcpu, bool on)
{
	if (!on) {
		if (vcpu_64bit(vcpu) || vcpu->cr4 & X86_CR4_PCIDE)
			return raise_error(vcpu, VECTOR_GP, 0);
		vcpu->efer &= ~(u64)EFER_LMA;
		return true;
	}
	if (!(vcpu->efer & EFER_LME))
		return true;
	if (!(vcpu->cr4 & X86_CR4_PAE) || vcpu->seg[CS].l ||
	    (vcpu->tr.present && vcpu->tr.type == SYSTEM_TSS_16_BUSY))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->efer |= EFER_LMA;
	return true;
}

/* With those control registers, are the page tables' roots PAE's four? */
static bool has_pointers(const struct vcpu *vcpu, u64 cr0, u64 cr4)
{
	return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(vcpu->efer & EFER_LME);
}

/*
 * The pattern of this whole file: what may not be, then what follows from it, then the
 * assignment, and then those are told who derived something from the old value.
 *
 * Tour 6.731: Paging on, paging off
 */
static bool cr0_write(struct vcpu *vcpu, u64 value)
{
	u64 cr0 = (value & CR0_DEFINED) | X86_CR0_ET;
	u64 changed = cr0 ^ vcpu->cr0;

	if (value >> 32 || (cr0 & X86_CR0_PG && !(cr0 & X86_CR0_PE)) ||
	    (cr0 & X86_CR0_NW && !(cr0 & X86_CR0_CD)))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (changed & CR0_POINTERS && has_pointers(vcpu, cr0, vcpu->cr4) &&
	    !paging_load_pointers(vcpu, vcpu->cr3))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (changed & X86_CR0_PG && !paging_switch(vcpu, cr0 & X86_CR0_PG))
		return false;
	vcpu->cr0 = cr0;
	TRACE(vcpu, MMU, "cr0 %#lx", (unsigned long)cr0);
	if (changed & CR0_FLUSHES)
		tlb_flush(vcpu, true);
	vcpu_update_mode(vcpu);
	return true;
}

/*
 * All that is reserved are bits that no physical address has. The low ones are a PCID, or mean
 * little, and are kept.
 */
bool control_load_cr3(struct vcpu *vcpu, u64 value)
{
	bool pcids = vcpu->cr4 & X86_CR4_PCIDE, keep = pcids && value & CR3_NO_FLUSH;

	if (keep)
		value &= ~CR3_NO_FLUSH;
	if (value >> cpuid_address_bits() ||
	    (has_pointers(vcpu, vcpu->cr0, vcpu->cr4) && !paging_load_pointers(vcpu, value)))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->cr3 = value;
	TRACE(vcpu, MMU, "cr3 %#lx", (unsigned long)value);
	tlb_switch(vcpu, pcids ? value & CR3_PCID : 0, keep);
	return true;
}

static bool cr4_write(struct vcpu *vcpu, u64 value)
{
	u64 changed = value ^ vcpu->cr4;

	if (changed & value & X86_CR4_PCIDE && (!vcpu_long_mode(vcpu) || vcpu->cr3 & CR3_PCID))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (value & ~CR4_OFFERED || (vcpu_long_mode(vcpu) && !(value & X86_CR4_PAE)))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (changed & CR4_POINTERS && has_pointers(vcpu, vcpu->cr0, value) &&
	    !paging_load_pointers(vcpu, vcpu->cr3))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->cr4 = value;
	TRACE(vcpu, MMU, "cr4 %#lx", (unsigned long)value);
	if (changed & CR4_FLUSHES)
		tlb_flush(vcpu, true);
	if (changed & X86_CR4_DE)
		debug_update(vcpu);
	vcpu_update_mode(vcpu);
	return true;
}

/* The local APIC's task priority by another name, less its low half. */
static bool cr8_write(struct vcpu *vcpu, u64 value)
{
	if (value & ~X86_CR8_TPR)
		return raise_error(vcpu, VECTOR_GP, 0);
	lapic_set_tpr(vcpu, value << 4);
	return true;
}

static bool cr_write(struct vcpu *vcpu, unsigned number, u64 value)
{
	switch (number) {
	case 0:
		return cr0_write(vcpu, value);
	case 2:
		vcpu->cr2 = value;
		return true;
	case 3:
		return control_load_cr3(vcpu, value);
	case 4:
		return cr4_write(vcpu, value);
	default:
		return cr8_write(vcpu, value);
	}
}

static u64 cr_read(struct vcpu *vcpu, unsigned number)
{
	switch (number) {
	case 0:
		return vcpu->cr0;
	case 2:
		return vcpu->cr2;
	case 3:
		return vcpu->cr3;
	case 4:
		return vcpu->cr4;
	default:
		return lapic_tpr(vcpu) >> 4;
	}
}

bool system_mov_cr(struct vcpu *vcpu, const struct insn *insn)
{
	const u32 exist = 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 8;
	unsigned size = system_register_size(vcpu);

	if (insn->reg > 8 || !(exist >> insn->reg & 1))
		return raise_fault(vcpu, VECTOR_UD);
	if (!system_privileged(vcpu))
		return false;
	if (insn->opcode & OPCODE_MOV_TO)
		return cr_write(vcpu, insn->reg, gpr_read(vcpu, insn->rm, size));
	gpr_write(vcpu, insn->rm, size, cr_read(vcpu, insn->reg));
	return true;
}

bool system_clts(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!system_privileged(vcpu))
		return false;
	vcpu->cr0 &= ~X86_CR0_TS;
	vcpu_update_mode(vcpu);
	return true;
}

/* It can enter protected mode, but not leave it: the 80286 never meant to. */
bool system_lmsw(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value;

	if (!system_privileged(vcpu) || !rm_read(vcpu, insn, 2, &value))
		return false;
	value = (value & MSW_WRITABLE) | (vcpu->cr0 & X86_CR0_PE);
	return cr0_write(vcpu, (vcpu->cr0 & ~MSW_WRITABLE) | value);
}

/* A register takes as much of CR0 as it holds, memory a word. */
bool system_smsw(struct vcpu *vcpu, const struct insn *insn)
{
	return system_may_know(vcpu) &&
	       rm_write(vcpu, insn, insn->has_memory ? 2 : insn->opsize, vcpu->cr0);
}

bool system_xgetbv(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value = vcpu->xcr0;

	(void)insn;
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE))
		return raise_fault(vcpu, VECTOR_UD);
	if (gpr_read(vcpu, RCX, 4) > 1)
		return raise_error(vcpu, VECTOR_GP, 0);
	if (gpr_read(vcpu, RCX, 4))
		value = fpu_in_use(vcpu);
	gpr_write(vcpu, RAX, 4, (u32)value);
	gpr_write(vcpu, RDX, 4, value >> 32);
	return true;
}

/* Intel SDM volume 1, "Enabling the XSAVE Feature Set": of AVX-512's components all or none. */
static bool xcr0_valid(const struct vcpu *vcpu, u64 value)
{
	u64 avx512 = value & XCR0_AVX512;

	if (value & ~vcpu->soft->cpuid.xsave.components || !(value & XCR0_X87))
		return false;
	if (value & XCR0_AVX && !(value & XCR0_SSE))
		return false;
	/* PKRU is on its own. */
	return !avx512 || (avx512 == XCR0_AVX512 && value & XCR0_AVX);
}

bool system_xsetbv(struct vcpu *vcpu, const struct insn *insn)
{
	u64 value = gpr_read(vcpu, RDX, 4) << 32 | gpr_read(vcpu, RAX, 4);

	(void)insn;
	if (!(vcpu->cr4 & X86_CR4_OSXSAVE))
		return raise_fault(vcpu, VECTOR_UD);
	if (!system_privileged(vcpu))
		return false;
	if (gpr_read(vcpu, RCX, 4) || !xcr0_valid(vcpu, value))
		return raise_error(vcpu, VECTOR_GP, 0);
	vcpu->xcr0 = value;
	vcpu_update_mode(vcpu);
	return true;
}

/* Anybody may: a thread takes rights away from itself. */
bool system_rdpkru(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!(vcpu->cr4 & X86_CR4_PKE))
		return raise_fault(vcpu, VECTOR_UD);
	if (gpr_read(vcpu, RCX, 4))
		return raise_error(vcpu, VECTOR_GP, 0);
	gpr_write(vcpu, RAX, 4, vcpu->pkru);
	gpr_write(vcpu, RDX, 4, 0);
	return true;
}

bool system_wrpkru(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	if (!(vcpu->cr4 & X86_CR4_PKE))
		return raise_fault(vcpu, VECTOR_UD);
	if (gpr_read(vcpu, RCX, 4) || gpr_read(vcpu, RDX, 4))
		return raise_error(vcpu, VECTOR_GP, 0);
	mmu_set_pkru(vcpu, gpr_read(vcpu, RAX, 4));
	return true;
}
