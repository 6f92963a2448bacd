/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Protection keys: a user's page has one in its entry, and PKRU, which users may
 * write, says which keys open what (Intel SDM 3A, "Protection Keys"). A write of PKRU
 * counts for the next access, and needs nothing to be flushed.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define TEST	 (1ull << 40)
#define FRAME	 MiB(32)
#define KEY	 11u
#define PTE_KEYS 59 /* where they begin in an entry */

#define NO_ACCESS(key) (1u << 2 * (key))
#define NO_WRITE(key)  (2u << 2 * (key))

#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PF 14

#define ERROR_PRESENT 1u
#define ERROR_WRITE   2u
#define ERROR_USER    4u
#define ERROR_KEY     32u
#define GRANTED	      (~0ull) /* no fault at all */

static bool cpu_has_pku(void)
{
	return cpuid(0, 0).eax >= 7 && cpuid(7, 0).ecx >> 3 & 1;
}

SNIPPET(load, "", "mov (%rdi), %rax");
SNIPPET(store, "", "mov %rax, (%rdi)");
SNIPPET(exchange_add, "xor %eax, %eax", "lock xadd %rax, (%rdi)");
SNIPPET(across, "", "mov %rax, -4(%rdi)");
SNIPPET(jump, "", "jmp *%rdi");
SNIPPET(read_pkru, "mov %edi, %ecx; mov $-1, %rdx; mov $-1, %rax", "rdpkru");
SNIPPET(write_pkru, "mov %edi, %eax; xor %ecx, %ecx; xor %edx, %edx", "wrpkru");
SNIPPET(write_pkru_ecx, "mov %edi, %eax; mov $1, %ecx; xor %edx, %edx", "wrpkru");
SNIPPET(write_pkru_edx, "mov %edi, %eax; xor %ecx, %ecx; mov $1, %edx", "wrpkru");
/* Give it away, and reach for it: in one piece of code, as a program would. */
SNIPPET(close_and_load,
	"mov (%rdi), %rbx; mov $0x400000, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru",
	"mov (%rdi), %rax");
SNIPPET(open_and_store, "mov (%rdi), %rbx; xor %eax, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru",
	"mov %rbx, (%rdi)");

static void set_page(unsigned key, u64 bits)
{
	paging_set(TEST, LEVEL_PAGE, FRAME | bits | (u64)key << PTE_KEYS);
	paging_set(TEST - PAGE, LEVEL_PAGE, (FRAME + PAGE) | PTE_ALL);
}

static void wrpkru(u32 value)
{
	asm volatile("wrpkru" : : "a"(value), "c"(0), "d"(0) : "memory");
}

static u32 rdpkru(void)
{
	u32 value, zero;

	asm volatile("rdpkru" : "=a"(value), "=d"(zero) : "c"(0));
	return value;
}

static void expect(const char *name, bool user, const u8 *code, u64 error)
{
	u64 page = TEST;
	struct trap trap;
	bool good;

	if (user)
		trap_run_user(user_address(code), page, 0, &trap);
	else
		trap_run((u64)code, page, 0, &trap);
	if (error == GRANTED)
		good = trap.frame.vector == VECTOR_END;
	else
		good = trap.frame.vector == VECTOR_PF && trap.frame.error == error &&
		       trap.cr2 == page;
	check(good, "%s (vector %lu, error %lx)", name, trap.frame.vector, trap.frame.error);
}

static void check_instructions(void)
{
	struct trap trap;

	write_cr4(read_cr4() & ~(u64)X86_CR4_PKE);
	check(!(cpuid(7, 0).ecx >> 4 & 1), "CPUID: keys are off");
	trap_run((u64)read_pkru, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_UD, "RDPKRU while they are off");
	trap_run((u64)write_pkru, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_UD, "WRPKRU while they are off");
	write_cr4(read_cr4() | X86_CR4_PKE);
	check(cpuid(7, 0).ecx >> 4 & 1, "CPUID: and on");
	wrpkru(0x12345678);
	check_equal(rdpkru(), 0x12345678, "PKRU is what was written");
	trap_run_user(user_address(read_pkru), 0, 0, &trap);
	check(trap.frame.vector == VECTOR_END && trap.frame.rax == 0x12345678 && !trap.frame.rdx,
	      "users may read it, and EDX is cleared");
	trap_run((u64)read_pkru, 1, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_GP, "RDPKRU with ECX 1");
	trap_run((u64)write_pkru_ecx, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_GP, "WRPKRU with ECX 1");
	trap_run((u64)write_pkru_edx, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_GP, "WRPKRU with EDX 1");
	check_equal(rdpkru(), 0x12345678, "and PKRU is what it was");
	/* All of the kernel's own is not for users. */
	trap_run((u64)write_pkru, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "the kernel writes it");
	check_equal(rdpkru(), 0, "to 0");
}

