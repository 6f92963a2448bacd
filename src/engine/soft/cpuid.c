/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest's CPUs say of themselves, and what the host's must have.
 *
 * Most instructions reach the host's silicon unchanged, so most of the answer is the
 * host's own: a feature is offered if the host has it and the translator lets its
 * instructions through. Some features are ours alone (what the page tables mean, the
 * local APIC): those are offered on any host. All else is hidden, by lists of what is
 * let through: a bit that is invented next year is not on them.
 *
 * Who are we, then? Not the host. A kernel looks up family and model in its lists of
 * speculation flaws, and believes that it must mitigate what it finds there. That would
 * make its system calls many times slower under translation, and protect nobody: what
 * separates its user from its kernel is our TLB, which is no part of any list. Most flaws
 * can be denied by IA32_ARCH_CAPABILITIES, but not Spectre: a CPU without that is, to
 * Linux (arch/x86/kernel/cpu/common.c), one that does not speculate, and the only ones
 * with 64 bits are Intel's first Atoms. We are one of those in family, model and stepping,
 * on hosts by any vendor; our system instructions follow Intel's manual anyway. Features
 * are looked for in their own bits, so nobody takes AVX2 away from an Atom that has it.
 * The brand string stays the host's, for those who want to know where they are.
 *
 * On a host that is virtual itself, CPUID costs microseconds or tens of them. So the
 * host is asked once, in cpuid_check_host(), and the guest is answered from a table.
 *
 * Tour 6.750: Who are we?
 */
#include "engine/soft/internal.h"

#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>

#define BIT(n) (1u << (n))

/* Intel SDM volume 2, "CPUID". Those of topology.h are not repeated. */
#define LEAF_VENDOR	   0x0u
#define LEAF_CACHE_OLD	   0x2u
#define LEAF_POWER	   0x6u
#define LEAF_STRUCTURED	   0x7u
#define LEAF_XSAVE	   0xdu
#define LEAF_LAST	   LEAF_XSAVE
#define LEAF_HYPERVISOR	   0x40000000u
#define LEAF_EXTENDED	   0x80000000u
#define LEAF_EXT_FEATURES  0x80000001u
#define LEAF_BRAND	   0x80000002u /* and the next two */
#define LEAF_BRAND_END	   0x80000004u
#define LEAF_L2		   0x80000006u
#define LEAF_INVARIANT	   0x80000007u
#define LEAF_EXTENDED_LAST LEAF_SIZES

/*
 * Family 6, model 0x1C, stepping 10. The stepping matters: of the first ones Linux thinks that they
 * cannot be trusted with large pages.
 */
#define SIGNATURE_ATOM 0x000106cau

/* Leaf 1, ECX. */
#define ECX_SSE3	 BIT(0)
#define ECX_PCLMULQDQ	 BIT(1)
#define ECX_SSSE3	 BIT(9)
#define ECX_FMA		 BIT(12)
#define ECX_CX16	 BIT(13)
#define ECX_PCID	 BIT(17)
#define ECX_SSE4_1	 BIT(19)
#define ECX_SSE4_2	 BIT(20)
#define ECX_X2APIC	 BIT(21)
#define ECX_MOVBE	 BIT(22)
#define ECX_POPCNT	 BIT(23)
#define ECX_TSC_DEADLINE BIT(24)
#define ECX_AES		 BIT(25)
#define ECX_XSAVE	 BIT(26)
#define ECX_OSXSAVE	 BIT(27)
#define ECX_AVX		 BIT(28)
#define ECX_F16C	 BIT(29)
#define ECX_RDRAND	 BIT(30)
#define ECX_HYPERVISOR	 BIT(31)

/* Leaf 1, EDX. */
#define EDX_FPU	    BIT(0)
#define EDX_DE	    BIT(2)
#define EDX_PSE	    BIT(3)
#define EDX_TSC	    BIT(4)
#define EDX_MSR	    BIT(5)
#define EDX_PAE	    BIT(6)
#define EDX_MCE	    BIT(7)
#define EDX_CX8	    BIT(8)
#define EDX_APIC    BIT(9)
#define EDX_SEP	    BIT(11)
#define EDX_MTRR    BIT(12)
#define EDX_PGE	    BIT(13)
#define EDX_MCA	    BIT(14)
#define EDX_CMOV    BIT(15)
#define EDX_PAT	    BIT(16)
#define EDX_PSE36   BIT(17)
#define EDX_CLFLUSH BIT(19)
#define EDX_MMX	    BIT(23)
#define EDX_FXSR    BIT(24)
#define EDX_SSE	    BIT(25)
#define EDX_SSE2    BIT(26)
#define EDX_SS	    BIT(27)

