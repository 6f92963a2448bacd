/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Model-specific registers: thousands of them in the manual (Intel SDM volume 4), a
 * few dozen here. CPUID says what we are, and by that says which of them there
 * must be; those are here, and a few that kernels touch without asking. Every
 * other gives #GP, as it does on a processor that is older than the question:
 * kernels are used to it.
 *
 * Most are just a word that must have the right shape. Memory types (PAT, MTRRs)
 * are kept so that a guest reads back what it wrote; all its memory is the
 * host's write-back memory in truth. And whatever the guest is told of flaws of
 * speculation here: it is protected from them as well, or as badly, as any other
 * process of the host.
 *
 * Tour 6.740: Model-specific registers
 */
#include "engine/soft/system.h"

#include <asm/kvm_para.h>
#include <asm/mtrr.h>

/* Intel SDM 4, "Architectural MSRs". */
#define MSR_TSC		   0x10
#define MSR_PLATFORM_ID	   0x17
#define MSR_APIC_BASE	   0x1b
#define MSR_SMI_COUNT	   0x34
#define MSR_TSC_ADJUST	   0x3b
#define MSR_SPEC_CTRL	   0x48
#define MSR_PRED_CMD	   0x49
#define MSR_BIOS_SIGN_ID   0x8b /* the microcode's revision, in the upper half */
#define MSR_PLATFORM_INFO  0xce
#define MSR_MTRRCAP	   0xfe
#define MSR_CAPABILITIES   0x10a
#define MSR_SYSENTER_CS	   0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_MCG_CAP	   0x179
#define MSR_MCG_STATUS	   0x17a
#define MSR_MISC_ENABLE	   0x1a0
#define MSR_DEBUGCTL	   0x1d9
#define MSR_MTRR_VARIABLE  0x200 /* base and mask, base and mask... */
#define MSR_MTRR_FIX_64K   0x250
#define MSR_MTRR_FIX_16K   0x258 /* two */
#define MSR_MTRR_FIX_4K	   0x268 /* eight */
#define MSR_PAT		   0x277
#define MSR_MTRR_DEF_TYPE  0x2ff
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_X2APIC	   0x800
#define MSR_X2APIC_END	   0x8ff
#define MSR_XSS		   0xda0
#define MSR_EFER	   0xc0000080
#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_CSTAR	   0xc0000083
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX	   0xc0000103

/* Nobody has newer microcode to load into us. */
#define MICROCODE_REVISION 0x7fffffffull

/* PLATFORM_INFO: bits 15..8 are the TSC's frequency, in units of: */
#define PLATFORM_INFO_HZ 100000000u

/*
 * What a translator has no use for a fix of: Intel SDM 4, "IA32_ARCH_CAPABILITIES". Those that
 * promise a way to control something (IBRS_ALL, TSX_CTRL, FB_CLEAR...) are clear.
 */
#define CAPABILITIES_RDCL_NO	  (1ull << 0)
#define CAPABILITIES_SKIP_L1DFL	  (1ull << 3)
#define CAPABILITIES_SSB_NO	  (1ull << 4)
#define CAPABILITIES_MDS_NO	  (1ull << 5)
#define CAPABILITIES_PSCHANGE_NO  (1ull << 6)
#define CAPABILITIES_TAA_NO	  (1ull << 8)
#define CAPABILITIES_SBDR_SSDP_NO (1ull << 13)
#define CAPABILITIES_FBSDP_NO	  (1ull << 14)
#define CAPABILITIES_PSDP_NO	  (1ull << 15)
#define CAPABILITIES_BHI_NO	  (1ull << 20)
#define CAPABILITIES_PBRSB_NO	  (1ull << 24)
#define CAPABILITIES_GDS_NO	  (1ull << 26)
#define CAPABILITIES_RFDS_NO	  (1ull << 27)
#define CAPABILITIES_ITS_NO	  (1ull << 62)
#define CAPABILITIES                                                                               \
	(CAPABILITIES_RDCL_NO | CAPABILITIES_SKIP_L1DFL | CAPABILITIES_SSB_NO |                    \
	 CAPABILITIES_MDS_NO | CAPABILITIES_PSCHANGE_NO | CAPABILITIES_TAA_NO |                    \
	 CAPABILITIES_SBDR_SSDP_NO | CAPABILITIES_FBSDP_NO | CAPABILITIES_PSDP_NO |                \
	 CAPABILITIES_BHI_NO | CAPABILITIES_PBRSB_NO | CAPABILITIES_GDS_NO |                       \
	 CAPABILITIES_RFDS_NO | CAPABILITIES_ITS_NO)

/* There is no branch trace store, and no precise sampling: bits that only read. */
#define MISC_ENABLE_NOT_AVAILABLE (1u << 11 | 1u << 12)

/* Accepted and without effect, as nothing steps from branch to branch or records them. */
#define DEBUGCTL_LBR 1u
#define DEBUGCTL_BTF 2u

