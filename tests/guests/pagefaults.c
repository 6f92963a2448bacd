/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every way in which a page may be accessed, times every way in which it may be
 * mapped: whether that faults, with which error code and address, and what the
 * access does to the page's accessed and dirty bits. Then what a fault must not
 * leave behind, and what must be right for going on after it.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define VECTOR_GP 13
#define VECTOR_PF 14

/* Of the error code (Intel SDM 3A, "Interrupt 14"). */
#define ERROR_PRESENT  (1u << 0)
#define ERROR_WRITE    (1u << 1)
#define ERROR_USER     (1u << 2)
#define ERROR_RESERVED (1u << 3)
#define ERROR_FETCH    (1u << 4)

/* Where pages are put: a terabyte away from everything else, and the RAM that they show. */
#define TEST	   (1ull << 40)
#define FRAME	   MiB(32)
#define DATA	   0x108ull /* offsets in the page */
#define CODE	   0x200ull
#define BIT_OF_ALL 51 /* reserved in all entries, unless there is as much memory as that */
#define BIT_LARGE  13 /* reserved in those of large pages */

enum access { LOAD, STORE, FETCH, ACCESSES };

SNIPPET(load, "", "mov (%rdi), %rax");
SNIPPET(store, "", "mov %rax, (%rdi)");

static const char *const access_names[] = {"read", "write", "fetch"};

/* What holds for all pages, and for one access. */
struct mode {
	bool wp, smep, smap, ac, user;
};

struct size {
	const char *name;
	unsigned level;
	u64 address, frame;
	unsigned reserved; /* a bit */
};

/* Intel SDM 3A, "Determination of Access Rights". ~0: it is allowed. */
static u32 expected(u64 entry, enum access access, const struct mode *mode, unsigned reserved)
{
	u32 error = (access == STORE ? ERROR_WRITE : 0) | (access == FETCH ? ERROR_FETCH : 0) |
		    (mode->user ? ERROR_USER : 0);
	bool user_page = entry & PTE_USER, allowed;

	if (!(entry & PTE_PRESENT))
		return error;
	if (entry >> reserved & 1)
		return error | ERROR_PRESENT | ERROR_RESERVED;
	if (access == FETCH)
		allowed = !(entry & PTE_NX) && !(!mode->user && user_page && mode->smep);
	else
		allowed = mode->user || !user_page || !mode->smap || mode->ac;
	if (access == STORE && !(entry & PTE_WRITE))
		allowed &= !mode->user && !mode->wp;
	if (mode->user)
		allowed &= user_page;
	return allowed ? ~0u : error | ERROR_PRESENT;
}

/*
 * The error code that came. What is reserved in an entry counts only if it is present, so the one
 * bit never comes without the other; qemu's emulated CPU forgets that.
 */
static u64 error_of(const struct trap *trap)
{
	u64 error = trap->frame.error;

	return error & ERROR_RESERVED && cpu_is_tcg() ? error | ERROR_PRESENT : error;
}

static void make_access(enum access access, u64 page, const struct mode *mode, struct trap *trap)
{
	const u8 *code = access == STORE ? store : load;
	u64 flags = mode->ac ? X86_EFLAGS_AC : 0;

	if (access == FETCH && mode->user)
		trap_run_user(page + CODE, 0, flags, trap);
	else if (access == FETCH)
		trap_run(page + CODE, 0, flags, trap);
	else if (mode->user)
		trap_run_user(user_address(code), page + DATA, flags, trap);
	else
		trap_run((u64)code, page + DATA, flags, trap);
}

/* Whether that went as expected, the bits afterwards included. */
static bool as_expected(const struct trap *trap, u32 error, enum access access, u64 page,
			u64 before, u64 after)
{
	u64 address = page + (access == FETCH ? CODE : DATA);
	u64 bits = before | PTE_ACCESSED | (access == STORE ? PTE_DIRTY : 0);

	if (error == ~0u)
		return trap->frame.vector == VECTOR_END && after == bits;
	/* An entry that leads to a fault may become accessed; or stay what it was, if absent. */
	if (before & PTE_PRESENT ? (after & ~PTE_ACCESSED) != before : after != before)
		return false;
	return trap->frame.vector == VECTOR_PF && error_of(trap) == error && trap->cr2 == address;
}

