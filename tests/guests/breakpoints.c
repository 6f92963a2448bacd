/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The debug registers and all that ends in a debug exception: breakpoints for code,
 * data and ports, single steps where they are not simple, INT1, and what DR6 says
 * of each. Plain single steps, and those in shadows, are in exceptions.c and shadows.c.
 *
 * As in Intel SDM 3B, "Debug, Branch Profile, TSC, and Intel Resource Director Technology
 * Features". A trap points at the next instruction, a breakpoint for code at the one that
 * was not executed.
 */
#include "lib/cpu.h"
#include "lib/trap.h"

#include <asm/debugreg.h>

enum { DB = 1, NMI = 2, BP = 3, UD = 6, GP = 13 };

CONTROL_REGISTER(dr0)
CONTROL_REGISTER(dr1)
CONTROL_REGISTER(dr2)
CONTROL_REGISTER(dr3)

#define DR6_CLEAR   0xffff0ff0ull
#define DR6_ACCESS  (1ull << 13)
#define DR7_CLEAR   0x400ull
#define DR7_GENERAL (1ull << 13)

/* DR7 for breakpoint n: enabled locally. */
#define FIELD(n, type, length)                                                                     \
	((u64)((type) | (length)) << (DR_CONTROL_SHIFT + (n)*DR_CONTROL_SIZE))
#define ENABLE(n)	       ((u64)DR_LOCAL_ENABLE << (n)*DR_ENABLE_SIZE)
#define POINT(n, type, length) (ENABLE(n) | FIELD(n, type, length))
#define CODE(n)		       POINT(n, DR_RW_EXECUTE, DR_LEN_1)
#define DR_RW_PORT	       2

/* Nobody listens there, and everybody may ask. */
#define PORT 0x8f0

/* KVM does what ports are for by itself, and thinks of no breakpoints then. */
static bool ports_by_kvm;

static u8 area[2 * PAGE] __attribute__((aligned(PAGE)));
#define memory (area + PAGE)

/* Run it with DR7 like this; what DR6 says afterwards. */
static u64 run(const u8 *code, u64 argument, u64 dr7, struct trap *trap)
{
	u64 dr6;

	write_dr6(DR6_CLEAR);
	write_dr7(DR7_CLEAR | dr7);
	trap_run((u64)code, argument, 0, trap);
	dr6 = read_dr6();
	write_dr7(DR7_CLEAR);
	return dr6;
}

/* Debug exception, there, for that reason. */
static bool expect(const char *name, const struct trap *trap, u64 rip, u64 dr6, u64 why)
{
	bool good = trap->frame.vector == DB && trap->frame.rip == rip && dr6 == (DR6_CLEAR | why);

	return check(good, "%s (vector %lu, rip %lx, %lx wanted, DR6 %lx)", name,
		     trap->frame.vector, trap->frame.rip, rip, dr6);
}

static void expect_end(const char *name, const struct trap *trap, u64 dr6)
{
	check(trap->frame.vector == VECTOR_END && dr6 == DR6_CLEAR, "%s (vector %lu, DR6 %lx)",
	      name, trap->frame.vector, dr6);
}

/* ------------------------------------------------------------------ code */

SNIPPET(plain, "xor %eax, %eax", "inc %eax; inc %eax");
SNIPPET(loop, "mov $100, %ecx; 1: xor %eax, %eax; test %eax, %eax; jnz 1b",
	"inc %eax; dec %ecx; jnz 1b; nop");
SNIPPET(long_one, "nop", "lock addq $0x12345678, %gs:0x10(%rdi)");
SNIPPET(undefined, "nop", "ud2");
/* IRETQ to the instruction, with RF; and POPFQ, which cannot set it. */
SNIPPET(with_rf,
	"mov %rsp, %rax; push $0x10; push %rax; pushfq; orl $0x10000, (%rsp); push $8;"
	"lea with_rf_at(%rip), %rax; push %rax; iretq",
	"nop; nop");
