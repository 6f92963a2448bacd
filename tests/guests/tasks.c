/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hardware tasks: by jump, by call and back, through gates, and the one use that is
 * left of them: a double fault that finds a stack when there is none (Intel SDM 3A,
 * "Task Management").
 */
#include "lib32/trap.h"

#define OTHER	     SEG_SPARE /* a task state segment */
#define GATE	     (SEG_SPARE + 8)
#define ABSENT	     (SEG_SPARE + 16)
#define SHORT	     (SEG_SPARE + 24)
#define NO_STACK     (SEG_SPARE + 32) /* data of 32 bits, of which a page can be accessed */
#define VECTOR_TASK  0x41
#define BUSY	     (2ull << 40)
#define CR0_TS	     (1u << 3)
#define STACK_LENGTH 4096
#define NO_ERROR     0xdead

static u8 other_stack[STACK_LENGTH] __attribute__((aligned(16)));
static struct task other;

/* What the other task saw. */
static struct {
	u32 runs, error, esp, eflags, cr0, previous_eip, previous_eflags, previous_esp;
	u16 tr, fs;
	bool leaves; /* by way of trap_leave, not by IRET */
} seen;

void other_main(u32 error);

/* Begins with an error code on its stack, or with NO_ERROR; a second run goes on behind IRET. */
asm(".pushsection .text\n"
    "other_entry: cld; call other_main; add $4, %esp; iret\n"
    "push $0xdead; jmp other_entry\n"
    ".popsection");
extern const u8 other_entry[];

asm(".pushsection .text\n"
    "jump_back: ljmp $0x28, $0\n"
    "jump_back_end:\n"
    ".popsection");
extern const u8 jump_back[], jump_back_end[];

static u32 read_cr0_32(void)
{
	u32 value;

	asm volatile("mov %%cr0, %0" : "=r"(value));
	return value;
}

void other_main(u32 error)
{
	struct task *previous = trap_task();

	seen.runs++;
	seen.error = error;
	seen.esp = (u32)&error;
	seen.cr0 = read_cr0_32();
	asm volatile("pushf; pop %0" : "=r"(seen.eflags));
	asm volatile("str %0" : "=r"(seen.tr));
	asm volatile("mov %%fs, %0" : "=r"(seen.fs));
	asm volatile("clts");
	seen.previous_eip = previous->eip;
	seen.previous_eflags = previous->eflags;
	seen.previous_esp = previous->esp;
	if (!seen.leaves)
		return;
	previous->eip = (u32)trap_leave;
	previous->esp = trap_return_stack;
	previous->ss = SEG_DATA;
	previous->cs = SEG_CODE;
}

/* With an error code, unless the CPU brings one. */
static void prepare(bool leaves, bool with_error)
{
	u32 *top = (u32 *)(other_stack + STACK_LENGTH);

	memset(&seen, 0, sizeof(seen));
	seen.leaves = leaves;
	*--top = NO_ERROR;
	other = (struct task){
		.eip = (u32)other_entry,
		.eflags = X86_EFLAGS_FIXED | X86_EFLAGS_CF,
		.esp = (u32)(with_error ? top + 1 : top),
		.es = SEG_DATA,
		.cs = SEG_CODE,
		.ss = SEG_DATA,
		.ds = SEG_DATA,
		.fs = SEG_CONFORMING,
		.ports = TASK_SIZE,
	};
}

SNIPPET(call_task, "sub $8, %esp; mov %di, 4(%esp); mov $5, %ebx; stc", "lcall *(%esp)");
SNIPPET(jump_task, "sub $8, %esp; mov %di, 4(%esp)", "ljmp *(%esp)");
SNIPPET(int_task, "mov $5, %ebx", "int $0x41");
SNIPPET(return_to_task, "pushf; orl $0x4000, (%esp); popf", "iret");
SNIPPET(divide, "xor %ecx, %ecx", "div %ecx");
SNIPPET(no_stack, "mov %edi, %eax; mov %eax, %ss; mov $8, %esp", "ud2");
SNIPPET(undefined, "", "ud2");
SNIPPET(from_user, "", "int $0x80");

static bool busy(unsigned selector)
{
	return *trap_descriptor(selector) & BUSY;
}

static void check_call(void)
{
	struct trap trap;

	prepare(false, false);
	trap_run(call_task, OTHER, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, call_task_next + 2, "CALL to a task, and IRET");
	check(seen.runs == 1 && seen.tr == OTHER && seen.error == NO_ERROR, "it ran, as itself");
	check(seen.eflags & X86_EFLAGS_NT && seen.cr0 & CR0_TS, "with NT and CR0.TS set");
	check_equal(seen.fs, SEG_CONFORMING, "and its own segments");
	check_equal(other.link, SEG_TASK, "it knew whom to return to");
	check_equal(seen.previous_eip, (u32)call_task_next, "and where to");
	check_equal(trap.frame.ebx, 5, "registers are back");
	if (!cpu_deviates("the flags that CALL to a task saves"))
		check(trap.frame.eflags & X86_EFLAGS_CF, "and flags");
	check(!busy(OTHER) && busy(SEG_TASK), "one is busy, the other no more");
	check(other.eip > (u32)other_entry && !(other.eflags & X86_EFLAGS_NT),
	      "the other will go on behind its IRET, without NT");

	trap_run(call_task, GATE, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, call_task_next + 2, "CALL through a task gate");
	check_equal(seen.runs, 2, "it went on where it was");
	trap_run_user(call_task, GATE | 3, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, call_task_next + 2, "CALL through a task gate, as a user");
	check(seen.runs == 3 && trap.frame.cs == SEG_USER_CODE, "it ran, and he is a user still");
	check_equal(trap.stack, trap_kernel_stack(), "with the kernel's stack in his TSS");
	trap_run_user(int_task, 0, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, int_task_next + 2, "INT n through a task gate");
	check_equal(seen.runs, 4, "it ran");
}

