/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * After which instruction exactly a waiting interrupt is taken: STI holds it back
 * for one more instruction, and so does a load of SS; POPF, IRET and MOV to CR8 do
 * not (Intel SDM 3A, "Masking Maskable Hardware Interrupts" and "Masking
 * Exceptions and Interrupts When Switching Stacks").
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define VECTOR_SELF  0x31
#define VECTOR_TIMER 0x42
#define VECTOR_DB    1

SNIPPET(sti_then_nop, "cli; sti", "nop; nop");
SNIPPET(sti_then_hlt, "cli; sti", "hlt; nop");
SNIPPET(sti_then_cli, "sti; cli; nop", "int $0x80");
SNIPPET(sti_then_store, "sti", "movq $1, (%rdi); nop");
SNIPPET(sti_then_jump, "sti; jmp sti_then_jump_at; ud2", "nop");
SNIPPET(sti_then_ret, "lea sti_then_ret_at(%rip), %rax; push %rax; sti; ret; ud2", "nop");
SNIPPET(sti_then_string, "mov %rdi, %rsi; mov $1, %ecx; sti", "rep lodsb; nop");
SNIPPET(sti_then_in, "sti", "in $0x61, %al; nop");
SNIPPET(sti_twice, "cli; sti", "sti; nop");
SNIPPET(popf_to_on, "pushfq; orl $0x200, (%rsp); popfq", "nop");
SNIPPET(iret_to_on,
	"mov %rsp, %rax; push $0x10; push %rax; push $0x202; push $8;"
	"lea iret_to_on_at(%rip), %rax; push %rax; iretq; ud2",
	"nop");
SNIPPET(cr8_to_0, "xor %eax, %eax; mov %rax, %cr8", "nop");
SNIPPET(sti_then_load_ss, "mov %ss, %eax; sti; mov %eax, %ss", "nop; nop");

SNIPPET(sysret_to_on, "mov %rdi, %rcx; mov $0x202, %r11d", "sysretq");
SNIPPET(a_user, "", "nop");

static u64 memory[8];

/* Where qemu's emulated CPU leaves for its hypervisor in a shadow, it comes back without one. */
#define TCG_TRIES 4

/* An interrupt waits; the code lets it in; it is taken `offset` bytes behind the place. */
static void expect(const char *name, const u8 *code, const u8 *at, unsigned offset, u64 flags)
{
	unsigned tries = cpu_is_tcg() ? TCG_TRIES : 1;
	struct trap trap;

	do {
		lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
		if (!wait_for(interrupt_waits(VECTOR_SELF)))
			give_up("an interrupt waits");
		trap_run((u64)code, (u64)memory, flags, &trap);
	} while (trap.frame.rip != (u64)at + offset && --tries);
	if (!check(trap.frame.vector == VECTOR_SELF && trap.frame.rip == (u64)at + offset, "%s",
		   name))
		print("  vector %lu at %lx, should be at %lx\n", trap.frame.vector, trap.frame.rip,
		      (u64)at + offset);
	check(trap.frame.rflags & X86_EFLAGS_IF && !(trap.frame.rflags & X86_EFLAGS_RF),
	      "%s: IF, and no RF", name);
}

static void check_sti(void)
{
	struct trap trap;

	expect("sti; nop", sti_then_nop, sti_then_nop_at, 1, 0);
	expect("sti; hlt", sti_then_hlt, sti_then_hlt_at, 1, 0);
	memory[0] = 0;
	expect("sti; mov to memory", sti_then_store, sti_then_store_at, 7, 0);
	check_equal(memory[0], 1, "the store was made");
	expect("sti; jmp", sti_then_jump, sti_then_jump_at, 0, 0);
	expect("sti; ret", sti_then_ret, sti_then_ret_at, 0, 0);
	expect("sti; rep lods, once", sti_then_string, sti_then_string_at, 2, 0);
	expect("sti; in", sti_then_in, sti_then_in_at, 2, 0);
	/* The second changes nothing, so it is only the instruction after the first. */
	expect("sti; sti", sti_twice, sti_twice_at, 1, 0);
	expect("popf", popf_to_on, popf_to_on_at, 0, 0);
	expect("iretq", iret_to_on, iret_to_on_at, 0, 0);

	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
	wait_for(interrupt_waits(VECTOR_SELF));
	trap_run((u64)sti_then_cli, 0, 0, &trap);
	check(trap.frame.vector == VECTOR_END && interrupt_waits(VECTOR_SELF),
	      "sti; cli: it is not taken (vector %lu)", trap.frame.vector);
	/* Two shadows in a row: only the first counts for sure. */
	trap_run((u64)sti_then_load_ss, 0, 0, &trap);
	check(trap.frame.vector == VECTOR_SELF && (trap.frame.rip == (u64)sti_then_load_ss_at ||
						   trap.frame.rip == (u64)sti_then_load_ss_at + 1),
	      "sti; mov to ss: it is taken after that, or one later (%lx)", trap.frame.rip);
}

/* Behind SYSRET at once, as a user: nothing of the program has run. */
static void check_sysret(void)
{
	struct trap trap;

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)SEGMENT_USER_CODE32 << 48 | (u64)SEGMENT_CODE64 << 32);
	wrmsr(MSR_SFMASK, ~0u & ~X86_EFLAGS_FIXED);
	for (unsigned i = 0; i < 3; i++) {
		trap_run((u64)sysret_to_on, user_address(a_user), 0, &trap);
		check(trap.frame.vector == VECTOR_END, "sysret, and nothing waits");
		lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
		if (!wait_for(interrupt_waits(VECTOR_SELF)))
			give_up("an interrupt waits");
		trap_run((u64)sysret_to_on, user_address(a_user), 0, &trap);
		check(trap.frame.vector == VECTOR_SELF && trap.frame.rip == user_address(a_user) &&
			      trap.frame.cs == SEGMENT_USER_CODE64,
		      "sysret: it is taken at once (vector %lu, cs %lx, rip %lx)",
		      trap.frame.vector, trap.frame.cs, trap.frame.rip);
	}
}