SNIPPET(popf_rf, "pushfq; orl $0x10000, (%rsp); popfq", "nop");

static void check_code(void)
{
	struct trap trap;
	u64 dr6;

	write_dr0((u64)plain_at);
	dr6 = run(plain, 0, CODE(0), &trap);
	expect("a breakpoint: before the instruction", &trap, (u64)plain_at, dr6, DR_TRAP0);
	check(!trap.frame.rax, "which was not executed");
	check(!(trap.frame.rflags & X86_EFLAGS_RF), "RF is not set for the handler to return with");
	dr6 = run(plain, 0, 0, &trap);
	expect_end("none that is not enabled", &trap, dr6);
	dr6 = run(plain, 0, (u64)DR_GLOBAL_ENABLE | DR_GLOBAL_SLOWDOWN, &trap);
	expect("one that is enabled globally", &trap, (u64)plain_at, dr6, DR_TRAP0);

	write_dr0((u64)plain_at + 1);
	dr6 = run(plain, 0, CODE(0), &trap);
	expect_end("none in the midst of an instruction", &trap, dr6);
	write_dr3((u64)plain_at + 2);
	dr6 = run(plain, 0, CODE(3), &trap);
	expect("the fourth, one instruction later", &trap, (u64)plain_at + 2, dr6, DR_TRAP3);

	/* First without, so that whoever remembers code has something to remember. */
	write_dr1((u64)loop_at);
	for (unsigned round = 0; round < 3; round++) {
		dr6 = run(loop, 0, 0, &trap);
		expect_end("a loop", &trap, dr6);
		dr6 = run(loop, 0, CODE(1), &trap);
		expect("a loop with a breakpoint", &trap, (u64)loop_at, dr6, DR_TRAP1);
		check_equal(trap.frame.rcx, 100, "in its first round");
	}

	write_dr0((u64)undefined_at);
	dr6 = run(undefined, 0, CODE(0), &trap);
	expect("it comes before the instruction's own faults", &trap, (u64)undefined_at, dr6,
	       DR_TRAP0);
	write_dr0((u64)plain_at);
	trap_run_user(user_address(plain), 0, 0, &trap);
	expect_end("a linear address, and not a physical one", &trap, read_dr6() & ~DR_TRAP0);
	write_dr6(DR6_CLEAR);
	write_dr0(user_address(plain_at));
	write_dr7(DR7_CLEAR | CODE(0));
	trap_run_user(user_address(plain), 0, 0, &trap);
	dr6 = read_dr6();
	write_dr7(DR7_CLEAR);
	expect("of a user", &trap, user_address(plain_at), dr6, DR_TRAP0);
}

static void check_rf(void)
{
	struct trap trap;
	u64 dr6;

	write_dr0((u64)popf_rf_at);
	dr6 = run(popf_rf, 0, CODE(0), &trap);
	expect("popf does not set RF", &trap, (u64)popf_rf_at, dr6, DR_TRAP0);
	/* qemu's CPU has none. */
	if (cpu_deviates("iret with RF: past a breakpoint, but not past the next"))
		return;
	write_dr0((u64)with_rf_at);
	write_dr1((u64)with_rf_at + 1);
	dr6 = run(with_rf, 0, CODE(0), &trap);
	expect_end("iret with RF: past a breakpoint", &trap, dr6);
	dr6 = run(with_rf, 0, CODE(0) | CODE(1), &trap);
	expect("but not past the next", &trap, (u64)with_rf_at + 1, dr6, DR_TRAP1);
}

/* ------------------------------------------------------------------ data */

