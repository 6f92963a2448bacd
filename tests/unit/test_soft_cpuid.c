/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the soft engine's CPUs say of themselves, on hosts of the test's choosing.
 */
#include "engine/soft/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define XCR0_AVX 7u

/* XSAVE's components, laid out as Intel's were that had MPX. */
static void xsave(u32 subleaf, struct cpuid_result *result)
{
	static const struct cpuid_result component[] = {
		[2] = {256, 576, 0, 0},	  [5] = {64, 1088, 0, 0}, [6] = {512, 1152, 0, 0},
		[7] = {1024, 1664, 0, 0}, [9] = {8, 2688, 0, 0},
	};

	if (subleaf > 1)
		*result = (struct cpuid_result){0};
	if (subleaf > 1 && subleaf < ARRAY_SIZE(component))
		*result = component[subleaf];
}

/* A host with every bit that there is, those included that nobody has invented yet. */
static void everything(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	memset(result, 0xff, sizeof(*result));
	if (leaf == 4 && subleaf == 3)
		result->eax = 0;
	if (leaf == 0xd)
		xsave(subleaf, result);
}

/* The least that will do. */
static void least(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	*result = (struct cpuid_result){0};
	switch (leaf) {
	case 0:
		result->eax = 0xd;
		break;
	case 1:
		result->eax = 0x306c3;
		result->ebx = 8u << 8;
		result->ecx = 1u << 13 | 1u << 26 | 1u << 27 | 1u << 28;
		result->edx = 0x078bfbff;
		break;
	case 7:
		result->ebx = subleaf ? 0 : 1u << 3 | 1u << 8;
		break;
	case 0xd:
		if (subleaf == 2)
			*result = (struct cpuid_result){.eax = 256, .ebx = 576};
		break;
	case 0x80000000:
		result->eax = 0x80000001;
		break;
	case 0x80000001:
		result->ecx = 1;
		break;
	}
}

static void no_bmi2(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 7)
		result->ebx &= ~(1u << 8);
}

static void no_leaf_7(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 0)
		result->eax = 6;
}

static void no_cx16(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 1)
		result->ecx &= ~(1u << 13);
}

static void no_lahf(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 0x80000001)
		result->ecx = 0;
}

static void no_avx(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 1)
		result->ecx &= ~(1u << 28);
}

static void xeon_phi(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	everything(leaf, subleaf, result);
	if (leaf == 7 && !subleaf)
		result->ebx &= ~(1u << 30);
}

static void no_xgetbv_1(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	everything(leaf, subleaf, result);
	if (leaf == 0xd && subleaf == 1)
		result->eax &= ~4u;
}

/* Caches as AMD has them: nothing in leaf 4, the same words in a leaf of its own. */
static void amd(u32 leaf, u32 subleaf, struct cpuid_result *result)
{
	least(leaf, subleaf, result);
	if (leaf == 0x80000000)
		result->eax = 0x80000021;
	if (leaf == 0x8000001d && subleaf < 2)
		*result = (struct cpuid_result){0x4121 + (subleaf << 5), 0x01c0003f, 63, 0};
	if (leaf == 0x80000007)
		result->edx = 0xffffffff;
}

static struct soft soft; /* both are large, and start as zeros each time */
static struct vcpu vcpu;

static int setup(void **state)
{
	(void)state;
	memset(&soft, 0, sizeof(soft));
	memset(&vcpu, 0, sizeof(vcpu));
	soft.vcpu_count = 1;
	vcpu.soft = &soft;
	vcpu.apic_base = APIC_BASE_ENABLE;
	vcpu.xcr0 = 1;
	return 0;
}

static void offer(cpuid_source *host)
{
	struct problem why;

	assert_int_equal(cpuid_fill(&soft.cpuid, host, XCR0_AVX, &why), 0);
}

static struct cpuid_result ask(u32 leaf, u32 subleaf)
{
	struct cpuid_result result;

	cpuid_read(&vcpu, leaf, subleaf, &result);
	return result;
}

static void assert_missing(cpuid_source *host, u64 xcr0, const char *what)
{
	struct problem why = {.text = ""};

	assert_true(cpuid_fill(&soft.cpuid, host, xcr0, &why) < 0);
	assert_non_null(strstr(why.text, what));
	assert_null(strchr(why.text, '\n'));
}

static void test_host_lacks(void **state)
{
	(void)state;
	assert_missing(no_bmi2, XCR0_AVX, "no BMI2");
	assert_missing(no_leaf_7, XCR0_AVX, "no BMI1");
	assert_missing(no_cx16, XCR0_AVX, "no CMPXCHG16B");
	assert_missing(no_lahf, XCR0_AVX, "no LAHF");
	assert_missing(no_avx, XCR0_AVX, "no AVX:");
	assert_missing(least, 3, "kernel enabled");
}

