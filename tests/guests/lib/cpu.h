/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The CPU's own registers, for guests that test the CPU: control registers, flags,
 * CPUID, and the MSRs that kernels need.
 */
#ifndef LIB_CPU_H
#define LIB_CPU_H

#include "lib/guest.h"

#include <asm/processor-flags.h>

#define MSR_APIC_BASE	   0x1b
#define MSR_TSC_DEADLINE   0x6e0
#define MSR_X2APIC	   0x800
#define MSR_EFER	   0xc0000080
#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

#define APIC_BASE_X2APIC (1ull << 10)
#define APIC_BASE_ON	 (1ull << 11)

#define EFER_SCE (1ull << 0)
#define EFER_NXE (1ull << 11)

#define CONTROL_REGISTER(name)                                                                     \
	static inline u64 read_##name(void)                                                        \
	{                                                                                          \
		u64 value;                                                                         \
		asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory");                    \
		return value;                                                                      \
	}                                                                                          \
	static inline void write_##name(u64 value)                                                 \
	{                                                                                          \
		asm volatile("mov %0, %%" #name : : "r"(value) : "memory");                        \
	}
CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)
CONTROL_REGISTER(cr8)
CONTROL_REGISTER(dr6)
CONTROL_REGISTER(dr7)

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
	struct cpuid result;

	asm volatile("cpuid"
		     : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
		     : "a"(leaf), "c"(subleaf));
	return result;
}

/* Features that not every CPU has: whether this one does. */
static inline bool cpu_has_smep(void)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> 7 & 1;
}

static inline bool cpu_has_smap(void)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> 20 & 1;
}

static inline bool cpu_has_fsgsbase(void)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx & 1;
}

static inline bool cpu_has_invpcid(void)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ebx >> 10 & 1;
}

static inline bool cpu_has_pcid(void)
{
	return cpuid(1, 0).ecx >> 17 & 1;
}

static inline bool cpu_has_xsave(void)
{
	return cpuid(1, 0).ecx >> 26 & 1;
}

static inline bool cpu_has_1g_pages(void)
{
	return cpuid(0x80000001, 0).edx >> 26 & 1;
}

/*
 * Whether the CPU is qemu's emulated one, through KVM or without it. Where that one is known not
 * to do as the manuals say, a check of what they say is of no use there.
 */
bool cpu_is_tcg(void);

/* Instead of a check: says what is left to other CPUs. True: on this one, leave it out. */
bool cpu_deviates(const char *what);

#endif
