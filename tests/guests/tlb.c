/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a change of the page tables has to be seen, for data and for code: after
 * INVLPG, a load of CR3, a change of CR4.PGE, INVPCID; and what needs nothing at
 * all (Intel SDM 3A, "Invalidation of TLBs and Paging-Structure Caches").
 *
 * That something old is still seen is never required: a CPU may forget at any time.
 * So global pages may be checked for going, but not for staying.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define TEST  (1ull << 40)
#define LARGE (TEST + GiB(1))
#define FIRST MiB(32) /* frames: in this page is a 1, in the next one a 2 */
#define COUNT 16u

#define MANY	       (TEST + GiB(2))
#define PAGES_IN_PIECE 512u
#define MANY_PAGES     (24 * PAGES_IN_PIECE)

#define PCID_NO_FLUSH (1ull << 63)

static u64 frame(unsigned n)
{
	return FIRST + n * PAGE;
}

/* What the page says as data, and as code: mov $n, %eax; ret. */
static u32 look(u64 page)
{
	return *(volatile u32 *)page;
}

static u32 run(u64 page)
{
	u64 code = page + 64;
	u32 result;

	asm volatile("call *%1" : "=a"(result) : "r"(code) : "memory");
	return result;
}

static void fill(void)
{
	for (unsigned n = 0; n < COUNT; n++) {
		u8 *code = (u8 *)frame(n) + 64;

		*(u32 *)frame(n) = n;
		code[0] = 0xb8;
		memcpy(code + 1, &n, sizeof(n));
		code[5] = 0xc3;
	}
}

static void show(u64 page, unsigned n, u64 bits)
{
	*paging_entry(page, LEVEL_PAGE) = frame(n) | PTE_PRESENT | PTE_WRITE | bits;
}

/* The ways of making the CPU look again. */
static void by_invlpg(u64 page)
{
	paging_invalidate(page);
}

static void by_cr3(u64 page)
{
	(void)page;
	paging_set_root(paging_root());
}

static void by_pge(u64 page)
{
	u64 cr4 = read_cr4();

	(void)page;
	write_cr4(cr4 ^ X86_CR4_PGE);
	write_cr4(cr4);
}

static void by_pge_once(u64 page)
{
	(void)page;
	write_cr4(read_cr4() ^ X86_CR4_PGE);
}

static void by_paging_off_and_on(u64 page)
{
	(void)page;
	/* CR0.PG itself cannot be cleared in 64-bit mode; WP is no less a change of how to look. */
	write_cr0(read_cr0() ^ X86_CR0_WP);
	write_cr0(read_cr0() ^ X86_CR0_WP);
	paging_set_root(paging_root());
}

static void invpcid(u64 type, u64 address)
{
	const struct {
		u64 pcid, address;
	} descriptor = {0, address};

	asm volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}

static void by_invpcid_address(u64 page)
{
	invpcid(0, page);
}

static void by_invpcid_context(u64 page)
{
	(void)page;
	invpcid(1, 0);
}

static void by_invpcid_all(u64 page)
{
	(void)page;
	invpcid(2, 0);
}

static void by_invpcid_all_but_global(u64 page)
{
	(void)page;
	invpcid(3, 0);
}

static void check_way(const char *name, void (*forget)(u64 page), bool global)
{
	u64 bits = global ? PTE_GLOBAL : 0;
	unsigned wrong = 0;

	for (unsigned n = 0; n < 200; n++) {
		unsigned which = n * 5 % COUNT;

		show(TEST, which, bits);
		forget(TEST);
		wrong += look(TEST) != which;
		wrong += run(TEST) != which;
		*(volatile u32 *)TEST = which;
		wrong += look(frame(which)) != which;
	}
	/* Or the last global one would be in the way of the next. */
	paging_invalidate(TEST);
	check_equal(wrong, 0, "%s pages: %s", global ? "global" : "ordinary", name);
}

