/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Privilege in 32-bit protected mode: interrupts that change the level and the
 * stack, call gates, IRET to users and what it takes from them, selectors that are
 * no good, the map of ports, SYSENTER and SYSEXIT.
 */
#include "lib32/trap.h"

#define USER_GATE   (SEG_SPARE | 3)
#define KERNEL_GATE (SEG_SPARE + 8)
#define ABSENT_GATE (SEG_SPARE + 16)
#define SHORT_DATA  (SEG_SPARE + 24) /* ends at byte SHORT_LIMIT of its page */
#define LOCAL	    (SEG_SPARE + 32)
#define LOCAL_DATA  0x04 /* the first of that table */
#define SHORT_LIMIT 0xfffu
#define BEYOND	    (SEG_LAST + 8)

#define VECTOR_PLAIN 0x40 /* nobody's, and not for users */

#define MSR_SYSENTER_CS	 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176

/* Where nobody is, and one of the map's next byte. */
#define PORT	  0x307
#define PORT_NEXT (PORT + 1)

static u8 page[0x2000] __attribute__((aligned(16)));

SNIPPET(nothing, "", "nop");
SNIPPET(int_plain, "", "int $0x40");
SNIPPET(load_ds, "", "mov %edi, %ds");
SNIPPET(load_es, "", "mov %edi, %es");
SNIPPET(load_ss, "", "mov %edi, %ss");
SNIPPET(pop_fs, "push %edi", "pop %fs");
SNIPPET(load_cs, "", ".byte 0x8e, 0xcf"); /* mov %edi, %cs */
SNIPPET(read_null, "xor %eax, %eax; mov %eax, %es", "mov %es:(%edi), %eax");
SNIPPET(read_code, "", "mov %cs:(%edi), %eax");
SNIPPET(write_code, "", "mov %eax, %cs:(%edi)");
SNIPPET(write_read_only, "mov $0x40, %eax; mov %eax, %es", "movb $0, %es:(%edi)");
SNIPPET(read_short, "mov $0x70, %eax; mov %eax, %es", "mov %es:(%edi), %eax");
SNIPPET(string_short, "mov $0x70, %eax; mov %eax, %es; mov $4, %ecx; cld", "rep stosb");
SNIPPET(far_return, "push %edi; push $nothing", "lret");
SNIPPET(far_jump, "push %edi; push $nothing", "ljmp *(%esp)");
SNIPPET(interrupt_return, "pushf; push %edi; push $nothing", "iret");
SNIPPET(overflow, "mov $0x7fffffff, %eax; inc %eax", "into");
SNIPPET(no_overflow, "xor %eax, %eax", "into");
SNIPPET(bounds, "push $10; push $-10; mov %edi, %eax", "bound %eax, (%esp)");
SNIPPET(load_task, "", "ltr %di");
SNIPPET(load_ldt, "", "lldt %di");
SNIPPET(read_rights, "xor %eax, %eax", "lar %edi, %eax");
SNIPPET(read_limit, "xor %eax, %eax", "lsl %edi, %eax");
SNIPPET(verify_read, "xor %eax, %eax", "verr %di");
SNIPPET(verify_write, "xor %eax, %eax", "verw %di");
SNIPPET(adjust, "mov $3, %eax", "arpl %ax, %di");
SNIPPET(user_cli, "", "cli");
SNIPPET(user_hlt, "", "hlt");
SNIPPET(user_segments, "mov %ds, %eax; mov %fs, %ebx; mov %cs, %ecx", "nop");
SNIPPET(in_byte, "mov %edi, %edx", "in (%dx), %al");
SNIPPET(in_word, "mov %edi, %edx", "in (%dx), %ax");
SNIPPET(popf_user, "push %edi", "popf");
SNIPPET(enter_system, "mov %esp, %ecx; mov $enter_system_next, %edx", "sysenter");
SNIPPET(exit_system, "xor %edx, %edx", "sysexit");
SNIPPET(call_system, "", "syscall");
/* Through the gate, with two parameters: what it makes of them is in EAX; and who it is, in EBX. */
SNIPPET(call_gate, "push $30; push $12; xor %eax, %eax", "lcall $0x5b, $0");
SNIPPET(call_any, "push %edi; push $0; mov %esp, %ecx", "lcall *(%ecx)");
SNIPPET(jump_any, "push %edi; push $0; mov %esp, %ecx", "ljmp *(%ecx)");
SNIPPET(conforming, "push $0x50; push $1f; mov %esp, %ecx; ljmp *(%ecx); 1: mov %cs, %ecx", "nop");