/* Leaf 7, EBX, ECX and EDX. */
#define EBX7_FSGSBASE		 BIT(0)
#define EBX7_TSC_ADJUST		 BIT(1)
#define EBX7_BMI1		 BIT(3)
#define EBX7_AVX2		 BIT(5)
#define EBX7_FDP_EXCPTN		 BIT(6)
#define EBX7_SMEP		 BIT(7)
#define EBX7_BMI2		 BIT(8)
#define EBX7_ERMS		 BIT(9)
#define EBX7_INVPCID		 BIT(10)
#define EBX7_ZERO_FCS		 BIT(13)
#define EBX7_AVX512F		 BIT(16)
#define EBX7_AVX512DQ		 BIT(17)
#define EBX7_RDSEED		 BIT(18)
#define EBX7_ADX		 BIT(19)
#define EBX7_SMAP		 BIT(20)
#define EBX7_AVX512_IFMA	 BIT(21)
#define EBX7_CLFLUSHOPT		 BIT(23)
#define EBX7_CLWB		 BIT(24)
#define EBX7_AVX512CD		 BIT(28)
#define EBX7_SHA		 BIT(29)
#define EBX7_AVX512BW		 BIT(30)
#define EBX7_AVX512VL		 BIT(31)
#define ECX7_AVX512_VBMI	 BIT(1)
#define ECX7_UMIP		 BIT(2)
#define ECX7_PKU		 BIT(3)
#define ECX7_OSPKE		 BIT(4)
#define ECX7_AVX512_VBMI2	 BIT(6)
#define ECX7_GFNI		 BIT(8)
#define ECX7_VAES		 BIT(9)
#define ECX7_VPCLMULQDQ		 BIT(10)
#define ECX7_AVX512_VNNI	 BIT(11)
#define ECX7_AVX512_BITALG	 BIT(12)
#define ECX7_AVX512_VPOPCNTDQ	 BIT(14)
#define ECX7_RDPID		 BIT(22)
#define ECX7_CLDEMOTE		 BIT(25)
#define ECX7_MOVDIRI		 BIT(27)
#define ECX7_MOVDIR64B		 BIT(28)
#define EDX7_FSRM		 BIT(4)
#define EDX7_AVX512_VP2INTERSECT BIT(8)
#define EDX7_SERIALIZE		 BIT(14)
#define EDX7_AVX512_FP16	 BIT(23)
#define EDX7_CAPABILITIES	 BIT(29)

/* Leaf 7, subleaf 1, EAX. */
#define EAX71_AVX_VNNI	  BIT(4)
#define EAX71_AVX512_BF16 BIT(5)

/* Those of leaf 7 that need AVX-512's state. */
#define EBX7_AVX512                                                                                \
	(EBX7_AVX512F | EBX7_AVX512DQ | EBX7_AVX512_IFMA | EBX7_AVX512CD | EBX7_AVX512BW |         \
	 EBX7_AVX512VL)
#define ECX7_AVX512                                                                                \
	(ECX7_AVX512_VBMI | ECX7_AVX512_VBMI2 | ECX7_AVX512_VNNI | ECX7_AVX512_BITALG |            \
	 ECX7_AVX512_VPOPCNTDQ)
#define EDX7_AVX512 (EDX7_AVX512_VP2INTERSECT | EDX7_AVX512_FP16)

/* Leaf 0x80000001, ECX and EDX. */
#define ECX81_LAHF64	BIT(0)
#define ECX81_LZCNT	BIT(5)
#define ECX81_PREFETCHW BIT(8)
#define EDX81_SYSCALL	BIT(11)
#define EDX81_NX	BIT(20)
#define EDX81_PDPE1GB	BIT(26)
#define EDX81_RDTSCP	BIT(27)
#define EDX81_LM	BIT(29)

#define POWER_ARAT    BIT(2) /* the local APIC's timer never stops: idle may trust it */
#define INVARIANT_TSC BIT(8)

/* Cache descriptors are not here, but in leaf 4 (Intel SDM, table "Encoding of CPUID Leaf 2"). */
#define CACHE_OLD_NONE 0x0000ff01u