SNIPPET(store_1, "", "movb $1, (%rdi)");
SNIPPET(store_4, "", "movl $1, (%rdi)");
SNIPPET(store_8, "", "movq $1, (%rdi)");
SNIPPET(load_1, "", "movb (%rdi), %al");
SNIPPET(load_4, "", "movl (%rdi), %eax");
SNIPPET(add_4, "", "addl $1, (%rdi)");
SNIPPET(compare_exchange, "mov $77, %eax", "lock cmpxchgl %eax, (%rdi)");
SNIPPET(push_memory, "", "pushq (%rdi)");
SNIPPET(push_there, "mov %rdi, %rsp", "push %rax");
SNIPPET(call_there, "mov %rdi, %rsp", "call 1f; nop; 1: nop");
SNIPPET(jump_through, "", "jmp *(%rdi)");
SNIPPET(many_loads, "mov (%rdi), %eax; mov 8(%rdi), %eax",
	"mov 16(%rdi), %eax; mov 24(%rdi), %eax");
SNIPPET(store_string, "mov $16, %ecx; xor %eax, %eax", "rep stosb");
SNIPPET(load_string, "mov %rdi, %rsi", "lodsl");
SNIPPET(compare_string, "mov %rdi, %rsi", "cmpsb");
SNIPPET(store_table, "", "sgdt (%rdi)");
SNIPPET(divide_by_it, "xor %edx, %edx", "divl (%rdi)");

/* A watched place, an access to another: is it seen? */
struct overlap {
	const u8 *code, *next;
	u64 type, length;
	s64 distance;
	bool hit;
	bool not_tcg; /* qemu's CPU takes it for a hit: it looks at aligned words */
};

static void check_overlaps(void)
{
#define STORE(size, length, distance, hit)                                                         \
	{                                                                                          \
		store_##size, store_##size##_next, DR_RW_WRITE, DR_LEN_##length, distance, hit,    \
			false                                                                      \
	}
#define STORE_NOT_TCG(size, length, distance)                                                      \
	{                                                                                          \
		store_##size, store_##size##_next, DR_RW_WRITE, DR_LEN_##length, distance, false,  \
			true                                                                       \
	}
#define LOAD(size, type, length, distance, hit)                                                    \
	{                                                                                          \
		load_##size, load_##size##_next, type, DR_LEN_##length, distance, hit, false       \
	}
	static const struct overlap cases[] = {
		STORE(1, 1, 0, true),	STORE(1, 1, 1, false),	 STORE(1, 1, -1, false),
		STORE(4, 1, -3, true),	STORE(4, 1, -4, false),	 STORE_NOT_TCG(4, 1, 1),
		STORE(1, 4, 3, true),	STORE(1, 4, 4, false),	 STORE(8, 2, -7, true),
		STORE(8, 2, 1, true),	STORE_NOT_TCG(8, 2, 2),	 STORE(4, 8, 7, true),
		STORE(4, 8, 8, false),	STORE(4, 8, -3, true),	 STORE(4, 8, -4, false),
		STORE(1, 8, 7, true),	LOAD(4, 1, 4, 0, false), LOAD(4, 3, 4, 0, true),
		LOAD(1, 3, 4, 3, true), LOAD(1, 3, 4, 4, false), LOAD(4, 3, 1, -3, true),
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct overlap *at = &cases[i];
		struct trap trap;
		u64 dr6;

		if (at->not_tcg && cpu_deviates("one beside it, misaligned"))
			continue;
		/* At the page's first byte: what comes from below crosses into it. */
		write_dr2((u64)memory);
		dr6 = run(at->code, (u64)memory + at->distance, POINT(2, at->type, at->length),
			  &trap);
		if (at->hit)
			expect("an access that overlaps", &trap, (u64)at->next, dr6, DR_TRAP2);
		else
			expect_end("one beside it", &trap, dr6);
	}
}

static void check_data_at(const char *name, const u8 *code, u64 rip, u64 argument, u64 type)
{
	struct trap trap;
	u64 dr6;

	write_dr0((u64)memory + 64);
	dr6 = run(code, argument, POINT(0, type, DR_LEN_8), &trap);
	expect(name, &trap, rip, dr6, DR_TRAP0);
}

