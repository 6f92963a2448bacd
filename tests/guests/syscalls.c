/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To the kernel and back, the fast ways and the slow one: SYSCALL, SYSRET, IRETQ,
 * with the registers, segments and flags that each takes from where; and the bases
 * of FS and GS, which a kernel changes on the way.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define NON_CANONICAL 0x0000800000000000ull
#define VENDOR_INTEL  0x756e6547 /* "Genu" */

enum { UD = 6, NM = 7, GP = 13 };

/* Canonical addresses with nothing there, one of either half. */
#define BASE_1 0x0000123456789abcull
#define BASE_2 0xffff876543210123ull

#define ARITHMETIC                                                                                 \
	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |           \
	 X86_EFLAGS_OF)

/* What Linux writes to IA32_FMASK. */
#define LINUX_MASK                                                                                 \
	(ARITHMETIC | X86_EFLAGS_TF | X86_EFLAGS_IF | X86_EFLAGS_DF | X86_EFLAGS_IOPL |            \
	 X86_EFLAGS_NT | X86_EFLAGS_RF | X86_EFLAGS_AC | X86_EFLAGS_ID)

/* What LSTAR points to: INT n on the user's own stack, or a way back. */
SNIPPET(stop, "", "int $0x80");
SNIPPET(go_back, "", "sysretq");
SNIPPET(go_astray, "mov %rdi, %rcx", "sysretq");
SNIPPET(go_astray_with_flags, "mov %rdi, %rcx; cmp $-1, %edi", "sysretq");
/* A kernel has every right to: bits that are reserved, flags that nobody masked on the way in. */
SNIPPET(go_back_with, "or %rdi, %r11; std; stc", "sysretq");
SNIPPET(go_back_down, "std", "sysretq");
SNIPPET(enter, "", "syscall");

static void set_entry(const u8 *entry)
{
	wrmsr(MSR_LSTAR, (u64)entry);
}

static void check_syscall(void)
{
	static const struct {
		u64 flags, mask;
	} cases[] = {
		{0, 0},
		{ARITHMETIC, 0},
		{ARITHMETIC | X86_EFLAGS_DF, X86_EFLAGS_DF | X86_EFLAGS_IF | X86_EFLAGS_TF},
		{ARITHMETIC | X86_EFLAGS_DF, ARITHMETIC},
		{X86_EFLAGS_AC | X86_EFLAGS_ID | X86_EFLAGS_NT, X86_EFLAGS_NT},
		{X86_EFLAGS_IF, X86_EFLAGS_IF},
		{X86_EFLAGS_IF, ~0u & ~X86_EFLAGS_FIXED},
		{0, LINUX_MASK},
		{ARITHMETIC | X86_EFLAGS_IF, LINUX_MASK},
		{ARITHMETIC | X86_EFLAGS_DF | X86_EFLAGS_NT | X86_EFLAGS_AC | X86_EFLAGS_ID |
			 X86_EFLAGS_IOPL,
		 LINUX_MASK},
		{X86_EFLAGS_ID | X86_EFLAGS_NT | X86_EFLAGS_CF,
		 LINUX_MASK & ~(X86_EFLAGS_ID | X86_EFLAGS_NT)},
		{X86_EFLAGS_DF | X86_EFLAGS_OF, LINUX_MASK & ~X86_EFLAGS_DF},
	};
	struct trap trap;

	set_entry(stop);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		u64 flags = cases[i].flags | X86_EFLAGS_FIXED;

		wrmsr(MSR_SFMASK, cases[i].mask);
		trap_run_user(user_address(enter), 0, flags, &trap);
		check(trap.frame.vector == VECTOR_END && trap.frame.rip == (u64)stop_next,
		      "syscall, flags %lx, mask %lx: goes where LSTAR says (%lx)", flags,
		      cases[i].mask, trap.frame.rip);
		check(trap.frame.cs == SEGMENT_CODE64 && trap.frame.ss == SEGMENT_DATA,
		      "as the supervisor (cs %lx, ss %lx)", trap.frame.cs, trap.frame.ss);
		check_equal(trap.frame.rcx, user_address(enter_next), "RCX says where it was");
		check_equal(trap.frame.r11, flags, "R11 says with which flags");
		/* It forgets DF and the arithmetic flags. */
		if (!(flags & (ARITHMETIC | X86_EFLAGS_DF)) ||
		    !cpu_deviates("flags that are not in the mask stay"))
			check_equal(trap.frame.rflags, flags & ~cases[i].mask,
				    "those in the mask are cleared");
		check_equal(trap.frame.rsp, trap_user_stack(), "the stack is still the user's");
	}
	wrmsr(MSR_SFMASK, 0);
}

