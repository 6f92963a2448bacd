/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small instructions of kernels: which flags they show and change, and who may use them. The same
 * code runs again and again, as a user and as the supervisor at each level, while the control
 * registers that decide change around it: what was right for one of them must not be remembered
 * for the next.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define NOTHING_THERE  (1ull << 45)
#define MSR_TSC_ADJUST 0x3b
#define MSR_TSC_AUX    0xc0000103
#define TIMES	       3

enum { UD = 6, GP = 13, PF = 14 };

#define ARITHMETIC                                                                                 \
	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |           \
	 X86_EFLAGS_OF)

SNIPPET(show, "pushfq", "pop %rax");
SNIPPET(show_after_cli, "cli; pushfq", "pop %rax");
SNIPPET(show_after_sti, "sti; pushfq; cli; nop", "pop %rax");
SNIPPET(show_after_cld, "cld; pushfq", "pop %rax");
SNIPPET(show_after_std, "std; pushfq", "pop %rax");
SNIPPET(show_after_stac, "stac; pushfq", "pop %rax");
SNIPPET(show_after_clac, "clac; pushfq", "pop %rax");
SNIPPET(push_at, "mov %rdi, %rsp", "pushfq");

static u64 memory[4] __attribute__((aligned(4096))) = {0x1111, 0x2222};

static u64 shown(const u8 *code, bool user, u64 flags)
{
	struct trap trap;

	if (user)
		trap_run_user(user_address(code), 0, flags, &trap);
	else
		trap_run((u64)code, 0, flags, &trap);
	if (trap.frame.vector != VECTOR_END)
		check(false, "vector %lu at %lx", trap.frame.vector, trap.frame.rip);
	return trap.frame.rax;
}

/* Each flag that there is, as the supervisor and as a user. IOPL 3 lets a user have IF. */
static void check_pushf(void)
{
	static const u64 flags[] = {
		0,
		X86_EFLAGS_CF,
		X86_EFLAGS_PF,
		X86_EFLAGS_AF,
		X86_EFLAGS_ZF,
		X86_EFLAGS_SF,
		X86_EFLAGS_OF,
		ARITHMETIC,
		X86_EFLAGS_IF,
		X86_EFLAGS_DF,
		X86_EFLAGS_NT,
		X86_EFLAGS_AC,
		X86_EFLAGS_ID,
		X86_EFLAGS_IOPL,
		ARITHMETIC | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_NT | X86_EFLAGS_AC |
			X86_EFLAGS_ID | X86_EFLAGS_IOPL,
	};
	struct trap trap;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		check_equal(shown(show, false, flags[i]), flags[i] | X86_EFLAGS_FIXED,
			    "pushfq shows %lx", flags[i]);
		check_equal(shown(show, true, flags[i]), flags[i] | X86_EFLAGS_FIXED,
			    "and to a user");
	}
	/* Its page faults do not set RF in what they push. */
	if (cpu_deviates("a user's pushfq to where there is no stack"))
		return;
	trap_run_user(user_address(push_at), NOTHING_THERE, ARITHMETIC, &trap);
	check(trap.frame.vector == PF && trap.frame.rip == user_address(push_at_at) &&
		      trap.frame.rsp == NOTHING_THERE && trap.cr2 == NOTHING_THERE - 8 &&
		      trap.frame.rflags == (ARITHMETIC | X86_EFLAGS_FIXED | X86_EFLAGS_RF),
	      "a user's pushfq to where there is no stack (vector %lu, cr2 %lx, flags %lx)",
	      trap.frame.vector, trap.cr2, trap.frame.rflags);
}

/* ------------------------------------------------------------------ IF and DF */

static void check_flag(const char *name, const u8 *code, u64 flag, bool set)
{
	static const u64 around[] = {0, ARITHMETIC, X86_EFLAGS_IF, X86_EFLAGS_DF,
				     X86_EFLAGS_IF | X86_EFLAGS_DF | ARITHMETIC};

	for (size_t i = 0; i < ARRAY_SIZE(around); i++) {
		u64 flags = around[i] | X86_EFLAGS_FIXED;

		check_equal(shown(code, false, flags), set ? flags | flag : flags & ~flag,
			    "%s, flags %lx", name, flags);
		flags |= X86_EFLAGS_IOPL;
		check_equal(shown(code, true, flags), set ? flags | flag : flags & ~flag,
			    "%s as a user with IOPL 3, flags %lx", name, flags);
	}
}

/* A string instruction knows as well. */
SNIPPET(cld_and_lods, "lea 8(%rdi), %rsi; cld", "lodsq; lodsq");
SNIPPET(std_and_lods, "lea 8(%rdi), %rsi; std", "lodsq; lodsq");