static void check_rights(void)
{
	const u64 present = ERROR_PRESENT | ERROR_KEY;

	set_page(KEY, PTE_ALL);
	wrpkru(0);
	expect("key open: a user reads", true, load, GRANTED);
	expect("key open: a user writes", true, store, GRANTED);
	expect("key open: the kernel writes", false, store, GRANTED);
	wrpkru(NO_WRITE(KEY));
	expect("no writing: a user reads", true, load, GRANTED);
	expect("no writing: a user writes", true, store, present | ERROR_USER | ERROR_WRITE);
	expect("no writing: a user's locked add", true, exchange_add,
	       present | ERROR_USER | ERROR_WRITE);
	expect("no writing: in two pages", true, across, present | ERROR_USER | ERROR_WRITE);
	expect("no writing: the kernel reads", false, load, GRANTED);
	expect("no writing: the kernel writes", false, store, present | ERROR_WRITE);
	write_cr0(read_cr0() & ~(u64)X86_CR0_WP);
	expect("no writing, no CR0.WP: the kernel writes", false, store, GRANTED);
	expect("no writing, no CR0.WP: a user writes", true, store,
	       present | ERROR_USER | ERROR_WRITE);
	write_cr0(read_cr0() | X86_CR0_WP);
	expect("no writing, CR0.WP again: the kernel writes", false, store, present | ERROR_WRITE);
	wrpkru(NO_ACCESS(KEY));
	expect("no access: a user reads", true, load, present | ERROR_USER);
	expect("no access: a user writes", true, store, present | ERROR_USER | ERROR_WRITE);
	expect("no access: the kernel reads", false, load, present);
	write_cr0(read_cr0() & ~(u64)X86_CR0_WP);
	expect("no access, no CR0.WP: the kernel writes", false, store, present | ERROR_WRITE);
	write_cr0(read_cr0() | X86_CR0_WP);
	wrpkru(~(NO_ACCESS(KEY) | NO_WRITE(KEY) | NO_ACCESS(0) | NO_WRITE(0)));
	expect("all other keys: a user writes", true, store, GRANTED);
	wrpkru(0);
}

/* What the key says comes on top of what else there is. */
static void check_others(void)
{
	wrpkru(NO_ACCESS(KEY));
	set_page(KEY, PTE_PRESENT | PTE_USER);
	expect("a read-only page with a closed key", true, store,
	       ERROR_PRESENT | ERROR_KEY | ERROR_USER | ERROR_WRITE);
	set_page(KEY, 0);
	expect("a page that is missing has no key", true, load, ERROR_USER);
	set_page(KEY, PTE_PRESENT | PTE_WRITE);
	expect("nor has one that is the kernel's: for it", false, store, GRANTED);
	expect("and for a user", true, load, ERROR_PRESENT | ERROR_USER);
	write_cr4(read_cr4() & ~(u64)X86_CR4_PKE);
	set_page(KEY, PTE_ALL);
	expect("without CR4.PKE keys are nothing", true, store, GRANTED);
	write_cr4(read_cr4() | X86_CR4_PKE);
	/* What was learnt without keys may have none. */
	set_page(KEY, PTE_ALL);
	expect("with it, they are something again", true, store,
	       ERROR_PRESENT | ERROR_KEY | ERROR_USER | ERROR_WRITE);
	set_page(0, PTE_ALL);
	/* The user's stack and code have key 0 as well; reading those is not what is tried. */
	wrpkru(NO_WRITE(0));
	expect("key 0 is one like others", false, store, ERROR_PRESENT | ERROR_KEY | ERROR_WRITE);
	wrpkru(0);
	expect("and opens like them", true, store, GRANTED);
}

static void check_at_once(void)
{
	struct trap trap;

	set_page(KEY, PTE_ALL);
	wrpkru(0);
	trap_run_user(user_address(close_and_load), TEST, 0, &trap);
	check(trap.frame.vector == VECTOR_PF &&
		      trap.frame.error == (ERROR_PRESENT | ERROR_KEY | ERROR_USER) &&
		      trap.frame.rip == user_address(close_and_load_at),
	      "closed between two reads (vector %lu, error %lx)", trap.frame.vector,
	      trap.frame.error);
	check_equal(rdpkru(), NO_ACCESS(KEY), "PKRU stays as the user wrote it");
	wrpkru(NO_WRITE(KEY));
	trap_run_user(user_address(open_and_store), TEST, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "opened between a read and a write");
	/* int $0x80 */
	*(u16 *)FRAME = 0x80cd;
	wrpkru(NO_ACCESS(KEY) | NO_WRITE(KEY));
	trap_run_user(user_address(jump), TEST, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "code runs whatever the key says");
	wrpkru(0);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	if (!cpu_has_pku()) {
		print("this CPU has no protection keys\n");
		return;
	}
	write_cr0(read_cr0() | X86_CR0_WP);
	check_instructions();
	check_rights();
	check_others();
	check_at_once();
}