asm(".pushsection .text\n"
    "behind_gate: mov 8(%esp), %eax; add 12(%esp), %eax; mov %cs, %ebx; mov %ss, %ecx\n"
    "mov 16(%esp), %esi; mov %esp, %ebp; lret $8\n"
    "behind_sysenter: mov %cs, %esi; mov %ss, %edi; mov %esp, %ebp; pushf; pop %ebx; sysexit\n"
    ".popsection");
extern const u8 behind_gate[], behind_sysenter[];

#define FAULT(name, vector, error, argument)                                                       \
	{                                                                                          \
		name, name##_at, vector, error, argument, #name                                    \
	}
#define TRAP(name, vector, argument)                                                               \
	{                                                                                          \
		name, name##_next, vector, 0, argument, #name                                      \
	}

struct row {
	const u8 *code, *at;
	u8 vector;
	u32 error, argument;
	const char *name;
};

static void run_all(const struct row *rows, size_t count, bool user)
{
	for (size_t i = 0; i < count; i++) {
		const struct row *row = &rows[i];
		struct trap trap;

		if (user)
			trap_run_user(row->code, row->argument, 0, &trap);
		else
			trap_run(row->code, row->argument, 0, &trap);
		/* INT n for the end is one more instruction, two bytes long. */
		trap_check(&trap, row->vector, row->error,
			   row->at + (row->vector == VECTOR_END ? 2 : 0), row->name);
	}
}

#define RUN(user, ...)                                                                             \
	do {                                                                                       \
		const struct row rows_[] = {__VA_ARGS__};                                          \
		run_all(rows_, ARRAY_SIZE(rows_), user);                                           \
	} while (0)

static void check_stack_switch(void)
{
	const u32 flags = X86_EFLAGS_IF | X86_EFLAGS_CF | X86_EFLAGS_FIXED;
	struct trap trap;

	trap_run_user(nothing, 0, flags, &trap);
	trap_check(&trap, VECTOR_END, 0, nothing_next + 2, "from a user, by INT n");
	check_equal(trap.stack, trap_kernel_stack(), "the stack is that of the TSS");
	check(trap.frame.cs == SEG_USER_CODE && trap.frame.ss == SEG_USER_DATA &&
		      trap.frame.esp == trap_user_stack() && trap.frame.eflags == flags,
	      "and the user's is in the frame");
	check_equal(trap.ss, SEG_DATA, "and its SS is the kernel's");
	check(!(trap.eflags & X86_EFLAGS_IF), "an interrupt gate clears IF");
	trap_set_gate(VECTOR_END, TYPE_TRAP, 3);
	trap_run_user(nothing, 0, X86_EFLAGS_IF, &trap);
	check(trap.eflags & X86_EFLAGS_IF, "a trap gate does not");
	trap_set_gate(VECTOR_END, TYPE_INTERRUPT, 3);
	trap_run(nothing, 0, X86_EFLAGS_NT, &trap);
	check(trap.frame.eflags & X86_EFLAGS_NT && !(trap.eflags & X86_EFLAGS_NT),
	      "NT is in the frame, and not in the handler");

	trap_run_user(user_segments, 0, 0, &trap);
	check_equal(trap.frame.eax, SEG_USER_DATA, "IRET leaves a user his DS");
	check_equal(trap.frame.ebx, 0, "and takes FS, which was the kernel's");
	check_equal(trap.frame.ecx, SEG_USER_CODE, "and CS has the level");
	trap_run_user(popf_user, X86_EFLAGS_IF | X86_EFLAGS_IOPL | X86_EFLAGS_ZF, 0, &trap);
	check_equal(trap.frame.eflags, X86_EFLAGS_ZF | X86_EFLAGS_FIXED,
		    "a user's POPF changes neither IF nor IOPL");
}