/* Bits 23..16 of leaf 1's EBX count CPUs, 15..8 a line of CLFLUSH. */
#define FEATURES_EBX_CLFLUSH 0xff00u

/*
 * The guest's, whatever the host's: only our page tables know how wide an address is. As wide as
 * today's servers with four levels of them.
 */
#define PHYSICAL_BITS 46u
#define VIRTUAL_BITS  48u

/* XSAVE: x87, SSE and AVX state, and AVX-512's. Intel SDM volume 1, "XSAVE-Managed State". */
#define XCR0_NEEDED	7u
#define XCR0_AVX512	0xe0u
#define XSAVE_LEGACY	576u /* bytes of legacy region and header */
#define XSAVE_ROOM	PAGE_SIZE
#define COMPONENT_AVX	2u /* the first behind the header */
#define COMPONENT_PKRU	9u
#define PKRU_LENGTH	8u /* of which 4 are used */
#define SUBLEAF_XSAVE	1u
#define EAXD_XSAVEOPT	BIT(0)
#define EAXD_XSAVEC	BIT(1)
#define EAXD_XGETBV_1	BIT(2)
#define EAXD_XSAVES	BIT(3)
#define ECXD_ALIGNED	BIT(1)
#define CACHE_TYPE_MASK 0x1fu
#define CACHES_MAX	8u

static const char vendor[13] = "GenuineIntel";

static void table_add(struct cpuid_table *table, u32 leaf, u32 subleaf, struct cpuid_result result)
{
	if (table->count < ARRAY_SIZE(table->entries))
		table->entries[table->count++] = (struct cpuid_entry){leaf, subleaf, result};
}

static u32 characters(const char *text)
{
	u32 value;

	__builtin_memcpy(&value, text, sizeof(value));
	return value;
}

static void add_features(struct cpuid_table *table, cpuid_source *host)
{
	const u32 ecx = ECX_SSE3 | ECX_PCLMULQDQ | ECX_SSSE3 | ECX_FMA | ECX_CX16 | ECX_SSE4_1 |
			ECX_SSE4_2 | ECX_MOVBE | ECX_POPCNT | ECX_AES | ECX_XSAVE | ECX_AVX |
			ECX_F16C | ECX_RDRAND;
	const u32 edx = EDX_FPU | EDX_CX8 | EDX_CMOV | EDX_CLFLUSH | EDX_MMX | EDX_FXSR | EDX_SSE |
			EDX_SSE2;
	struct cpuid_result result;

	host(LEAF_FEATURES, 0, &result);
	result.eax = SIGNATURE_ATOM;
	result.ebx &= FEATURES_EBX_CLFLUSH;
	result.ecx = (result.ecx & ecx) | ECX_PCID | ECX_X2APIC | ECX_TSC_DEADLINE | ECX_HYPERVISOR;
	/* Our memory is one memory: caches never disagree, hence self-snooping. */
	result.edx = (result.edx & edx) | EDX_DE | EDX_PSE | EDX_TSC | EDX_MSR | EDX_PAE | EDX_MCE |
		     EDX_APIC | EDX_SEP | EDX_MTRR | EDX_PGE | EDX_MCA | EDX_PAT | EDX_PSE36 |
		     EDX_SS;
	table_add(table, LEAF_FEATURES, 0, result);
}

static void add_structured(struct cpuid_table *table, cpuid_source *host)
{
	const u32 ebx = EBX7_BMI1 | EBX7_AVX2 | EBX7_FDP_EXCPTN | EBX7_BMI2 | EBX7_ERMS |
			EBX7_ZERO_FCS | EBX7_RDSEED | EBX7_ADX | EBX7_CLFLUSHOPT | EBX7_CLWB |
			EBX7_SHA | EBX7_AVX512;
	const u32 ecx = ECX7_GFNI | ECX7_VAES | ECX7_VPCLMULQDQ | ECX7_RDPID | ECX7_CLDEMOTE |
			ECX7_MOVDIRI | ECX7_MOVDIR64B | ECX7_AVX512;
	const u32 edx = EDX7_FSRM | EDX7_SERIALIZE | EDX7_AVX512;
	const u32 eax1 = EAX71_AVX_VNNI | EAX71_AVX512_BF16;
	struct cpuid_result result, more = {0};

	host(LEAF_STRUCTURED, 0, &result);
	if (result.eax)
		host(LEAF_STRUCTURED, 1, &more);
	more = (struct cpuid_result){.eax = more.eax & eax1};
	result.ebx = (result.ebx & ebx) | EBX7_FSGSBASE | EBX7_TSC_ADJUST | EBX7_SMEP | EBX7_SMAP |
		     EBX7_INVPCID;
	result.ecx = (result.ecx & ecx) | ECX7_UMIP | ECX7_PKU;
	result.edx = (result.edx & edx) | EDX7_CAPABILITIES;
	if (!(table->xsave.components & XCR0_AVX512)) {
		result.ebx &= ~EBX7_AVX512;
		result.ecx &= ~ECX7_AVX512;
		result.edx &= ~EDX7_AVX512;
		more.eax &= ~EAX71_AVX512_BF16;
	}
	result.eax = !!more.eax; /* the last subleaf */
	table_add(table, LEAF_STRUCTURED, 0, result);
	if (more.eax)
		table_add(table, LEAF_STRUCTURED, 1, more);
}

