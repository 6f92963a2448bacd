/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machinery around code that traps, for guests of 32 bits: tables, a task
 * state segment, and the handler that takes what comes.
 */
#include "lib32/trap.h"

#define TRAP_STACK     8192u
#define FLAGS_RESERVED 2u
#define VECTOR_SIZE    16u
#define VECTORS	       256

/* In trap-entry.S. */
extern const u8 trap_vectors[VECTORS][VECTOR_SIZE];
void trap_enter(const void *code, u32 argument, u32 eflags);
void trap_enter_user(const void *code, u32 argument, u32 eflags, u32 stack);
void trap_enter_v86(const struct v86 *start, u32 eax);
void trap_take(const struct frame *frame);

static struct {
	u64 descriptors[SEG_LAST / 8 + 1], gates[VECTORS];
	struct task task;
	u8 kernel_stack[TRAP_STACK], user_stack[TRAP_STACK];
	struct trap *running; /* where to put what comes; NULL: nobody asked */
} traps __attribute__((aligned(16)));

u64 *trap_descriptor(unsigned selector)
{
	return &traps.descriptors[selector / 8];
}

u64 *trap_gate(u8 vector)
{
	return &traps.gates[vector];
}

struct task *trap_task(void)
{
	return &traps.task;
}

u32 trap_kernel_stack(void)
{
	return (u32)traps.kernel_stack + TRAP_STACK;
}

u32 trap_user_stack(void)
{
	return (u32)traps.user_stack + TRAP_STACK;
}

/* From the same level, ESP and SS are not in the frame. */
static u32 stack_of(const struct frame *frame)
{
	if (frame->eflags & X86_EFLAGS_VM)
		return (u32)(frame + 1);
	return (u32)((frame->cs & 3) ? &frame->v86_es : &frame->esp);
}

void trap_take(const struct frame *frame)
{
	struct trap *trap = traps.running;

	if (!trap)
		give_up("vector %u, error %x at %x:%x", frame->vector, frame->error, frame->cs,
			frame->eip);
	traps.running = NULL;
	memcpy(&trap->frame, frame, stack_of(frame) - (u32)frame);
	trap->stack = stack_of(frame);
	trap->ds = (u16)frame->ds;
	trap->es = (u16)frame->es;
	trap->fs = (u16)frame->fs;
	trap->gs = (u16)frame->gs;
	asm volatile("pushf; pop %0" : "=r"(trap->eflags));
	asm volatile("mov %%ss, %0" : "=r"(trap->ss));
}

static void prepare(struct trap *trap)
{
	memset(trap, 0, sizeof(*trap));
	traps.running = trap;
}

void trap_run(const void *code, u32 argument, u32 eflags, struct trap *trap)
{
	prepare(trap);
	trap_enter(code, argument, eflags | FLAGS_RESERVED);
}

void trap_run_user(const void *code, u32 argument, u32 eflags, struct trap *trap)
{
	prepare(trap);
	trap_enter_user(code, argument, eflags | FLAGS_RESERVED, trap_user_stack());
}

void trap_run_v86(const struct v86 *start, u32 eax, struct trap *trap)
{
	prepare(trap);
	trap_enter_v86(start, eax);
}

bool trap_check(const struct trap *trap, u8 vector, u32 error, const void *at, const char *name)
{
	const struct frame *frame = &trap->frame;
	bool good = frame->vector == vector && frame->error == error && frame->eip == (u32)at;

	if (!check(good, "%s", name))
		print("  vector %u, error %x, eip %x:%x; should be %u, %x, %x\n", frame->vector,
		      frame->error, frame->cs, frame->eip, vector, error, (u32)at);
	return good;
}

void trap_set_segment(unsigned selector, u32 base, u32 limit, unsigned type)
{
	*trap_descriptor(selector) = (limit & 0xffff) | (u64)(base & 0xffffff) << 16 |
				     DESCRIPTOR_TYPE(type) | (u64)(limit >> 16 & 15) << 48 |
				     (u64)(base >> 24) << 56;
}

void trap_set_gate(u8 vector, unsigned type, unsigned dpl)
{
	*trap_gate(vector) = gate_to(SEG_CODE, trap_vectors[vector], type, dpl);
}

static u64 flat(unsigned type)
{
	return DESCRIPTOR_FLAT | DESCRIPTOR_TYPE(type);
}

static void set_tables(void)
{
	const u64 user = DESCRIPTOR_DPL(3);
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) gdt = {sizeof(traps.descriptors) - 1, (u32)traps.descriptors},
				  idt = {sizeof(traps.gates) - 1, (u32)traps.gates};

	*trap_descriptor(SEG_CODE) = flat(TYPE_CODE);
	*trap_descriptor(SEG_DATA) = flat(TYPE_DATA);
	*trap_descriptor(SEG_USER_CODE) = flat(TYPE_CODE) | user;
	*trap_descriptor(SEG_USER_DATA) = flat(TYPE_DATA) | user;
	*trap_descriptor(SEG_ABSENT_DATA) = flat(TYPE_DATA & ~PRESENT);
	*trap_descriptor(SEG_ABSENT_CODE) = flat(TYPE_CODE & ~PRESENT);
	*trap_descriptor(SEG_READ_ONLY) = flat(0x91);
	*trap_descriptor(SEG_EXECUTE_ONLY) = flat(0x99);
	*trap_descriptor(SEG_CONFORMING) = flat(0x9f);
	trap_set_segment(SEG_TASK, (u32)&traps.task, sizeof(traps.task) - 1, TYPE_TSS);
	for (unsigned i = 0; i < VECTORS; i++)
		trap_set_gate((u8)i, TYPE_INTERRUPT, 0);
	trap_set_gate(VECTOR_END, TYPE_INTERRUPT, 3);
	asm volatile("lgdt %0; lidt %1" : : "m"(gdt), "m"(idt) : "memory");
}

void trap_init(void)
{
	traps.task.stack[0].esp = trap_kernel_stack();
	traps.task.stack[0].ss = SEG_DATA;
	traps.task.ports = TASK_SIZE;
	memset(traps.task.port_map, 0xff, sizeof(traps.task.port_map));
	set_tables();
	asm volatile("ljmp %0, $1f\n1: mov %1, %%ds; mov %1, %%es; mov %1, %%fs; mov %1, %%gs;"
		     "mov %1, %%ss; ltr %w2; lldt %w3"
		     :
		     : "i"(SEG_CODE), "r"(SEG_DATA), "r"(SEG_TASK), "r"(0)
		     : "memory");
}