static void check_selectors(void)
{
	print("as the supervisor\n");
	RUN(false, FAULT(load_ds, GP, BEYOND, BEYOND), FAULT(load_ds, GP, SEG_TASK, SEG_TASK),
	    FAULT(load_ds, GP, SEG_EXECUTE_ONLY, SEG_EXECUTE_ONLY),
	    FAULT(load_es, NP, SEG_ABSENT_DATA, SEG_ABSENT_DATA),
	    FAULT(load_es, GP, SEG_ABSENT_DATA | 4, SEG_ABSENT_DATA | 4),
	    FAULT(pop_fs, GP, SEG_DATA, SEG_DATA | 1), TRAP(load_ds, VECTOR_END, 3),
	    TRAP(load_es, VECTOR_END, SEG_CONFORMING | 3), FAULT(load_cs, UD, 0, SEG_CODE),
	    FAULT(load_ss, GP, 0, 0), FAULT(load_ss, GP, SEG_READ_ONLY, SEG_READ_ONLY),
	    FAULT(load_ss, GP, SEG_DATA, SEG_DATA | 3),
	    FAULT(load_ss, SS, SEG_ABSENT_DATA, SEG_ABSENT_DATA),
	    FAULT(load_ss, GP, SEG_USER_DATA & ~3, SEG_USER_DATA));
	RUN(false, FAULT(far_return, GP, 0, 0), FAULT(far_return, GP, SEG_DATA, SEG_DATA),
	    FAULT(far_return, NP, SEG_ABSENT_CODE, SEG_ABSENT_CODE), FAULT(far_jump, GP, 0, 0),
	    FAULT(far_jump, GP, BEYOND, BEYOND),
	    FAULT(far_jump, GP, SEG_USER_CODE & ~3, SEG_USER_CODE),
	    FAULT(far_jump, NP, SEG_ABSENT_CODE, SEG_ABSENT_CODE),
	    FAULT(interrupt_return, GP, 0, 0), FAULT(interrupt_return, GP, SEG_DATA, SEG_DATA),
	    FAULT(interrupt_return, NP, SEG_ABSENT_CODE, SEG_ABSENT_CODE));
	RUN(false, FAULT(load_task, GP, SEG_TASK, SEG_TASK),
	    FAULT(load_task, GP, SEG_DATA, SEG_DATA), FAULT(load_ldt, GP, SEG_DATA, SEG_DATA),
	    FAULT(load_ldt, GP, LOCAL | 4, LOCAL | 4), TRAP(load_ldt, VECTOR_END, LOCAL),
	    FAULT(load_es, GP, LOCAL_DATA | 8, LOCAL_DATA | 8),
	    TRAP(load_es, VECTOR_END, LOCAL_DATA), TRAP(load_ldt, VECTOR_END, 0),
	    FAULT(load_es, GP, LOCAL_DATA, LOCAL_DATA));
	print("as a user\n");
	RUN(true, FAULT(load_ds, GP, SEG_DATA, SEG_DATA),
	    FAULT(load_ds, GP, SEG_DATA, SEG_DATA | 3),
	    TRAP(load_ds, VECTOR_END, SEG_USER_DATA & ~3), TRAP(load_es, VECTOR_END, 0),
	    FAULT(load_ss, GP, SEG_USER_DATA & ~3, SEG_USER_DATA & ~3),
	    FAULT(far_return, GP, SEG_CODE, SEG_CODE), FAULT(far_jump, GP, SEG_CODE, SEG_CODE),
	    FAULT(interrupt_return, GP, SEG_CODE, SEG_CODE | 3), FAULT(user_cli, GP, 0, 0),
	    FAULT(user_hlt, GP, 0, 0), FAULT(load_task, GP, 0, SEG_TASK), FAULT(load_ldt, GP, 0, 0),
	    TRAP(overflow, OF, 0), TRAP(no_overflow, VECTOR_END, 0),
	    TRAP(bounds, VECTOR_END, (u32)-10), TRAP(bounds, VECTOR_END, 10),
	    FAULT(bounds, BR, 0, 11), FAULT(bounds, BR, 0, (u32)-11));
}