/* There, and by a jump back: no links, no NT. */
static void check_jump(void)
{
	struct trap trap;

	prepare(false, false);
	other.eip = (u32)jump_back;
	trap_run(jump_task, OTHER, 0, &trap);
	trap_check(&trap, VECTOR_END, 0, jump_task_next + 2, "JMP to a task, and JMP back");
	check(!busy(OTHER) && busy(SEG_TASK), "only one is busy");
	check_equal(other.eip, (u32)jump_back_end, "the other was saved behind its jump");
	check(!other.link && !(other.eflags & X86_EFLAGS_NT), "and knows of nobody");
}

static void check_refused(void)
{
	struct trap trap;

	trap_run(jump_task, SEG_TASK, 0, &trap);
	trap_check(&trap, GP, SEG_TASK, jump_task_at, "JMP to the task itself, which is busy");
	trap_run(call_task, ABSENT, 0, &trap);
	trap_check(&trap, NP, ABSENT, call_task_at, "CALL to a task that is not present");
	trap_run(call_task, SHORT, 0, &trap);
	trap_check(&trap, TS, SHORT, call_task_at, "CALL to a task whose segment is too short");
	trap_run_user(call_task, OTHER, 0, &trap);
	trap_check(&trap, GP, OTHER, call_task_at, "CALL by a user to the kernel's task");
	trap_task()->link = OTHER;
	trap_run(return_to_task, 0, 0, &trap);
	trap_check(&trap, TS, OTHER, return_to_task_at, "IRET to a task that does not wait");
}

/* Once the new task has its registers, it is that one that has the fault. */
static void check_late_fault(void)
{
	struct trap trap;

	if (cpu_deviates("whose fault it is what the new task's segments are"))
		return;
	prepare(false, false);
	other.ds = SEG_ABSENT_DATA;
	trap_run(call_task, OTHER, 0, &trap);
	trap_check(&trap, NP, SEG_ABSENT_DATA, other_entry, "a task with an absent DS");
	check(busy(SEG_TASK) && busy(OTHER), "both are busy");
	*trap_descriptor(SEG_TASK) &= ~BUSY;
	*trap_descriptor(OTHER) &= ~BUSY;
	asm volatile("ltr %w0" : : "r"(SEG_TASK));
}

static void check_double_fault(void)
{
	struct trap trap;

	*trap_gate(DF) = gate_to(OTHER, NULL, TYPE_TASK_GATE, 0);
	*trap_gate(DE) = 0;
	prepare(true, true);
	trap_run(divide, 0, 0, &trap);
	check(seen.runs == 1 && seen.error == 0, "no gate for #DE: a double fault, error code 0");
	check_equal(seen.previous_eip, (u32)divide_at, "of that instruction");
	check_equal(seen.esp, (u32)other_stack + STACK_LENGTH - 4, "on a stack of its own");
	trap_set_gate(DE, TYPE_INTERRUPT, 0);

	if (cpu_deviates("limits of segments"))
		return;
	prepare(true, true);
	trap_run(no_stack, NO_STACK, 0, &trap);
	check(seen.runs == 1 && seen.error == 0, "no room on the stack: a double fault");
	check(seen.previous_eip == (u32)no_stack_at && seen.previous_esp == 8,
	      "and the state from before the fault (%x, %x)", seen.previous_eip, seen.previous_esp);
}

/* A stack in the TSS that cannot be: whose fault that is. */
static void check_bad_stack(void)
{
	const u16 good = (u16)trap_task()->stack[0].ss;
	struct trap trap;

	*trap_gate(TS) = gate_to(OTHER, NULL, TYPE_TASK_GATE, 0);
	prepare(true, true);
	trap_task()->stack[0].ss = SEG_READ_ONLY;
	trap_run_user(from_user, 0, 0, &trap);
	check(seen.runs == 1 && seen.error == SEG_READ_ONLY, "#TS names the stack segment");
	check_equal(seen.previous_eip, (u32)from_user_at, "and it is a fault of INT n");
	prepare(true, true);
	trap_run_user(undefined, 0, 0, &trap);
	if (!cpu_deviates("EXT in error codes"))
		check(seen.runs == 1 && seen.error == (SEG_READ_ONLY | ERROR_EXT),
		      "of another exception, with EXT");
	trap_task()->stack[0].ss = good;
	trap_set_gate(TS, TYPE_INTERRUPT, 0);
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	trap_set_segment(OTHER, (u32)&other, TASK_SIZE - 1, TYPE_TSS);
	*trap_descriptor(GATE) = gate_to(OTHER, NULL, TYPE_TASK_GATE, 3);
	trap_set_segment(ABSENT, (u32)&other, TASK_SIZE - 1, TYPE_TSS & ~PRESENT);
	trap_set_segment(SHORT, (u32)&other, TASK_SIZE - 2, TYPE_TSS);
	trap_set_segment(NO_STACK, (u32)other_stack, 0xfff, TYPE_DATA);
	*trap_descriptor(NO_STACK) |= 1ull << 54;
	*trap_gate(VECTOR_TASK) = gate_to(OTHER, NULL, TYPE_TASK_GATE, 3);
	check_call();
	check_jump();
	check_refused();
	check_late_fault();
	check_double_fault();
	check_bad_stack();
}
