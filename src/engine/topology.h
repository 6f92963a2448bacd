/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a vCPU stands among its brothers, as CPUID tells it. The same on every
 * engine.
 *
 * Tour 5.30: Who sits beside whom
 */
#ifndef ENGINE_TOPOLOGY_H
#define ENGINE_TOPOLOGY_H

#include "host/types.h"

/* Leaves that topology_place() knows: Intel SDM volume 2, "CPUID"; AMD APM volume 3, appendix E. */
#define LEAF_FEATURES	  0x1u
#define LEAF_CACHE	  0x4u
#define LEAF_TOPOLOGY	  0xbu
#define LEAF_SIZES	  0x80000008u
#define LEAF_AMD_CACHE	  0x8000001du
#define LEAF_AMD_TOPOLOGY 0x8000001eu

/* Leaf 0xB has an entry for threads and one for cores. */
#define TOPOLOGY_LEVELS 2u

struct cpuid_result {
	u32 eax, ebx, ecx, edx;
};

/*
 * Put into *result, which holds what that leaf says of the host, the place of vCPU `index` of
 * `cpus`: one package, of so many cores with a thread each. Other leaves stay as they are. No
 * vector registers are used.
 */
void topology_place(u32 leaf, u32 subleaf, unsigned index, unsigned cpus,
		    struct cpuid_result *result);

#endif