/* What was loaded is not yet what may be accessed. */
static void check_limits(void)
{
	if (cpu_deviates("limits and rights of segments"))
		return;
	print("limits and rights\n");
	RUN(false, FAULT(read_null, GP, 0, (u32)page), TRAP(read_code, VECTOR_END, (u32)page),
	    FAULT(write_code, GP, 0, (u32)page), FAULT(write_read_only, GP, 0, (u32)page),
	    TRAP(read_short, VECTOR_END, SHORT_LIMIT - 3),
	    FAULT(read_short, GP, 0, SHORT_LIMIT - 2), FAULT(read_short, GP, 0, (u32)-4),
	    TRAP(string_short, VECTOR_END, SHORT_LIMIT - 3),
	    FAULT(string_short, GP, 0, SHORT_LIMIT - 2));
}

static void check_answer(const u8 *code, u32 selector, bool yes, u32 answer, const char *name)
{
	/* Of what LAR tells of a gate, more than its type is nobody's business. */
	u32 defined = selector == USER_GATE ? 0xff00 : ~0xf0000u;
	struct trap trap;

	trap_run_user(code, selector, 0, &trap);
	check(trap.frame.vector == VECTOR_END && !(trap.frame.eflags & X86_EFLAGS_ZF) != yes &&
		      (trap.frame.eax & defined) == answer,
	      "%s of %x: ZF %d, %x", name, selector, !!(trap.frame.eflags & X86_EFLAGS_ZF),
	      trap.frame.eax);
}

/* As a user: who may know what. */
static void check_questions(void)
{
	struct trap trap;

	check_answer(read_rights, SEG_USER_DATA, true, 0xc0f300, "LAR");
	check_answer(read_rights, SEG_DATA, false, 0, "LAR");
	check_answer(read_rights, SEG_CONFORMING, true, 0xc09f00, "LAR");
	check_answer(read_rights, USER_GATE, true, 0xec00, "LAR");
	check_answer(read_rights, 0, false, 0, "LAR");
	check_answer(read_limit, SEG_USER_DATA, true, 0xfff0ffff, "LSL");
	check_answer(read_limit, USER_GATE, false, 0, "LSL");
	check_answer(verify_read, SEG_USER_CODE, true, 0, "VERR");
	check_answer(verify_read, SEG_DATA, false, 0, "VERR");
	check_answer(verify_write, SEG_USER_DATA, true, 0, "VERW");
	check_answer(verify_write, SEG_USER_CODE, false, 0, "VERW");
	trap_run_user(adjust, 0x21, 0, &trap);
	check(trap.frame.edi == 0x23 && trap.frame.eflags & X86_EFLAGS_ZF, "ARPL raises it");
	trap_run_user(adjust, 0x23, 0, &trap);
	check(trap.frame.edi == 0x23 && !(trap.frame.eflags & X86_EFLAGS_ZF), "or leaves it");
}

static void check_gates(void)
{
	struct trap trap;

	trap_run_user(call_gate, 0, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, call_gate_next + 2, "through a call gate, and back");
	check_equal(trap.frame.eax, 42, "it found its parameters");
	check(trap.frame.ebx == SEG_CODE && trap.frame.ecx == SEG_DATA, "on the kernel's level");
	check_equal(trap.frame.ebp, trap_kernel_stack() - 24, "on the kernel's stack");
	check_equal(trap.frame.esi, trap_user_stack() - 8, "and knew the user's");
	check_equal(trap.frame.esp, trap_user_stack(), "parameters are gone from both");
	trap_run_user(conforming, 0, 0, &trap);
	check_equal(trap.frame.ecx, SEG_CONFORMING | 3, "conforming code keeps the user's level");
	RUN(true, FAULT(call_any, GP, KERNEL_GATE, KERNEL_GATE | 3),
	    FAULT(jump_any, GP, SEG_CODE, USER_GATE), FAULT(call_any, NP, ABSENT_GATE, ABSENT_GATE),
	    FAULT(call_any, GP, 0, 0), FAULT(jump_any, GP, SEG_DATA, SEG_DATA));
	if (!cpu_deviates("INT n without the right: error codes"))
		RUN(true, FAULT(int_plain, GP, ERROR_IDT(VECTOR_PLAIN), 0));
	*trap_gate(VECTOR_PLAIN) = gate_to(SEG_ABSENT_CODE, nothing, TYPE_INTERRUPT, 3);
	RUN(true, FAULT(int_plain, NP, SEG_ABSENT_CODE, 0));
	*trap_gate(VECTOR_PLAIN) = gate_to(0, nothing, TYPE_INTERRUPT, 3);
	RUN(true, FAULT(int_plain, GP, 0, 0));
}