/* A name, and a family and model that no kernel has in a list of flaws. */
static void test_identity(void **state)
{
	struct cpuid_result result;

	(void)state;
	offer(least);
	result = ask(0, 0);
	assert_int_equal(result.eax, 0xd);
	assert_memory_equal(&result.ebx, "Genu", 4);
	assert_memory_equal(&result.edx, "ineI", 4);
	assert_memory_equal(&result.ecx, "ntel", 4);
	assert_int_equal(ask(1, 0).eax, 0x106ca);
	/* No cache descriptors. */
	assert_int_equal(ask(2, 0).eax, 0xff01);
}

static void test_nothing_new_passes(void **state)
{
	(void)state;
	offer(everything);
	assert_int_equal(ask(1, 0).ecx, 0xf7fa3203u & ~(1u << 27));
	assert_int_equal(ask(1, 0).edx, 0x0f8bfbfdu);
	assert_int_equal(ask(7, 0).eax, 1);
	assert_int_equal(ask(7, 0).ebx, 0x219c27ebu);
	assert_int_equal(ask(7, 0).ecx, 0x1a40070cu);
	assert_int_equal(ask(7, 0).edx, 1u << 29 | 1u << 14 | 1u << 4);
	assert_int_equal(ask(7, 1).eax, 1u << 4);
	assert_int_equal(ask(7, 1).edx, 0);
	assert_int_equal(ask(7, 2).eax, 0);
	assert_int_equal(ask(0x80000001, 0).ecx, 0x121);
	assert_int_equal(ask(0x80000001, 0).edx, 0x2c100800u);
	assert_int_equal(ask(0x80000007, 0).edx, 1u << 8);
	assert_int_equal(ask(0x80000008, 0).ebx, 0);
	assert_int_equal(ask(6, 0).eax, 1u << 2);
	/* No counters, no MWAIT. */
	assert_int_equal(ask(0xa, 0).eax, 0);
	assert_int_equal(ask(5, 0).edx, 0);
}

/* Its state as well as its instructions, or neither. */
static void test_avx512(void **state)
{
	struct problem why;

	(void)state;
	assert_int_equal(cpuid_fill(&soft.cpuid, everything, 0xe7, &why), 0);
	assert_int_equal(ask(7, 0).ebx, 0xf1bf27ebu);
	assert_int_equal(ask(7, 0).ecx, 0x1a405f4eu);
	assert_int_equal(ask(7, 0).edx, 1u << 29 | 1u << 23 | 1u << 14 | 1u << 8 | 1u << 4);
	assert_int_equal(ask(7, 1).eax, 3u << 4);
	vcpu.xcr0 = 7;
	assert_int_equal(ask(0xd, 0).eax, 0x2e7);
	assert_int_equal(ask(0xd, 0).ebx, 0x340);
	assert_int_equal(ask(0xd, 0).ecx, 2696);
	vcpu.xcr0 = 0xe7;
	assert_int_equal(ask(0xd, 0).ebx, 2688);
	assert_int_equal(ask(0xd, 1).ebx, 576 + 256 + 64 + 512 + 1024);
	assert_int_equal(ask(0xd, 5).eax, 64);
	assert_int_equal(ask(0xd, 5).ebx, 1088);
	assert_int_equal(ask(0xd, 7).ebx, 1664);
	assert_int_equal(ask(0xd, 9).ebx, 2688);
	/* Without 64-bit masks, and without a way to ask what is in use. */
	assert_int_equal(cpuid_fill(&soft.cpuid, xeon_phi, 0xe7, &why), 0);
	assert_int_equal(ask(7, 0).ebx & 0xd0230000u, 0);
	assert_int_equal(ask(0xd, 0).eax, 0x207);
	assert_int_equal(cpuid_fill(&soft.cpuid, no_xgetbv_1, 0xe7, &why), 0);
	assert_int_equal(ask(7, 0).ebx & 0xd0230000u, 0);
	assert_int_equal(ask(0xd, 0).eax, 0x207);
}

/* What is ours is offered, and what is the host's is not made up. */
static void test_least(void **state)
{
	struct cpuid_result result;

	(void)state;
	offer(least);
	result = ask(1, 0);
	assert_int_equal(result.ecx, 1u << 13 | 1u << 17 | 1u << 21 | 1u << 24 | 1u << 26 |
					     1u << 28 | 1u << 31);
	assert_int_equal(result.ebx, 1u << 16 | 8u << 8);
	assert_int_equal(ask(7, 0).ebx,
			 1u << 0 | 1u << 1 | 1u << 3 | 1u << 7 | 1u << 8 | 1u << 10 | 1u << 20);
	assert_int_equal(ask(7, 0).ecx, 1u << 2 | 1u << 3);
	assert_int_equal(ask(7, 0).edx, 1u << 29);
	assert_int_equal(ask(0x80000001, 0).edx, 0x24100800u);
	assert_int_equal(ask(0x80000007, 0).edx, 0);
	assert_int_equal(ask(4, 0).eax, 0);
	assert_int_equal(ask(0x80000000, 0).eax, 0x80000008);
	assert_int_equal(ask(0x80000008, 0).eax & 0xffff, 0x302e);
	assert_int_equal(cpuid_address_bits(), 0x2e);
}