static u64 entry_of(const struct size *size, unsigned bits)
{
	return size->frame | (bits & 1 ? PTE_PRESENT : 0) | (bits & 2 ? PTE_WRITE : 0) |
	       (bits & 4 ? PTE_USER : 0) | (bits & 8 ? PTE_NX : 0) |
	       (bits & 16 ? 1ull << size->reserved : 0) | (size->level > 1 ? PTE_LARGE : 0);
}

static void check_mode(const struct size *size, const struct mode *mode)
{
	u64 *entry = paging_entry(size->address, size->level);
	u64 page = size->address + (FRAME - size->frame);
	unsigned wrong = 0;

	for (unsigned bits = 0; bits < 32; bits++) {
		for (enum access access = LOAD; access < ACCESSES; access++) {
			u64 before = entry_of(size, bits);
			u32 error = expected(before, access, mode, size->reserved);
			struct trap trap;

			*entry = before;
			paging_invalidate(page);
			make_access(access, page, mode, &trap);
			if (as_expected(&trap, error, access, page, before, *entry))
				continue;
			if (!wrong++)
				print("  %s of %lx: vector %lu, error %lx (should be %x), cr2 %lx, "
				      "then %lx\n",
				      access_names[access], before, trap.frame.vector,
				      trap.frame.error, error, trap.cr2, *entry);
		}
	}
	*entry = 0;
	paging_invalidate(page);
	check(!wrong, "%s pages, %s%s%s%s%s", size->name, mode->user ? "user" : "supervisor",
	      mode->wp ? ", WP" : "", mode->smep ? ", SMEP" : "", mode->smap ? ", SMAP" : "",
	      mode->ac ? ", AC" : "");
}

static void set_modes(const struct mode *mode)
{
	u64 cr4 = read_cr4() & ~(u64)(X86_CR4_SMEP | X86_CR4_SMAP);

	write_cr0((read_cr0() & ~(u64)X86_CR0_WP) | (mode->wp ? X86_CR0_WP : 0));
	write_cr4(cr4 | (mode->smep ? X86_CR4_SMEP : 0) | (mode->smap ? X86_CR4_SMAP : 0));
}

static void check_size(const struct size *size)
{
	for (unsigned bits = 0; bits < 32; bits++) {
		struct mode mode = {bits & 1, bits & 2, bits & 4, bits & 8, bits & 16};

		if ((mode.smep && !cpu_has_smep()) || (mode.smap && !cpu_has_smap()))
			continue;
		set_modes(&mode);
		check_mode(size, &mode);
	}
	set_modes(&(struct mode){.wp = true});
}

static void check_all(void)
{
	/* Above what the CPU has of address bits, all are reserved. */
	unsigned wide = (cpuid(0x80000008, 0).eax & 0xff) > BIT_OF_ALL;
	const struct size sizes[] = {
		{"4 KiB", LEVEL_PAGE, TEST, FRAME, BIT_OF_ALL},
		{"2 MiB", LEVEL_2M, TEST + GiB(1), FRAME, BIT_LARGE},
		{"1 GiB", LEVEL_1G, TEST + GiB(2), 0, BIT_LARGE},
	};

	static const u8 end[] = {0xcd, VECTOR_END};

	memcpy((void *)(FRAME + CODE), end, sizeof(end));
	for (size_t i = wide ? 1 : 0; i < ARRAY_SIZE(sizes); i++)
		if (sizes[i].level != LEVEL_1G || cpu_has_1g_pages())
			check_size(&sizes[i]);
}