static void check_ways(void)
{
	static const struct {
		const char *name;
		void (*forget)(u64 page);
		bool global, invpcid;
	} ways[] = {
		{"INVLPG", by_invlpg, true, false},
		{"a load of CR3", by_cr3, false, false},
		{"CR4.PGE there and back", by_pge, true, false},
		{"CR4.PGE changed", by_pge_once, true, false},
		{"CR0.WP changed, and CR3 loaded", by_paging_off_and_on, false, false},
		{"INVPCID of the address", by_invpcid_address, false, true},
		{"INVPCID of the context", by_invpcid_context, false, true},
		{"INVPCID of all", by_invpcid_all, true, true},
		{"INVPCID of all but global", by_invpcid_all_but_global, false, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (ways[i].invpcid && !cpu_has_invpcid())
			continue;
		check_way(ways[i].name, ways[i].forget, false);
		if (ways[i].global)
			check_way(ways[i].name, ways[i].forget, true);
	}
	write_cr4(read_cr4() | X86_CR4_PGE);
}

/* Old or new, but nothing else; and then it has to go. */
static void check_global(void)
{
	show(TEST, 1, PTE_GLOBAL);
	paging_invalidate(TEST);
	look(TEST);
	show(TEST, 2, PTE_GLOBAL);
	paging_set_root(paging_root());
	check(look(TEST) == 1 || look(TEST) == 2, "a global page may outlive a load of CR3");
	by_pge(TEST);
	check_equal(look(TEST), 2, "but not a change of CR4.PGE");
}

SNIPPET(load, "", "mov (%rdi), %eax");
SNIPPET(store, "", "mov %eax, (%rdi)");

/* Nothing is remembered about pages that are not there; and a fault forgets what led to it. */
static void check_faults(void)
{
	struct trap trap;

	show(TEST, 3, 0);
	*paging_entry(TEST, LEVEL_PAGE) &= ~PTE_PRESENT;
	paging_invalidate(TEST);
	trap_run((u64)load, TEST, 0, &trap);
	check_equal(trap.frame.vector, 14, "a page that is not there");
	show(TEST, 3, 0);
	check_equal(look(TEST), 3, "is there once its entry says so");

	write_cr0(read_cr0() | X86_CR0_WP);
	*paging_entry(TEST, LEVEL_PAGE) &= ~PTE_WRITE;
	paging_invalidate(TEST);
	trap_run((u64)store, TEST, 0, &trap);
	check_equal(trap.frame.vector, 14, "a page that may not be written");
	show(TEST, 3, 0);
	/* The first attempt may still fault; after that fault, the second may not. */
	trap_run((u64)store, TEST, 0, &trap);
	trap_run((u64)store, TEST, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "can be written once its entry says so");

	write_cr0(read_cr0() & ~(u64)X86_CR0_WP);
	*paging_entry(TEST, LEVEL_PAGE) &= ~PTE_WRITE;
	paging_invalidate(TEST);
	trap_run((u64)store, TEST, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "without CR0.WP, it does not have to");
	write_cr0(read_cr0() | X86_CR0_WP);
	trap_run((u64)store, TEST, 0, &trap);
	check_equal(trap.frame.vector, 14, "CR0.WP holds for what was written before");
	show(TEST, 3, 0);
	*paging_entry(TEST, LEVEL_PAGE) |= PTE_USER;
	paging_invalidate(TEST);
	look(TEST);
	if (cpu_has_smap()) {
		write_cr4(read_cr4() | X86_CR4_SMAP);
		trap_run((u64)load, TEST, 0, &trap);
		check_equal(trap.frame.vector, 14, "CR4.SMAP holds for what was read before");
		trap_run((u64)load, TEST, X86_EFLAGS_AC, &trap);
		check_equal(trap.frame.vector, VECTOR_END, "unless RFLAGS.AC says otherwise");
		trap_run((u64)load, TEST, 0, &trap);
		check_equal(trap.frame.vector, 14, "and as long as it does");
		write_cr4(read_cr4() & ~(u64)X86_CR4_SMAP);
	}
	trap_run_user(user_address(load), TEST, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "a user may read it");
	*paging_entry(TEST, LEVEL_PAGE) &= ~PTE_USER;
	paging_invalidate(TEST);
	look(TEST);
	trap_run_user(user_address(load), TEST, 0, &trap);
	check_equal(trap.frame.vector, 14, "what the kernel may read is not for users");
}

/* Cleared bits are set again by the next access, which therefore must not go by what it knows. */
static void check_bits(void)
{
	u64 *entry = paging_entry(TEST, LEVEL_PAGE);
	unsigned wrong[3] = {0};

	show(TEST, 4, 0);
	paging_invalidate(TEST);
	for (unsigned n = 0; n < 100; n++) {
		*entry &= ~(PTE_ACCESSED | PTE_DIRTY);
		paging_invalidate(TEST);
		look(TEST);
		wrong[0] += (*entry & (PTE_ACCESSED | PTE_DIRTY)) != PTE_ACCESSED;
		*(volatile u32 *)TEST = 4;
		wrong[1] += !(*entry & PTE_DIRTY);
		*entry &= ~PTE_ACCESSED;
		paging_invalidate(TEST);
		run(TEST);
		wrong[2] += !(*entry & PTE_ACCESSED);
	}
	check_equal(wrong[0], 0, "a read makes accessed, not dirty");
	check_equal(wrong[1], 0, "a write makes dirty, after a read");
	check_equal(wrong[2], 0, "a fetch makes accessed");
}

/* A large page goes as a whole, and comes as a whole. */
static void check_large(void)
{
	u64 *entry = paging_entry(LARGE, LEVEL_2M);
	u64 table = (u64)paging_entry(TEST, LEVEL_PAGE) & ~(PAGE - 1);
	unsigned wrong = 0;

	fill();
	for (unsigned n = 0; n < 50; n++) {
		*entry = MiB(32) | PTE_ALL | PTE_LARGE;
		paging_invalidate(LARGE + n * 7 % COUNT * PAGE);
		for (unsigned i = 0; i < COUNT; i++)
			wrong += look(LARGE + i * PAGE) != i || run(LARGE + i * PAGE) != i;
		*entry = MiB(34) | PTE_ALL | PTE_LARGE;
		paging_invalidate(LARGE + (n * 11 % 512) * PAGE + n);
		for (unsigned i = 0; i < COUNT; i++)
			wrong += look(LARGE + i * PAGE) != 100 + i;
	}
	check_equal(wrong, 0, "INVLPG within a page of 2 MiB drops all of it");

	/* The entry becomes one that points to a table: that of TEST, as it happens. */
	show(TEST, 5, 0);
	show(TEST + PAGE, 6, 0);
	*entry = table | PTE_ALL;
	paging_invalidate(LARGE);
	paging_invalidate(LARGE + PAGE);
	check(look(LARGE) == 5 && look(LARGE + PAGE) == 6, "a large page makes way for a table");
	*entry = MiB(34) | PTE_ALL | PTE_LARGE;
	paging_set_root(paging_root());
	check(look(LARGE) == 100 && look(LARGE + PAGE) == 101, "and a table for a large page");
}

/* Where page i of many is shown: the same 2 MiB of frames again and again. */
static u32 *mark_of(u64 i)
{
	return (u32 *)(MANY + i * PAGE + 128);
}

static u64 *piece_of(u64 i)
{
	return paging_entry(MANY + i * PAGE, LEVEL_2M);
}

/* All of them in some order, now and then written, too: how many were not as they should be? */
static unsigned look_at_many(void)
{
	unsigned wrong = 0;

	for (u64 n = 0; n < MANY_PAGES; n++) {
		u64 i = n * 7919 % MANY_PAGES;
		volatile u32 *mark = mark_of(i);

		wrong += *mark != i % PAGES_IN_PIECE;
		if (i % 3 == 0)
			*mark = *mark;
	}
	return wrong;
}

/*
 * More pages than any TLB has entries, looked at until it is as large as it gets; then, what was
 * known must go as it does from a small one.
 */
static void check_many(void)
{
	u64 other = FIRST + MiB(2), last = MANY_PAGES - 1;
	unsigned wrong = 0;

	for (u64 i = 0; i < PAGES_IN_PIECE; i++)
		*(u32 *)(FIRST + i * PAGE + 128) = i;
	*(u32 *)(other + 128) = *(u32 *)(other + PAGE + 128) = ~0u;
	for (u64 i = 0; i < MANY_PAGES; i += PAGES_IN_PIECE)
		*piece_of(i) = FIRST | PTE_ALL | PTE_LARGE;
	for (unsigned pass = 0; pass < 8; pass++)
		wrong += look_at_many();
	check_equal(wrong, 0, "more pages than a TLB has entries");
	wrong = 0;
	for (u64 i = 0; i < MANY_PAGES; i += PAGES_IN_PIECE) {
		wrong += *mark_of(i) != 0;
		*piece_of(i) = other | PTE_ALL | PTE_LARGE;
		paging_invalidate((u64)mark_of(i + 1));
		wrong += *mark_of(i) != ~0u;
		*piece_of(i) = FIRST | PTE_ALL | PTE_LARGE;
		paging_set_root(paging_root());
		wrong += *mark_of(i) != 0 || look(TEST) != 5;
	}
	wrong += look_at_many();
	for (unsigned n = 0; n < 100; n++) {
		*piece_of(last) = n % 2 ? FIRST | PTE_ALL | PTE_LARGE : 0;
		by_pge_once(0);
		if (n % 2)
			wrong += *mark_of(last) != last % PAGES_IN_PIECE;
	}
	check_equal(wrong, 0, "are forgotten as few are");
	write_cr4(read_cr4() | X86_CR4_PGE);
}

/* The entry above that of the page: it may be remembered, too, and goes by the same INVLPG. */
static void check_tables(void)
{
	static u64 tables[2][512] __attribute__((aligned(PAGE)));
	u64 *entry = paging_entry(MANY, LEVEL_2M);
	unsigned wrong = 0, bits = 0;

	for (unsigned i = 0; i < 512; i++) {
		tables[0][i] = frame(i % 4) | PTE_ALL;
		tables[1][i] = frame(4 + i % 4) | PTE_ALL;
	}
	for (unsigned n = 0; n < 500; n++) {
		unsigned i = n * 7 % 512, which = n % 2;
		u64 page = MANY + i * PAGE;

		*entry = (u64)tables[which] | PTE_ALL;
		if (n % 3)
			paging_invalidate(page);
		else
			paging_set_root(paging_root());
		wrong += look(page) != which * 4 + i % 4 || run(page) != which * 4 + i % 4;
		*entry &= ~PTE_ACCESSED;
		paging_invalidate(page);
		look(page);
		bits += !(*entry & PTE_ACCESSED);
	}
	check_equal(wrong, 0, "another table");
	check_equal(bits, 0, "a table that is read is an accessed one");
}

/* Two roots that differ in what is at TEST. */
static void check_roots(void)
{
	static u64 other[512] __attribute__((aligned(PAGE))),
		levels[3][512] __attribute__((aligned(PAGE)));
	u64 root = paging_root();
	unsigned wrong = 0;

	memcpy(other, (void *)(root & PTE_ADDRESS), PAGE);
	other[TEST >> 39 & 511] = (u64)levels[0] | PTE_ALL;
	levels[0][0] = (u64)levels[1] | PTE_ALL;
	levels[1][0] = (u64)levels[2] | PTE_ALL;
	levels[2][0] = frame(8) | PTE_ALL;
	show(TEST, 7, 0);
	paging_invalidate(TEST);
	for (unsigned n = 0; n < 200; n++) {
		wrong += look(TEST) != 7 || run(TEST) != 7;
		paging_set_root((u64)other);
		wrong += look(TEST) != 8 || run(TEST) != 8;
		paging_set_root(root);
	}
	check_equal(wrong, 0, "two address spaces in turn");
	if (!cpu_has_pcid())
		return;
	wrong = 0;
	write_cr4(read_cr4() | X86_CR4_PCIDE);
	for (unsigned n = 0; n < 200; n++) {
		paging_set_root((u64)other | 1 | PCID_NO_FLUSH);
		wrong += look(TEST) != 8 || run(TEST) != 8;
		paging_set_root(root | PCID_NO_FLUSH);
		wrong += look(TEST) != 7 || run(TEST) != 7;
	}
	check_equal(wrong, 0, "and with process-context identifiers");
	check_equal(paging_root(), root, "bit 63 is not kept in CR3");
	write_cr4(read_cr4() & ~(u64)X86_CR4_PCIDE);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	write_cr4(read_cr4() | X86_CR4_PGE);
	fill();
	for (unsigned n = 0; n < COUNT; n++)
		*(u32 *)(MiB(34) + n * PAGE) = 100 + n;
	check_ways();
	check_global();
	check_faults();
	check_bits();
	check_large();
	show(TEST, 5, 0);
	paging_invalidate(TEST);
	check_many();
	fill();
	check_tables();
	check_roots();
}