SNIPPET(stop_with_string, "lodsb", "int $0x80");
SNIPPET(enter_with_string, "mov %rdi, %rsi; syscall", "lodsb");
SNIPPET(enter_and_compute, "xor %eax, %eax; syscall", "fnop");
SNIPPET(go_back_without_fpu, "mov %cr0, %rax; or $8, %al; mov %rax, %cr0", "sysretq");

/* String instructions go the way that DF says, on either side. */
static void check_direction(void)
{
	static const u8 bytes[] = {1, 2, 3};
	u64 middle = user_address(&bytes[1]);
	struct trap trap;

	wrmsr(MSR_SFMASK, LINUX_MASK);
	set_entry(stop_with_string);
	for (unsigned i = 0; i < 2; i++) {
		trap_run_user(user_address(enter_with_string), middle, i ? X86_EFLAGS_DF : 0,
			      &trap);
		check_equal(trap.frame.rsi, middle + 1, "DF in the mask: upwards in the kernel");
	}
	set_entry(go_back_down);
	for (unsigned i = 0; i < 2; i++) {
		u64 flags = i ? X86_EFLAGS_DF : 0;

		trap_run_user(user_address(enter_with_string), middle, flags, &trap);
		check_equal(trap.frame.rsi, i ? middle - 1 : middle + 1,
			    "back from where it was set: as the user had it");
	}
	wrmsr(MSR_SFMASK, 0);
}

/* The kernel takes the x87 away: the user finds out, whatever was translated before. */
static void check_fpu_taken(void)
{
	const u64 cr0 = read_cr0();
	struct trap trap;

	wrmsr(MSR_SFMASK, LINUX_MASK);
	for (unsigned i = 0; i < 3; i++) {
		set_entry(go_back);
		trap_run_user(user_address(enter_and_compute), 0, 0, &trap);
		check_equal(trap.frame.vector, VECTOR_END, "a system call, then x87");
		set_entry(go_back_without_fpu);
		trap_run_user(user_address(enter_and_compute), 0, 0, &trap);
		check(trap.frame.vector == NM &&
			      trap.frame.rip == user_address(enter_and_compute_at),
		      "one that sets CR0.TS (vector %lu at %lx)", trap.frame.vector,
		      trap.frame.rip);
		write_cr0(cr0);
	}
	wrmsr(MSR_SFMASK, 0);
}

/* The same code again and again, while what it depends on changes. */
static void check_changes(void)
{
	const u64 star = rdmsr(MSR_STAR), efer = rdmsr(MSR_EFER);
	struct trap trap;

	wrmsr(MSR_SFMASK, LINUX_MASK);
	for (unsigned i = 0; i < 3; i++) {
		set_entry(stop);
		trap_run_user(user_address(enter), 0, 0, &trap);
		check(trap.frame.rip == (u64)stop_next && trap.frame.cs == SEGMENT_CODE64,
		      "syscall (%lx)", trap.frame.rip);
		set_entry(go_back);
		trap_run_user(user_address(enter), 0, 0, &trap);
		check_equal(trap.frame.rip, user_address(enter_next) + 2, "with another LSTAR");
		wrmsr(MSR_EFER, efer & ~EFER_SCE);
		trap_run_user(user_address(enter), 0, 0, &trap);
		check_equal(trap.frame.vector, UD, "without EFER.SCE");
		trap_run((u64)go_back, 0, 0, &trap);
		check_equal(trap.frame.vector, UD, "nor is there SYSRET");
		wrmsr(MSR_EFER, efer);
		set_entry(stop);
		/* Nobody looks at the descriptors, so they may be any. */
		wrmsr(MSR_STAR, star + (8ull << 32));
		trap_run_user(user_address(enter), 0, 0, &trap);
		check(trap.frame.cs == SEGMENT_CODE64 + 8 && trap.frame.ss == SEGMENT_DATA + 8,
		      "with another STAR (cs %lx, ss %lx)", trap.frame.cs, trap.frame.ss);
		wrmsr(MSR_STAR, star);
		wrmsr(MSR_SFMASK, X86_EFLAGS_AC | X86_EFLAGS_IF);
		trap_run_user(user_address(enter), 0, X86_EFLAGS_ID | X86_EFLAGS_NT, &trap);
		check_equal(trap.frame.rflags, X86_EFLAGS_ID | X86_EFLAGS_NT | X86_EFLAGS_FIXED,
			    "with another mask");
		wrmsr(MSR_SFMASK, LINUX_MASK);
	}
	wrmsr(MSR_SFMASK, 0);
}