/* A page of the 4 KiB kind at TEST + n pages, that shows FRAME + n pages. */
static u64 set_page(unsigned n, u64 bits)
{
	u64 address = TEST + n * PAGE;

	paging_set(address, LEVEL_PAGE, bits ? (FRAME + n * PAGE) | bits : 0);
	return address;
}

static void expect_fault(const struct trap *trap, u32 error, u64 cr2, const char *what)
{
	if (!check(trap->frame.vector == VECTOR_PF && error_of(trap) == error && trap->cr2 == cr2,
		   "%s", what))
		print("  vector %lu, error %lx, cr2 %lx (should be %x, %lx)\n", trap->frame.vector,
		      trap->frame.error, trap->cr2, error, cr2);
}

/* Rights are those of all levels together, and all of them become accessed. */
static void check_upper_levels(void)
{
	static const char *const names[] = {[LEVEL_2M] = "page directory",
					    [LEVEL_1G] = "directory pointer table",
					    [LEVEL_512G] = "topmost table"};
	u64 page = set_page(0, PTE_ALL);
	struct trap trap;

	for (unsigned level = LEVEL_2M; level <= LEVEL_512G; level++) {
		u64 *entry = paging_entry(TEST, level);
		const u64 good = *entry & ~PTE_ACCESSED;
		const struct {
			u64 set, clear;
			const u8 *code;
			u32 error;
		} bent[] = {
			{0, PTE_PRESENT, load, ERROR_USER},
			{0, PTE_WRITE, store, ERROR_USER | ERROR_PRESENT | ERROR_WRITE},
			{0, PTE_USER, load, ERROR_USER | ERROR_PRESENT},
			{1ull << BIT_OF_ALL, 0, load, ERROR_USER | ERROR_PRESENT | ERROR_RESERVED},
			/* Bit 7 makes no large page in the topmost table. */
			{PTE_LARGE | 1 << BIT_LARGE, 0, load,
			 ERROR_USER | ERROR_PRESENT | ERROR_RESERVED},
		};

		for (size_t i = 0; i < ARRAY_SIZE(bent); i++) {
			*entry = (good | bent[i].set) & ~bent[i].clear;
			paging_set_root(paging_root());
			trap_run_user(user_address(bent[i].code), page + DATA, 0, &trap);
			expect_fault(&trap, bent[i].error, page + DATA, names[level]);
		}
		*entry = good | PTE_NX;
		paging_set_root(paging_root());
		trap_run_user(page + CODE, 0, 0, &trap);
		expect_fault(&trap, ERROR_USER | ERROR_PRESENT | ERROR_FETCH, page + CODE,
			     names[level]);
		*entry = good;
		paging_set_root(paging_root());
		trap_run_user(user_address(load), page + DATA, 0, &trap);
		check(trap.frame.vector == VECTOR_END && *entry == (good | PTE_ACCESSED),
		      "%s: accessed by a read, and nothing else (%lx)", names[level], *entry);
	}
	set_page(0, 0);
}

/* Without EFER.NXE, the bit for it is reserved, and a fetch is not told apart (unless by SMEP). */
static void check_no_nx(void)
{
	u64 page = set_page(0, PTE_ALL | PTE_NX), efer = rdmsr(MSR_EFER);
	struct trap trap;

	wrmsr(MSR_EFER, efer & ~EFER_NXE);
	paging_set_root(paging_root());
	trap_run_user(user_address(load), page + DATA, 0, &trap);
	expect_fault(&trap, ERROR_USER | ERROR_PRESENT | ERROR_RESERVED, page + DATA,
		     "no NXE: its bit is reserved");
	set_page(0, PTE_PRESENT);
	trap_run_user(page + CODE, 0, 0, &trap);
	expect_fault(&trap, ERROR_USER | ERROR_PRESENT, page + CODE,
		     "no NXE: a fetch is like a read");
	wrmsr(MSR_EFER, efer);
	set_page(0, 0);
}