static void check_direction(void)
{
	struct trap trap;

	for (unsigned i = 0; i < TIMES; i++) {
		trap_run((u64)cld_and_lods, (u64)memory, i ? X86_EFLAGS_DF : 0, &trap);
		check_equal(trap.frame.rsi, (u64)&memory[3], "cld: upwards");
		trap_run((u64)std_and_lods, (u64)memory, i ? 0 : X86_EFLAGS_DF, &trap);
		check_equal(trap.frame.rsi, (u64)memory - 8, "std: downwards");
		check_equal(trap.frame.rax, memory[0], "and back to the first");
	}
}

/* ------------------------------------------------------------------ AC and SMAP */

SNIPPET(load, "", "mov (%rdi), %rax");
SNIPPET(stac_load_clac_load, "stac; mov (%rdi), %rax; clac; pushfq; pop %rdx", "mov (%rdi), %rcx");
SNIPPET(stac_call, "stac; call 1f; clac; jmp stac_call_at; 1: mov (%rdi), %rax; ret",
	"mov (%rdi), %rcx");

static void check_smap_on(void)
{
	u64 page = user_address(memory);
	struct trap trap;

	trap_run((u64)load, page, 0, &trap);
	check_equal(trap.frame.vector, PF, "SMAP: the supervisor may not read a user's page");
	trap_run((u64)load, page, X86_EFLAGS_AC, &trap);
	check(trap.frame.vector == VECTOR_END && trap.frame.rax == memory[0], "but with AC it may");
	trap_run((u64)stac_load_clac_load, page, ARITHMETIC, &trap);
	check(trap.frame.vector == PF && trap.frame.rip == (u64)stac_load_clac_load_at &&
		      !(trap.frame.rflags & X86_EFLAGS_AC),
	      "between stac and clac it may (vector %lu at %lx)", trap.frame.vector,
	      trap.frame.rip);
	check_equal(trap.frame.rdx, ARITHMETIC | X86_EFLAGS_FIXED, "no other flag has changed");
	trap_run((u64)stac_call, page, 0, &trap);
	check(trap.frame.vector == PF && trap.frame.rip == (u64)stac_call_at,
	      "also what is called in between (vector %lu at %lx)", trap.frame.vector,
	      trap.frame.rip);
	check_equal(shown(show_after_stac, false, 0), X86_EFLAGS_AC | X86_EFLAGS_FIXED, "stac");
	check_equal(shown(show_after_stac, false, X86_EFLAGS_AC), X86_EFLAGS_AC | X86_EFLAGS_FIXED,
		    "stac changes nothing");
	check_equal(shown(show_after_clac, false, X86_EFLAGS_AC), X86_EFLAGS_FIXED, "clac");
	check_equal(shown(show_after_clac, false, 0), X86_EFLAGS_FIXED, "clac changes nothing");
}

static void check_smap_off(void)
{
	struct trap trap;

	trap_run((u64)stac_load_clac_load, user_address(memory), 0, &trap);
	check(trap.frame.vector == VECTOR_END && trap.frame.rcx == memory[0],
	      "without SMAP all is there all the time (vector %lu)", trap.frame.vector);
	check_equal(shown(show_after_stac, false, 0), X86_EFLAGS_AC | X86_EFLAGS_FIXED,
		    "without SMAP: stac");
	check_equal(shown(show_after_clac, false, X86_EFLAGS_AC), X86_EFLAGS_FIXED,
		    "without SMAP: clac");
}

static void check_smap(void)
{
	struct trap trap;

	if (!cpu_has_smap())
		return;
	for (unsigned i = 0; i < TIMES; i++) {
		write_cr4(read_cr4() | X86_CR4_SMAP);
		check_smap_on();
		write_cr4(read_cr4() & ~X86_CR4_SMAP);
		check_smap_off();
	}
	trap_run_user(user_address(show_after_stac), 0, 0, &trap);
	check_equal(trap.frame.vector, UD, "stac is not for users");
	trap_run_user(user_address(show_after_clac), 0, 0, &trap);
	check_equal(trap.frame.vector, UD, "nor is clac");
}

/* ------------------------------------------------------------------ time */

SNIPPET(time, "mov $-1, %rax; mov $-1, %rdx", "rdtsc");
SNIPPET(time_and_place, "mov $-1, %rcx", "rdtscp");

static u64 told(const struct trap *trap)
{
	return trap->frame.rdx << 32 | trap->frame.rax;
}

static bool has_rdtscp(void)
{
	return cpuid(0x80000001, 0).edx >> 27 & 1;
}

