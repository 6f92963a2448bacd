/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every exception that can be brought about without breaking the machine: its
 * vector, its error code, the instruction it points at, and the rest of the frame.
 * Page faults are here with one guest; pagefaults.c has the others.
 *
 * Each piece of code below does one thing wrong. A fault points at the instruction
 * itself, a trap at the one after it (Intel SDM 3A, "Exception Classifications").
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#define NON_CANONICAL 0x0000800000000000ull
#define VECTOR_PLAIN  0x50 /* its gate is for the supervisor */

enum {
	DE = 0,
	DB = 1,
	BP = 3,
	UD = 6,
	NM = 7,
	TS = 10,
	NP = 11,
	SS = 12,
	GP = 13,
	PF = 14,
	MF = 16,
	AC = 17,
	XM = 19,
};

/* An error code that speaks of an entry of the interrupt table. */
#define ERROR_IDT(vector) ((vector)*8u + 2)

/* Operands for the code below, which the compiler does not read. */
#define OPERAND static __attribute__((used))
OPERAND u32 divide_control = 0x37b; /* x87 control word: division by zero is not masked */
OPERAND u32 zero_unmasked = 0x1d80; /* MXCSR: the same */
OPERAND u32 unordinary_mxcsr = 1u << 31;
static u64 memory[16] __attribute__((aligned(64)));

SNIPPET(nothing, "", "nop");
SNIPPET(divide_by_zero, "xor %ecx, %ecx; xor %edx, %edx", "div %ecx");
SNIPPET(divide_too_big, "mov $0x80000000, %eax; cltd; mov $-1, %ecx", "idiv %ecx");
SNIPPET(divide_in_memory, "xor %edx, %edx", "divq (%rdi)");
SNIPPET(breakpoint, "", "int3");
SNIPPET(breakpoint_two_bytes, "", ".byte 0xcd, 3");
SNIPPET(overflow_as_int_4, "", "int $4");
SNIPPET(int1, "", ".byte 0xf1");
SNIPPET(step, "pushfq; orl $0x100, (%rsp); popfq", "nop");

SNIPPET(ud2, "", "ud2");
SNIPPET(ud1, "", ".byte 0x0f, 0xb9, 0xc0");
SNIPPET(ud0, "", ".byte 0x0f, 0xff, 0xc0");
SNIPPET(lock_on_register, "", ".byte 0xf0, 0x01, 0xc0");
SNIPPET(lock_on_move, "", ".byte 0xf0, 0x89, 0x07");
SNIPPET(lock_on_compare, "", ".byte 0xf0, 0x39, 0x07");
SNIPPET(lock_on_nop, "", ".byte 0xf0, 0x90");
SNIPPET(into, "", ".byte 0xce");
SNIPPET(push_es, "", ".byte 0x06");
SNIPPET(pusha, "", ".byte 0x60");
SNIPPET(daa, "", ".byte 0x27");
SNIPPET(aam, "", ".byte 0xd4, 0x0a");
SNIPPET(far_call, "", ".byte 0x9a, 0, 0, 0, 0, 8, 0");
SNIPPET(far_jump, "", ".byte 0xea, 0, 0, 0, 0, 8, 0");
SNIPPET(load_cs, "mov %cs, %eax", ".byte 0x8e, 0xc8");
SNIPPET(load_segment_7, "mov %ds, %eax", ".byte 0x8e, 0xf8");
SNIPPET(lea_of_register, "", ".byte 0x8d, 0xc0");
SNIPPET(move_to_cr1, "", ".byte 0x0f, 0x22, 0xc8");
SNIPPET(move_from_cr5, "", ".byte 0x0f, 0x20, 0xe8");
SNIPPET(sse_without_osfxsr, "", "xorps %xmm0, %xmm0");
SNIPPET(sse_with_em, "", "xorps %xmm0, %xmm0");
SNIPPET(sse_with_ts, "", "xorps %xmm0, %xmm0");
SNIPPET(x87_with_em, "", "fld1");
SNIPPET(mmx_with_em, "", "pxor %mm0, %mm0");
SNIPPET(emms_with_em, "", "emms");
SNIPPET(x87_with_ts, "", "fld1");
SNIPPET(mmx_with_ts, "", "pxor %mm0, %mm0");
SNIPPET(wait_with_ts_and_mp, "", "fwait");
SNIPPET(avx_without_osxsave, "", ".byte 0xc5, 0xf8, 0x57, 0xc0");
SNIPPET(xgetbv_without_osxsave, "xor %ecx, %ecx", "xgetbv");
SNIPPET(syscall_without_sce, "", "syscall");