SNIPPET(store_1_2, "", "mov %ax, (%rdi)");
SNIPPET(store_8, "", "movq $-1, (%rdi)");
SNIPPET(add_8, "", "addq %rsp, (%rdi)");
SNIPPET(locked_add_8, "", "lock addq %rsp, (%rdi)");
SNIPPET(exchange_8, "mov $0x1234, %eax", "xchg %rax, (%rdi)");
SNIPPET(store_16, "pcmpeqd %xmm0, %xmm0", "movups %xmm0, (%rdi)");
SNIPPET(store_x87, "fninit; fld1", "fstpt (%rdi)");
SNIPPET(pop_to_memory, "push $-1", "pop (%rdi)");
SNIPPET(not_8, "", "notq (%rdi)");
SNIPPET(bit_set, "mov $6, %eax", "bts %rax, (%rdi)");
SNIPPET(swap_16, "xor %eax, %eax; xor %edx, %edx; mov $1, %ebx", "lock cmpxchg8b (%rdi)");
SNIPPET(double_shift, "mov $-1, %rax", "shld $13, %rax, (%rdi)");
SNIPPET(exchange_add, "mov $-1, %rax", "xadd %rax, (%rdi)");
SNIPPET(string_store, "mov $-1, %rax", "stosq");
SNIPPET(string_move, "lea stack_pattern, %rsi", "movsq");

static u64 __attribute__((used)) stack_pattern = ~0ull;

/* The second of two pages is missing, or may not be written: the first does not change. */
static void check_crossing(void)
{
	static const struct {
		const char *name;
		const u8 *code, *at;
		bool reads;
	} stores[] = {
		{"mov of 2 bytes", store_1_2, store_1_2_at, false},
		{"mov of 8 bytes", store_8, store_8_at, false},
		{"add", add_8, add_8_at, true},
		{"lock add", locked_add_8, locked_add_8_at, true},
		{"xchg", exchange_8, exchange_8_at, true},
		{"movups", store_16, store_16_at, false},
		{"fstp of 10 bytes", store_x87, store_x87_at, false},
		{"pop", pop_to_memory, pop_to_memory_at, false},
		{"not", not_8, not_8_at, true},
		{"bts", bit_set, bit_set_at, true},
		{"cmpxchg8b", swap_16, swap_16_at, true},
		{"shld", double_shift, double_shift_at, true},
		{"xadd", exchange_add, exchange_add_at, true},
		{"stos", string_store, string_store_at, false},
		{"movs", string_move, string_move_at, false},
	};
	u64 first = set_page(0, PTE_ALL), second = TEST + PAGE;
	volatile u8 *last = (u8 *)(FRAME + PAGE - 1);
	struct trap trap;

	for (size_t i = 0; i < ARRAY_SIZE(stores); i++) {
		*last = 0x5a;
		set_page(1, 0);
		trap_run((u64)stores[i].code, second - 1, 0, &trap);
		check(trap.frame.vector == VECTOR_PF && trap.cr2 == second &&
			      trap.frame.rip == (u64)stores[i].at &&
			      (trap.frame.error & ~ERROR_WRITE) == 0 &&
			      (stores[i].reads || trap.frame.error & ERROR_WRITE),
		      "%s into a missing page (error %lx, cr2 %lx)", stores[i].name,
		      trap.frame.error, trap.cr2);
		check_equal(*last, 0x5a, "%s: the page before it", stores[i].name);
		set_page(1, PTE_PRESENT);
		trap_run((u64)stores[i].code, second - 1, 0, &trap);
		check(trap.frame.vector == VECTOR_PF && trap.cr2 == second &&
			      trap.frame.error == (ERROR_PRESENT | ERROR_WRITE),
		      "%s into a read-only page (error %lx, cr2 %lx)", stores[i].name,
		      trap.frame.error, trap.cr2);
		check_equal(*last, 0x5a, "%s: the page before it", stores[i].name);
		set_page(1, PTE_ALL);
		trap_run((u64)stores[i].code, second - 1, 0, &trap);
		check_equal(trap.frame.vector, VECTOR_END, "%s into a page that is there",
			    stores[i].name);
	}
	check(*paging_entry(first, LEVEL_PAGE) & PTE_DIRTY &&
		      *paging_entry(second, LEVEL_PAGE) & PTE_DIRTY,
	      "both pages are dirty");
}