/* Two at once, and one that is not enabled. */
static void check_two(void)
{
	const u64 place = (u64)memory + 64;
	struct trap trap;
	u64 dr6;

	write_dr0(place);
	write_dr1(place + 4);
	write_dr2(place);
	dr6 = run(store_8, place,
		  POINT(0, DR_RW_WRITE, DR_LEN_4) | POINT(1, DR_RW_READ, DR_LEN_1) |
			  FIELD(2, DR_RW_WRITE, DR_LEN_1),
		  &trap);
	check(trap.frame.vector == DB && (dr6 & 3) == 3, "two at once (DR6 %lx)", dr6);
	check_equal(*(u64 *)place, 1, "it was written");

	/* The low bits of an address do not count, as far as the length reaches. */
	write_dr0(place + 3);
	dr6 = run(store_1, place, POINT(0, DR_RW_WRITE, DR_LEN_4), &trap);
	expect("an address that is not aligned", &trap, (u64)store_1_next, dr6, DR_TRAP0);
}

static void check_data(void)
{
	const u64 place = (u64)memory + 64;
	struct trap trap;
	u64 dr6;

	check_data_at("add to memory", add_4, (u64)add_4_next, place, DR_RW_WRITE);
	check_data_at("cmpxchg", compare_exchange, (u64)compare_exchange_next, place, DR_RW_WRITE);
	check_data_at("push from memory", push_memory, (u64)push_memory_next, place, DR_RW_READ);
	check_data_at("push to memory", push_there, (u64)push_there_next, place + 8, DR_RW_WRITE);
	check_data_at("call: after it", call_there, (u64)call_there_at + 6, place + 8, DR_RW_WRITE);
	check_data_at("the third of four loads", many_loads, (u64)many_loads_next - 3, place - 16,
		      DR_RW_READ);
	*(u64 *)place = (u64)plain_at;
	check_data_at("jump through memory: after it", jump_through, (u64)plain_at, place,
		      DR_RW_READ);
	check_data_at("lods", load_string, (u64)load_string_next, place, DR_RW_READ);
	check_data_at("cmps", compare_string, (u64)compare_string_next, place, DR_RW_READ);
	check_data_at("sgdt", store_table, (u64)store_table_next, place, DR_RW_WRITE);

	if (!cpu_deviates("two at once, and addresses that are not aligned"))
		check_two();
	*(u64 *)place = 0;
	write_dr1(place);
	dr6 = run(divide_by_it, place, POINT(1, DR_RW_READ, DR_LEN_1), &trap);
	if (!cpu_deviates("a fault: there is no trap behind it"))
		check(!trap.frame.vector && trap.frame.rip == (u64)divide_by_it_at,
		      "a fault: there is no trap behind it (vector %lu)", trap.frame.vector);

	write_dr0((u64)plain_at);
	dr6 = run(plain, 0, POINT(0, DR_RW_READ, DR_LEN_1), &trap);
	expect_end("to be executed is not to be read", &trap, dr6);
}

static void check_strings(void)
{
	struct trap trap;
	u64 dr6;

	write_dr0((u64)memory + 3);
	dr6 = run(store_string, (u64)memory, POINT(0, DR_RW_WRITE, DR_LEN_1), &trap);
	expect("rep stos into it: in the midst of it", &trap, (u64)store_string_at, dr6, DR_TRAP0);
	check(trap.frame.rcx == 12 && trap.frame.rdi == (u64)memory + 4, "after four of sixteen");
	if (!cpu_deviates("RF says that the instruction goes on"))
		check(trap.frame.rflags & X86_EFLAGS_RF, "RF says that the instruction goes on");
}

/* ------------------------------------------------------------------ ports, registers, INT1 */

