/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The machinery around code that traps: descriptors for users, a task state
 * segment with stacks to switch to, and the hook that takes what comes.
 */
#include "lib/trap.h"
#include "lib/cpu.h"

#define STACKS	       9 /* of users, of the kernel, and seven of the interrupt stack table */
#define TRAP_STACK     8192ull
#define FLAGS_RESERVED 0x2ull

/* In trap.S. */
void trap_enter(u64 code, u64 argument, u64 flags);
void trap_enter_user(u64 code, u64 argument, u64 flags, u64 stack);
extern const u8 trap_leave[];
extern u64 trap_return_stack;

/* Intel SDM 3A, "64-Bit Task State Segment". */
struct task_state {
	u32 reserved1;
	u64 rsp[3];
	u64 reserved2;
	u64 ist[7];
	u64 reserved3;
	u16 reserved4, ports;
} __attribute__((packed));

static struct {
	u64 descriptors[SEGMENT_LAST / 8 + 1];
	struct task_state task;
	u8 stacks[STACKS][TRAP_STACK] __attribute__((aligned(PAGE)));
	struct trap *running; /* where to put what comes; NULL: nobody asked */
} traps;

static u64 stack_top(unsigned which)
{
	return (u64)traps.stacks[which] + TRAP_STACK;
}

u64 trap_user_stack(void)
{
	return user_address(stack_top(0));
}

u64 trap_kernel_stack(void)
{
	return stack_top(1);
}

u64 trap_ist_stack(unsigned ist)
{
	return stack_top(1 + ist);
}

/* In that packed structure these lie four bytes beside where they should; x86 takes no offence. */
u64 *trap_ist_slot(unsigned ist)
{
	return (u64 *)((u8 *)&traps.task + offsetof(struct task_state, ist) + (ist - 1) * 8);
}

u64 *trap_kernel_slot(void)
{
	return (u64 *)((u8 *)&traps.task + offsetof(struct task_state, rsp));
}

static bool take(struct frame *frame)
{
	struct trap *trap = traps.running;

	if (!trap)
		return false;
	traps.running = NULL;
	trap->frame = *frame;
	trap->stack = (u64)(frame + 1);
	trap->cr2 = read_cr2();
	asm volatile("pushfq; pop %0" : "=r"(trap->flags));
	asm volatile("mov %%ss, %0" : "=r"(trap->ss));
	/* Without an interrupt in service, an end of one is nothing to the local APIC. */
	if (frame->vector >= VECTOR_FIRST && frame->vector != VECTOR_END)
		interrupt_end();
	frame->rip = (u64)trap_leave;
	frame->rsp = trap_return_stack;
	frame->cs = SEGMENT_CODE64;
	frame->ss = SEGMENT_DATA;
	frame->rflags = FLAGS_RESERVED;
	return true;
}

void trap_run(u64 code, u64 argument, u64 flags, struct trap *trap)
{
	memset(trap, 0, sizeof(*trap));
	traps.running = trap;
	trap_enter(code, argument, flags | FLAGS_RESERVED);
}

void trap_run_user(u64 code, u64 argument, u64 flags, struct trap *trap)
{
	memset(trap, 0, sizeof(*trap));
	traps.running = trap;
	trap_enter_user(code, argument, flags | FLAGS_RESERVED, trap_user_stack());
}

/*
 * Faults have RF set in what is pushed, so that an instruction is not stopped for ever by its own
 * breakpoint; all else has not (Intel SDM 3B, "Instruction-Breakpoint Exception Condition"; 3A,
 * "Masking Instruction Breakpoints"). Coming from a user, SS is loaded with a null selector; the
 * frame begins at a multiple of 16 (3A, "64-Bit Mode Stack Frame", "Stack Switching in IA-32e
 * Mode").
 */
