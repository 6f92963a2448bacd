/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The images that FXSAVE, FNSAVE, FNSTENV and XSAVE leave in memory: that they hold
 * what was in the registers, that it comes back, that what may not be loaded is
 * refused; and that the addresses in them, of the last x87 instruction and of its
 * operand, are the guest's own. They may be 0: CPUs of today need not keep them.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

enum { UD = 6, NM = 7, GP = 13 };

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u

#define CONTROL_DEFAULT 0x37f
#define MXCSR_DEFAULT	0x1f80

/* Intel SDM 1, "Layout of the 64-bit Mode FXSAVE64 Map" and "The XSAVE Header". */
struct image {
	u16 control, status;
	u8 tag, reserved;
	u16 opcode;
	u64 rip, rdp;
	u32 mxcsr, mxcsr_mask;
	u8 x87[8][16];
	u8 xmm[16][16];
	u8 unused[96];
	u64 xstate, compaction, header[6];
	u8 extended[448];
} __attribute__((aligned(64)));

/* The 28 bytes of FNSTENV in 32-bit format, and what FNSAVE adds. */
struct environment {
	u32 control, status, tag, ip, cs_and_opcode, dp, ds;
	u8 registers[80];
};

static struct image image, second;
static struct environment environment;

static __attribute__((used)) double one_and_a_half = 1.5, product;
static __attribute__((used)) u16 unmasked = 0x37b; /* x87 control word: divisions by zero */

/*
 * Some x87 instructions, the last of them with a memory operand; then the image is taken to (rdi).
 * From calculate to calculate_end is where a last instruction may be.
 */
extern const u8 calculate[], calculate_end[];
asm(".pushsection .text\n"
    "calculate:\n"
    "	fninit\n"
    "	fldl	one_and_a_half\n"
    "	fldl	one_and_a_half\n"
    "	fmul	%st, %st(1)\n"
    "	fstpl	product\n"
    "	ret\n"
    "calculate_wrongly:\n"
    "	fninit\n"
    "	fldcw	unmasked\n"
    "	fldl	one_and_a_half\n"
    "	fldz\n"
    "	fdivrp\n"
    "	ret\n"
    "calculate_end:\n"
    ".popsection");