SNIPPET(x87_division, "fninit; fldcw divide_control; fld1; fldz; fdivrp", "fwait");
SNIPPET(x87_not_yet, "fninit; fldcw divide_control; fld1; fldz; fdivrp", "fnstcw (%rdi)");
SNIPPET(x87_next, "fninit; fldcw divide_control; fld1; fldz; fdivrp", "fld1");
SNIPPET(sse_division,
	"ldmxcsr zero_unmasked; xorps %xmm1, %xmm1; mov $1, %eax;"
	"cvtsi2ss %eax, %xmm0",
	"divss %xmm1, %xmm0");
SNIPPET(sse_division_without_osxmmexcpt,
	"ldmxcsr zero_unmasked; xorps %xmm1, %xmm1;"
	"mov $1, %eax; cvtsi2ss %eax, %xmm0",
	"divss %xmm1, %xmm0");
SNIPPET(reserved_bit_of_mxcsr, "", "ldmxcsr unordinary_mxcsr");

SNIPPET(read_non_canonical, "", "mov (%rdi), %rax");
SNIPPET(write_non_canonical, "", "mov %rax, (%rdi)");
SNIPPET(push_from_non_canonical, "", "pushq (%rdi)");
SNIPPET(prefetch_non_canonical, "", "prefetcht0 (%rdi)");
SNIPPET(stack_segment_non_canonical, "mov %rdi, %rbp", "mov (%rbp), %rax");
SNIPPET(jump_non_canonical, "", "jmp *%rdi");
SNIPPET(call_non_canonical, "", "call *%rdi");
SNIPPET(ret_non_canonical, "push %rdi", "ret");
SNIPPET(movaps_misaligned, "", "movaps 8(%rdi), %xmm0");
SNIPPET(movaps_store_misaligned, "", "movaps %xmm0, 8(%rdi)");
SNIPPET(sse_operand_misaligned, "", "addps 4(%rdi), %xmm0");
SNIPPET(movups_misaligned, "", "movups 8(%rdi), %xmm0");
SNIPPET(fxsave_misaligned, "", "fxsave 8(%rdi)");
SNIPPET(cmpxchg16b_misaligned, "", "cmpxchg16b 8(%rdi)");
SNIPPET(sixteen_bytes_long, "",
	".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90");
SNIPPET(cr0_paging_without_protection, "mov $0x80000000, %eax", "mov %rax, %cr0");
SNIPPET(cr0_not_write_through_alone, "mov %cr0, %rax; or $0x20000000, %eax", "mov %rax, %cr0");
SNIPPET(cr0_upper_half, "mov %cr0, %rax; bts $32, %rax", "mov %rax, %cr0");
SNIPPET(cr4_reserved_bit, "mov %cr4, %rax; bts $30, %rax", "mov %rax, %cr4");
SNIPPET(cr4_without_pae, "mov %cr4, %rax; and $~0x20, %rax", "mov %rax, %cr4");
SNIPPET(cr8_of_16, "mov $16, %eax", "mov %rax, %cr8");
SNIPPET(read_unknown_msr, "mov $0xdeadbeef, %ecx", "rdmsr");
SNIPPET(write_unknown_msr, "mov $0xdeadbeef, %ecx; xor %eax, %eax; xor %edx, %edx", "wrmsr");
SNIPPET(efer_reserved_bit, "mov $0xc0000080, %ecx; rdmsr; or $0x2, %eax", "wrmsr");
SNIPPET(efer_without_long_mode, "mov $0xc0000080, %ecx; rdmsr; and $~0x100, %eax", "wrmsr");
SNIPPET(gs_base_non_canonical, "mov $0xc0000101, %ecx; xor %eax, %eax; mov $0x8000, %edx", "wrmsr");