/* What R11 may have, with what is set in the kernel meanwhile. */
static void check_odd_flags(void)
{
	static const u64 rows[] = {
		X86_EFLAGS_IF,
		X86_EFLAGS_DF,
		X86_EFLAGS_OF | X86_EFLAGS_CF,
		X86_EFLAGS_NT,
		X86_EFLAGS_AC,
		X86_EFLAGS_RF | X86_EFLAGS_VM,
		~0ull << 22,
		1ull << 3 | 1ull << 5 | 1ull << 15,
	};
	const u64 never =
		X86_EFLAGS_RF | X86_EFLAGS_VM | ~0ull << 22 | 1ull << 3 | 1ull << 5 | 1ull << 15;
	struct trap trap;

	set_entry(go_back_with);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		/* Which keeps them. */
		if (rows[i] == (X86_EFLAGS_RF | X86_EFLAGS_VM) &&
		    cpu_deviates("sysret takes away RF and VM"))
			continue;
		trap_run_user(user_address(enter), rows[i], 0, &trap);
		check(trap.frame.vector == VECTOR_END &&
			      trap.frame.rflags == ((rows[i] & ~never) | X86_EFLAGS_FIXED),
		      "sysret, R11 %lx: flags %lx", rows[i], trap.frame.rflags);
	}
	trap_run_user(user_address(enter), X86_EFLAGS_TF, 0, &trap);
	check(trap.frame.vector == 1 && trap.frame.rip == user_address(enter_next),
	      "sysret with TF: a step at once (vector %lu at %lx)", trap.frame.vector,
	      trap.frame.rip);
}

/* Intel SDM 2, "SYSRET": flags come from R11, less those that are reserved, RF and VM. */
static void check_sysret(u64 mask)
{
	static const u64 patterns[] = {0, ARITHMETIC | X86_EFLAGS_DF, X86_EFLAGS_IF,
				       ARITHMETIC | X86_EFLAGS_IF,
				       X86_EFLAGS_AC | X86_EFLAGS_ID | X86_EFLAGS_IOPL};
	struct trap trap;

	wrmsr(MSR_SFMASK, mask);
	set_entry(go_back);
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		u64 flags = patterns[i] | X86_EFLAGS_FIXED;

		trap_run_user(user_address(enter), 0, flags, &trap);
		check(trap.frame.vector == VECTOR_END &&
			      trap.frame.rip == user_address(enter_next) + 2 &&
			      trap.frame.cs == SEGMENT_USER_CODE64 &&
			      trap.frame.ss == SEGMENT_USER_DATA,
		      "sysret, flags %lx: back to the user (rip %lx, cs %lx, ss %lx)", flags,
		      trap.frame.rip, trap.frame.cs, trap.frame.ss);
		check_equal(trap.frame.rflags, flags, "with the user's flags");
		check_equal(trap.frame.rsp, trap_user_stack(), "and stack");
	}

	/* The one thing the vendors do not agree on: who is at fault. */
	set_entry(go_astray);
	trap_run_user(user_address(enter), NON_CANONICAL, 0, &trap);
	check_equal(trap.frame.vector, GP, "sysret to what is not canonical");
	if (cpuid(0, 0).ebx == VENDOR_INTEL)
		check(trap.frame.cs == SEGMENT_CODE64 && trap.frame.rip == (u64)go_astray_at,
		      "is the supervisor's fault (cs %lx, rip %lx)", trap.frame.cs, trap.frame.rip);
	else
		check(trap.frame.cs == SEGMENT_USER_CODE64 && trap.frame.rip == NON_CANONICAL,
		      "is the user's fault (cs %lx, rip %lx)", trap.frame.cs, trap.frame.rip);
	check_odd_flags();
	wrmsr(MSR_SFMASK, 0);
}