/*
 * Leaf 4 of an Intel host. AMD's have the same words in a leaf of their own (AMD APM volume 3,
 * "Fn8000_001D"), and 0 in leaf 4.
 */
static void add_caches(struct cpuid_table *table, cpuid_source *host)
{
	struct cpuid_result result;
	u32 leaf = LEAF_CACHE;

	host(leaf, 0, &result);
	if (!(result.eax & CACHE_TYPE_MASK)) {
		host(LEAF_EXTENDED, 0, &result);
		if (result.eax < LEAF_AMD_CACHE)
			return;
		leaf = LEAF_AMD_CACHE;
	}
	for (u32 i = 0; i < CACHES_MAX; i++) {
		host(leaf, i, &result);
		if (!(result.eax & CACHE_TYPE_MASK))
			break;
		table_add(table, LEAF_CACHE, i, result);
	}
}

u32 cpuid_image_size(const struct xsave_layout *layout, u64 components)
{
	u32 size = XSAVE_LEGACY;

	for (unsigned i = COMPONENT_AVX; i < ARRAY_SIZE(layout->offset); i++)
		if (components >> i & 1)
			size = MAX(size, layout->offset[i] + (u32)layout->length[i]);
	return size;
}

/* The same in the compacted one: each behind the other. */
static u32 compacted_size(const struct xsave_layout *layout, u64 components)
{
	u32 size = XSAVE_LEGACY;

	for (unsigned i = COMPONENT_AVX; i < ARRAY_SIZE(layout->offset); i++) {
		if (!(components >> i & 1))
			continue;
		if (layout->aligned >> i & 1)
			size = align_up(size, 64);
		size += layout->length[i];
	}
	return size;
}

/*
 * AVX-512 needs its state in the host's XCR0, and in a vCPU's image, and XGETBV that tells whether
 * it is in use. Only Xeon Phi has it without instructions on bytes and words, and that has others
 * that we do not know.
 */
static bool has_avx512(const struct xsave_layout *layout, cpuid_source *host, u64 xcr0)
{
	struct cpuid_result structured, xsave;

	host(LEAF_STRUCTURED, 0, &structured);
	host(LEAF_XSAVE, SUBLEAF_XSAVE, &xsave);
	return (xcr0 & XCR0_AVX512) == XCR0_AVX512 && xsave.eax & EAXD_XGETBV_1 &&
	       structured.ebx & EBX7_AVX512F && structured.ebx & EBX7_AVX512BW &&
	       cpuid_image_size(layout, XCR0_NEEDED | XCR0_AVX512) <= XSAVE_ROOM;
}

/* Before there is anything that depends on it. */
static void lay_out_xsave(struct xsave_layout *layout, cpuid_source *host, u64 xcr0)
{
	struct cpuid_result pkru;

	*layout = (struct xsave_layout){.components = XCR0_NEEDED};
	for (unsigned i = COMPONENT_AVX; i < ARRAY_SIZE(layout->offset); i++) {
		struct cpuid_result component;

		if (!((XCR0_NEEDED | XCR0_AVX512) >> i & 1))
			continue;
		host(LEAF_XSAVE, i, &component);
		layout->length[i] = component.eax;
		layout->offset[i] = component.ebx;
		if (component.ecx & ECXD_ALIGNED)
			layout->aligned |= BIT(i);
	}
	if (has_avx512(layout, host, xcr0))
		layout->components |= XCR0_AVX512;
	/* Ours, like protection keys: where the host has none, behind all others. */
	host(LEAF_XSAVE, COMPONENT_PKRU, &pkru);
	layout->length[COMPONENT_PKRU] = PKRU_LENGTH;
	layout->offset[COMPONENT_PKRU] =
		pkru.eax == PKRU_LENGTH ? pkru.ebx : cpuid_image_size(layout, layout->components);
	layout->components |= BIT(COMPONENT_PKRU);
}