static void set_port(unsigned port, bool forbidden)
{
	u8 *byte = &trap_task()->port_map[port / 8], bit = (u8)(1 << port % 8);

	*byte = forbidden ? *byte | bit : *byte & ~bit;
}

static void check_ports(void)
{
	struct trap trap;

	print("ports\n");
	RUN(true, FAULT(in_byte, GP, 0, PORT));
	set_port(PORT, false);
	RUN(true, TRAP(in_byte, VECTOR_END, PORT), FAULT(in_word, GP, 0, PORT));
	set_port(PORT_NEXT, false);
	RUN(true, TRAP(in_word, VECTOR_END, PORT), FAULT(in_byte, GP, 0, 0xfff0));
	set_port(PORT, true);
	RUN(true, FAULT(in_word, GP, 0, PORT));
	trap_run_user(in_byte, PORT, X86_EFLAGS_IOPL, &trap);
	trap_check(&trap, VECTOR_END, 0, in_byte_next + 2, "with the I/O privilege level of users");
	trap_task()->ports = sizeof(struct task);
	RUN(true, FAULT(in_byte, GP, 0, PORT_NEXT));
	trap_task()->ports = TASK_SIZE;
}

static void check_fast(void)
{
	struct trap trap;

	print("fast system calls\n");
	wrmsr(MSR_SYSENTER_CS, 0);
	RUN(true, FAULT(enter_system, GP, 0, 0));
	wrmsr(MSR_SYSENTER_CS, SEG_CODE);
	wrmsr(MSR_SYSENTER_ESP, trap_kernel_stack() - 64);
	wrmsr(MSR_SYSENTER_EIP, (u32)behind_sysenter);
	trap_run_user(enter_system, 0, X86_EFLAGS_IF | X86_EFLAGS_CF, &trap);
	trap_check(&trap, VECTOR_END, 0, enter_system_next + 2, "SYSENTER and back");
	check(trap.frame.esi == SEG_CODE && trap.frame.edi == SEG_DATA &&
		      trap.frame.ebp == trap_kernel_stack() - 64,
	      "there, CS, SS and ESP are the kernel's");
	check_equal(trap.frame.ebx, X86_EFLAGS_CF | X86_EFLAGS_FIXED, "and IF is clear");
	check(trap.frame.cs == SEG_USER_CODE && trap.frame.ss == SEG_USER_DATA &&
		      trap.frame.esp == trap_user_stack(),
	      "back, they are the user's");
	RUN(true, FAULT(exit_system, GP, 0, 0));
	RUN(true, FAULT(call_system, UD, 0, 0)); /* EFER.SCE is clear */
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	*trap_descriptor(USER_GATE) =
		gate_to(SEG_CODE, behind_gate, TYPE_CALL_GATE, 3) | 2ull << 32;
	*trap_descriptor(KERNEL_GATE) = gate_to(SEG_CODE, behind_gate, TYPE_CALL_GATE, 0);
	*trap_descriptor(ABSENT_GATE) =
		gate_to(SEG_CODE, behind_gate, TYPE_CALL_GATE & ~PRESENT, 3);
	trap_set_segment(SHORT_DATA, (u32)page, SHORT_LIMIT, TYPE_DATA);
	*trap_descriptor(SHORT_DATA) |= 1ull << 54; /* a stack of 32 bits, for those who want one */
	*(u64 *)page = DESCRIPTOR_FLAT | DESCRIPTOR_TYPE(TYPE_DATA);
	trap_set_segment(LOCAL, (u32)page, 7, TYPE_LDT);
	trap_set_gate(OF, TYPE_INTERRUPT, 3);
	check_stack_switch();
	check_selectors();
	check_limits();
	check_gates();
	check_questions();
	check_ports();
	check_fast();
}