SNIPPET(out_1, "xor %eax, %eax; mov %edi, %edx", "outb %al, %dx");
SNIPPET(in_2, "mov %edi, %edx", "inw %dx, %ax");
SNIPPET(read_dr, "", "mov %dr3, %rax");
SNIPPET(write_dr, "xor %eax, %eax", "mov %rax, %dr6");
SNIPPET(read_old, "", ".byte 0x0f, 0x21, 0xe0"); /* mov %dr4, %rax */
SNIPPET(int1, "", ".byte 0xf1");
SNIPPET(breakpoint, "", "int3");

static void check_ports(void)
{
	u64 cr4 = read_cr4();
	struct trap trap;
	u64 dr6;

	write_dr0(PORT);
	if (!cpu_deviates("no ports without CR4.DE")) {
		dr6 = run(out_1, PORT, POINT(0, DR_RW_PORT, DR_LEN_1), &trap);
		expect_end("no ports without CR4.DE", &trap, dr6);
	}
	write_cr4(cr4 | X86_CR4_DE);
	if (!ports_by_kvm) {
		dr6 = run(out_1, PORT, POINT(0, DR_RW_PORT, DR_LEN_1), &trap);
		expect("out", &trap, (u64)out_1_next, dr6, DR_TRAP0);
		dr6 = run(in_2, PORT - 1, POINT(0, DR_RW_PORT, DR_LEN_1), &trap);
		expect("in, its second byte", &trap, (u64)in_2_next, dr6, DR_TRAP0);
	}
	dr6 = run(in_2, PORT + 1, POINT(0, DR_RW_PORT, DR_LEN_1), &trap);
	expect_end("the port beside it", &trap, dr6);
	trap_run((u64)read_old, 0, 0, &trap);
	check(trap.frame.vector == UD, "with CR4.DE there is no DR4");
	write_cr4(cr4);
	write_dr6(DR6_CLEAR | DR_STEP);
	trap_run((u64)read_old, 0, 0, &trap);
	check_equal(trap.frame.rax, DR6_CLEAR | DR_STEP, "without it, it is DR6");
}

static void check_general_detect(void)
{
	struct trap trap;
	u64 dr6;

	dr6 = run(read_dr, 0, DR7_GENERAL, &trap);
	expect("general detect, reading", &trap, (u64)read_dr_at, dr6, DR6_ACCESS);
	dr6 = run(write_dr, 0, DR7_GENERAL, &trap);
	expect("writing", &trap, (u64)write_dr_at, dr6, DR6_ACCESS);
	write_dr7(DR7_CLEAR | DR7_GENERAL);
	trap_run((u64)int1, 0, 0, &trap);
	check(trap.frame.vector == DB && trap.frame.rip == (u64)int1_next, "int1");
	trap_run((u64)read_dr, 0, 0, &trap);
	check_equal(trap.frame.vector, VECTOR_END, "any debug exception ends general detect");
	write_dr7(DR7_CLEAR);
}

static void check_registers(void)
{
	struct trap trap;

	if (!cpu_deviates("general detect, and int1"))
		check_general_detect();

	/* Of what DR6 says nothing goes away by itself, but for who hit last time. */
	write_dr6(DR6_CLEAR | DR_STEP | DR6_ACCESS);
	write_dr0((u64)memory);
	write_dr7(DR7_CLEAR | POINT(0, DR_RW_WRITE, DR_LEN_1));
	trap_run((u64)store_1, (u64)memory, 0, &trap);
	write_dr7(DR7_CLEAR);
	check_equal(read_dr6(), DR6_CLEAR | DR_STEP | DR6_ACCESS | DR_TRAP0, "DR6 is sticky");
	write_dr6(DR6_CLEAR);
	trap_run((u64)int1, 0, 0, &trap);
	check_equal(read_dr6(), DR6_CLEAR, "int1 does not say so");
	trap_run((u64)breakpoint, 0, 0, &trap);
	check(trap.frame.vector == BP && read_dr6() == DR6_CLEAR, "nor does int3");
	write_dr6(0);
	check_equal(read_dr6(), DR6_CLEAR, "what reads as 1 in DR6");
	if (!cpu_deviates("and as 0 in DR7")) {
		write_dr7(DR7_CLEAR | 0xd800);
		check_equal(read_dr7(), DR7_CLEAR, "and as 0 in DR7");
		write_dr7(DR7_CLEAR);
	}
}

