/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AVX-512, where it is more than arithmetic: that it has to be enabled, that what a mask
 * takes away of an operand may be in a page that is not there, how far gathers and scatters get
 * before they fault, and that its registers come through XSAVE's compacted format. On a CPU
 * without AVX-512 there is nothing to check.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

enum { UD = 6, NM = 7, GP = 13, PF = 14 };

#define XCR0_AVX    0x7u
#define XCR0_AVX512 0xe7u
#define COMPACTED   (1ull << 63)

/* One page that is there, and then none. */
#define THERE  (1ull << 40)
#define ABSENT (THERE + PAGE)

static u8 frame[PAGE] __attribute__((aligned(4096)));

/* What the snippets load before the instruction that matters. */
static __attribute__((used)) u64 mask;
static __attribute__((used)) u8 vector[64] __attribute__((aligned(64)));
static __attribute__((used)) u32 indices[16] __attribute__((aligned(64)));

#define LOAD_ALL "vmovdqu64 vector, %zmm1; vmovdqu64 indices, %zmm2; kmovq mask, %k1"

SNIPPET(add_zmm, "", "vaddps %zmm1, %zmm1, %zmm3");
SNIPPET(add_ymm16, "", "vaddps %ymm16, %ymm16, %ymm16");
SNIPPET(move_mask, "", "kmovw %eax, %k1");
SNIPPET(load_bytes, LOAD_ALL, "vmovdqu8 (%rdi), %zmm1{%k1}");
SNIPPET(store_bytes, LOAD_ALL, "vmovdqu8 %zmm1, (%rdi){%k1}");
SNIPPET(load_aligned, LOAD_ALL, "vmovdqa64 (%rdi), %zmm1{%k1}");
SNIPPET(broadcast, LOAD_ALL, "vpaddd (%rdi){1to16}, %zmm1, %zmm1{%k1}");
SNIPPET(expand, LOAD_ALL, "vpexpandd (%rdi), %zmm1{%k1}");
SNIPPET(compress, LOAD_ALL, "vpcompressd %zmm1, (%rdi){%k1}");
SNIPPET(extract, LOAD_ALL, "vextracti32x4 $1, %zmm1, (%rdi){%k1}");
SNIPPET(gather, LOAD_ALL, "vpgatherdd (%rdi, %zmm2), %zmm1{%k1}");
SNIPPET(scatter, LOAD_ALL, "vpscatterdd %zmm1, (%rdi, %zmm2){%k1}");

/* Vector registers and masks stay as the snippet has left them. */
static u64 k1(void)
{
	u64 value;

	asm volatile("kmovq %%k1, %0" : "=r"(value));
	return value;
}

static void zmm1(u8 *to)
{
	asm volatile("vmovdqu64 %%zmm1, %0" : "=m"(*(u8(*)[64])to));
}

static void xsetbv(u64 value)
{
	asm volatile("xsetbv" : : "a"((u32)value), "d"((u32)(value >> 32)), "c"(0));
}

static void expect(const char *what, const u8 *code, u8 wanted)
{
	struct trap trap;

	trap_run((u64)code, 0, 0, &trap);
	check_equal(trap.frame.vector, wanted, "%s", what);
}

static void check_enabled(void)
{
	xsetbv(XCR0_AVX);
	expect("a ZMM register without XCR0", add_zmm, UD);
	expect("a high YMM register without XCR0", add_ymm16, UD);
	expect("a mask register without XCR0", move_mask, UD);
	xsetbv(XCR0_AVX512);
	expect("a ZMM register", add_zmm, VECTOR_END);
	expect("a high YMM register", add_ymm16, VECTOR_END);
	expect("a mask register", move_mask, VECTOR_END);
	write_cr0(read_cr0() | X86_CR0_TS);
	expect("a ZMM register, with CR0.TS", add_zmm, NM);
	expect("a mask register, with CR0.TS", move_mask, NM);
	write_cr0(read_cr0() & ~(u64)X86_CR0_TS);
}

/* The operand begins so many bytes before the page that is not there. */
struct masked {
	const char *name;
	const u8 *code;
	unsigned before;
	u64 mask;
	u8 vector;
};

