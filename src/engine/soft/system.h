/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files about system instructions (system.c, control.c, tables.c, ports.c, msr.c)
 * and about segments have in common: names of bits that
 * <asm/processor-flags.h> lacks, and the questions that half of these
 * instructions begin with.
 *
 * Tour 6.700: Instructions of kernels
 */
#ifndef ENGINE_SOFT_SYSTEM_H
#define ENGINE_SOFT_SYSTEM_H

#include "engine/soft/internal.h"

/* Types of system descriptors: Intel SDM 3A, "System Descriptor Types". */
#define SYSTEM_TSS_16	    1
#define SYSTEM_LDT	    2
#define SYSTEM_TSS_16_BUSY  3
#define SYSTEM_CALL_GATE_16 4
#define SYSTEM_TASK_GATE    5
#define SYSTEM_TSS	    9 /* of 32 bits; in long mode, of 64 */
#define SYSTEM_TSS_BUSY	    11
#define SYSTEM_CALL_GATE    12
#define SYSTEM_BUSY	    2 /* the bit by which a TSS that is in use differs */

/* #GP(0), and false, unless the kernel asks. In real-address mode everybody is. */
static inline bool system_privileged(struct vcpu *vcpu)
{
	return vcpu->cpl == 0 || raise_error(vcpu, VECTOR_GP, 0);
}

/* CR4.UMIP: where its tables are, a kernel may keep from its users. #GP(0), and false. */
static inline bool system_may_know(struct vcpu *vcpu)
{
	return vcpu->cpl == 0 || !(vcpu->cr4 & X86_CR4_UMIP) || raise_error(vcpu, VECTOR_GP, 0);
}

/* Neither real-address mode nor virtual-8086 mode: selectors mean descriptors. */
static inline bool system_protected(const struct vcpu *vcpu)
{
	return vcpu->cr0 & X86_CR0_PE && !(vcpu->sysflags & X86_EFLAGS_VM);
}

/* With 4-level paging: bits 63 to 47 are alike. */
static inline bool system_canonical(u64 address)
{
	return (s64)(address << 16) >> 16 == (s64)address;
}

/* Outside IA-32e mode, linear addresses end at 4 GiB and begin anew. */
static inline u64 system_linear(const struct vcpu *vcpu, u64 address)
{
	return vcpu_long_mode(vcpu) ? address : (u32)address;
}

static inline unsigned system_iopl(const struct vcpu *vcpu)
{
	return (vcpu->sysflags & X86_EFLAGS_IOPL) >> X86_EFLAGS_IOPL_BIT;
}

/* Operands have the full width of the mode, whatever the prefixes say. */
static inline unsigned system_register_size(const struct vcpu *vcpu)
{
	return vcpu_64bit(vcpu) ? 8 : 4;
}

#endif