static void check_time(void)
{
	struct trap trap;

	for (unsigned i = 0; i < TIMES; i++) {
		u64 before = rdtsc();

		trap_run_user(user_address(time), 0, ARITHMETIC, &trap);
		check(trap.frame.vector == VECTOR_END && told(&trap) > before &&
			      told(&trap) < rdtsc() && !(trap.frame.rax >> 32) &&
			      trap.frame.rflags == (ARITHMETIC | X86_EFLAGS_FIXED),
		      "a user knows the time (%lx)", told(&trap));
		write_cr4(read_cr4() | X86_CR4_TSD);
		trap_run_user(user_address(time), 0, 0, &trap);
		check(trap.frame.vector == GP && trap.frame.rip == user_address(time_at),
		      "but not with CR4.TSD (vector %lu)", trap.frame.vector);
		trap_run((u64)time, 0, 0, &trap);
		check_equal(trap.frame.vector, VECTOR_END, "the supervisor does");
		write_cr4(read_cr4() & ~X86_CR4_TSD);
	}
	if (has_rdtscp()) {
		wrmsr(MSR_TSC_AUX, 0x87654321);
		trap_run((u64)time_and_place, 0, 0, &trap);
		check(trap.frame.rcx == 0x87654321 && told(&trap) < rdtsc(),
		      "rdtscp says what IA32_TSC_AUX has (%lx)", trap.frame.rcx);
	}
}

/* ------------------------------------------------------------------ registers */

SNIPPET(read_cr2_, "mov %cr2, %r9", "mov %r9, %rax");
SNIPPET(read_cr3_, "", "mov %cr3, %rax");
SNIPPET(read_cr4_, "", "mov %cr4, %rax");
SNIPPET(read_cs, "mov $-1, %rax", "mov %cs, %eax");
SNIPPET(read_ss_16, "mov $-1, %rax", "mov %ss, %ax");
SNIPPET(read_ss_64, "mov $-1, %r10", "mov %ss, %r10; mov %r10, %rax");
SNIPPET(swap, "", "swapgs");
SNIPPET(swap_four, "swapgs; rdgsbase %rax; swapgs; rdgsbase %rdx; swapgs", "rdgsbase %rcx");
SNIPPET(write_gs_base, "", "wrgsbase %rdi");

static void check_registers(void)
{
	struct trap trap;

	trap_run((u64)load, NOTHING_THERE, 0, &trap);
	check_equal(trap.cr2, NOTHING_THERE, "a page fault leaves its address");
	trap_run((u64)read_cr2_, 0, 0, &trap);
	check_equal(trap.frame.rax, NOTHING_THERE, "in CR2, for long");
	trap_run((u64)read_cr3_, 0, 0, &trap);
	check_equal(trap.frame.rax, read_cr3(), "CR3");
	trap_run((u64)read_cr4_, 0, 0, &trap);
	check_equal(trap.frame.rax, read_cr4(), "CR4");
	trap_run((u64)read_cs, 0, 0, &trap);
	check_equal(trap.frame.rax, SEGMENT_CODE64, "CS, and zeroes");
	trap_run_user(user_address(read_cs), 0, 0, &trap);
	check_equal(trap.frame.rax, SEGMENT_USER_CODE64, "a user's CS");
	trap_run_user(user_address(read_ss_16), 0, 0, &trap);
	check_equal(trap.frame.rax, (~0ull << 16) | SEGMENT_USER_DATA, "16 bits of SS");
	trap_run_user(user_address(read_ss_64), 0, 0, &trap);
	check_equal(trap.frame.rax, SEGMENT_USER_DATA, "64 bits of SS");
}

static void check_gs(void)
{
	struct trap trap;

	if (!cpu_has_fsgsbase())
		return;
	wrmsr(MSR_GS_BASE, 0x1000);
	wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000002000);
	trap_run((u64)swap_four, 0, 0, &trap);
	check_equal(trap.frame.vector, UD, "rdgsbase is not there yet");
	check_equal(rdmsr(MSR_GS_BASE), 0xffff800000002000, "swapgs before it was");
	trap_run((u64)swap, 0, 0, &trap);
	write_cr4(read_cr4() | X86_CR4_FSGSBASE);
	trap_run((u64)swap_four, 0, 0, &trap);
	check(trap.frame.rax == 0xffff800000002000 && trap.frame.rdx == 0x1000 &&
		      trap.frame.rcx == 0xffff800000002000,
	      "swapgs, there and back (%lx, %lx, %lx)", trap.frame.rax, trap.frame.rdx,
	      trap.frame.rcx);
	for (unsigned i = 0; i < TIMES; i++) {
		u64 base = 1ull << (46 + i);

		trap_run((u64)write_gs_base, base, ARITHMETIC, &trap);
		if (i < 1)
			check_equal(rdmsr(MSR_GS_BASE), base, "a base of 47 bits");
		else if (!cpu_deviates("a base must be canonical"))
			check(trap.frame.vector == GP && rdmsr(MSR_GS_BASE) == 1ull << 46 &&
				      trap.frame.rflags ==
					      (ARITHMETIC | X86_EFLAGS_FIXED | X86_EFLAGS_RF),
			      "no base of %u bits (vector %lu)", 47 + i, trap.frame.vector);
		trap_run((u64)write_gs_base, -base, 0, &trap);
		if (i < 2)
			check_equal(rdmsr(MSR_GS_BASE), -base, "of the upper half");
		wrmsr(MSR_GS_BASE, 1ull << 46);
	}
	write_cr4(read_cr4() & ~X86_CR4_FSGSBASE);
}

