/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual-8086 mode: there by IRET, back by interrupt. What its code may do, what
 * it may do only with I/O privilege, and where its segments end.
 *
 * The code is written for 16 bits, and copied to where such addresses reach.
 */
#include "lib32/trap.h"

#define CODE_AT	  0x30000u /* free memory */
#define DATA_AT	  0x40000u
#define STACK_AT  0x50000u
#define STACK_TOP 0x8000u

#define VECTOR_PLAIN 0x40

extern const u8 code_begins[], code_ends[];

/* A piece of code, as in lib32/trap.h, among the others that are copied. */
#define PIECE(name, before, instruction)                                                           \
	extern const u8 name[], name##_at[], name##_next[];                                        \
	asm(".pushsection .v86, \"ax\"\n.code16\n" #name ":\n" before "\n" #name                   \
	    "_at:\n" instruction "\n" #name "_next:\n"                                             \
	    "hlt\n.code32\n.popsection")

asm(".pushsection .v86, \"ax\"\ncode_begins:\n.popsection");
PIECE(nothing, "", "nop");
PIECE(int_plain, "", "int $0x40");
PIECE(breakpoint, "", "int3");
PIECE(disable, "", "cli");
PIECE(push_flags, "", "pushf");
PIECE(pop_flags, "push $0x7202", "popf; pushf; pop %bx");
PIECE(return_from, "push $0x3202; push %cs; push $1f-code_begins; iret; ud2; 1: inc %bx", "nop");
PIECE(return_refused, "push $0x3202; push %cs; push $0", "iret");
PIECE(in_byte, "mov %ax, %dx", "in (%dx), %al");
PIECE(move_data, "movw $0x1234, (0x10); mov %es:(0x10), %bx; mov %cs:(0), %cx; mov %cs, %dx",
      "nop");
PIECE(load_segment, "mov %ax, %ds; mov %ds, %bx", "mov (0), %cx");
PIECE(far_call, "lcall $0x3000, $1f-code_begins; jmp 2f; 1: mov $7, %bx; lret; 2:", "nop");
PIECE(at_limit, "", "mov (0xfffe), %ax");
PIECE(beyond_limit, "", "mov (0xffff), %ax");
PIECE(push_wraps, "mov $0, %sp; push %ax; mov %sp, %bx", "nop");
PIECE(push_odd, "mov $1, %sp", "push %ax");
PIECE(jump_beyond, "", "data32 ljmp $0x3000, $0x10000");
PIECE(read_rights, "", "lar %ax, %bx");
PIECE(store_task, "", "str %ax");
PIECE(load_table, "", "lgdt (0)");
PIECE(move_cr0, "", "mov %cr0, %eax");
PIECE(three_operands, "", "andn %ecx, %ebx, %eax");
asm(".pushsection .v86, \"ax\"\ncode_ends:\n.popsection");

static u32 offset_of(const u8 *code)
{
	return (u32)(code - code_begins);
}

static void run(const u8 *code, u32 eax, u32 eflags, struct trap *trap)
{
	const struct v86 start = {
		.eip = offset_of(code),
		.cs = CODE_AT >> 4,
		.eflags = eflags | X86_EFLAGS_FIXED,
		.esp = STACK_TOP,
		.ss = STACK_AT >> 4,
		.es = DATA_AT >> 4,
		.ds = DATA_AT >> 4,
		.fs = 0x1111,
		.gs = 0x2222,
	};

	trap_run_v86(&start, eax, trap);
}

static void expect(const struct trap *trap, u8 vector, u32 error, const u8 *at, const char *name)
{
	trap_check(trap, vector, error, (const void *)offset_of(at), name);
}

/* HLT, which nobody may, ends what nothing else has ended. */
static void expect_well(const u8 *code, const u8 *next, u32 eax, u32 eflags, struct trap *trap,
			const char *name)
{
	run(code, eax, eflags, trap);
	expect(trap, GP, 0, next, name);
}