/* If it is the supervisor's fault, the flags are still his. */
static void check_flags_of_fault(void)
{
	struct trap trap;

	if (cpuid(0, 0).ebx != VENDOR_INTEL)
		return;
	wrmsr(MSR_SFMASK, LINUX_MASK);
	set_entry(go_astray_with_flags);
	trap_run_user(user_address(enter), NON_CANONICAL, ARITHMETIC | X86_EFLAGS_IF, &trap);
	check(trap.frame.vector == GP && trap.frame.rip == (u64)go_astray_with_flags_at &&
		      trap.frame.rflags ==
			      (X86_EFLAGS_CF | X86_EFLAGS_AF | X86_EFLAGS_FIXED | X86_EFLAGS_RF),
	      "sysret that faults leaves the flags (vector %lu, flags %lx)", trap.frame.vector,
	      trap.frame.rflags);
	wrmsr(MSR_SFMASK, 0);
}

/* Often, in a loop, as programs do. */
extern const u8 many_calls[];
asm(".pushsection .text\n"
    "many_calls:\n"
    "	mov	$20000, %ebx\n"
    "	xor	%eax, %eax\n"
    "1:	syscall\n"
    "	inc	%eax\n"
    "	dec	%ebx\n"
    "	jnz	1b\n"
    "	int	$0x80\n"
    ".popsection");

static void check_many(void)
{
	struct trap trap;

	set_entry(go_back);
	trap_run_user(user_address(many_calls), 0, 0, &trap);
	check(trap.frame.vector == VECTOR_END && trap.frame.rax == 20000,
	      "twenty thousand calls (%lu)", trap.frame.rax);
}

/* Frames for IRETQ: what it takes, and what it refuses (Intel SDM 2, "IRET"). */
struct return_frame {
	u64 rip, cs, rflags, rsp, ss;
};

SNIPPET(return_to, "mov %rdi, %rsp", "iretq");
SNIPPET(landing, "", "nop");

static void go(struct return_frame frame, struct trap *trap)
{
	static struct {
		u8 below[512];
		struct return_frame frame;
	} stack __attribute__((aligned(16)));

	stack.frame = frame;
	trap_run((u64)return_to, (u64)&stack.frame, 0, trap);
}