/* ------------------------------------------------------------------ steps that are not simple */

#define STEPPING "pushfq; orl $0x100, (%rsp); popfq;"

SNIPPET(step_over_store, STEPPING, "movl $1, (%rdi)");
SNIPPET(step_halt, STEPPING, "hlt");
SNIPPET(step_syscall, STEPPING, "syscall");
SNIPPET(step_port, "mov %edi, %edx;" STEPPING, "outb %al, %dx");
SNIPPET(step_jump, STEPPING, "jmp *%rdi");
SNIPPET(step_int, STEPPING, "int $0x80");
SNIPPET(step_string, "mov %rdi, %rsi; mov $2, %ecx;" STEPPING, "rep lodsb");
SNIPPET(step_out_string, "mov %rdi, %rsi; mov $0x8f0, %edx; mov $2, %ecx;" STEPPING, "rep outsb");
/* IRETQ with TF in the frame: one instruction later. */
SNIPPET(step_return,
	"mov %rsp, %rax; push $0x10; push %rax; pushfq; orl $0x100, (%rsp); push $8;"
	"lea step_return_at(%rip), %rax; push %rax; iretq",
	"nop; nop");
SNIPPET(target, "", "nop");
SNIPPET(back, "mov $0x102, %r11d", "sysretq");
SNIPPET(enter_kernel, "", "syscall");
SNIPPET(load_ss_from, "", "mov (%rdi), %ss; nop; nop");
SNIPPET(load_ss_then_int, "", "mov (%rdi), %ss; int $0x80");

static void check_step_onto(void)
{
	struct trap trap;
	u64 dr6;

	write_dr0((u64)memory);
	dr6 = run(step_over_store, (u64)memory, POINT(0, DR_RW_WRITE, DR_LEN_1), &trap);
	expect("a step onto a breakpoint: one exception for both", &trap, (u64)step_over_store_next,
	       dr6, DR_STEP | DR_TRAP0);
	check(trap.frame.rflags & X86_EFLAGS_TF && !(trap.flags & X86_EFLAGS_TF),
	      "TF is in the frame, and clear in the handler");
}

static void check_steps(void)
{
	struct trap trap;
	u64 dr6;

	/* It makes two of it. */
	if (!cpu_deviates("a step onto a breakpoint: one exception for both"))
		check_step_onto();
	if (!cpu_deviates("over hlt, which does not halt")) {
		dr6 = run(step_halt, 0, 0, &trap);
		expect("over hlt, which does not halt", &trap, (u64)step_halt_next, dr6, DR_STEP);
	}
	dr6 = run(step_port, PORT, 0, &trap);
	expect("over out", &trap, (u64)step_port_next, dr6, DR_STEP);
	dr6 = run(step_jump, (u64)target, 0, &trap);
	expect("over a jump", &trap, (u64)target, dr6, DR_STEP);
	dr6 = run(step_return, 0, 0, &trap);
	expect("iret: over the instruction behind it", &trap, (u64)step_return_at + 1, dr6,
	       DR_STEP);
	dr6 = run(step_int, 0, 0, &trap);
	expect_end("into int, and its handler is not stepped", &trap, dr6);
	check(trap.frame.rflags & X86_EFLAGS_TF, "TF is in its frame");
	dr6 = run(step_string, (u64)memory, 0, &trap);
	expect("one repetition", &trap, (u64)step_string_at, dr6, DR_STEP);
	check_equal(trap.frame.rcx, 1, "of two");
	if (!ports_by_kvm) {
		dr6 = run(step_out_string, (u64)memory, 0, &trap);
		expect("one, of outs", &trap, (u64)step_out_string_at, dr6, DR_STEP);
		check_equal(trap.frame.rcx, 1, "of two");
	}
	if (!cpu_deviates("RF, in the midst of an instruction"))
		check(trap.frame.rflags & X86_EFLAGS_RF, "RF, in the midst of an instruction");
}