#define TAKE(name, how)                                                                            \
	SNIPPET(name, "xor %edx, %edx; mov $7, %eax; call calculate", how);                        \
	SNIPPET(name##_pending, "xor %edx, %edx; mov $7, %eax; call calculate_wrongly", how)

TAKE(take_fxsave, "fxsave (%rdi)");
TAKE(take_fxsave64, "fxsave64 (%rdi)");
TAKE(take_fnsave, "fnsave (%rdi)");
TAKE(take_fnstenv, "fnstenv (%rdi)");
TAKE(take_xsave, "xsave (%rdi)");
TAKE(take_xsave64, "xsave64 (%rdi)");
TAKE(take_xsaveopt, "xsaveopt64 (%rdi)");
TAKE(take_xsavec, "xsavec64 (%rdi)");

static bool is_ours(u64 rip)
{
	return rip == 0 || (rip >= (u64)calculate && rip < (u64)calculate_end);
}

static bool is_operand(u64 address)
{
	return address == 0 || address == (u64)&one_and_a_half || address == (u64)&product ||
	       address == (u64)&unmasked;
}

static bool is_selector(u64 selector, u16 wanted)
{
	return selector == 0 || selector == wanted;
}

static void run(const char *name, const u8 *code, void *to)
{
	struct trap trap;

	trap_run((u64)code, (u64)to, 0, &trap);
	check(trap.frame.vector == VECTOR_END, "%s", name);
	asm volatile("fninit");
}

/* In the 32-bit forms, two selectors take the upper halves. */
static void check_image(const char *name, const u8 *code, bool wide)
{
	u64 mask = wide ? ~0ull : 0xffffffff;

	memset(&image, 0, sizeof(image));
	run(name, code, &image);
	check(is_ours(image.rip & mask) && is_operand(image.rdp & mask),
	      "%s: last instruction at %lx, operand at %lx", name, image.rip, image.rdp);
	if (!wide)
		check(is_selector(image.rip >> 32 & 0xffff, SEGMENT_CODE64) &&
			      is_selector(image.rdp >> 32 & 0xffff, SEGMENT_DATA) &&
			      !(image.rip >> 48) && !(image.rdp >> 48),
		      "%s: selectors", name);
	check(!(image.opcode & 0xf800), "%s: an opcode of 11 bits", name);
}

static void check_environment(const char *name, const u8 *code)
{
	memset(&environment, 0, sizeof(environment));
	run(name, code, &environment);
	check(is_ours(environment.ip) && is_operand(environment.dp),
	      "%s: last instruction at %x, operand at %x", name, environment.ip, environment.dp);
	check(is_selector(environment.cs_and_opcode & 0xffff, SEGMENT_CODE64) &&
		      is_selector(environment.ds & 0xffff, SEGMENT_DATA) &&
		      !(environment.cs_and_opcode >> 27),
	      "%s: selectors and opcode", name);
}

#define CHECK_IMAGE(snippet, wide)                                                                 \
	do {                                                                                       \
		check_image(#snippet, snippet, wide);                                              \
		check_image(#snippet " with an exception pending", snippet##_pending, wide);       \
	} while (0)

static void check_addresses(bool has_xsave)
{
	CHECK_IMAGE(take_fxsave, false);
	CHECK_IMAGE(take_fxsave64, true);
	check_environment("take_fnsave", take_fnsave);
	check_environment("take_fnsave with an exception pending", take_fnsave_pending);
	check_environment("take_fnstenv", take_fnstenv);
	check_environment("take_fnstenv with an exception pending", take_fnstenv_pending);
	if (!has_xsave)
		return;
	CHECK_IMAGE(take_xsave, false);
	CHECK_IMAGE(take_xsave64, true);
	if (cpuid(0xd, 1).eax & 1)
		CHECK_IMAGE(take_xsaveopt, true);
	if (cpuid(0xd, 1).eax & 2)
		CHECK_IMAGE(take_xsavec, true);
}

/* What of the image is for software, and what was not touched. */
static void check_contents(void)
{
	static const u8 one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
	bool untouched = true;

	memset(&image, 0xa5, sizeof(image));
	asm volatile("fninit; fldz; fld1; fxsave64 %0" : "=m"(image));
	check_equal(image.control, CONTROL_DEFAULT, "fxsave: control word");
	check_equal(image.status, 6 << 11, "fxsave: status word, with two registers in use");
	check_equal(image.tag, 0xc0, "fxsave: which are these");
	check(!memcmp(image.x87[0], one, sizeof(one)), "fxsave: ST(0) is 1");
	check_equal(image.mxcsr, MXCSR_DEFAULT, "fxsave: MXCSR");
	check(image.mxcsr_mask == 0 || (image.mxcsr_mask & 0xffbf) == 0xffbf,
	      "fxsave: MXCSR mask %x", image.mxcsr_mask);
	for (size_t i = 48; i < sizeof(image.unused); i++)
		untouched &= image.unused[i] == 0xa5;
	check(untouched, "fxsave: the last 48 bytes are left to software");

	asm volatile("fninit; fldz; fld1; fnstenv %0" : "=m"(environment));
	check_equal(environment.control & 0xffff, CONTROL_DEFAULT, "fnstenv: control word");
	check_equal(environment.status & 0xffff, 6 << 11, "fnstenv: status word");
	/* ST(0) in register 6 is valid, ST(1) in register 7 is zero, all others are empty. */
	check_equal(environment.tag & 0xffff, 0x4fff, "fnstenv: tag word");
	asm volatile("fninit; fldcw unmasked; fnstenv %0; fnstcw %1"
		     : "=m"(environment), "=m"(product));
	if (!cpu_deviates("fnstenv masks all exceptions, after the fact"))
		check_equal(*(u16 *)&product, 0x37f,
			    "fnstenv masks all exceptions, after the fact");
	asm volatile("fninit; fld1; fnsave %0; fnstcw %1; fnsave %0"
		     : "=m"(environment), "=m"(product));
	check_equal(environment.tag & 0xffff, 0xffff, "fnsave leaves an empty stack");
}

static void fill(struct image *to, u8 seed)
{
	memset(to, 0, sizeof(*to));
	to->control = CONTROL_DEFAULT;
	to->mxcsr = MXCSR_DEFAULT;
	to->tag = 0xff;
	for (unsigned i = 0; i < 8; i++) {
		for (unsigned byte = 0; byte < 7; byte++)
			to->x87[i][byte] = (u8)(seed + i * 16 + byte);
		/* A number, not something unordinary. */
		to->x87[i][7] = 0x80;
		to->x87[i][8] = 0xff;
		to->x87[i][9] = 0x3f;
	}
	for (unsigned i = 0; i < 16; i++)
		for (unsigned byte = 0; byte < 16; byte++)
			to->xmm[i][byte] = (u8)(seed + i * 7 + byte * 3);
}

static bool same(const struct image *a, const struct image *b)
{
	return a->control == b->control && a->status == b->status && a->tag == b->tag &&
	       a->mxcsr == b->mxcsr && !memcmp(a->x87, b->x87, sizeof(a->x87)) &&
	       !memcmp(a->xmm, b->xmm, sizeof(a->xmm));
}

static void check_fxrstor(void)
{
	fill(&image, 1);
	memset(&second, 0, sizeof(second));
	asm volatile("fxrstor64 %1; fxsave64 %0" : "+m"(second) : "m"(image));
	check(same(&image, &second), "fxrstor and fxsave: what went in comes out");
	image.rip = 0x1234567890;
	image.rdp = 0x2345678901;
	asm volatile("fxrstor64 %1; fxsave64 %0" : "+m"(second) : "m"(image));
	check((second.rip == 0 || second.rip == image.rip) &&
		      (second.rdp == 0 || second.rdp == image.rdp),
	      "addresses that were loaded, or none (%lx, %lx)", second.rip, second.rdp);
	asm volatile("fninit");
}

static void xsetbv(u64 value)
{
	asm volatile("xsetbv" : : "a"((u32)value), "d"((u32)(value >> 32)), "c"(0));
}

static u64 xgetbv(void)
{
	u32 low, high;

	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (u64)high << 32 | low;
}

static void xsave(struct image *to, u32 which)
{
	asm volatile("xsave64 %0" : "+m"(*to) : "a"(which), "d"(0));
}

static void xrstor(const struct image *from, u32 which)
{
	asm volatile("xrstor64 %0" : : "m"(*from), "a"(which), "d"(0));
}

static void check_xsave(u32 all)
{
	struct cpuid size = cpuid(0xd, 0), avx = cpuid(0xd, 2);

	check_equal(xgetbv(), all, "XCR0 reads back");
	check_equal(size.ebx, all & XCR0_AVX ? avx.ebx + avx.eax : 576,
		    "CPUID knows the size of what XCR0 enables");
	fill(&image, 50);
	image.xstate = all;
	for (unsigned i = 0; all & XCR0_AVX && i < 256; i++)
		image.extended[i] = (u8)(i * 5 + 1);
	xrstor(&image, all);
	memset(&second, 0, sizeof(second));
	xsave(&second, all);
	check(same(&image, &second) && !memcmp(image.extended, second.extended, 256),
	      "xrstor and xsave: what went in comes out");
	check_equal(second.xstate, all, "all of it was in use");
	check_equal(second.compaction, 0, "and not compacted");

	/* Only part: the rest of the registers stays, the rest of the image too. */
	fill(&image, 90);
	image.xstate = all;
	memset(&second, 0x77, sizeof(second));
	second.xstate = 0;
	xrstor(&image, XCR0_X87);
	xsave(&second, XCR0_X87);
	/* Of the sixteen bytes of a register, six are reserved. */
	check(!memcmp(second.x87[3], image.x87[3], 10) && second.xmm[0][0] == 0x77,
	      "xrstor and xsave of x87 alone");
	xsave(&second, all);
	check(second.xmm[0][0] == 50 && second.xmm[1][0] == 57, "the others stayed");

	/* What the header does not have becomes as after a reset. */
	fill(&image, 90);
	image.xstate = 0;
	xrstor(&image, all);
	asm volatile("fxsave64 %0" : "=m"(second));
	check(second.control == CONTROL_DEFAULT && second.tag == 0 && second.xmm[5][3] == 0,
	      "xrstor of nothing");
}

SNIPPET(restore, "mov $7, %eax; xor %edx, %edx", "xrstor (%rdi)");
SNIPPET(save, "mov $7, %eax; xor %edx, %edx", "xsave (%rdi)");
SNIPPET(fx_restore, "", "fxrstor (%rdi)");
SNIPPET(set_xcr0, "mov %edi, %eax; xor %edx, %edx; xor %ecx, %ecx", "xsetbv");
SNIPPET(set_xcr1, "mov $1, %eax; xor %edx, %edx; mov $1, %ecx", "xsetbv");

static void expect(const char *what, const u8 *code, const u8 *at, u64 argument, u8 vector)
{
	struct trap trap;

	trap_run((u64)code, argument, 0, &trap);
	check(trap.frame.vector == vector && trap.frame.error == 0 && trap.frame.rip == (u64)at,
	      "%s (vector %lu)", what, trap.frame.vector);
}

#define EXPECT(what, code, argument, vector) expect(what, code, code##_at, (u64)(argument), vector)

SNIPPET(wait_for_x87, "", "fwait");

/* WAIT is told apart by CR0.MP, so that x87 emulators need not hear of each one. */
static void check_wait(void)
{
	static const struct {
		const char *name;
		u64 cr0;
		u8 vector;
	} cases[] = {
		{"wait", 0, VECTOR_END},
		{"wait, with CR0.TS", X86_CR0_TS, VECTOR_END},
		{"wait, with CR0.MP", X86_CR0_MP, VECTOR_END},
		{"wait, with CR0.MP and TS", X86_CR0_MP | X86_CR0_TS, NM},
		{"wait, with CR0.EM", X86_CR0_EM, VECTOR_END},
		{"wait, with CR0.EM and TS", X86_CR0_EM | X86_CR0_TS, VECTOR_END},
		{"wait, with all of them", X86_CR0_EM | X86_CR0_MP | X86_CR0_TS, NM},
	};
	u64 cr0 = read_cr0();

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct trap trap;

		write_cr0((cr0 & ~(u64)(X86_CR0_EM | X86_CR0_MP | X86_CR0_TS)) | cases[i].cr0);
		trap_run((u64)wait_for_x87, 0, 0, &trap);
		write_cr0(cr0);
		check_equal(trap.frame.vector, cases[i].vector, "%s", cases[i].name);
	}
}

static void check_refused(bool has_xsave)
{
	u64 cr0 = read_cr0();

	fill(&image, 3);
	/* It lets the bits pass. */
	if (!cpu_deviates("fxrstor with a reserved bit of MXCSR")) {
		image.mxcsr |= 1u << 16;
		EXPECT("fxrstor with a reserved bit of MXCSR", fx_restore, &image, GP);
	}
	EXPECT("fxrstor, misaligned", fx_restore, (u8 *)&image + 8, GP);
	if (!has_xsave)
		return;
	fill(&image, 3);
	image.xstate = 1ull << 62;
	EXPECT("xrstor of a component that is not enabled", restore, &image, GP);
	fill(&image, 3);
	image.compaction = 1;
	EXPECT("xrstor with a word about compaction, but without that", restore, &image, GP);
	fill(&image, 3);
	image.header[0] = 1;
	EXPECT("xrstor with something reserved in its header", restore, &image, GP);
	fill(&image, 3);
	EXPECT("xrstor, misaligned", restore, (u8 *)&image + 16, GP);
	EXPECT("xsave, misaligned", save, (u8 *)&image + 16, GP);
	EXPECT("XCR0 without x87", set_xcr0, XCR0_SSE, GP);
	EXPECT("XCR0 with AVX, without SSE", set_xcr0, XCR0_X87 | XCR0_AVX, GP);
	EXPECT("XCR0 with bits that are nothing", set_xcr0, 1u << 31 | 7, GP);
	EXPECT("XCR1", set_xcr1, 0, GP);
	write_cr0(cr0 | X86_CR0_TS);
	EXPECT("xsave, with CR0.TS", save, &image, NM);
	EXPECT("fxrstor, with CR0.TS", fx_restore, &image, NM);
	write_cr0(cr0);
	write_cr4(read_cr4() & ~(u64)X86_CR4_OSXSAVE);
	EXPECT("xsave, without CR4.OSXSAVE", save, &image, UD);
}

void guest_main(const struct boot *boot)
{
	/* It does not tell KVM of XSETBV, which then knows nothing of what the guest enabled. */
	bool has_xsave = cpu_has_xsave() && !cpu_deviates("XSAVE and XRSTOR");
	u32 all = XCR0_X87 | XCR0_SSE;

	(void)boot;
	trap_init();
	write_cr0((read_cr0() & ~(u64)(X86_CR0_TS | X86_CR0_EM)) | X86_CR0_MP | X86_CR0_NE);
	write_cr4(read_cr4() | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT);
	if (has_xsave) {
		write_cr4(read_cr4() | X86_CR4_OSXSAVE);
		all |= cpuid(0xd, 0).eax & XCR0_AVX;
		xsetbv(all);
	}
	check_contents();
	check_addresses(has_xsave);
	check_fxrstor();
	check_wait();
	if (has_xsave)
		check_xsave(all);
	check_refused(has_xsave);
}
