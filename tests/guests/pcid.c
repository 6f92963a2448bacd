/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Process-context identifiers: which address space a translation belongs to, and
 * whom INVLPG, INVPCID and loads of control registers reach (Intel SDM 3A,
 * "Process-Context Identifiers (PCIDs)", "Operations that Invalidate TLBs and
 * Paging-Structure Caches"). Each address space has one page of its own to look at: as
 * data and as code, for the kernel and for users.
 *
 * That something old is still seen is never required: a CPU may forget at any time.
 * So it is asked who has forgotten, and never who has not.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define TEST	 (1ull << 40)
#define FIRST	 MiB(32) /* frames: in number n there is n */
#define FRAMES	 32u
#define SPACES	 12u /* more than anybody remembers */
#define NO_FLUSH (1ull << 63)

#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

/* Tables from the root to the one with the page. */
static u64 tables[SPACES][4][512] __attribute__((aligned(PAGE)));
static u64 root;

static u64 frame(unsigned n)
{
	return FIRST + n * PAGE;
}

/* mov $n, %eax; ret */
static void fill(void)
{
	for (unsigned n = 0; n < FRAMES; n++) {
		u8 *code = (u8 *)frame(n) + 64;

		*(u32 *)frame(n) = n;
		code[0] = 0xb8;
		memcpy(code + 1, &n, sizeof(n));
		code[5] = 0xc3;
	}
}

static void show(unsigned space, unsigned n, u64 bits)
{
	tables[space][3][0] = frame(n) | PTE_ALL | bits;
}

static void make_spaces(void)
{
	root = paging_root();
	for (unsigned i = 0; i < SPACES; i++) {
		memcpy(tables[i][0], (void *)(root & PTE_ADDRESS), PAGE);
		tables[i][0][TEST >> 39 & 511] = (u64)tables[i][1] | PTE_ALL;
		tables[i][1][0] = (u64)tables[i][2] | PTE_ALL;
		tables[i][2][0] = (u64)tables[i][3] | PTE_ALL;
		show(i, i, 0);
	}
}

/* Space n has PCID n + 1, or, if it is the last, the highest. */
static u64 pcid_of(unsigned space)
{
	return space == SPACES - 1 ? 0xfff : space + 1;
}

static void enter(unsigned space, u64 bits)
{
	paging_set_root((u64)tables[space][0] | pcid_of(space) | bits);
}

SNIPPET(load, "", "mov (%rdi), %eax");
SNIPPET(call, "lea 64(%rdi), %rsi", "call *%rsi");

/* Does everybody see that frame? */
static bool sees(unsigned n)
{
	struct trap trap;
	u64 (*code)(void) = (u64(*)(void))(TEST + 64);
	bool right = *(volatile u32 *)TEST == n && (u32)code() == n;

	trap_run_user(user_address(load), TEST, 0, &trap);
	right = right && trap.frame.vector == VECTOR_END && (u32)trap.frame.rax == n;
	trap_run_user(user_address(call), TEST, 0, &trap);
	return right && trap.frame.vector == VECTOR_END && (u32)trap.frame.rax == n;
}

static void check_many(void)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < 40; n++)
		for (unsigned i = 0; i < SPACES; i++) {
			/* Round and round, and up and down. */
			unsigned space = n & 1 ? SPACES - 1 - i : i;

			enter(space, NO_FLUSH);
			wrong += !sees(space);
		}
	check_equal(wrong, 0, "%u address spaces in turn", SPACES);
	check_equal(paging_root(), (u64)tables[0][0] | 1, "bit 63 is not kept in CR3");
}