/* With IF set, but held back by the priority in CR8. */
static void check_priority(void)
{
	write_cr8(15);
	lapic_write(LAPIC_ICR, ICR_SELF | VECTOR_SELF);
	check(wait_for(interrupt_waits(VECTOR_SELF)), "CR8 of 15 holds everything back");
	expect("mov to cr8", cr8_to_0, cr8_to_0_at, 0, X86_EFLAGS_IF);
	write_cr8(0);
}

SNIPPET(step_plain, "mov %ss, %eax; pushfq; orl $0x100, (%rsp); popfq", "nop; nop; nop");
SNIPPET(step_load_ss, "mov %ss, %eax; pushfq; orl $0x100, (%rsp); popfq",
	"mov %eax, %ss; nop; nop");
SNIPPET(step_pop_flags, "mov $0x102, %eax; push %rax; push %rax; popfq", "popfq; nop; nop");
SNIPPET(step_off, "pushq $2; pushfq; orl $0x100, (%rsp); popfq", "popfq; nop; nop");
SNIPPET(step_string, "mov %rdi, %rsi; mov $3, %ecx; pushfq; orl $0x100, (%rsp); popfq",
	"rep lodsb; nop");
SNIPPET(step_fault, "pushfq; orl $0x100, (%rsp); popfq", "ud2");

/* Single steps know the shadow of SS as well. */
static void check_steps(void)
{
	struct trap trap;

	trap_run((u64)step_plain, 0, 0, &trap);
	check(trap.frame.vector == VECTOR_DB && trap.frame.rip == (u64)step_plain_at + 1,
	      "a step: after one instruction (%lx)", trap.frame.rip);
	/* It knows no such shadow for steps. */
	if (!cpu_deviates("a step over a load of SS: after the instruction behind it")) {
		trap_run((u64)step_load_ss, 0, 0, &trap);
		check(trap.frame.vector == VECTOR_DB && trap.frame.rip == (u64)step_load_ss_at + 3,
		      "a step over a load of SS: after the instruction behind it (%lx)",
		      trap.frame.rip);
	}
	trap_run((u64)step_pop_flags, 0, 0, &trap);
	check(trap.frame.vector == VECTOR_DB && trap.frame.rip == (u64)step_pop_flags_at + 1,
	      "a step over popf that leaves TF set (%lx)", trap.frame.rip);
	trap_run((u64)step_off, 0, 0, &trap);
	check(trap.frame.vector == VECTOR_DB && trap.frame.rip == (u64)step_off_at + 1 &&
		      !(trap.frame.rflags & X86_EFLAGS_TF),
	      "a step over popf that clears TF is still taken (%lx)", trap.frame.rip);
	trap_run((u64)step_string, (u64)memory, 0, &trap);
	check(trap.frame.vector == VECTOR_DB && trap.frame.rip == (u64)step_string_at &&
		      trap.frame.rcx == 2,
	      "a step of a string instruction is one repetition (rcx %lu)", trap.frame.rcx);
	trap_run((u64)step_fault, 0, 0, &trap);
	check(trap.frame.vector == 6 && trap.frame.rip == (u64)step_fault_at,
	      "a fault comes before the step");
}

/*
 * Interrupts that come whenever they like: never between a load of SS, or an STI that had an
 * effect, and the instruction behind it. %r8 counts, so that it comes to an end if none come.
 */
extern const u8 loads_of_ss[], behind_mov_ss[], behind_pop_ss[], behind_sti[];
asm(".pushsection .text\n"
    "loads_of_ss:\n"
    "	mov	%ss, %eax\n"
    "	mov	$100000000, %r8d\n"
    "1:	mov	%eax, %ss\n"
    "behind_mov_ss:\n"
    "	nop\n"
    "	mov	%eax, %ss\n"
    "	mov	%eax, %ecx\n"
    "	cli\n"
    "	sti\n"
    "behind_sti:\n"
    "	nop\n"
    "	dec	%r8\n"
    "	jnz	1b\n"
    "	int	$0x80\n"
    ".popsection");

static void check_interrupted(void)
{
	unsigned wrong = 0, came = 0;

	lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
	for (unsigned n = 0; n < 200; n++) {
		struct trap trap;

		/* Short, and of different lengths. */
		lapic_write(LAPIC_TIMER_INITIAL, 2000 + n * 997 % 10000);
		trap_run((u64)loads_of_ss, 0, X86_EFLAGS_IF, &trap);
		came += trap.frame.vector == VECTOR_TIMER;
		wrong += trap.frame.rip == (u64)behind_mov_ss || trap.frame.rip == (u64)behind_sti;
	}
	lapic_write(LAPIC_LVT_TIMER, LVT_MASKED);
	check_equal(came, 200, "200 interrupts out of the blue");
	/* Entering a guest, it forgets the shadow that the guest had been left in. */
	if (!cpu_deviates("none of them came in a shadow"))
		check_equal(wrong, 0, "none of them came in a shadow");
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	check_sti();
	check_sysret();
	check_priority();
	check_steps();
	check_interrupted();
}