SNIPPET(repeated_store, "mov $16, %ecx; mov $-1, %eax", "rep stosb");
SNIPPET(repeated_backward, "mov $16, %ecx; mov $-1, %eax; std", "rep stosb");
SNIPPET(repeated_move, "mov $16, %ecx; mov %rdi, %rsi; sub $64, %rsi", "rep movsb");
SNIPPET(repeated_move_from, "mov $16, %ecx; mov %rdi, %rsi; sub $64, %rdi", "rep movsb");

/* Registers say how far a string instruction came: Intel SDM 2, "REP". */
static void check_strings(void)
{
	u64 first = set_page(0, PTE_ALL), second = TEST + PAGE;
	struct trap trap;

	set_page(1, 0);
	memset((void *)FRAME, 0, PAGE);
	trap_run((u64)repeated_store, second - 5, 0, &trap);
	expect_fault(&trap, ERROR_WRITE, second, "rep stos runs into a missing page");
	check(trap.frame.rdi == second && trap.frame.rcx == 11 &&
		      trap.frame.rip == (u64)repeated_store_at,
	      "rep stos: five of sixteen bytes are done (rdi %lx, rcx %lx)", trap.frame.rdi,
	      trap.frame.rcx);
	check_equal(*(u64 *)(second - 8), 0xffffffffff000000, "rep stos: which are these");
	trap_run((u64)repeated_move, second - 5, 0, &trap);
	check(trap.cr2 == second && trap.frame.rdi == second && trap.frame.rcx == 11 &&
		      trap.frame.rsi == second - 64,
	      "rep movs: five bytes (rsi %lx, rdi %lx, rcx %lx)", trap.frame.rsi, trap.frame.rdi,
	      trap.frame.rcx);
	trap_run((u64)repeated_move_from, second - 5, 0, &trap);
	check(trap.cr2 == second && trap.frame.rsi == second && trap.frame.rcx == 11 &&
		      trap.frame.rdi == second - 64,
	      "rep movs: the source is missing (rsi %lx, rdi %lx, rcx %lx)", trap.frame.rsi,
	      trap.frame.rdi, trap.frame.rcx);
	trap_run((u64)repeated_backward, first + 2, 0, &trap);
	check(trap.cr2 == first - 1 && trap.frame.rdi == first - 1 && trap.frame.rcx == 13,
	      "rep stos backwards: three bytes (rdi %lx, rcx %lx, cr2 %lx)", trap.frame.rdi,
	      trap.frame.rcx, trap.cr2);
}

/* As many elements as nobody can have: eight times that is 0, in 64 bits. */
SNIPPET(endless_store, "mov $1, %ecx; shl $61, %rcx; xor %eax, %eax", "rep stosq");
SNIPPET(endless_move, "mov $1, %ecx; shl $61, %rcx; mov %rdi, %rsi", "rep movsq");
SNIPPET(nothing_at_all, "xor %ecx, %ecx", "rep stosb");
SNIPPET(store_and_more, "mov $16, %ecx; mov $-1, %eax; stc", "rep stosb");
SNIPPET(store_page, "mov $512, %ecx; mov $-1, %rax", "rep stosq");
SNIPPET(store_two, "mov $2, %ecx; mov $-1, %rax", "rep stosq");
SNIPPET(store_pages, "mov $4000, %ecx; mov $-1, %rax", "rep stosq");
SNIPPET(store_page_and_one, "mov $513, %ecx; mov $-1, %rax", "rep stosq");