bool trap_check(const struct trap *trap, const struct trap_wanted *wanted)
{
	const struct frame *frame = &trap->frame;
	u64 cs = wanted->user ? SEGMENT_USER_CODE64 : SEGMENT_CODE64;
	u64 ss = wanted->user ? SEGMENT_USER_DATA : SEGMENT_DATA;
	bool good = frame->vector == wanted->vector && frame->error == wanted->error &&
		    frame->rip == wanted->rip && frame->cs == cs && frame->ss == ss;

	if (!check(good, "%s", wanted->name)) {
		print("  it came by vector %lu, error %lx, rip %lx, cs %lx, ss %lx\n",
		      frame->vector, frame->error, frame->rip, frame->cs, frame->ss);
		print("  and was wanted: vector %u, error %lx, rip %lx, cs %lx, ss %lx\n",
		      wanted->vector, wanted->error, wanted->rip, cs, ss);
	}
	if (trap->stack & 15)
		check(false, "%s: the frame is aligned", wanted->name);
	if (wanted->user && trap->ss)
		check(false, "%s: SS in the handler (%x)", wanted->name, trap->ss);
	/* qemu's CPU knows no RF, though KVM does, on the faults that it injects. */
	if (!(frame->rflags & X86_EFLAGS_RF) != wanted->after && !cpu_is_tcg())
		check(false, "%s: RF in the frame (%lx)", wanted->name, frame->rflags);
	return good;
}

u64 *trap_descriptor(unsigned selector)
{
	return &traps.descriptors[selector / 8];
}

void trap_load_task(unsigned selector)
{
	asm volatile("ltr %w0" : : "r"(selector) : "memory");
}

/* Intel SDM 3A, "TSS Descriptor in 64-bit mode". */
static void set_task(void)
{
	u64 base = (u64)&traps.task;

	*trap_descriptor(SEGMENT_TASK) = (sizeof(traps.task) - 1) | (base & 0xffffff) << 16 |
					 0x89ull << 40 | (base >> 24 & 0xff) << 56;
	*trap_descriptor(SEGMENT_TASK + 8) = base >> 32;
}

static void set_descriptors(void)
{
	const struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = {sizeof(traps.descriptors) - 1, (u64)traps.descriptors};
	u64 *table = traps.descriptors;

	table[SEGMENT_CODE64 / 8] = 0x00af9b000000ffff;
	table[SEGMENT_DATA / 8] = 0x00cf93000000ffff;
	table[SEGMENT_CODE32 / 8] = 0x00cf9b000000ffff;
	table[SEGMENT_USER_CODE32 / 8] = 0x00cffb000000ffff;
	table[SEGMENT_USER_DATA / 8] = 0x00cff3000000ffff;
	table[SEGMENT_USER_CODE64 / 8] = 0x00affb000000ffff;
	table[SEGMENT_ABSENT_DATA / 8] = 0x00cf13000000ffff;
	table[SEGMENT_ABSENT_CODE / 8] = 0x00af1b000000ffff;
	table[SEGMENT_READ_ONLY / 8] = 0x00cf91000000ffff;
	table[SEGMENT_EXECUTE_ONLY / 8] = 0x00cf99000000ffff;
	set_task();
	asm volatile("lgdt %0" : : "m"(pointer) : "memory");
	trap_load_task(SEGMENT_TASK);
}

void trap_init(void)
{
	for (u64 at = 0; at < USER_SIZE; at += MiB(2))
		paging_set(user_address(at), LEVEL_2M, at | PTE_ALL | PTE_LARGE);
	*trap_kernel_slot() = trap_kernel_stack();
	for (unsigned ist = 1; ist <= 7; ist++)
		*trap_ist_slot(ist) = trap_ist_stack(ist);
	traps.task.ports = sizeof(traps.task); /* no bitmap: no port is a user's */
	set_descriptors();
	interrupt_init();
	interrupts_off();
	interrupt_gate(VECTOR_END)->type |= GATE_USER;
	interrupt_hook(take);
}