static void check_iret(void)
{
	const u64 cs = SEGMENT_USER_CODE64, ss = SEGMENT_USER_DATA, flags = X86_EFLAGS_FIXED;
	const u64 to = user_address(landing), top = trap_user_stack();
	const struct {
		const char *what;
		struct return_frame frame;
		u64 error; /* and ~0: none */
	} cases[] = {
		{"to a user", {to, cs, flags, top, ss}, ~0ull},
		{"to a user, with all flags",
		 {to, cs, flags | ARITHMETIC | X86_EFLAGS_IF | X86_EFLAGS_AC | X86_EFLAGS_ID, top,
		  ss},
		 ~0ull},
		{"to the supervisor",
		 {(u64)landing, SEGMENT_CODE64, flags, trap_kernel_stack() - 64, SEGMENT_DATA},
		 ~0ull},
		{"to the supervisor, on an odd stack",
		 {(u64)landing, SEGMENT_CODE64, flags, trap_kernel_stack() - 61, SEGMENT_DATA},
		 ~0ull},
		{"to the supervisor, without a stack segment",
		 {(u64)landing, SEGMENT_CODE64, flags, trap_kernel_stack() - 64, 0},
		 ~0ull},
		{"to a user, with the stack segment of the supervisor",
		 {to, cs, flags, top, SEGMENT_DATA},
		 SEGMENT_DATA},
		{"to a user, without a stack segment", {to, cs, flags, top, 0}, 0},
		{"to a user, with code as stack segment",
		 {to, cs, flags, top, SEGMENT_USER_CODE64},
		 SEGMENT_USER_CODE64 & ~3},
		{"to data", {to, SEGMENT_USER_DATA, flags, top, ss}, SEGMENT_USER_DATA & ~3},
		{"beyond the table", {to, 0xfff8 | 3, flags, top, ss}, 0xfff8},
		{"to the supervisor's code as a user",
		 {to, SEGMENT_CODE64 | 3, flags, top, ss},
		 SEGMENT_CODE64},
	};
	struct trap trap;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct return_frame *frame = &cases[i].frame;

		go(*frame, &trap);
		if (cases[i].error != ~0ull) {
			check(trap.frame.vector == GP && trap.frame.error == cases[i].error &&
				      trap.frame.rip == (u64)return_to_at,
			      "iretq %s: vector %lu, error %lx at %lx", cases[i].what,
			      trap.frame.vector, trap.frame.error, trap.frame.rip);
			continue;
		}
		check(trap.frame.vector == VECTOR_END && trap.frame.rip == frame->rip + 3 &&
			      trap.frame.cs == frame->cs && trap.frame.ss == frame->ss &&
			      trap.frame.rsp == frame->rsp && trap.frame.rflags == frame->rflags,
		      "iretq %s: rip %lx, cs %lx, flags %lx, rsp %lx, ss %lx", cases[i].what,
		      trap.frame.rip, trap.frame.cs, trap.frame.rflags, trap.frame.rsp,
		      trap.frame.ss);
	}
	/* qemu's emulated CPU goes there first, and then finds that there is no such place. */
	if (!cpu_deviates("iretq to what is not canonical")) {
		go((struct return_frame){NON_CANONICAL, SEGMENT_CODE64, flags, top, SEGMENT_DATA},
		   &trap);
		check(trap.frame.vector == GP && trap.frame.error == 0 &&
			      trap.frame.rip == (u64)return_to_at,
		      "iretq to what is not canonical (rip %lx)", trap.frame.rip);
	}
}

SNIPPET(iret_with_nt,
	"pushfq; orl $0x4000, (%rsp); popfq; push $0x10; push %rsp; pushfq; push $8;"
	"push $0",
	"iretq");

SNIPPET(swap, "", "swapgs");
SNIPPET(read_fs, "", "mov %fs:(%rdi), %rax");
SNIPPET(read_gs, "", "mov %gs:(%rdi), %rax");
SNIPPET(read_gs_32, "", "mov %gs:(%edi), %rax");
SNIPPET(lea_gs, "", "lea %gs:8(%rdi), %rax");
SNIPPET(rdfsbase, "", "rdfsbase %rax");
SNIPPET(rdgsbase, "", "rdgsbase %rax");
SNIPPET(rdgsbase_32, "mov $-1, %rax", "rdgsbase %eax");
SNIPPET(wrfsbase, "", "wrfsbase %rdi");
SNIPPET(wrgsbase, "", "wrgsbase %rdi");
SNIPPET(wrgsbase_32, "", "wrgsbase %edi");

static u64 memory[4] = {0x1111, 0x2222, 0x3333, 0x4444};