/* How far they may go, whatever they ask for. */
static void check_counts(void)
{
	const u64 endless = 1ull << 61, second = TEST + PAGE;
	u64 first = set_page(0, PTE_ALL);
	bool well = true;
	struct trap trap;

	set_page(1, 0);
	for (unsigned i = 0; i < 3; i++) {
		/* So that the page is known. */
		trap_run((u64)store_and_more, first, 0, &trap);
		check(trap.frame.vector == VECTOR_END && trap.frame.rdi == first + 16 &&
			      !trap.frame.rcx && trap.frame.rflags & X86_EFLAGS_CF,
		      "rep stos in a page (rdi %lx, rcx %lx)", trap.frame.rdi, trap.frame.rcx);
		trap_run((u64)endless_store, second - 16, 0, &trap);
		check(trap.cr2 == second && trap.frame.rdi == second &&
			      trap.frame.rcx == endless - 2,
		      "rep stos without end (rdi %lx, rcx %lx)", trap.frame.rdi, trap.frame.rcx);
		trap_run((u64)endless_move, second - 16, 0, &trap);
		check(trap.cr2 == second && trap.frame.rdi == second && trap.frame.rsi == second &&
			      trap.frame.rcx == endless - 2,
		      "rep movs without end (rdi %lx, rcx %lx)", trap.frame.rdi, trap.frame.rcx);
		trap_run((u64)nothing_at_all, second, 0, &trap);
		check(trap.frame.vector == VECTOR_END && trap.frame.rdi == second,
		      "none at all, to where nothing is (vector %lu)", trap.frame.vector);
		trap_run((u64)store_page, first, 0, &trap);
		check(trap.frame.vector == VECTOR_END && trap.frame.rdi == second,
		      "a page (rdi %lx)", trap.frame.rdi);
		trap_run((u64)store_page_and_one, first, 0, &trap);
		check(trap.cr2 == second && trap.frame.rdi == second && trap.frame.rcx == 1,
		      "a page and one more (rdi %lx, rcx %lx)", trap.frame.rdi, trap.frame.rcx);
		trap_run((u64)store_two, second - 15, 0, &trap);
		check(trap.cr2 == second && trap.frame.rdi == second - 7 && trap.frame.rcx == 1,
		      "one byte too many (rdi %lx, rcx %lx)", trap.frame.rdi, trap.frame.rcx);
	}
	/* Not canonical, with each index that a TLB may have. */
	for (u64 page = 0; page < 4096; page++) {
		u64 address = (1ull << 62) + page * PAGE;

		trap_run((u64)store_pages, address, 0, &trap);
		well &= trap.frame.vector == VECTOR_GP && trap.frame.rcx == 4000 &&
			trap.frame.rdi == address;
	}
	check(well, "rep stos to what is not canonical");
}

SNIPPET(compare_exchange, "xor %eax, %eax; not %eax", "lock cmpxchg %ecx, (%rdi)");
SNIPPET(conditional_move, "mov $-1, %rax; test %rax, %rax", "cmovz (%rdi), %rax");
SNIPPET(push_memory, "", "push (%rdi)");
SNIPPET(pop_elsewhere, "push $1; mov %rsp, %rcx", "pop (%rdi)");
SNIPPET(exchange, "mov $77, %eax; mov %rax, %rcx", "xchg %rax, (%rdi)");
SNIPPET(load_and_step, "mov %rdi, %rsi; mov $77, %eax", "lodsq");
SNIPPET(add_to_memory, "", "add %rsp, (%rdi)");
SNIPPET(test_memory, "", "testb $1, (%rdi)");
SNIPPET(user_push, "mov %rdi, %rsp", "push %rax");
SNIPPET(user_call, "mov %rdi, %rsp", "call *%rax");