/* Intel SDM 3A, "Memory Type Range Registers (MTRRs)". */
#define MTRR_COUNT     (ARRAY_SIZE(((struct vcpu *)0)->mtrr_variable) / 2)
#define MTRRCAP_FIXED  (1u << 8)
#define MTRRCAP_WC     (1u << 10)
#define DEF_TYPE_FIXED (1u << 10)
#define DEF_TYPE_ON    (1u << 11)
#define MASK_VALID     (1u << 11)

#define PAT_UNCACHED 7 /* UC-: a type that MTRRs do not know */

/* ------------------------------------------------------------------ those that are just a word */

static u64 *mtrr_word(struct vcpu *vcpu, u32 index)
{
	if (index - MSR_MTRR_VARIABLE < ARRAY_SIZE(vcpu->mtrr_variable))
		return &vcpu->mtrr_variable[index - MSR_MTRR_VARIABLE];
	if (index == MSR_MTRR_FIX_64K)
		return &vcpu->mtrr_fixed[0];
	if (index - MSR_MTRR_FIX_16K < 2)
		return &vcpu->mtrr_fixed[1 + index - MSR_MTRR_FIX_16K];
	if (index - MSR_MTRR_FIX_4K < 8)
		return &vcpu->mtrr_fixed[3 + index - MSR_MTRR_FIX_4K];
	return index == MSR_MTRR_DEF_TYPE ? &vcpu->mtrr_def_type : NULL;
}

static u64 *word(struct vcpu *vcpu, u32 index)
{
	switch (index) {
	case MSR_SYSENTER_CS:
		return &vcpu->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &vcpu->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &vcpu->sysenter_eip;
	case MSR_SPEC_CTRL:
		return &vcpu->spec_ctrl;
	case MSR_PAT:
		return &vcpu->pat;
	case MSR_STAR:
		return &vcpu->star;
	case MSR_LSTAR:
		return &vcpu->lstar;
	case MSR_CSTAR:
		return &vcpu->cstar;
	case MSR_SFMASK:
		return &vcpu->sfmask;
	case MSR_FS_BASE:
		return &vcpu->ctx.base[FS];
	case MSR_GS_BASE:
		return &vcpu->ctx.base[GS];
	case MSR_KERNEL_GS_BASE:
		return &vcpu->kernel_gs_base;
	case MSR_TSC_AUX:
		return &vcpu->ctx.aux;
	default:
		return mtrr_word(vcpu, index);
	}
}

static bool is_memory_type(u8 type)
{
	return type == MTRR_TYPE_UNCACHABLE || type == MTRR_TYPE_WRCOMB ||
	       type == MTRR_TYPE_WRTHROUGH || type == MTRR_TYPE_WRPROT || type == MTRR_TYPE_WRBACK;
}

/* Eight types, a byte each. */
static bool are_memory_types(u64 types, bool pat)
{
	for (unsigned i = 0; i < 8; i++) {
		u8 type = types >> 8 * i;

		if (!is_memory_type(type) && !(pat && type == PAT_UNCACHED))
			return false;
	}
	return true;
}

static bool mtrr_fits(u32 index, u64 value)
{
	if (index == MSR_MTRR_DEF_TYPE)
		return is_memory_type(value) &&
		       !(value & ~(u64)(0xff | DEF_TYPE_FIXED | DEF_TYPE_ON));
	if (index - MSR_MTRR_VARIABLE >= 2 * MTRR_COUNT)
		return are_memory_types(value, false);
	if (value >> cpuid_address_bits())
		return false;
	/* Odd ones are masks. */
	if (index & 1)
		return !(value & (PAGE_SIZE - 1) & ~(u64)MASK_VALID);
	return is_memory_type(value) && !(value & (PAGE_SIZE - 1) & ~0xffull);
}

/* Does this word() take that value? */
static bool fits(u32 index, u64 value)
{
	switch (index) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
		return system_canonical(value);
	case MSR_TSC_AUX:
		return !(value >> 32);
	case MSR_PAT:
		return are_memory_types(value, true);
	case MSR_SYSENTER_CS:
	case MSR_STAR:
	case MSR_SFMASK:
	case MSR_SPEC_CTRL:
		return true;
	default:
		return mtrr_fits(index, value);
	}
}

/* ------------------------------------------------------------------ those that do something */

/* Intel SDM 4, "IA32_EFER". LME may not change while there is paging; LMA is not for writing. */
static bool efer_write(struct vcpu *vcpu, u64 value)
{
	u64 efer = (value & ~(u64)EFER_LMA) | (vcpu->efer & EFER_LMA);
	u64 changed = efer ^ vcpu->efer;

	if (efer & ~(u64)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NX) ||
	    (changed & EFER_LME && vcpu->cr0 & X86_CR0_PG))
		return false;
	vcpu->efer = efer;
	syscall_prepare(vcpu);
	if (changed & EFER_NX)
		tlb_flush(vcpu, true);
	vcpu_update_mode(vcpu);
	return true;
}