static void check_bases(void)
{
	struct trap trap;

	wrmsr(MSR_GS_BASE, BASE_1);
	wrmsr(MSR_KERNEL_GS_BASE, BASE_2);
	trap_run((u64)swap, 0, 0, &trap);
	check(rdmsr(MSR_GS_BASE) == BASE_2 && rdmsr(MSR_KERNEL_GS_BASE) == BASE_1,
	      "swapgs swaps (%lx, %lx)", rdmsr(MSR_GS_BASE), rdmsr(MSR_KERNEL_GS_BASE));

	wrmsr(MSR_FS_BASE, (u64)memory);
	wrmsr(MSR_GS_BASE, (u64)&memory[2]);
	trap_run((u64)read_fs, 8, 0, &trap);
	check_equal(trap.frame.rax, memory[1], "through FS");
	trap_run((u64)read_gs, 8, 0, &trap);
	check_equal(trap.frame.rax, memory[3], "through GS");
	trap_run((u64)read_gs, -16ull, 0, &trap);
	check_equal(trap.frame.rax, memory[0], "through GS, backwards");
	trap_run((u64)read_gs_32, 0xffffffff00000008, 0, &trap);
	check_equal(trap.frame.rax, memory[3], "through GS, with an address of 32 bits");
	trap_run((u64)lea_gs, 8, 0, &trap);
	check_equal(trap.frame.rax, 16, "lea knows no segments");
	wrmsr(MSR_GS_BASE, user_address(memory));
	trap_run_user(user_address(read_gs), 8, 0, &trap);
	check_equal(trap.frame.rax, memory[1], "a user reads through GS");
	/* Non-canonical only with the base: that address is what counts. */
	wrmsr(MSR_GS_BASE, 0x00007fffffffff00);
	trap_run((u64)read_gs, 0x1000, 0, &trap);
	check(trap.frame.vector == GP && trap.frame.error == 0, "base and address are added up");
	asm volatile("mov %0, %%gs" : : "r"(SEGMENT_DATA));
	check_equal(rdmsr(MSR_GS_BASE), 0, "a selector brings its descriptor's base");
}

static void check_base_instructions(void)
{
	struct trap trap;

	trap_run_user(user_address(rdfsbase), 0, 0, &trap);
	check_equal(trap.frame.vector, UD, "rdfsbase is not there unless enabled");
	if (!cpu_has_fsgsbase())
		return;
	write_cr4(read_cr4() | X86_CR4_FSGSBASE);
	trap_run_user(user_address(wrfsbase), BASE_1, 0, &trap);
	check_equal(rdmsr(MSR_FS_BASE), BASE_1, "a user writes the base of FS");
	trap_run_user(user_address(rdfsbase), 0, 0, &trap);
	check_equal(trap.frame.rax, BASE_1, "and reads it");
	trap_run((u64)wrgsbase, BASE_2, 0, &trap);
	check_equal(rdmsr(MSR_GS_BASE), BASE_2, "the supervisor writes that of GS");
	trap_run_user(user_address(rdgsbase), 0, 0, &trap);
	check_equal(trap.frame.rax, BASE_2, "and a user reads it");
	trap_run_user(user_address(rdgsbase_32), 0, 0, &trap);
	check_equal(trap.frame.rax, (u32)BASE_2, "or half of it");
	trap_run_user(user_address(wrgsbase_32), BASE_2, 0, &trap);
	check_equal(rdmsr(MSR_GS_BASE), (u32)BASE_2, "or writes half and clears half");
	/* It takes any base. */
	if (!cpu_deviates("a base must be canonical")) {
		trap_run_user(user_address(wrfsbase), NON_CANONICAL, 0, &trap);
		check(trap.frame.vector == GP && trap.frame.rip == user_address(wrfsbase_at),
		      "a base must be canonical");
		check_equal(rdmsr(MSR_FS_BASE), BASE_1, "and else does not change");
	}
	wrmsr(MSR_FS_BASE, (u64)memory);
	trap_run((u64)read_fs, 16, 0, &trap);
	check_equal(trap.frame.rax, memory[2], "what the MSR says counts, too");
}

void guest_main(const struct boot *boot)
{
	struct trap trap;

	(void)boot;
	trap_init();
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)SEGMENT_USER_CODE32 << 48 | (u64)SEGMENT_CODE64 << 32);
	check_syscall();
	check_sysret(0);
	check_sysret(LINUX_MASK);
	check_flags_of_fault();
	check_direction();
	check_fpu_taken();
	check_changes();
	check_many();
	wrmsr(MSR_SFMASK, LINUX_MASK);
	check_many();
	wrmsr(MSR_SFMASK, 0);
	check_iret();
	trap_run((u64)iret_with_nt, 0, 0, &trap);
	check(trap.frame.vector == GP && trap.frame.error == 0, "iretq with NT set");
	check_bases();
	check_base_instructions();
}