/* Selectors: in EAX, from the argument. */
SNIPPET(load_ds, "mov %edi, %eax", "mov %eax, %ds");
SNIPPET(load_ss, "mov %edi, %eax", "mov %eax, %ss");
SNIPPET(load_fs, "mov %edi, %eax", "mov %eax, %fs");
SNIPPET(pop_gs, "push %rdi", "pop %gs");
SNIPPET(load_ldt, "mov %edi, %eax", "lldt %ax");
SNIPPET(load_task, "mov %edi, %eax", "ltr %ax");
SNIPPET(far_return, "push %rdi; lea 1f(%rip), %rax; push %rax; 1:", "lretq");
SNIPPET(far_jump_in_memory, "push %rdi; push $0; movw %di, 4(%rsp)", "ljmp *(%rsp)");
SNIPPET(return_from_interrupt, "push $0x10; push %rsp; pushfq; push %rdi; push $0", "iretq");

SNIPPET(int_plain, "", "int $0x50");

/* What users may not do. */
SNIPPET(user_hlt, "", "hlt");
SNIPPET(user_cli, "", "cli");
SNIPPET(user_sti, "", "sti");
SNIPPET(user_in, "", "in $0x40, %al");
SNIPPET(user_out, "mov $0x3ff, %edx", "outb %al, %dx");
SNIPPET(user_ins, "mov $0x3ff, %edx", "insb");
SNIPPET(user_read_cr0, "", "mov %cr0, %rax");
SNIPPET(user_write_cr3, "", "mov %rax, %cr3");
SNIPPET(user_write_cr8, "xor %eax, %eax", "mov %rax, %cr8");
SNIPPET(user_read_dr7, "", "mov %dr7, %rax");
SNIPPET(user_clts, "", "clts");
SNIPPET(user_lmsw, "", "lmsw %ax");
SNIPPET(user_lgdt, "", "lgdt (%rdi)");
SNIPPET(user_lidt, "", "lidt (%rdi)");
SNIPPET(user_lldt, "", "lldt %ax");
SNIPPET(user_ltr, "", "ltr %ax");
SNIPPET(user_invlpg, "", "invlpg (%rdi)");
SNIPPET(user_rdmsr, "mov $0x10, %ecx", "rdmsr");
SNIPPET(user_wrmsr, "mov $0x10, %ecx", "wrmsr");
SNIPPET(user_wbinvd, "", "wbinvd");
SNIPPET(user_invd, "", "invd");
SNIPPET(user_swapgs, "", "swapgs");
SNIPPET(user_sysret, "", "sysretq");
SNIPPET(user_kernel_data, "mov $0x10, %eax", "mov %eax, %ds");
SNIPPET(user_kernel_stack, "mov $0x10, %eax", "mov %eax, %ss");
SNIPPET(user_null_stack, "xor %eax, %eax", "mov %eax, %ss");
SNIPPET(user_iret_to_kernel, "push $0x10; push %rsp; pushfq; push $8; push $0", "iretq");
SNIPPET(user_int_of_kernel, "", "int $0x50");
SNIPPET(user_int_of_fault, "", "int $13");
SNIPPET(user_push_non_canonical, "mov %rdi, %rsp", "push %rax");
SNIPPET(user_call_non_canonical, "mov %rdi, %rsp", "call nothing");
SNIPPET(user_ret_non_canonical, "mov %rdi, %rsp", "ret");
SNIPPET(user_pop_non_canonical, "mov %rdi, %rsp", "pop %rax");
SNIPPET(user_enter_non_canonical, "mov %rdi, %rsp", "enter $16, $0");
SNIPPET(user_leave_non_canonical, "mov %rdi, %rbp", "leave");
SNIPPET(user_sgdt, "", "sgdt (%rdi)");
SNIPPET(user_smsw, "", "smsw %ax");
SNIPPET(user_misaligned, "", "mov 1(%rdi), %eax");
SNIPPET(user_popf, "push $0x3202", "popfq");

/* One row: this code, with that argument, ends so. */
struct row {
	struct trap_wanted wanted;
	const u8 *code, *at;
	u64 argument;
	bool not_tcg;
};

/*
 * The instruction is at fault; it was stopped on the way, or nothing was the matter with it.
 * NOT_TCG where qemu's emulated CPU is known not to do as both manuals say.
 */
