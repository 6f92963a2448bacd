/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Faults on the way to the handler of a fault: which become a double fault, which
 * are just the next fault, and which are the end (Intel SDM 3A, "Interrupt 8").
 *
 *   triple=1	the handler of the double fault is missing as well
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define UNMAPPED      (1ull << 40)
#define FRAME	      48 /* bytes: five registers and an error code */
#define NON_CANONICAL 0x0000800000000000ull
#define IST_DOUBLE    1
#define IST_OTHER     2

enum { DE = 0, UD = 6, DF = 8, NP = 11, SS = 12, GP = 13, PF = 14 };

#define ERROR_EXT	  1u
#define ERROR_IDT(vector) ((vector)*8u + 2)

SNIPPET(undefined, "mov %rdi, %rsp", "ud2");
SNIPPET(divide, "xor %ecx, %ecx", "div %ecx");
SNIPPET(protected, "bts $63, %rdi", "mov (%rdi), %eax");
SNIPPET(unmapped, "mov %rdi, %rsp", "mov (%rdi), %eax");
SNIPPET(end_on_stack, "mov %rdi, %rsp", "int $0x80");

static void expect(const struct trap *trap, u8 vector, u64 error, const u8 *at, const char *what)
{
	if (!check(trap->frame.vector == vector && trap->frame.error == error &&
			   trap->frame.rip == (u64)at,
		   "%s", what))
		print("  vector %lu, error %lx, rip %lx; should be %u, %lx, %lx\n",
		      trap->frame.vector, trap->frame.error, trap->frame.rip, vector, error,
		      (u64)at);
}

static void set_present(u8 vector, bool present)
{
	struct gate *gate = interrupt_gate(vector);

	gate->type = present ? gate->type | GATE_PRESENT : gate->type & ~GATE_PRESENT;
}

/* The stack is missing: the fault cannot be pushed, and neither can the fault about that. */
static void check_stack(void)
{
	struct trap trap;

	trap_run((u64)undefined, UNMAPPED, 0, &trap);
	expect(&trap, DF, 0, undefined_at, "no stack, #UD: a double fault");
	check_equal(trap.stack, trap_ist_stack(IST_DOUBLE), "on the stack that IST says");
	check_equal(trap.frame.rsp, UNMAPPED, "with the stack pointer that was no good");
	check(trap.cr2 < UNMAPPED && trap.cr2 >= UNMAPPED - FRAME,
	      "CR2 says where the frame should have gone (%lx)", trap.cr2);
	trap_run((u64)unmapped, UNMAPPED, 0, &trap);
	expect(&trap, DF, 0, unmapped_at, "no stack, #PF: a double fault");
	trap_run((u64)end_on_stack, UNMAPPED, 0, &trap);
	expect(&trap, DF, 0, end_on_stack_at, "no stack, INT n: a double fault");
	trap_run((u64)undefined, NON_CANONICAL, 0, &trap);
	expect(&trap, DF, 0, undefined_at, "a stack that cannot be: a double fault");

	/* With a stack for page faults, it is only one fault after the other. */
	interrupt_gate(PF)->stack = IST_OTHER;
	trap_run((u64)undefined, UNMAPPED, 0, &trap);
	expect(&trap, PF, 2, undefined_at, "no stack, #UD, but one for #PF: a page fault");
	check_equal(trap.stack, trap_ist_stack(IST_OTHER), "on the stack that its IST says");
	trap_run((u64)unmapped, UNMAPPED, 0, &trap);
	expect(&trap, PF, 0, unmapped_at, "no stack, #PF, but one for #PF: just that");
	interrupt_gate(PF)->stack = 0;
}

/* The gate is missing: benign and then contributory, contributory and then contributory. */
static void check_gates(void)
{
	struct trap trap;

	set_present(UD, false);
	trap_run((u64)undefined, trap_kernel_stack(), 0, &trap);
	/* The fault on the way is not the program's doing; and see exceptions.c on the shift by 4.
	 */
	if (!cpu_deviates("#UD without a gate: segment not present, with EXT"))
		expect(&trap, NP, ERROR_IDT(UD) | ERROR_EXT, undefined_at,
		       "#UD without a gate: segment not present, with EXT");
	check_equal(trap.frame.vector, NP, "#UD without a gate: not a double fault");
	set_present(UD, true);

	set_present(DE, false);
	trap_run((u64)divide, 0, 0, &trap);
	expect(&trap, DF, 0, divide_at, "#DE without a gate: a double fault");
	set_present(DE, true);

	set_present(GP, false);
	trap_run((u64) protected, 0, 0, &trap);
	expect(&trap, DF, 0, protected_at, "#GP without a gate: a double fault");
	set_present(GP, true);

	set_present(PF, false);
	trap_run((u64)unmapped, UNMAPPED, 0, &trap);
	expect(&trap, DF, 0, unmapped_at, "#PF without a gate: a double fault");
	set_present(PF, true);
}

void guest_main(const struct boot *boot)
{
	char value[4];

	trap_init();
	interrupt_gate(DF)->stack = IST_DOUBLE;
	check_stack();
	check_gates();
	if (boot_option(boot, "triple", value, sizeof(value))) {
		struct trap trap;

		print("doublefault: and a third one\n");
		set_present(DF, false);
		trap_run((u64)undefined, UNMAPPED, 0, &trap);
		check(false, "the machine goes on");
	}
}