/* What of XSAVE there is beyond the components is ours: xsave.c. IA32_XSS has no bits. */
static void add_xsave(struct cpuid_table *table)
{
	const struct xsave_layout *layout = &table->xsave;
	const u32 size = cpuid_image_size(layout, layout->components);

	table_add(table, LEAF_XSAVE, 0, (struct cpuid_result){layout->components, size, size, 0});
	table_add(table, LEAF_XSAVE, SUBLEAF_XSAVE,
		  (struct cpuid_result){.eax = EAXD_XSAVEOPT | EAXD_XSAVEC | EAXD_XGETBV_1 |
					       EAXD_XSAVES});
	for (unsigned i = COMPONENT_AVX; i < ARRAY_SIZE(layout->offset); i++)
		if (layout->components >> i & 1)
			table_add(table, LEAF_XSAVE, i,
				  (struct cpuid_result){
					  .eax = layout->length[i],
					  .ebx = layout->offset[i],
					  .ecx = layout->aligned >> i & 1 ? ECXD_ALIGNED : 0});
}

static void add_extended(struct cpuid_table *table, cpuid_source *host)
{
	const u32 ecx = ECX81_LAHF64 | ECX81_LZCNT | ECX81_PREFETCHW;
	const u32 always = EDX81_SYSCALL | EDX81_NX | EDX81_PDPE1GB | EDX81_LM;
	struct cpuid_result result;
	u32 last;

	host(LEAF_EXTENDED, 0, &result);
	last = result.eax;
	table_add(table, LEAF_EXTENDED, 0, (struct cpuid_result){.eax = LEAF_EXTENDED_LAST});
	host(LEAF_EXT_FEATURES, 0, &result);
	table_add(table, LEAF_EXT_FEATURES, 0,
		  (struct cpuid_result){.ecx = result.ecx & ecx,
					.edx = (result.edx & EDX81_RDTSCP) | always});
	for (u32 leaf = LEAF_BRAND; leaf <= LEAF_BRAND_END && leaf <= last; leaf++) {
		host(leaf, 0, &result);
		table_add(table, leaf, 0, result);
	}
	if (last >= LEAF_L2) {
		host(LEAF_L2, 0, &result);
		table_add(table, LEAF_L2, 0, (struct cpuid_result){.ecx = result.ecx});
	}
	if (last >= LEAF_INVARIANT) {
		host(LEAF_INVARIANT, 0, &result);
		table_add(table, LEAF_INVARIANT, 0,
			  (struct cpuid_result){.edx = result.edx & INVARIANT_TSC});
	}
	table_add(table, LEAF_SIZES, 0,
		  (struct cpuid_result){.eax = PHYSICAL_BITS | VIRTUAL_BITS << 8});
}

/*
 * The name under which Linux looks for kvmclock, and what a guest may take from it: the clock, the
 * same on all vCPUs, and that nobody needs to wait after writing to a port.
 */
static void add_hypervisor(struct cpuid_table *table)
{
	const char *name = KVM_SIGNATURE;

	table_add(table, KVM_CPUID_SIGNATURE, 0,
		  (struct cpuid_result){KVM_CPUID_FEATURES, characters(name), characters(name + 4),
					characters(name + 8)});
	table_add(table, KVM_CPUID_FEATURES, 0,
		  (struct cpuid_result){.eax = BIT(KVM_FEATURE_CLOCKSOURCE) |
					       BIT(KVM_FEATURE_CLOCKSOURCE2) |
					       BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT) |
					       BIT(KVM_FEATURE_NOP_IO_DELAY)});
}

/*
 * What the translator itself uses, and instructions without which it would have to be another.
 * NULL: all there.
 *
 * Tour 6.751: What the host must have
 */