#define ROW(code, place, vector, error, argument, after, not_tcg)                                  \
	{                                                                                          \
		{#code, vector, error, 0, after, false}, code, code##_##place, (u64)(argument),    \
			not_tcg                                                                    \
	}
#define FAULT(code, vector, error, argument) ROW(code, at, vector, error, argument, false, false)
#define TRAP(code, vector, argument)	     ROW(code, next, vector, 0, argument, true, false)
#define FAULT_NOT_TCG(code, vector, error, argument)                                               \
	ROW(code, at, vector, error, argument, false, true)
#define TRAP_NOT_TCG(code, vector, argument) ROW(code, next, vector, 0, argument, true, true)

static void run(const struct row *row, bool user, u64 flags)
{
	struct trap_wanted wanted = row->wanted;
	struct trap trap;

	if (row->not_tcg && cpu_deviates(wanted.name))
		return;
	wanted.user = user;
	wanted.rip = user ? user_address(row->at) : (u64)row->at;
	if (user)
		trap_run_user(user_address(row->code), row->argument, flags, &trap);
	else
		trap_run((u64)row->code, row->argument, flags, &trap);
	/* INT n for the end is one more instruction, two bytes long. */
	if (wanted.vector == VECTOR_END)
		wanted.rip += 2;
	trap_check(&trap, &wanted);
}

static void run_all(const struct row *rows, size_t count, bool user)
{
	for (size_t i = 0; i < count; i++)
		run(&rows[i], user, 0);
}

#define RUN(...)                                                                                   \
	do {                                                                                       \
		const struct row rows_[] = {__VA_ARGS__};                                          \
		run_all(rows_, ARRAY_SIZE(rows_), false);                                          \
	} while (0)
#define RUN_USER(...)                                                                              \
	do {                                                                                       \
		const struct row rows_[] = {__VA_ARGS__};                                          \
		run_all(rows_, ARRAY_SIZE(rows_), true);                                           \
	} while (0)

static void check_plain(void)
{
	static const struct row either[] = {
		FAULT(divide_by_zero, DE, 0, 0),
		FAULT(divide_too_big, DE, 0, 0),
		FAULT(ud2, UD, 0, 0),
		FAULT(ud1, UD, 0, 0),
		FAULT(ud0, UD, 0, 0),
		FAULT(lock_on_register, UD, 0, 0),
		FAULT(lock_on_nop, UD, 0, 0),
		FAULT(into, UD, 0, 0),
		FAULT(push_es, UD, 0, 0),
		FAULT(pusha, UD, 0, 0),
		FAULT(daa, UD, 0, 0),
		FAULT(aam, UD, 0, 0),
		FAULT(far_call, UD, 0, 0),
		FAULT(far_jump, UD, 0, 0),
		FAULT(load_cs, UD, 0, 0),
		FAULT(load_segment_7, UD, 0, 0),
		FAULT(lea_of_register, UD, 0, 0),
		FAULT(syscall_without_sce, UD, 0, 0),
		FAULT(sixteen_bytes_long, GP, 0, 0),
		FAULT(read_non_canonical, GP, 0, NON_CANONICAL),
		FAULT(write_non_canonical, GP, 0, ~NON_CANONICAL),
		FAULT(push_from_non_canonical, GP, 0, NON_CANONICAL),
		FAULT_NOT_TCG(stack_segment_non_canonical, SS, 0, NON_CANONICAL),
		TRAP_NOT_TCG(int1, DB, 0),
		TRAP(step, DB, 0),
		TRAP(prefetch_non_canonical, VECTOR_END, NON_CANONICAL),
	};

	print("as the supervisor\n");
	run_all(either, ARRAY_SIZE(either), false);
	print("as a user\n");
	run_all(either, ARRAY_SIZE(either), true);
	RUN(FAULT(divide_in_memory, DE, 0, memory), FAULT_NOT_TCG(lock_on_move, UD, 0, memory),
	    FAULT(lock_on_compare, UD, 0, memory), FAULT(move_to_cr1, UD, 0, 0),
	    FAULT(move_from_cr5, UD, 0, 0), TRAP(breakpoint, BP, 0),
	    TRAP(breakpoint_two_bytes, BP, 0), TRAP(overflow_as_int_4, 4, 0),
	    TRAP(int_plain, VECTOR_PLAIN, 0));
}

/* Intel SDM 3A, "Setting up ... the x87 FPU" and table 2-3; 13.1.3 for SSE. */
static void check_vector_units(void)
{
	u64 cr0 = read_cr0() & ~(u64)(X86_CR0_TS | X86_CR0_EM), cr4 = read_cr4();

	cr0 |= X86_CR0_MP | X86_CR0_NE;
	write_cr0(cr0);
	write_cr4(cr4 & ~(u64)(X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE));
	RUN(FAULT(sse_without_osfxsr, UD, 0, 0), FAULT(xgetbv_without_osxsave, UD, 0, 0),
	    FAULT(avx_without_osxsave, UD, 0, 0));
	write_cr4(cr4 | X86_CR4_OSFXSR);
	write_cr0(cr0 | X86_CR0_EM);
	RUN(FAULT(sse_with_em, UD, 0, 0), FAULT(x87_with_em, NM, 0, 0),
	    FAULT_NOT_TCG(mmx_with_em, UD, 0, 0), FAULT_NOT_TCG(emms_with_em, UD, 0, 0));
	write_cr0(cr0 | X86_CR0_TS);
	RUN(FAULT(sse_with_ts, NM, 0, 0), FAULT(x87_with_ts, NM, 0, 0),
	    FAULT(mmx_with_ts, NM, 0, 0), FAULT(wait_with_ts_and_mp, NM, 0, 0));
	write_cr0(cr0);

	RUN(FAULT(x87_division, MF, 0, 0), TRAP(x87_not_yet, VECTOR_END, memory));
	RUN(FAULT_NOT_TCG(x87_next, MF, 0, 0));
	asm volatile("fninit");

	RUN(FAULT_NOT_TCG(sse_division_without_osxmmexcpt, UD, 0, 0));
	write_cr4(cr4 | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT);
	RUN(FAULT_NOT_TCG(sse_division, XM, 0, 0), FAULT_NOT_TCG(reserved_bit_of_mxcsr, GP, 0, 0),
	    FAULT(movaps_misaligned, GP, 0, memory), FAULT(movaps_store_misaligned, GP, 0, memory),
	    FAULT(sse_operand_misaligned, GP, 0, memory),
	    TRAP(movups_misaligned, VECTOR_END, memory), FAULT(fxsave_misaligned, GP, 0, memory),
	    FAULT(cmpxchg16b_misaligned, GP, 0, memory));
}

static void check_general_protection(void)
{
	RUN(FAULT(cr0_paging_without_protection, GP, 0, 0),
	    FAULT(cr0_not_write_through_alone, GP, 0, 0), FAULT_NOT_TCG(cr0_upper_half, GP, 0, 0),
	    FAULT(cr4_reserved_bit, GP, 0, 0), FAULT(cr4_without_pae, GP, 0, 0),
	    FAULT_NOT_TCG(cr8_of_16, GP, 0, 0), FAULT(read_unknown_msr, GP, 0, 0),
	    FAULT(write_unknown_msr, GP, 0, 0), FAULT(efer_reserved_bit, GP, 0, 0),
	    FAULT(efer_without_long_mode, GP, 0, 0),
	    FAULT_NOT_TCG(gs_base_non_canonical, GP, 0, 0));
	/* Both manuals have the branch at fault, not the address it did not reach. */
	RUN(FAULT_NOT_TCG(jump_non_canonical, GP, 0, NON_CANONICAL),
	    FAULT_NOT_TCG(call_non_canonical, GP, 0, NON_CANONICAL),
	    FAULT_NOT_TCG(ret_non_canonical, GP, 0, NON_CANONICAL));
}

/* Intel SDM 2, "MOV", "LLDT", "LTR", "RET", "JMP", "IRET": 64-bit mode exceptions. */
static void check_selectors(void)
{
	RUN(FAULT(load_ds, GP, 0xfffc, 0xffff), FAULT(load_ds, GP, 0x14, 0x16),
	    FAULT(load_ds, GP, SEGMENT_EXECUTE_ONLY, SEGMENT_EXECUTE_ONLY),
	    FAULT(load_ds, GP, SEGMENT_TASK, SEGMENT_TASK),
	    FAULT(load_ds, NP, SEGMENT_ABSENT_DATA, SEGMENT_ABSENT_DATA),
	    FAULT(load_fs, NP, SEGMENT_ABSENT_DATA, SEGMENT_ABSENT_DATA),
	    FAULT(load_fs, GP, SEGMENT_ABSENT_DATA, SEGMENT_ABSENT_DATA | 3),
	    FAULT(pop_gs, GP, 0xfff8, 0xfff8), TRAP(load_ds, VECTOR_END, 0),
	    TRAP(load_fs, VECTOR_END, 3), TRAP(load_ds, VECTOR_END, SEGMENT_CODE64));
	RUN(FAULT(load_ss, SS, SEGMENT_ABSENT_DATA, SEGMENT_ABSENT_DATA),
	    FAULT(load_ss, GP, SEGMENT_READ_ONLY, SEGMENT_READ_ONLY),
	    FAULT(load_ss, GP, SEGMENT_CODE64, SEGMENT_CODE64),
	    FAULT(load_ss, GP, SEGMENT_DATA, SEGMENT_DATA | 3),
	    FAULT(load_ss, GP, SEGMENT_USER_DATA & ~3, SEGMENT_USER_DATA));
	RUN(FAULT(load_ldt, GP, SEGMENT_DATA, SEGMENT_DATA), FAULT(load_ldt, GP, 0xfff8, 0xfff8),
	    FAULT(load_ldt, GP, SEGMENT_TASK, SEGMENT_TASK), TRAP(load_ldt, VECTOR_END, 0),
	    FAULT(load_task, GP, SEGMENT_TASK, SEGMENT_TASK), FAULT_NOT_TCG(load_task, GP, 0, 0),
	    FAULT(load_task, GP, SEGMENT_DATA, SEGMENT_DATA));
	RUN(FAULT(far_return, GP, 0, 0), FAULT(far_return, GP, SEGMENT_DATA, SEGMENT_DATA),
	    FAULT(far_return, NP, SEGMENT_ABSENT_CODE, SEGMENT_ABSENT_CODE),
	    FAULT(far_jump_in_memory, GP, 0, 0),
	    FAULT(far_jump_in_memory, GP, SEGMENT_DATA, SEGMENT_DATA),
	    FAULT(far_jump_in_memory, NP, SEGMENT_ABSENT_CODE, SEGMENT_ABSENT_CODE),
	    FAULT(return_from_interrupt, GP, 0, 0),
	    FAULT(return_from_interrupt, GP, SEGMENT_DATA, SEGMENT_DATA),
	    FAULT(return_from_interrupt, NP, SEGMENT_ABSENT_CODE, SEGMENT_ABSENT_CODE));
}

/* Gates that are not what they should be: Intel SDM 2, "INT n". */
static void check_gates(void)
{
	struct gate *gate = interrupt_gate(VECTOR_PLAIN);
	const struct gate good = *gate;

	gate->type = GATE_INTERRUPT & ~GATE_PRESENT;
	RUN(FAULT_NOT_TCG(int_plain, NP, ERROR_IDT(VECTOR_PLAIN), 0));
	gate->type = 0;
	RUN(FAULT_NOT_TCG(int_plain, GP, ERROR_IDT(VECTOR_PLAIN), 0));
	gate->type = GATE_PRESENT | 5; /* a task gate: no such thing in 64-bit mode */
	RUN(FAULT_NOT_TCG(int_plain, GP, ERROR_IDT(VECTOR_PLAIN), 0));
	*gate = good;
	gate->selector = 0;
	RUN(FAULT(int_plain, GP, 0, 0));
	gate->selector = SEGMENT_DATA;
	RUN(FAULT(int_plain, GP, SEGMENT_DATA, 0));
	gate->selector = SEGMENT_ABSENT_CODE;
	RUN(FAULT(int_plain, NP, SEGMENT_ABSENT_CODE, 0));
	*gate = good;
	RUN(TRAP(int_plain, VECTOR_PLAIN, 0));
}

/*
 * A task state segment that ends before the stack that a gate asks for. #TS itself needs none (its
 * gate switches no stack).
 */
static void check_task(void)
{
	struct gate *gate = interrupt_gate(VECTOR_PLAIN);
	u64 *spare = trap_descriptor(SEGMENT_SPARE), *task = trap_descriptor(SEGMENT_TASK);
	const u64 busy = 2ull << 40, limit = 0xffff;

	*task &= ~busy;
	spare[0] = (*task & ~limit) | 0x53; /* the last byte before IST 7 */
	spare[1] = task[1];
	trap_load_task(SEGMENT_SPARE);
	gate->stack = 7;
	RUN(FAULT(int_plain, TS, SEGMENT_SPARE, 0));
	gate->stack = 6;
	RUN(TRAP(int_plain, VECTOR_PLAIN, 0));
	gate->stack = 0;
	trap_load_task(SEGMENT_TASK);
	check(*task & busy, "LTR marks the segment busy");
}

static void check_user(void)
{
	static const struct row rows[] = {
		FAULT(user_hlt, GP, 0, 0),
		FAULT(user_cli, GP, 0, 0),
		FAULT(user_sti, GP, 0, 0),
		FAULT(user_in, GP, 0, 0),
		FAULT(user_out, GP, 0, 0),
		FAULT(user_ins, GP, 0, 0),
		FAULT(user_read_cr0, GP, 0, 0),
		FAULT(user_write_cr3, GP, 0, 0),
		FAULT(user_write_cr8, GP, 0, 0),
		FAULT(user_read_dr7, GP, 0, 0),
		FAULT(user_clts, GP, 0, 0),
		FAULT(user_lmsw, GP, 0, 0),
		FAULT(user_lgdt, GP, 0, 0),
		FAULT(user_lidt, GP, 0, 0),
		FAULT(user_lldt, GP, 0, 0),
		FAULT(user_ltr, GP, 0, 0),
		FAULT(user_invlpg, GP, 0, 0),
		FAULT(user_rdmsr, GP, 0, 0),
		FAULT(user_wrmsr, GP, 0, 0),
		FAULT(user_wbinvd, GP, 0, 0),
		FAULT(user_invd, GP, 0, 0),
		FAULT(user_swapgs, GP, 0, 0),
		FAULT(user_kernel_data, GP, SEGMENT_DATA, 0),
		FAULT(user_kernel_stack, GP, SEGMENT_DATA, 0),
		FAULT(user_null_stack, GP, 0, 0),
		FAULT(user_iret_to_kernel, GP, SEGMENT_CODE64, 0),
		FAULT_NOT_TCG(user_int_of_kernel, GP, ERROR_IDT(VECTOR_PLAIN), 0),
		FAULT_NOT_TCG(user_int_of_fault, GP, ERROR_IDT(GP), 0),
		FAULT_NOT_TCG(user_push_non_canonical, SS, 0, NON_CANONICAL + 8),
		FAULT_NOT_TCG(user_call_non_canonical, SS, 0, NON_CANONICAL + 8),
		FAULT_NOT_TCG(user_ret_non_canonical, SS, 0, NON_CANONICAL),
		FAULT_NOT_TCG(user_pop_non_canonical, SS, 0, NON_CANONICAL),
		FAULT_NOT_TCG(user_enter_non_canonical, SS, 0, NON_CANONICAL + 8),
		FAULT_NOT_TCG(user_leave_non_canonical, SS, 0, NON_CANONICAL),
		FAULT(movaps_misaligned, GP, 0, USER_BASE),
		TRAP(user_popf, VECTOR_END, 0),
	};
	const struct row allowed[] = {TRAP(user_cli, VECTOR_END, 0), TRAP(user_in, VECTOR_END, 0)};
	const struct row breakpoints[] = {TRAP(breakpoint, BP, 0), TRAP(overflow_as_int_4, 4, 0)};

	run_all(rows, ARRAY_SIZE(rows), true);
	print("with the I/O privilege level of users\n");
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		run(&allowed[i], true, X86_EFLAGS_IOPL);
	interrupt_gate(BP)->type |= GATE_USER;
	interrupt_gate(4)->type |= GATE_USER;
	run_all(breakpoints, ARRAY_SIZE(breakpoints), true);
}

/* SYSRET, UMIP and alignment checks: what depends on bits that start.S leaves clear. */
static void check_user_modes(void)
{
	u64 cr0 = read_cr0(), cr4 = read_cr4(), efer = rdmsr(MSR_EFER);
	const struct row misaligned = FAULT_NOT_TCG(user_misaligned, AC, 0, USER_BASE);
	const struct row unchecked = TRAP(user_misaligned, VECTOR_END, USER_BASE);

	RUN_USER(FAULT(user_sysret, UD, 0, 0));
	wrmsr(MSR_EFER, efer | EFER_SCE);
	RUN_USER(FAULT(user_sysret, GP, 0, 0));
	wrmsr(MSR_EFER, efer);

	RUN_USER(TRAP(user_smsw, VECTOR_END, 0));
	if (cpuid(7, 0).ecx >> 2 & 1) {
		write_cr4(cr4 | X86_CR4_UMIP);
		RUN_USER(FAULT(user_smsw, GP, 0, 0), FAULT(user_sgdt, GP, 0, trap_user_stack()));
		write_cr4(cr4);
	}
	run(&unchecked, true, X86_EFLAGS_AC);
	write_cr0(cr0 | X86_CR0_AM);
	run(&unchecked, true, 0);
	run(&misaligned, true, X86_EFLAGS_AC);
	write_cr0(cr0);
}

#define ARITHMETIC                                                                                 \
	(X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF | X86_EFLAGS_SF |           \
	 X86_EFLAGS_OF)

/* What is pushed of the flags, and what the handler finds of them: Intel SDM 3A, 6.12.1.3. */
static void check_flags(void)
{
	static const u64 patterns[] = {0,
				       ARITHMETIC | X86_EFLAGS_DF,
				       X86_EFLAGS_CF | X86_EFLAGS_SF,
				       X86_EFLAGS_OF | X86_EFLAGS_ZF,
				       X86_EFLAGS_NT,
				       X86_EFLAGS_IF,
				       X86_EFLAGS_ID | X86_EFLAGS_IOPL};
	struct gate *gate = interrupt_gate(UD);
	struct trap trap;

	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		u64 flags = patterns[i] | X86_EFLAGS_FIXED;

		trap_run((u64)ud2, 0, flags, &trap);
		check_equal(trap.frame.rflags, flags | X86_EFLAGS_RF, "flags %lx: ud2", flags);
		trap_run((u64)int_plain, 0, flags, &trap);
		check_equal(trap.frame.rflags, flags, "flags %lx: int n", flags);
		trap_run((u64)read_non_canonical, NON_CANONICAL, flags, &trap);
		/* Whether RF is set is trap_check()'s business. */
		check_equal(trap.frame.rflags & ~(u64)X86_EFLAGS_RF, flags, "flags %lx: #GP",
			    flags);
		check(!(trap.flags & (X86_EFLAGS_NT | X86_EFLAGS_IF | X86_EFLAGS_RF)),
		      "flags %lx: the handler has neither NT nor IF nor RF", flags);
	}
	gate->type = GATE_TRAP;
	trap_run((u64)ud2, 0, X86_EFLAGS_IF, &trap);
	check(trap.flags & X86_EFLAGS_IF, "a trap gate leaves IF alone");
	gate->type = GATE_INTERRUPT;
	trap_run((u64)nothing, 0, X86_EFLAGS_TF, &trap);
	check(trap.frame.vector == DB && trap.frame.rip == (u64)nothing,
	      "single-step comes after the first instruction");
	check(trap.frame.rflags & X86_EFLAGS_TF && !(trap.flags & X86_EFLAGS_TF),
	      "and TF is off in its handler");
	check(read_dr6() & 1 << 14, "and DR6 says that it was a step");
	trap_run_user(user_address(user_popf), 0, 0, &trap);
	check_equal(trap.frame.rflags, X86_EFLAGS_FIXED,
		    "a user's popf changes neither IF nor IOPL");
}