/* ------------------------------------------------------------------ who may */

SNIPPET(user_cli, "", "cli");
SNIPPET(user_sti, "", "sti");

/* Frames for IRETQ, to a level that is neither the supervisor's nor a user's. */
#define MIDDLE_CODE (SEGMENT_SPARE | 1)
#define MIDDLE_DATA ((SEGMENT_SPARE + 8) | 1)
#define CODE_64	    0x00209a0000000000ull /* of level 0 */
#define DATA	    0x00cf92000000ffffull
#define LEVEL_1	    (1ull << 45)

SNIPPET(return_to, "mov %rdi, %rsp", "iretq");

static void run_in_the_middle(const u8 *code, u64 flags, struct trap *trap)
{
	static struct {
		u8 below[512];
		u64 rip, cs, rflags, rsp, ss;
	} stack __attribute__((aligned(16)));

	stack.rip = (u64)code;
	stack.cs = MIDDLE_CODE;
	stack.rflags = flags | X86_EFLAGS_FIXED;
	stack.rsp = (u64)&stack;
	stack.ss = MIDDLE_DATA;
	trap_run((u64)return_to, (u64)&stack.rip, 0, trap);
}

static void check_rights(void)
{
	static const struct {
		const char *name;
		const u8 *code, *at;
		u8 vector;
		bool iopl; /* I/O privilege is enough */
	} rows[] = {
		{"cli", user_cli, user_cli_at, GP, true},
		{"sti", user_sti, user_sti_at, GP, true},
		{"swapgs", swap, swap_at, GP, false},
		{"mov from cr3", read_cr3_, read_cr3__at, GP, false},
		{"mov from cr4", read_cr4_, read_cr4__at, GP, false},
	};
	struct trap trap;

	*trap_descriptor(SEGMENT_SPARE) = CODE_64 | LEVEL_1;
	*trap_descriptor(SEGMENT_SPARE + 8) = DATA | LEVEL_1;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		trap_run((u64)rows[i].code, 0, 0, &trap);
		check_equal(trap.frame.vector, VECTOR_END, "%s: the supervisor may", rows[i].name);
		trap_run_user(user_address(rows[i].code), 0, 0, &trap);
		check(trap.frame.vector == rows[i].vector &&
			      trap.frame.rip == user_address(rows[i].at),
		      "%s: a user may not (vector %lu)", rows[i].name, trap.frame.vector);
		trap_run_user(user_address(rows[i].code), 0, X86_EFLAGS_IOPL, &trap);
		check_equal(trap.frame.vector, rows[i].iopl ? VECTOR_END : rows[i].vector,
			    "%s: a user with IOPL 3", rows[i].name);
		run_in_the_middle(rows[i].code, 0, &trap);
		check(trap.frame.vector == rows[i].vector && trap.frame.rip == (u64)rows[i].at,
		      "%s: level 1 may not (vector %lu at %lx)", rows[i].name, trap.frame.vector,
		      trap.frame.rip);
		run_in_the_middle(rows[i].code, 1ull << X86_EFLAGS_IOPL_BIT, &trap);
		check_equal(trap.frame.vector, rows[i].iopl ? VECTOR_END : rows[i].vector,
			    "%s: level 1 with IOPL 1", rows[i].name);
	}
	run_in_the_middle(show_after_stac, 0, &trap);
	if (cpu_has_smap())
		check_equal(trap.frame.vector, UD, "stac: level 1 may not");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	check_pushf();
	check_flag("cli", show_after_cli, X86_EFLAGS_IF, false);
	check_flag("sti", show_after_sti, X86_EFLAGS_IF, true);
	check_flag("cld", show_after_cld, X86_EFLAGS_DF, false);
	check_flag("std", show_after_std, X86_EFLAGS_DF, true);
	check_direction();
	check_smap();
	check_time();
	check_registers();
	check_gs();
	check_rights();
}