static const char *missing(cpuid_source *host, u64 xcr0)
{
	struct cpuid_result last, features, structured = {0}, extended;

	host(LEAF_VENDOR, 0, &last);
	host(LEAF_FEATURES, 0, &features);
	if (last.eax >= LEAF_STRUCTURED)
		host(LEAF_STRUCTURED, 0, &structured);
	host(LEAF_EXT_FEATURES, 0, &extended);

	if (!(features.ecx & ECX_CX16))
		return "CMPXCHG16B";
	if (!(extended.ecx & ECX81_LAHF64))
		return "LAHF in 64-bit mode";
	if (!(structured.ebx & EBX7_BMI1))
		return "BMI1";
	if (!(structured.ebx & EBX7_BMI2))
		return "BMI2";
	if (!(features.ecx & ECX_AVX))
		return "AVX";
	if (!(features.ecx & ECX_OSXSAVE) || (xcr0 & XCR0_NEEDED) != XCR0_NEEDED)
		return "AVX that the host's kernel enabled";
	return NULL;
}

int cpuid_fill(struct cpuid_table *table, cpuid_source *host, u64 xcr0, struct problem *why)
{
	const char *what = missing(host, xcr0);

	if (what)
		return problem(why, ENODEV,
			       "the soft engine needs a CPU of 2013 or later, and this one has "
			       "no %s: try --engine=kvm",
			       what);
	table->count = 0;
	lay_out_xsave(&table->xsave, host, xcr0);
	table_add(table, LEAF_VENDOR, 0,
		  (struct cpuid_result){LEAF_LAST, characters(vendor), characters(vendor + 8),
					characters(vendor + 4)});
	add_features(table, host);
	table_add(table, LEAF_CACHE_OLD, 0, (struct cpuid_result){.eax = CACHE_OLD_NONE});
	add_caches(table, host);
	table_add(table, LEAF_POWER, 0, (struct cpuid_result){.eax = POWER_ARAT});
	add_structured(table, host);
	add_xsave(table);
	add_hypervisor(table);
	add_extended(table, host);
	return 0;
}

static void host_cpuid(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	__cpuid_count(leaf, subleaf, result->eax, result->ebx, result->ecx, result->edx);
}

static u64 host_xcr0(void)
{
	struct cpuid_result features;
	u32 low, high;

	host_cpuid(LEAF_FEATURES, 0, &features);
	if (!(features.ecx & ECX_OSXSAVE))
		return 0;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (u64)high << 32;
}

int cpuid_check_host(struct soft *soft, struct problem *why)
{
	return cpuid_fill(&soft->cpuid, host_cpuid, host_xcr0(), why);
}

static bool has_subleaves(u32 leaf)
{
	return leaf == LEAF_CACHE || leaf == LEAF_STRUCTURED || leaf == LEAF_XSAVE;
}

static struct cpuid_result lookup(const struct cpuid_table *table, u32 leaf, u32 subleaf)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct cpuid_entry *entry = &table->entries[i];

		if (entry->leaf == leaf && (entry->subleaf == subleaf || !has_subleaves(leaf)))
			return entry->result;
	}
	return (struct cpuid_result){0};
}

void cpuid_read(const struct vcpu *vcpu, u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	/* Intel SDM, "CPUID": beyond the last leaf it is the last basic one that answers. */
	if ((leaf > LEAF_LAST && leaf < LEAF_HYPERVISOR) || leaf > LEAF_EXTENDED_LAST)
		leaf = LEAF_LAST;
	*result = lookup(&vcpu->soft->cpuid, leaf, subleaf);
	topology_place(leaf, subleaf, vcpu->index, vcpu->soft->vcpu_count, result);

	if (leaf == LEAF_FEATURES) {
		if (vcpu->cr4 & X86_CR4_OSXSAVE)
			result->ecx |= ECX_OSXSAVE;
		/* Intel SDM 3A, "Enabling or Disabling the Local APIC". */
		if (!(vcpu->apic_base & APIC_BASE_ENABLE))
			result->edx &= ~EDX_APIC;
	}
	if (leaf == LEAF_STRUCTURED && subleaf == 0 && vcpu->cr4 & X86_CR4_PKE)
		result->ecx |= ECX7_OSPKE;
	if (leaf == LEAF_XSAVE && subleaf == 0)
		result->ebx = cpuid_image_size(&vcpu->soft->cpuid.xsave, vcpu->xcr0);
	if (leaf == LEAF_XSAVE && subleaf == SUBLEAF_XSAVE)
		result->ebx = compacted_size(&vcpu->soft->cpuid.xsave, vcpu->xcr0);
}

unsigned cpuid_address_bits(void)
{
	return PHYSICAL_BITS;
}