/* TF as it is behind the instruction is what counts. */
static void check_system_calls(void)
{
	struct trap trap;
	u64 dr6;

	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)SEGMENT_CODE64 << 32 | (u64)SEGMENT_USER_CODE32 << 48);
	wrmsr(MSR_LSTAR, (u64)target);
	wrmsr(MSR_SFMASK, X86_EFLAGS_TF);
	dr6 = run(step_syscall, 0, 0, &trap);
	expect_end("a step into a kernel that masks TF", &trap, dr6);
	wrmsr(MSR_SFMASK, 0);
	dr6 = run(step_syscall, 0, 0, &trap);
	expect("into one that does not", &trap, (u64)target, dr6, DR_STEP);
	wrmsr(MSR_LSTAR, (u64)back);
	write_dr6(DR6_CLEAR);
	trap_run_user(user_address(enter_kernel), 0, 0, &trap);
	expect("sysret with TF: right behind the system call", &trap,
	       user_address(enter_kernel_next), read_dr6(), DR_STEP);
}

static u64 handler_of(u8 vector)
{
	const struct gate *gate = interrupt_gate(vector);

	return gate->offset_low | (u64)gate->offset_middle << 16 | (u64)gate->offset_high << 32;
}

SNIPPET(step_to_nmi, STEPPING, "movl $0x4400, (%rdi); nop; nop");

/* The trap belongs to the instruction before, so it is first; and its handler is what NMI finds. */
static void check_nmi(void)
{
	struct trap trap;

	if (cpu_deviates("a step and an NMI at once"))
		return;
	lapic_write(LAPIC_ICR_TARGET, lapic_read(LAPIC_ID));
	write_dr6(DR6_CLEAR);
	trap_run((u64)step_to_nmi, LAYOUT_LAPIC + LAPIC_ICR, 0, &trap);
	check(trap.frame.vector == NMI && trap.frame.rip == handler_of(DB) &&
		      read_dr6() == (DR6_CLEAR | DR_STEP),
	      "a step and an NMI at once (vector %lu, rip %lx, DR6 %lx)", trap.frame.vector,
	      trap.frame.rip, read_dr6());
}

/* Nothing comes between MOV SS and the next instruction; of what was hit nothing is lost. */
static void check_stack_segment(void)
{
	struct trap trap;
	u64 dr6;

	if (cpu_deviates("MOV SS puts off what it hits"))
		return;
	*(u16 *)memory = SEGMENT_DATA;
	write_dr0((u64)memory);
	dr6 = run(load_ss_from, (u64)memory, POINT(0, DR_RW_READ, DR_LEN_2), &trap);
	expect("MOV SS puts off what it hits", &trap, (u64)load_ss_from_at + 3, dr6, DR_TRAP0);
	dr6 = run(load_ss_then_int, (u64)memory, POINT(0, DR_RW_READ, DR_LEN_2), &trap);
	expect("into a handler, if need be", &trap, handler_of(VECTOR_END), dr6, DR_TRAP0);
	write_dr1((u64)load_ss_from_at + 2);
	dr6 = run(load_ss_from, (u64)memory, CODE(1), &trap);
	expect_end("a breakpoint for code behind it is none", &trap, dr6);
}

void guest_main(const struct boot *boot)
{
	char engine[8];

	ports_by_kvm =
		boot_option(boot, "engine", engine, sizeof(engine)) && !strcmp(engine, "kvm");
	trap_init();
	check_code();
	check_rf();
	check_overlaps();
	check_data();
	check_strings();
	check_ports();
	check_registers();
	check_steps();
	check_system_calls();
	check_stack_segment();
	check_nmi();
}