static void test_vcpu_state_shows(void **state)
{
	(void)state;
	offer(least);
	assert_int_equal(ask(1, 0).ecx & 1u << 27, 0);
	vcpu.cr4 |= X86_CR4_OSXSAVE;
	assert_int_equal(ask(1, 0).ecx & 1u << 27, 1u << 27);
	assert_int_equal(ask(1, 0).edx & 1u << 9, 1u << 9);
	vcpu.apic_base = 0;
	assert_int_equal(ask(1, 0).edx & 1u << 9, 0);
	assert_int_equal(ask(7, 0).ecx & 1u << 4, 0);
	vcpu.cr4 |= X86_CR4_PKE;
	assert_int_equal(ask(7, 0).ecx & 1u << 4, 1u << 4);

	/* PKRU's state is ours: behind the others, of which this host has two. */
	assert_int_equal(ask(0xd, 0).eax, 0x207);
	assert_int_equal(ask(0xd, 0).ebx, 0x240);
	assert_int_equal(ask(0xd, 0).ecx, 0x348);
	vcpu.xcr0 = 7;
	assert_int_equal(ask(0xd, 0).ebx, 0x340);
	assert_int_equal(ask(0xd, 1).eax, 0xf);
	assert_int_equal(ask(0xd, 1).ebx, 0x340);
	assert_int_equal(ask(0xd, 1).ecx, 0);
	assert_int_equal(ask(0xd, 2).eax, 256);
	assert_int_equal(ask(0xd, 2).ebx, 576);
	assert_int_equal(ask(0xd, 9).eax, 8);
	assert_int_equal(ask(0xd, 9).ebx, 0x340);
	vcpu.xcr0 = 0x207;
	assert_int_equal(ask(0xd, 0).ebx, 0x348);
}

static void test_hypervisor(void **state)
{
	struct cpuid_result result;

	(void)state;
	offer(everything);
	result = ask(0x40000000, 0);
	assert_int_equal(result.eax, 0x40000001);
	assert_memory_equal(&result.ebx, "KVMKVMKVM\0\0", 12);
	assert_int_equal(ask(0x40000001, 0).eax, 1u << 0 | 1u << 1 | 1u << 3 | 1u << 24);
	assert_int_equal(ask(0x40000001, 0).edx, 0);
	assert_int_equal(ask(0x40000002, 0).eax, 0);
}

/* Beyond the end, the last basic leaf answers. */
static void test_out_of_range(void **state)
{
	static const u32 leaves[] = {0xe, 0x14, 0x3fffffff, 0x80000009, 0x8000001e, 0xffffffff};

	(void)state;
	offer(everything);
	for (unsigned i = 0; i < ARRAY_SIZE(leaves); i++) {
		assert_int_equal(ask(leaves[i], 0).ecx, 2696);
		assert_int_equal(ask(leaves[i], 2).eax, 256);
	}
}

static void test_topology(void **state)
{
	(void)state;
	offer(everything);
	soft.vcpu_count = 3;
	vcpu.index = 2;
	assert_int_equal(ask(1, 0).ebx >> 16, 2u << 8 | 3);
	assert_int_equal(ask(1, 0).edx & 1u << 28, 1u << 28);
	assert_int_equal(ask(0xb, 0).eax, 0);
	assert_int_equal(ask(0xb, 0).ebx, 1);
	assert_int_equal(ask(0xb, 0).ecx, 0x100);
	assert_int_equal(ask(0xb, 1).eax, 2);
	assert_int_equal(ask(0xb, 1).ebx, 3);
	assert_int_equal(ask(0xb, 1).ecx, 0x201);
	assert_int_equal(ask(0xb, 1).edx, 2);
	assert_int_equal(ask(0xb, 2).ebx, 0);
	/* Four ids, and nobody shares a cache of level 7 with more than that. */
	assert_int_equal(ask(4, 0).eax, 3u << 26 | 3u << 14 | 0x3fff);
	assert_int_equal(ask(4, 3).eax, 0);
}

static void test_amd_caches(void **state)
{
	(void)state;
	offer(amd);
	assert_int_equal(ask(4, 0).eax, 0x121);
	assert_int_equal(ask(4, 1).ebx, 0x01c0003f);
	assert_int_equal(ask(4, 2).eax, 0);
	assert_int_equal(ask(0x80000007, 0).edx, 1u << 8);
}

/* Whatever the host is, this program runs on it. */
static void test_this_host(void **state)
{
	struct problem why;

	(void)state;
	if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx"))
		skip();
	assert_int_equal(cpuid_check_host(&soft, &why), 0);
	assert_int_equal(ask(7, 0).ebx & 1u << 5, __builtin_cpu_supports("avx2") ? 1u << 5 : 0);
	assert_int_equal(ask(7, 0).ebx >> 16 & 1, !!__builtin_cpu_supports("avx512bw"));
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_host_lacks),	 TEST(test_identity),	      TEST(test_nothing_new_passes),
		TEST(test_least),	 TEST(test_vcpu_state_shows), TEST(test_hypervisor),
		TEST(test_out_of_range), TEST(test_topology),	      TEST(test_amd_caches),
		TEST(test_this_host),	 TEST(test_avx512),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
