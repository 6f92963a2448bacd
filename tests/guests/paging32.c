/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paging outside long mode: two levels of 32-bit entries with pages of 4 KiB and 4 MiB,
 * and PAE with pages of 4 KiB and 2 MiB (Intel SDM 3A, "32-Bit Paging", "PAE
 * Paging"); from one to the other, and into long mode and out again, as kernels do
 * that boot or are left by kexec.
 *
 * What both have is asked of both, so most of this speaks of an entry as of 64 bits and
 * leaves it to set_page() how wide it is.
 */
#include "lib32/trap.h"

#define PF 14

/* The page that is played with; its neighbour; what is there. */
#define TEST   0xc0403000u
#define NEXT   (TEST + 0x1000)
#define LARGE  0xd0000000u /* a large page, of 4 or 2 MiB */
#define FRAME  0x02000000u
#define FRAME2 0x02401000u /* on two large pages of their own */
#define TABLES 0x02800000u /* tables that are made and thrown away */

#define PTE_PRESENT  1u
#define PTE_WRITE    2u
#define PTE_USER     4u
#define PTE_ACCESSED 0x20u
#define PTE_DIRTY    0x40u
#define PTE_LARGE    0x80u
#define PTE_GLOBAL   0x100u
#define PTE_NX	     (1ull << 63)
#define PTE_ALL	     (PTE_PRESENT | PTE_WRITE | PTE_USER)

#define ERROR_PRESENT  1u
#define ERROR_WRITE    2u
#define ERROR_USER     4u
#define ERROR_RESERVED 8u
#define ERROR_FETCH    16u

#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)

#define PAGE_BYTES   4096u
#define aligned_page __attribute__((aligned(PAGE_BYTES)))

static u32 directory[1024] aligned_page, table[1024] aligned_page;
static u64 pointers[4] __attribute__((aligned(32)));
static u64 directories[4][512] aligned_page, wide_table[512] aligned_page;
static bool pae;

#define REGISTER(name)                                                                             \
	static u32 get_##name(void)                                                                \
	{                                                                                          \
		u32 value;                                                                         \
		asm volatile("mov %%" #name ", %0" : "=r"(value) : : "memory");                    \
		return value;                                                                      \
	}                                                                                          \
	static void set_##name(u32 value)                                                          \
	{                                                                                          \
		asm volatile("mov %0, %%" #name : : "r"(value) : "memory");                        \
	}
REGISTER(cr0)
REGISTER(cr3)
REGISTER(cr4)

static u32 get_cr2(void)
{
	u32 value;

	asm volatile("mov %%cr2, %0" : "=r"(value));
	return value;
}

static void invalidate(u32 address)
{
	asm volatile("invlpg (%0)" : : "r"(address) : "memory");
}

/* The CPU writes them, too. */
static u64 get_entry(u32 address)
{
	const volatile u64 *wide = &wide_table[address >> 12 & 511];
	const volatile u32 *narrow = &table[address >> 12 & 1023];

	return pae ? *wide : *narrow;
}

static void set_page(u32 address, u64 entry)
{
	if (pae)
		wide_table[address >> 12 & 511] = entry;
	else
		table[address >> 12 & 1023] = (u32)entry;
	invalidate(address);
}

static void set_large(u64 entry)
{
	if (pae)
		directories[LARGE >> 30][LARGE >> 21 & 511] = entry;
	else
		directory[LARGE >> 22] = (u32)entry;
	invalidate(LARGE);
}

/* 64 MiB mapped to themselves, for everybody: it is segments that keep our users out. */
static void make_tables(void)
{
	for (u32 at = 0; at < MiB(64); at += MiB(4))
		directory[at >> 22] = at | PTE_ALL | PTE_LARGE;
	directory[TEST >> 22] = (u32)table | PTE_ALL;
	for (unsigned i = 0; i < 4; i++)
		pointers[i] = (u32)directories[i] | PTE_PRESENT;
	for (u32 at = 0; at < MiB(64); at += MiB(2))
		directories[0][at >> 21] = at | PTE_ALL | PTE_LARGE;
	directories[TEST >> 30][TEST >> 21 & 511] = (u32)wide_table | PTE_ALL;
}

static void paging_on(bool with_pae)
{
	pae = with_pae;
	set_cr4((get_cr4() & ~(u32)(X86_CR4_PAE | X86_CR4_PSE)) |
		(with_pae ? X86_CR4_PAE : X86_CR4_PSE));
	set_cr3(with_pae ? (u32)pointers : (u32)directory);
	set_cr0(get_cr0() | X86_CR0_PG | X86_CR0_WP);
}

static void paging_off(void)
{
	set_cr0(get_cr0() & ~(u32)X86_CR0_PG);
}

/* ------------------------------------------------------------------ rights */

SNIPPET(load, "", "mov (%edi), %eax");
SNIPPET(store, "", "mov %eax, (%edi)");
SNIPPET(add, "", "lock add %esp, (%edi)");
SNIPPET(across, "", "mov %eax, -2(%edi)");
SNIPPET(string, "mov $-1, %eax; mov $8, %ecx; cld", "rep stosl");
SNIPPET(jump, "", "jmp *%edi");
SNIPPET(set_cr3_to, "", "mov %edi, %cr3");
SNIPPET(set_cr0_to, "", "mov %edi, %cr0");
SNIPPET(set_cr4_to, "", "mov %edi, %cr4");

#define GRANTED (~0u) /* no fault at all */

static const char *mode_name(void)
{
	return pae ? "PAE" : "2 levels";
}

/* Reserved bits are those of an entry that is present; qemu's CPU forgets to say so. */
static u32 error_of(const struct trap *trap)
{
	u32 error = trap->frame.error;

	return error & ERROR_RESERVED && cpu_is_tcg() ? error | ERROR_PRESENT : error;
}

static void expect_at(const char *name, bool user, const u8 *code, u32 address, u32 flags,
		      u32 error, u32 cr2)
{
	struct trap trap;
	bool good;

	if (user)
		trap_run_user(code, address, flags, &trap);
	else
		trap_run(code, address, flags, &trap);
	if (error == GRANTED)
		good = trap.frame.vector == VECTOR_END;
	else
		good = trap.frame.vector == PF && error_of(&trap) == error && get_cr2() == cr2;
	if (!check(good, "%s: %s", mode_name(), name))
		print("  vector %u, error %x, cr2 %x\n", trap.frame.vector, trap.frame.error,
		      get_cr2());
}

static void expect(const char *name, bool user, const u8 *code, u32 error)
{
	expect_at(name, user, code, TEST, 0, error, TEST);
}

static void check_rights(void)
{
	const u32 present = ERROR_PRESENT;

	set_page(NEXT, FRAME2 | PTE_ALL);
	set_page(TEST, FRAME | PTE_ALL);
	expect("a page for all: a user writes", true, store, GRANTED);
	expect("a page for all: the kernel adds", false, add, GRANTED);
	set_page(TEST, FRAME | PTE_PRESENT | PTE_USER);
	expect("a read-only page: a user reads", true, load, GRANTED);
	expect("a read-only page: a user writes", true, store, present | ERROR_USER | ERROR_WRITE);
	expect("a read-only page: the kernel writes", false, store, present | ERROR_WRITE);
	expect("a read-only page: the kernel adds", false, add, present | ERROR_WRITE);
	set_cr0(get_cr0() & ~(u32)X86_CR0_WP);
	expect("a read-only page, no CR0.WP: the kernel writes", false, store, GRANTED);
	expect("a read-only page, no CR0.WP: a user writes", true, store,
	       present | ERROR_USER | ERROR_WRITE);
	set_cr0(get_cr0() | X86_CR0_WP);
	set_page(TEST, FRAME | PTE_PRESENT | PTE_WRITE);
	expect("the kernel's page: it writes", false, store, GRANTED);
	expect("the kernel's page: a user reads", true, load, present | ERROR_USER);
	expect("the kernel's page: a user writes", true, store, present | ERROR_USER | ERROR_WRITE);
	set_page(TEST, ~(u64)PTE_PRESENT);
	expect("a missing page: the kernel reads", false, load, 0);
	expect("a missing page: a user writes", true, store, ERROR_USER | ERROR_WRITE);
	set_page(TEST, FRAME | PTE_ALL);
	set_page(NEXT, 0);
	expect_at("a write whose second half is nowhere", false, across, NEXT, 0, ERROR_WRITE,
		  NEXT);
	expect_at("a string that runs into a missing page", true, string, NEXT - 12, 0,
		  ERROR_USER | ERROR_WRITE, NEXT);
	check_equal(*(volatile u32 *)(FRAME + PAGE_BYTES - 12), ~0u, "%s: it began before",
		    mode_name());
	set_page(NEXT, FRAME2 | PTE_ALL);
	*(volatile u32 *)FRAME2 = 0x5a5a5a5a;
	*(volatile u16 *)(NEXT - 2) = 0x1234;
	expect_at("two pages that are not neighbours", false, across, NEXT, 0, GRANTED, 0);
	check(*(volatile u16 *)FRAME2 != 0x5a5a, "%s: both were written", mode_name());
}

static void check_bits(void)
{
	const u32 bits = PTE_ACCESSED | PTE_DIRTY;
	unsigned wrong[3] = {0};

	for (unsigned i = 0; i < 50; i++) {
		set_page(TEST, FRAME | PTE_ALL);
		*(volatile u32 *)TEST;
		wrong[0] += (get_entry(TEST) & bits) != PTE_ACCESSED;
		*(volatile u32 *)TEST = i;
		wrong[1] += (get_entry(TEST) & bits) != bits;
		set_page(TEST, (i & 1 ? FRAME : FRAME2) | PTE_ALL);
		*(volatile u32 *)TEST = i + 1000;
		wrong[2] += *(volatile u32 *)(i & 1 ? FRAME : FRAME2) != i + 1000;
	}
	check_equal(wrong[0], 0, "%s: a read makes accessed, not dirty", mode_name());
	check_equal(wrong[1], 0, "%s: a write makes dirty", mode_name());
	check_equal(wrong[2], 0, "%s: INVLPG, and another frame", mode_name());
}

static void check_supervisor(void)
{
	const u32 present = ERROR_PRESENT;
	u32 smep = cpu_has_smep() ? X86_CR4_SMEP : 0, smap = cpu_has_smap() ? X86_CR4_SMAP : 0;

	/* int $0x80 */
	set_page(TEST, FRAME | PTE_ALL);
	*(volatile u16 *)FRAME = 0x80cd;
	expect("code of users: the kernel runs it", false, jump, GRANTED);
	/* Our own code, stack and data are a user's as well: they have to become the kernel's. */
	for (u32 at = 0; at < MiB(64) && (smep | smap); at += MiB(2)) {
		directory[at >> 22] &= ~(u32)PTE_USER;
		directories[0][at >> 21] &= ~(u64)PTE_USER;
	}
	set_cr3(get_cr3());
	if (smep) {
		set_cr4(get_cr4() | smep);
		expect("CR4.SMEP: no more", false, jump, present | ERROR_FETCH);
		expect("CR4.SMEP: it may read it", false, load, GRANTED);
		set_cr4(get_cr4() & ~smep);
	}
	if (smap) {
		set_cr4(get_cr4() | smap);
		expect("CR4.SMAP: the kernel reads", false, load, present);
		expect("CR4.SMAP: the kernel writes", false, store, present | ERROR_WRITE);
		expect_at("CR4.SMAP: unless EFLAGS.AC is set", false, store, TEST, X86_EFLAGS_AC,
			  GRANTED, 0);
		set_cr4(get_cr4() & ~smap);
	}
	for (u32 at = 0; at < MiB(64); at += MiB(2)) {
		directory[at >> 22] |= PTE_USER;
		directories[0][at >> 21] |= PTE_USER;
	}
	set_cr3(get_cr3());
}

/* Either half of a large page goes with the other; a table may take its place. */
static void check_large(void)
{
	u32 half = pae ? MiB(1) : MiB(2), wrong = 0;

	for (unsigned i = 0; i < 20; i++) {
		u32 frame = i & 1 ? MiB(36) : MiB(32);

		*(volatile u32 *)(frame + half) = i;
		*(volatile u32 *)(frame + 0x5000) = i + 100;
		set_large(frame | PTE_ALL | PTE_LARGE);
		invalidate(LARGE + (i & 2 ? half : 0x7000));
		wrong += *(volatile u32 *)(LARGE + half) != i;
		wrong += *(volatile u32 *)(LARGE + 0x5000) != i + 100;
	}
	check_equal(wrong, 0, "%s: a large page", mode_name());
	if (pae) {
		u64 *made = (u64 *)TABLES;

		memset(made, 0, PAGE_BYTES);
		made[5] = FRAME2 | PTE_ALL;
		set_large(TABLES | PTE_ALL);
	} else {
		u32 *made = (u32 *)TABLES;

		memset(made, 0, PAGE_BYTES);
		made[5] = FRAME2 | PTE_ALL;
		set_large(TABLES | PTE_ALL);
	}
	invalidate(LARGE + 0x5000);
	*(volatile u32 *)FRAME2 = 0xfeed;
	check_equal(*(volatile u32 *)(LARGE + 0x5000), 0xfeed, "%s: a table takes its place",
		    mode_name());
	set_large(0);
}

static void check_global(void)
{
	set_cr4(get_cr4() | X86_CR4_PGE);
	set_page(TEST, FRAME | PTE_ALL | PTE_GLOBAL);
	*(volatile u32 *)FRAME = 1;
	*(volatile u32 *)FRAME2 = 2;
	*(volatile u32 *)TEST;
	if (pae)
		wide_table[TEST >> 12 & 511] = FRAME2 | PTE_ALL | PTE_GLOBAL;
	else
		table[TEST >> 12 & 1023] = FRAME2 | PTE_ALL | PTE_GLOBAL;
	set_cr4(get_cr4() & ~(u32)X86_CR4_PGE);
	check_equal(*(volatile u32 *)TEST, 2, "%s: a global page goes with CR4.PGE", mode_name());
}

/* ------------------------------------------------------------------ what one of them has */

static void check_2_level_only(void)
{
	u32 plain = FRAME | PTE_ALL;

	/* Bits 31..22 are the page's, 20..13 a higher part of its address, 21 nobody's. */
	set_large(MiB(32) | PTE_ALL | PTE_LARGE | 1u << 21);
	expect_at("bit 21 of a page of 4 MiB", false, load, LARGE, 0,
		  ERROR_PRESENT | ERROR_RESERVED, LARGE);
	expect_at("and for a user", true, store, LARGE, 0,
		  ERROR_PRESENT | ERROR_RESERVED | ERROR_WRITE | ERROR_USER, LARGE);
	set_large(0);
	/* Without CR4.PSE the bit that says "large" says nothing. Then our own 4 MiB pages must go.
	 */
	for (u32 i = 0; i < 16 * 1024; i++)
		((u32 *)TABLES)[i] = i << 12 | PTE_ALL;
	for (u32 i = 0; i < 16; i++)
		directory[i] = (TABLES + i * PAGE_BYTES) | PTE_ALL;
	set_cr4(get_cr4() & ~(u32)X86_CR4_PSE);
	directory[LARGE >> 22] = (u32)table | PTE_ALL | PTE_LARGE;
	set_cr3(get_cr3());
	*(volatile u32 *)FRAME = 0xabcd;
	set_page(LARGE + 0x7000, plain);
	check_equal(*(volatile u32 *)(LARGE + 0x7000), 0xabcd, "without CR4.PSE it is a table");
	/* Only where there are large pages again may there be large pages again. */
	set_cr4(get_cr4() | X86_CR4_PSE);
	for (u32 i = 0; i < 16; i++)
		directory[i] = i << 22 | PTE_ALL | PTE_LARGE;
	directory[LARGE >> 22] = 0;
	set_cr3(get_cr3());
}

static void check_pae_only(void)
{
	const u32 present = ERROR_PRESENT;
	u64 efer = rdmsr(MSR_EFER);

	/* int $0x80 */
	*(volatile u16 *)FRAME = 0x80cd;
	wrmsr(MSR_EFER, efer & ~EFER_NXE);
	set_page(TEST, FRAME | PTE_ALL | PTE_NX);
	expect("bit 63 without EFER.NXE", false, load, present | ERROR_RESERVED);
	expect("and of a fetch", true, jump, present | ERROR_RESERVED | ERROR_USER);
	wrmsr(MSR_EFER, efer | EFER_NXE);
	set_page(TEST, FRAME | PTE_ALL | PTE_NX);
	expect("with it: the kernel reads", false, load, GRANTED);
	expect("with it: the kernel fetches", false, jump, present | ERROR_FETCH);
	expect("with it: a user fetches", true, jump, present | ERROR_FETCH | ERROR_USER);
	set_page(TEST, 0);
	expect("a fetch from nowhere", true, jump, ERROR_FETCH | ERROR_USER);
	for (unsigned bit = 52; bit < 63; bit += 5) {
		set_page(TEST, FRAME | PTE_ALL | 1ull << bit);
		expect("what long mode ignores is reserved", false, load, present | ERROR_RESERVED);
	}
	set_page(TEST, FRAME | PTE_ALL);
	set_large(MiB(32) | PTE_ALL | PTE_LARGE | 1u << 13);
	expect_at("bit 13 of a page of 2 MiB", false, load, LARGE, 0, present | ERROR_RESERVED,
		  LARGE);
	set_large(0);
	wrmsr(MSR_EFER, efer);
}

static void expect_gp(const char *name, const u8 *code, u32 value, u8 vector)
{
	struct trap trap;

	trap_run(code, value, 0, &trap);
	check_equal(trap.frame.vector, vector, "%s", name);
}

/* Of the pointers, which are registers; and when they are loaded. */
static void check_pointers(void)
{
	static u64 other[4] __attribute__((aligned(32)));
	static const u8 bits[] = {1, 2, 5, 6, 7, 8, 63};
	u32 cr0 = get_cr0(), cr4 = get_cr4();

	memcpy(other, pointers, sizeof(other));
	other[TEST >> 30] = 0;
	set_cr3((u32)other);
	expect("a pointer to nothing", false, load, 0);
	set_cr3((u32)pointers);
	expect("and back", false, load, GRANTED);
	for (unsigned i = 0; i < ARRAY_SIZE(bits); i++) {
		other[2] = (u32)directories[2] | PTE_PRESENT | 1ull << bits[i];
		expect_gp("a load of CR3 looks at reserved bits", set_cr3_to, (u32)other, GP);
		other[2] = 1ull << bits[i];
		expect_gp("but not in what is not there", set_cr3_to, (u32)other, VECTOR_END);
		set_cr3((u32)pointers);
	}
	pointers[2] |= 2;
	expect_gp("CR0.CD loads them, too", set_cr0_to, cr0 ^ X86_CR0_CD, GP);
	expect_gp("CR4.PGE does", set_cr4_to, cr4 ^ X86_CR4_PGE, GP);
	expect_gp("CR4.PSE does", set_cr4_to, cr4 ^ X86_CR4_PSE, GP);
	expect_gp("CR4.DE does not", set_cr4_to, cr4 ^ X86_CR4_DE, VECTOR_END);
	set_cr4(cr4);
	expect_gp("nor does CR0.TS", set_cr0_to, cr0 ^ X86_CR0_TS, VECTOR_END);
	set_cr0(cr0);
	check(get_cr0() == cr0 && get_cr3() == (u32)pointers && get_cr4() == cr4,
	      "and what was refused has not changed");
	paging_off();
	expect_gp("nor is paging switched on with such", set_cr0_to, cr0, GP);
	check(!(get_cr0() & X86_CR0_PG), "it stays off");
	pointers[2] &= ~2ull;
	paging_on(true);
}

/* ------------------------------------------------------------------ from one to another */

/*
 * CR3 as PAE has it has bits that two levels ignore: one page is a directory, and in it, where the
 * entries for 32 to 64 MiB would be, are four pointers.
 */
static void check_on_the_fly(void)
{
	static u32 top[1024] aligned_page;
	const unsigned at = 8;
	u32 seen[3];

	top[0] = PTE_ALL | PTE_LARGE;
	top[TEST >> 22] = (u32)table | PTE_ALL;
	memcpy(&top[at], pointers, sizeof(pointers));
	table[TEST >> 12 & 1023] = FRAME | PTE_ALL;
	wide_table[TEST >> 12 & 511] = FRAME2 | PTE_ALL;
	*(volatile u32 *)FRAME = 0x32;
	*(volatile u32 *)FRAME2 = 0x64;
	set_cr4((get_cr4() & ~(u32)X86_CR4_PAE) | X86_CR4_PSE);
	set_cr3((u32)&top[at]);
	set_cr0(get_cr0() | X86_CR0_PG);
	seen[0] = *(volatile u32 *)TEST;
	set_cr4(get_cr4() | X86_CR4_PAE);
	seen[1] = *(volatile u32 *)TEST;
	set_cr4(get_cr4() & ~(u32)X86_CR4_PAE);
	seen[2] = *(volatile u32 *)TEST;
	paging_off();
	check(seen[0] == 0x32 && seen[1] == 0x64 && seen[2] == 0x32,
	      "CR4.PAE changes while there is paging (%x, %x, %x)", seen[0], seen[1], seen[2]);
}

/* Compatibility mode is all that 32-bit code sees of it. Nothing may trap: gates are other ones. */
static void check_long_mode(void)
{
	static u64 root[512] aligned_page;
	u64 efer = rdmsr(MSR_EFER), during, after;
	u32 seen, cr4;

	for (unsigned i = 0; i < 4; i++)
		((u64 *)TABLES)[i] = (u32)directories[i] | PTE_ALL;
	root[0] = TABLES | PTE_ALL;
	wide_table[TEST >> 12 & 511] = FRAME2 | PTE_ALL;
	*(volatile u32 *)FRAME2 = 0x1234567;
	set_cr4((get_cr4() & ~(u32)X86_CR4_PSE) | X86_CR4_PAE);
	set_cr3((u32)root);
	wrmsr(MSR_EFER, efer | EFER_LME);
	set_cr0(get_cr0() | X86_CR0_PG);
	during = rdmsr(MSR_EFER);
	seen = *(volatile u32 *)TEST;
	set_cr0(get_cr0() & ~(u32)X86_CR0_PG);
	after = rdmsr(MSR_EFER);
	cr4 = get_cr4();
	wrmsr(MSR_EFER, efer);
	check_equal(during, efer | EFER_LME | EFER_LMA, "long mode is on with paging");
	check_equal(seen, 0x1234567, "and has four levels");
	check_equal(after, efer | EFER_LME, "and goes with it");
	check(cr4 & X86_CR4_PAE, "CR4.PAE stays");
	/* The same tables, one level less. */
	paging_on(true);
	check_equal(*(volatile u32 *)TEST, 0x1234567, "PAE after long mode");
	paging_off();
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	make_tables();
	for (unsigned i = 0; i < 2; i++) {
		paging_on(i);
		check_rights();
		check_bits();
		/* It marks them as accessed in memory: a reserved bit, when they are loaded again.
		 */
		if (pae && cpu_deviates("PAE's pointers stay as they are"))
			return;
		check_supervisor();
		check_large();
		check_global();
		if (pae) {
			check_pae_only();
			check_pointers();
		} else {
			check_2_level_only();
		}
		paging_off();
	}
	check_on_the_fly();
	check_long_mode();
}