SNIPPET(misalign, "sub %rdi, %rsp; mov %rsp, %rcx", "ud2");

static void check_stacks(void)
{
	struct gate *gate = interrupt_gate(UD);
	struct trap trap;

	for (unsigned i = 0; i <= 16; i++) {
		trap_run((u64)misalign, i, 0, &trap);
		check(trap.frame.rsp == trap.frame.rcx && trap.stack == (trap.frame.rcx & ~15ull),
		      "a stack that is %u bytes off is aligned, and told as it was", i);
	}
	trap_run_user(user_address(ud2), 0, 0, &trap);
	check_equal(trap.stack, trap_kernel_stack(), "from a user, the stack is that of the TSS");
	check_equal(trap.frame.rsp, trap_user_stack(), "and the user's is in the frame");
	for (unsigned ist = 1; ist <= 7; ist++) {
		gate->stack = (u8)ist;
		trap_run((u64)ud2, 0, 0, &trap);
		check_equal(trap.stack, trap_ist_stack(ist), "IST %u", ist);
		trap_run_user(user_address(ud2), 0, 0, &trap);
		check_equal(trap.stack, trap_ist_stack(ist), "IST %u, from a user", ist);
	}
	*trap_ist_slot(7) -= 8;
	trap_run((u64)ud2, 0, 0, &trap);
	check_equal(trap.stack, trap_ist_stack(7) - 16, "a stack of the IST is aligned, too");
	*trap_ist_slot(7) += 8;
	gate->stack = 0;
}

void guest_main(const struct boot *boot)
{
	(void)boot;
	trap_init();
	check_plain();
	check_vector_units();
	check_general_protection();
	check_selectors();
	check_gates();
	check_task();
	check_user();
	check_user_modes();
	check_flags();
	check_stacks();
}