static const struct masked masked[] = {
	{"load, the first half wanted", load_bytes, 32, 0xffffffff, VECTOR_END},
	{"load, a byte too many wanted", load_bytes, 32, 0x1ffffffff, PF},
	{"load, nothing wanted", load_bytes, 0, 0, VECTOR_END},
	{"load, the last byte wanted", load_bytes, 63, 1ull << 63, PF},
	{"store, the first half wanted", store_bytes, 32, 0xffffffff, VECTOR_END},
	{"store, a byte too many wanted", store_bytes, 32, 0x1ffffffff, PF},
	{"store, nothing wanted", store_bytes, 0, 0, VECTOR_END},
	{"misaligned, one element wanted", load_aligned, 32, 1, GP},
	{"aligned, nothing wanted", load_aligned, 0, 0, VECTOR_END},
	{"broadcast of the last element", broadcast, 4, 0xffff, VECTOR_END},
	{"broadcast of one that is not there", broadcast, 0, 1, PF},
	{"broadcast of it to nobody", broadcast, 0, 0xffff0000, VECTOR_END},
	{"expansion of two", expand, 8, 0x8001, VECTOR_END},
	{"expansion of three", expand, 8, 0x8003, PF},
	{"compression to two", compress, 8, 0x8001, VECTOR_END},
	{"compression to three", compress, 8, 0x8003, PF},
	{"extraction, which wants all of it", extract, 8, 3, PF},
};

static void check_masked(const struct masked *test)
{
	u64 address = ABSENT - test->before;
	struct trap trap;

	mask = test->mask;
	trap_run((u64)test->code, address, 0, &trap);
	check_equal(trap.frame.vector, test->vector, "%s", test->name);
	if (test->vector == PF)
		check(trap.cr2 >= ABSENT && trap.cr2 < ABSENT + 64, "%s: CR2 is %lx", test->name,
		      trap.cr2);
}

/* What is masked off keeps its value, in memory as in a register. */
static void check_kept(void)
{
	struct trap trap;
	bool right = true;
	u8 result[64];

	for (unsigned i = 0; i < 64; i++) {
		vector[i] = 0x80 + i;
		frame[PAGE - 64 + i] = i;
	}
	mask = 0x00000000aaaaaaaa;
	trap_run((u64)load_bytes, ABSENT - 32, 0, &trap);
	zmm1(result);
	for (unsigned i = 0; i < 64; i++)
		right &= result[i] == (mask >> i & 1 ? 32 + i : 0x80 + i);
	check(right, "a masked load");
	trap_run((u64)store_bytes, ABSENT - 32, 0, &trap);
	right = true;
	for (unsigned i = 0; i < 32; i++)
		right &= frame[PAGE - 32 + i] == (mask >> i & 1 ? 0x80 + i : 32 + i);
	check(right, "a masked store");
}

/* Element 4 is where nothing is: those before it were done, and are not wanted any more. */
static void check_partial(void)
{
	struct trap trap;
	u32 *words = (u32 *)frame, result[16];

	for (unsigned i = 0; i < 16; i++) {
		indices[i] = i == 4 ? PAGE : i * 8;
		words[i * 2] = 1000 + i;
		((u32 *)vector)[i] = 2000 + i;
	}
	mask = 0xfffb;
	trap_run((u64)gather, THERE, 0, &trap);
	check(trap.frame.vector == PF && trap.cr2 == ABSENT, "a gather of what is not there");
	check_equal(k1(), 0xfff0, "what is left to gather");
	zmm1((u8 *)result);
	check(result[0] == 1000 && result[1] == 1001 && result[2] == 2002 && result[3] == 1003 &&
		      result[4] == 2004,
	      "what was gathered before");
	trap_run((u64)scatter, THERE, 0, &trap);
	check(trap.frame.vector == PF && trap.cr2 == ABSENT, "a scatter to what is not there");
	check_equal(k1(), 0xfff0, "what is left to scatter");
	check(words[0] == 2000 && words[2] == 2001 && words[4] == 1002 && words[6] == 2003,
	      "what was scattered before");
	mask = 0xffef;
	trap_run((u64)scatter, THERE, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "a scatter without that one");
	check_equal(k1(), 0, "and nothing is left");
	check_equal(words[30], 2015, "its last element");
}