static void invpcid(u64 type, u64 pcid, u64 address)
{
	const struct {
		u64 pcid, address;
	} descriptor = {pcid, address};

	asm volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

/* What makes address spaces 0, in which we are, and 1 forget. */
static void by_load(void)
{
	enter(1, 0);
	enter(0, 0);
}

static void by_invlpg_in_each(void)
{
	paging_invalidate(TEST);
	enter(1, NO_FLUSH);
	paging_invalidate(TEST + 5);
	enter(0, NO_FLUSH);
}

static void by_invlpg(void)
{
	paging_invalidate(TEST);
}

static void by_address(void)
{
	invpcid(0, pcid_of(0), TEST);
	invpcid(0, pcid_of(1), TEST);
}

static void by_context(void)
{
	invpcid(1, pcid_of(0), 0);
	invpcid(1, pcid_of(1), 0);
}

static void by_all(void)
{
	invpcid(2, 0, 0);
}

static void by_all_but_global(void)
{
	invpcid(3, 0, 0);
}

static void by_pge(void)
{
	write_cr4(read_cr4() ^ X86_CR4_PGE);
	write_cr4(read_cr4() ^ X86_CR4_PGE);
}

static void by_pcide(void)
{
	paging_set_root(root);
	write_cr4(read_cr4() & ~(u64)X86_CR4_PCIDE);
	write_cr4(read_cr4() | X86_CR4_PCIDE);
	enter(0, NO_FLUSH);
}

static const struct {
	const char *name;
	void (*forget)(void);
	bool global, invpcid;
} ways[] = {
	{"loads of CR3", by_load, false, false},
	{"INVLPG in each", by_invlpg_in_each, false, false},
	{"INVLPG in one of them", by_invlpg, true, false},
	{"INVPCID of the address", by_address, false, true},
	{"INVPCID of the contexts", by_context, false, true},
	{"INVPCID of all", by_all, true, true},
	{"INVPCID of all but global", by_all_but_global, false, true},
	{"CR4.PGE", by_pge, true, false},
	{"CR4.PCIDE", by_pcide, true, false},
};

static bool reaches_ordinary(void (*forget)(void))
{
	return forget != by_invlpg;
}

/* Both spaces know their page; it becomes another; both are asked again. */
static unsigned errors_of(void (*forget)(void), bool global)
{
	u64 bits = global ? PTE_GLOBAL : 0;
	unsigned wrong = 0;

	for (unsigned n = 0; n < 40; n++) {
		/* A global page is the same in both. */
		unsigned mine = n % FRAMES, other = global ? mine : (n * 7 + 3) % FRAMES;

		show(0, mine, bits);
		show(1, other, bits);
		forget();
		wrong += !sees(mine);
		enter(1, NO_FLUSH);
		wrong += !sees(other);
		enter(0, NO_FLUSH);
	}
	/* Or the last global one would be in the way of what follows. */
	by_pge();
	return wrong;
}

static void check_ways(void)
{
	enter(0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (ways[i].invpcid && !cpu_has_invpcid())
			continue;
		if (reaches_ordinary(ways[i].forget))
			check_equal(errors_of(ways[i].forget, false), 0, "ordinary pages: %s",
				    ways[i].name);
		if (ways[i].global)
			check_equal(errors_of(ways[i].forget, true), 0, "global pages: %s",
				    ways[i].name);
	}
}

SNIPPET(set_cr3, "", "mov %rdi, %cr3");
SNIPPET(set_cr4, "", "mov %rdi, %cr4");
SNIPPET(do_invpcid, "mov (%rdi), %rax", "invpcid 8(%rdi), %rax");
SNIPPET(invpcid_there, "mov $3, %eax", "invpcid (%rdi), %rax");

static void expect(const char *name, u64 code, u64 argument, u64 vector)
{
	struct trap trap;

	trap_run(code, argument, 0, &trap);
	check_equal(trap.frame.vector, vector, "%s", name);
	if (vector == VECTOR_GP)
		check_equal(trap.frame.error, 0, "%s: the error code", name);
}

static void check_rules(void)
{
	u64 cr4 = read_cr4();

	expect("CR4.PCIDE while CR3 has no PCID", (u64)set_cr4, cr4 | X86_CR4_PCIDE, VECTOR_END);
	expect("bits of CR3 that are nobody's", (u64)set_cr3, root | 1ull << 62, VECTOR_GP);
	expect("and bit 63, which is", (u64)set_cr3, root | NO_FLUSH, VECTOR_END);
	check_equal(paging_root(), root, "it is not there any more");
	write_cr4(cr4);
	paging_set_root(root | 8);
	expect("CR4.PCIDE while CR3 has bits of one", (u64)set_cr4, cr4 | X86_CR4_PCIDE, VECTOR_GP);
	paging_set_root(root);
	expect("bit 63 of CR3 without CR4.PCIDE", (u64)set_cr3, root | NO_FLUSH, VECTOR_GP);
}

struct operand {
	u64 type, pcid, address;
};

static void expect_invpcid(const char *name, u64 type, u64 pcid, u64 address, u64 vector)
{
	struct operand operand = {type, pcid, address};

	expect(name, (u64)do_invpcid, (u64)&operand, vector);
}

static void check_invpcid_faults(void)
{
	static struct operand operand = {2, 0, 0};
	struct trap trap;

	if (!cpu_has_invpcid())
		return;
	for (unsigned on = 0; on < 2; on++) {
		u64 other = on ? VECTOR_END : VECTOR_GP;

		if (on)
			write_cr4(read_cr4() | X86_CR4_PCIDE);
		print("with CR4.PCIDE %u\n", on);
		expect_invpcid("of an address in PCID 0", 0, 0, TEST, VECTOR_END);
		expect_invpcid("of an address in PCID 1", 0, 1, TEST, other);
		expect_invpcid("of PCID 0", 1, 0, 0, VECTOR_END);
		expect_invpcid("of PCID 0xfff", 1, 0xfff, 0, other);
		expect_invpcid("of all, whatever the PCID", 2, 5, 1ull << 63, VECTOR_END);
		expect_invpcid("of all but global ones, too", 3, 5, 1ull << 63, VECTOR_END);
		expect_invpcid("an address that is not canonical", 0, 0, 1ull << 63, VECTOR_GP);
		expect_invpcid("which matters to nobody else", 1, 0, 1ull << 63, VECTOR_END);
		for (unsigned type = 0; type < 4; type++)
			expect_invpcid("13 bits of a PCID", type, 0x1000, 0, VECTOR_GP);
		expect_invpcid("there is no type 4", 4, 0, 0, VECTOR_GP);
		expect_invpcid("the type has 64 bits", 1ull << 32, 0, 0, VECTOR_GP);
	}
	trap_run((u64)invpcid_there, 1ull << 63, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_GP, "an operand that is not canonical");
	trap_run((u64)invpcid_there, TEST + GiB(512), 0, &trap);
	check(trap.frame.vector == VECTOR_PF && trap.cr2 == TEST + GiB(512) && !trap.frame.error,
	      "an operand that is not there");
	trap_run_user(user_address(do_invpcid), user_address(&operand), 0, &trap);
	check(trap.frame.vector == VECTOR_GP && !trap.frame.error, "users may not");
	write_cr4(read_cr4() & ~(u64)X86_CR4_PCIDE);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	fill();
	make_spaces();
	if (!cpu_has_pcid()) {
		print("this CPU has no process-context identifiers\n");
		check_invpcid_faults();
		return;
	}
	check_rules();
	check_invpcid_faults();
	write_cr4(read_cr4() | X86_CR4_PCIDE | X86_CR4_PGE);
	check_many();
	check_ways();
}
