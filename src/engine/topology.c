/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What CPUID says of packages, cores, threads, and who shares a cache with whom.
 *
 * Every engine starts from what the host's CPU says of itself, and that describes the
 * host's own neighbourhood, not the guest's. The guest's is simple: one package of cores
 * with a thread each, and vCPU n has APIC id n.
 *
 * Tour 5.40
 */
#include "engine/topology.h"

#define FEATURES_EDX_HTT (1u << 28)

#define TOPOLOGY_TYPE_SMT  (1u << 8)
#define TOPOLOGY_TYPE_CORE (2u << 8)

/* Bits that it takes to number so many CPUs. */
static unsigned id_bits(unsigned cpus)
{
	return cpus > 1 ? 32 - __builtin_clz(cpus - 1) : 0;
}

/*
 * Who shares a cache. Bits 4..0: its type, 0 for none; 7..5: its level; 25..14: threads that share
 * it, less one; 31..26, on Intel: cores in the package, less one. From the third level on, all
 * share it.
 */
static void place_cache(u32 leaf, unsigned cpus, struct cpuid_result *result)
{
	u32 sharing = (1u << id_bits(cpus)) - 1;

	if (!(result->eax & 0x1f))
		return;
	result->eax &= 0x3fff;
	if (leaf == LEAF_CACHE)
		result->eax |= MIN(sharing, 63) << 26;
	if ((result->eax >> 5 & 7) >= 3)
		result->eax |= sharing << 14;
}

void topology_place(u32 leaf, u32 subleaf, unsigned index, unsigned cpus,
		    struct cpuid_result *result)
{
	switch (leaf) {
	case LEAF_FEATURES:
		result->ebx = (result->ebx & 0xffff) | cpus << 16 | index << 24;
		result->edx &= ~FEATURES_EDX_HTT;
		if (cpus > 1)
			result->edx |= FEATURES_EDX_HTT;
		break;
	case LEAF_CACHE:
	case LEAF_AMD_CACHE:
		place_cache(leaf, cpus, result);
		break;
	case LEAF_TOPOLOGY:
		result->edx = index;
		result->eax = subleaf == 1 ? id_bits(cpus) : 0;
		result->ebx = subleaf == 0 ? 1 : subleaf == 1 ? cpus : 0;
		result->ecx = subleaf & 0xff;
		if (subleaf == 0)
			result->ecx |= TOPOLOGY_TYPE_SMT;
		if (subleaf == 1)
			result->ecx |= TOPOLOGY_TYPE_CORE;
		break;
	case LEAF_SIZES:
		/*
		 * AMD's: bits 7..0: threads in the package less one; 15..12: bits of an APIC id
		 * that number them. Intel's reserves them.
		 */
		result->ecx = (cpus - 1) | id_bits(cpus) << 12;
		break;
	case LEAF_AMD_TOPOLOGY:
		result->eax = index;
		result->ebx = index & 0xff;
		result->ecx = 0;
		break;
	}
}