static u8 image[PAGE] __attribute__((aligned(64)));

SNIPPET(save_compacted, "mov $0xe7, %eax; xor %edx, %edx", "xsavec64 (%rdi)");
SNIPPET(save_for_kernel, "mov $0xe7, %eax; xor %edx, %edx", "xsaves64 (%rdi)");
SNIPPET(restore, "mov $0xe7, %eax; xor %edx, %edx", "xrstor64 (%rdi)");
SNIPPET(restore_for_kernel, "mov $0xe7, %eax; xor %edx, %edx", "xrstors64 (%rdi)");

static void check_round_trip(const char *name, const u8 *save, const u8 *load)
{
	u64 *header = (u64 *)(image + 512), value;
	struct trap trap;
	u8 result[64];

	memset(image, 0, sizeof(image));
	asm volatile("vmovdqu64 vector, %%zmm1; vmovdqu64 vector, %%zmm31; kmovq %0, %%k5"
		     :
		     : "r"(0x123456789abcdefull));
	trap_run((u64)save, (u64)image, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "%s", name);
	check_equal(header[1], COMPACTED | XCR0_AVX512, "%s: what has room", name);
	check_equal(header[0] & 0xe6, 0xe6, "%s: what is in use", name);
	asm volatile("vpxorq %zmm31, %zmm31, %zmm31; vzeroall; kxorq %k5, %k5, %k5");
	trap_run((u64)load, (u64)image, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "%s, and back", name);
	zmm1(result);
	check(!memcmp(result, vector, 64), "%s: ZMM1", name);
	asm volatile("vmovdqu64 %%zmm31, %0; kmovq %%k5, %1" : "=m"(result), "=r"(value));
	check(!memcmp(result, vector, 64), "%s: ZMM31", name);
	check_equal(value, 0x123456789abcdef, "%s: K5", name);
}

static void check_header(const char *what, unsigned word, u64 value)
{
	u64 *header = (u64 *)(image + 512);
	struct trap trap;

	memset(header, 0, 64);
	header[1] = COMPACTED | XCR0_AVX512;
	header[word] = value;
	trap_run((u64)restore, (u64)image, 0, &trap);
	check_equal(trap.frame.vector, GP, "%s", what);
}

static void check_compacted(void)
{
	u32 has = cpuid(0xd, 1).eax;
	struct trap trap;

	if (!(has & 2))
		return;
	check_round_trip("xsavec", save_compacted, restore);
	check_header("xrstor of what has no room", 0, 1ull << 9);
	check_header("xrstor of room for what is not enabled", 1, COMPACTED | 1ull << 62);
	check_header("xrstor with a reserved word", 7, 1);
	if (!(has & 8))
		return;
	check_round_trip("xsaves", save_for_kernel, restore_for_kernel);
	memset(image + 512, 0, 64);
	trap_run((u64)restore_for_kernel, (u64)image, 0, &trap);
	check_equal(trap.frame.vector, GP, "xrstors of the standard format");
	trap_run_user(user_address(save_for_kernel), user_address(image), 0, &trap);
	check_equal(trap.frame.vector, GP, "xsaves by a user");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	if (!cpu_has_xsave() || !(cpuid(7, 0).ebx >> 30 & 1) || cpu_deviates("XSAVE and XRSTOR"))
		return;
	write_cr0((read_cr0() & ~(u64)(X86_CR0_TS | X86_CR0_EM)) | X86_CR0_MP | X86_CR0_NE);
	write_cr4(read_cr4() | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE);
	paging_set(THERE, LEVEL_PAGE, (u64)frame | PTE_PRESENT | PTE_WRITE);
	check_enabled();
	for (unsigned i = 0; i < sizeof(masked) / sizeof(masked[0]); i++)
		check_masked(&masked[i]);
	check_kept();
	check_partial();
	check_compacted();
}