/* The rest of what tends to go wrong: what is written though it looks like reading, and so on. */
static void check_details(void)
{
	const u64 all = X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF |
			X86_EFLAGS_SF | X86_EFLAGS_OF | X86_EFLAGS_FIXED;
	u64 page = set_page(0, PTE_PRESENT), missing = TEST + 2 * PAGE;
	struct trap trap;

	*(u64 *)FRAME = 42;
	trap_run((u64)compare_exchange, page, 0, &trap);
	expect_fault(&trap, ERROR_PRESENT | ERROR_WRITE, page, "a failing cmpxchg writes");
	set_page(1, 0);
	set_page(2, 0);
	trap_run((u64)conditional_move, missing, 0, &trap);
	expect_fault(&trap, 0, missing, "a cmov that does not move reads");
	trap_run((u64)push_memory, missing, 0, &trap);
	expect_fault(&trap, 0, missing, "push of memory that is missing");
	trap_run((u64)pop_elsewhere, missing, 0, &trap);
	expect_fault(&trap, ERROR_WRITE, missing, "pop to memory that is missing");
	check_equal(trap.frame.rsp, trap.frame.rcx, "and the stack pointer stays");
	trap_run((u64)exchange, page, 0, &trap);
	check(trap.frame.vector == VECTOR_PF && trap.frame.rax == 77, "xchg keeps its register");
	trap_run((u64)load_and_step, missing, 0, &trap);
	check(trap.frame.rsi == missing && trap.frame.rax == 77, "lods keeps its registers");
	trap_run((u64)add_to_memory, page, all, &trap);
	check(trap.frame.vector == VECTOR_PF && (trap.frame.rflags & all) == all,
	      "flags are those from before (%lx)", trap.frame.rflags);
	trap_run((u64)add_to_memory, page, 0, &trap);
	check(trap.frame.vector == VECTOR_PF && !(trap.frame.rflags & all & ~2ull),
	      "and if they were clear, clear (%lx)", trap.frame.rflags);
	trap_run((u64)test_memory, missing, 0, &trap);
	expect_fault(&trap, 0, missing, "test only reads");
	trap_run_user(user_address(user_push), missing, 0, &trap);
	expect_fault(&trap, ERROR_USER | ERROR_WRITE, missing - 8, "push to a missing stack");
	check_equal(trap.frame.rsp, missing, "leaves the stack pointer");
	trap_run_user(user_address(user_call), missing, 0, &trap);
	check(trap.frame.rsp == missing && trap.frame.rip == user_address(user_call_at),
	      "and so does a call (rsp %lx, rip %lx)", trap.frame.rsp, trap.frame.rip);
	check_equal(*(u64 *)FRAME, 42, "nothing was written through all that");
}

/* An instruction whose last bytes are on a page that is not there. */
static void check_fetch_crossing(void)
{
	static const u8 code[] = {0xb8, 0x78, 0x56, 0x34, 0x12, 0xcd, VECTOR_END};
	u64 page = set_page(0, PTE_ALL), second = TEST + PAGE;
	struct trap trap;

	for (unsigned before = 1; before < 7; before++) {
		memcpy((void *)(FRAME + PAGE - before), code, sizeof(code));
		set_page(1, 0);
		trap_run(page + PAGE - before, 0, 0, &trap);
		expect_fault(&trap, ERROR_FETCH, second, "code goes on in a missing page");
		/* The first instruction is five bytes long, and no longer at fault if they fit. */
		check_equal(trap.frame.rip, second - before % 5,
			    "and points at where it begins, %u bytes before", before);
		set_page(1, PTE_ALL);
		trap_run(page + PAGE - before, 0, 0, &trap);
		check(trap.frame.vector == VECTOR_END && trap.frame.rax == 0x12345678,
		      "it runs when the page is there");
	}
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	write_cr0((read_cr0() & ~(u64)(X86_CR0_TS | X86_CR0_EM)) | X86_CR0_WP | X86_CR0_MP |
		  X86_CR0_NE);
	write_cr4(read_cr4() | X86_CR4_OSFXSR);
	check_all();
	check_upper_levels();
	check_no_nx();
	check_crossing();
	check_strings();
	check_counts();
	check_details();
	check_fetch_crossing();
}