#define WELL(name, eax, eflags, trap) expect_well(name, name##_next, eax, eflags, trap, #name)
#define REFUSED(name, vector, error, eax, eflags)                                                  \
	do {                                                                                       \
		run(name, eax, eflags, &trap);                                                     \
		expect(&trap, vector, error, name##_at, #name);                                    \
	} while (0)

static void check_round_trip(void)
{
	struct trap trap;

	run(nothing, 0, X86_EFLAGS_IF | X86_EFLAGS_CF, &trap);
	expect(&trap, GP, 0, nothing_next, "there, and back by a fault");
	check_equal(trap.stack, trap_kernel_stack(), "the stack is that of the TSS");
	check_equal(trap.frame.eflags & ~X86_EFLAGS_RF,
		    X86_EFLAGS_IF | X86_EFLAGS_CF | X86_EFLAGS_VM | X86_EFLAGS_FIXED,
		    "the flags say where we were");
	if (!cpu_deviates("RF in the frames of faults"))
		check(trap.frame.eflags & X86_EFLAGS_RF, "and that it was a fault");
	check(trap.frame.cs == CODE_AT >> 4 && trap.frame.ss == STACK_AT >> 4 &&
		      trap.frame.esp == STACK_TOP && trap.frame.v86_es == DATA_AT >> 4 &&
		      trap.frame.v86_ds == DATA_AT >> 4 && trap.frame.v86_fs == 0x1111 &&
		      trap.frame.v86_gs == 0x2222,
	      "all segments are in the frame");
	check(!trap.ds && !trap.es && !trap.fs && !trap.gs && trap.ss == SEG_DATA,
	      "and null in the handler, but for its SS");
	check(!(trap.eflags & (X86_EFLAGS_VM | X86_EFLAGS_IF)), "VM is off there, and IF");
	run(breakpoint, 0, 0, &trap);
	expect(&trap, BP, 0, breakpoint_next, "INT3 asks only the gate");
}

static void check_segments(void)
{
	struct trap trap;

	WELL(move_data, 0, 0, &trap);
	check(trap.frame.ebx == 0x1234 && *(u16 *)(DATA_AT + 0x10) == 0x1234 &&
		      (u16)trap.frame.ecx == *(u16 *)CODE_AT && (u16)trap.frame.edx == CODE_AT >> 4,
	      "a segment's base is 16 times its selector");
	WELL(load_segment, CODE_AT >> 4, 0, &trap);
	check((u16)trap.frame.ecx == *(u16 *)CODE_AT && (u16)trap.frame.ebx == CODE_AT >> 4,
	      "and so when it is loaded there");
	WELL(far_call, 0, 0, &trap);
	check_equal((u16)trap.frame.ebx, 7, "a far call went where it said");
	WELL(at_limit, 0, 0, &trap);
	WELL(push_wraps, 0, 0, &trap);
	check_equal((u16)trap.frame.ebx, 0xfffe, "a stack of 64 KiB wraps");
	if (!cpu_deviates("limits of segments")) {
		REFUSED(beyond_limit, GP, 0, 0, 0);
		REFUSED(push_odd, SS, 0, 0, 0);
		REFUSED(jump_beyond, GP, 0, 0, 0);
	}
}

/* What asks for IOPL 3, without it and with it. */
static void check_privilege(void)
{
	struct trap trap;

	trap_set_gate(VECTOR_PLAIN, TYPE_INTERRUPT, 3);
	REFUSED(int_plain, GP, 0, 0, 0);
	REFUSED(disable, GP, 0, 0, 0);
	REFUSED(push_flags, GP, 0, 0, 0);
	REFUSED(return_refused, GP, 0, 0, 0);
	run(int_plain, 0, X86_EFLAGS_IOPL, &trap);
	expect(&trap, VECTOR_PLAIN, 0, int_plain_next, "with IOPL 3, INT n goes through the gate");
	trap_set_gate(VECTOR_PLAIN, TYPE_INTERRUPT, 0);
	if (!cpu_deviates("INT n without the right: error codes"))
		REFUSED(int_plain, GP, ERROR_IDT(VECTOR_PLAIN), 0, X86_EFLAGS_IOPL);
	WELL(disable, 0, X86_EFLAGS_IOPL | X86_EFLAGS_IF, &trap);
	check(!(trap.frame.eflags & X86_EFLAGS_IF), "and CLI clears IF");
	WELL(pop_flags, 0, X86_EFLAGS_IOPL, &trap);
	check_equal((u16)trap.frame.ebx, 0x7202, "and POPF sets it");
	WELL(return_from, 0, X86_EFLAGS_IOPL, &trap);
	check_equal(trap.frame.eflags & ~X86_EFLAGS_RF,
		    X86_EFLAGS_VM | X86_EFLAGS_IOPL | X86_EFLAGS_IF | X86_EFLAGS_FIXED,
		    "and IRET too, staying where it is");
	REFUSED(read_rights, UD, 0, SEG_DATA, X86_EFLAGS_IOPL);
	REFUSED(store_task, UD, 0, 0, X86_EFLAGS_IOPL);
	REFUSED(load_table, GP, 0, 0, X86_EFLAGS_IOPL);
	REFUSED(move_cr0, GP, 0, 0, X86_EFLAGS_IOPL);
}

/* VEX is LES and LDS here, in forms that those do not have. */
static void check_encodings(void)
{
	struct trap trap;

	REFUSED(three_operands, UD, 0, 0, 0);
}

/* Ports are for whom the map allows them; IOPL has no say. */
static void check_ports(void)
{
	const u32 port = 0x307;
	struct trap trap;

	REFUSED(in_byte, GP, 0, port, X86_EFLAGS_IOPL);
	trap_task()->port_map[port / 8] &= (u8) ~(1u << port % 8);
	WELL(in_byte, port, 0, &trap);
}

/* A handler on any level but 0 would be without a way back. */
static void check_handlers(void)
{
	struct trap trap;

	*trap_gate(VECTOR_PLAIN) = gate_to(SEG_CONFORMING, nothing, TYPE_INTERRUPT, 3);
	REFUSED(int_plain, GP, SEG_CONFORMING, 0, X86_EFLAGS_IOPL);
	*trap_gate(VECTOR_PLAIN) = gate_to(SEG_USER_CODE & ~3, nothing, TYPE_INTERRUPT, 3);
	REFUSED(int_plain, GP, SEG_USER_CODE & ~3, 0, X86_EFLAGS_IOPL);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	trap_set_gate(BP, TYPE_INTERRUPT, 3);
	memcpy((void *)CODE_AT, code_begins, (size_t)(code_ends - code_begins));
	check_round_trip();
	check_segments();
	check_privilege();
	check_encodings();
	check_ports();
	check_handlers();
}