/*
 * The guest's TSC is the host's, plus this. The timer that waits for it has to know, and so has
 * kvmclock.
 */
static void tsc_adjust(struct vcpu *vcpu, u64 value)
{
	u64 deadline = lapic_deadline(vcpu);

	vcpu->tsc_adjust = value;
	if (deadline)
		lapic_set_deadline(vcpu, deadline);
	clock_publish_system_time(vcpu);
}

/* What the hypervisor that we pretend to be tells about time: asm/kvm_para.h. */
static bool kvm_write(struct vcpu *vcpu, u32 index, u64 value)
{
	if (index == MSR_KVM_WALL_CLOCK || index == MSR_KVM_WALL_CLOCK_NEW) {
		vcpu->kvm_wall_clock = value;
		clock_publish_wall_clock(vcpu);
	} else {
		vcpu->kvm_system_time = value;
		clock_publish_system_time(vcpu);
	}
	return true;
}

static u64 platform_info(const struct vcpu *vcpu)
{
	return (vcpu->soft->tsc_hz / PLATFORM_INFO_HZ & 0xff) << 8;
}

/* False: there is no such MSR. */
static bool get(struct vcpu *vcpu, u32 index, u64 *value)
{
	const u64 *plain = word(vcpu, index);

	*value = 0;
	if (plain) {
		*value = *plain;
		return true;
	}
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_END)
		return lapic_x2_read(vcpu, index, value);
	switch (index) {
	case MSR_PLATFORM_ID:
	case MSR_SMI_COUNT:
	case MSR_MCG_CAP: /* no banks */
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
	case MSR_XSS: /* no supervisor components */
		return true;
	case MSR_TSC:
		*value = clock_tsc() + vcpu->tsc_adjust;
		return true;
	case MSR_TSC_ADJUST:
		*value = vcpu->tsc_adjust;
		return true;
	case MSR_TSC_DEADLINE:
		*value = lapic_deadline(vcpu);
		return true;
	case MSR_APIC_BASE:
		*value = lapic_base_get(vcpu);
		return true;
	case MSR_BIOS_SIGN_ID:
		*value = MICROCODE_REVISION << 32;
		return true;
	case MSR_PLATFORM_INFO:
		*value = platform_info(vcpu);
		return true;
	case MSR_CAPABILITIES:
		*value = CAPABILITIES;
		return true;
	case MSR_MTRRCAP:
		*value = MTRR_COUNT | MTRRCAP_FIXED | MTRRCAP_WC;
		return true;
	case MSR_MISC_ENABLE:
		*value = vcpu->misc_enable | MISC_ENABLE_NOT_AVAILABLE;
		return true;
	case MSR_EFER:
		*value = vcpu->efer;
		return true;
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*value = vcpu->kvm_wall_clock;
		return true;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*value = vcpu->kvm_system_time;
		return true;
	default:
		return false;
	}
}

/* False: there is no such MSR, it only reads, or it does not take that. */
static bool set(struct vcpu *vcpu, u32 index, u64 value)
{
	u64 *plain = word(vcpu, index);

	if (plain) {
		if (!fits(index, value))
			return false;
		*plain = value;
		if (index == MSR_STAR || index == MSR_SFMASK)
			syscall_prepare(vcpu);
		return true;
	}
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_END)
		return lapic_x2_write(vcpu, index, value);
	switch (index) {
	case MSR_PRED_CMD:     /* no predictor that we know of */
	case MSR_BIOS_SIGN_ID: /* written before it is read: Intel SDM 3A, "Update Signature..." */
		return true;
	case MSR_MCG_STATUS:
	case MSR_XSS:
		return !value;
	case MSR_DEBUGCTL:
		return !(value & ~(u64)(DEBUGCTL_LBR | DEBUGCTL_BTF));
	case MSR_TSC:
		tsc_adjust(vcpu, value - clock_tsc());
		return true;
	case MSR_TSC_ADJUST:
		tsc_adjust(vcpu, value);
		return true;
	case MSR_TSC_DEADLINE:
		lapic_set_deadline(vcpu, value);
		return true;
	case MSR_APIC_BASE:
		return lapic_base_set(vcpu, value);
	case MSR_MISC_ENABLE:
		vcpu->misc_enable = value;
		return true;
	case MSR_EFER:
		return efer_write(vcpu, value);
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return kvm_write(vcpu, index, value);
	default:
		return false;
	}
}

bool msr_read(struct vcpu *vcpu, u32 index, u64 *value)
{
	if (get(vcpu, index, value))
		return true;
	TRACE(vcpu, INT, "rdmsr %#x: there is none", index);
	return raise_error(vcpu, VECTOR_GP, 0);
}

bool msr_write(struct vcpu *vcpu, u32 index, u64 value)
{
	if (set(vcpu, index, value))
		return true;
	TRACE(vcpu, INT, "wrmsr %#x, %#lx: refused", index, (unsigned long)value);
	return raise_error(vcpu, VECTOR_GP, 0);
}
